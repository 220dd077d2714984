/*
 * escrow copy: messages. Each old queue is read from where its copy stands to its end as it was
 * when the queue's turn came; what was read is published in batches of one queue, each with the
 * position it brings the part to (a topic's queues at one old broker): stored together or not at
 * all. So a copy that is ended anywhere goes on with the first message that is not there, and no
 * message is there twice, whatever answers were lost.
 *
 * After each batch, and when a queue's turn begins and ends, the queue's end at the target is
 * looked at: what others write into it meanwhile is not taken for ours (position.h), so that
 * offsets of groups can be told (offsets.c).
 */
#include "core/base/mem.h"
#include "core/proto/body_route.h"
#include "core/proto/codes.h"
#include "src/tools/copy/stream.h"

#include <inttypes.h>

#define PROGRESS_MS 5000

/* ---- one queue ---- */

/*
 * The lowest offset of any group that reads the topic; the first message when there is none, or
 * when one of them has none in this queue.
 */
static int64_t lowest(const struct stream *s, int64_t min, int64_t max)
{
    size_t topic = (size_t)(s->topic - s->c->topics);
    int64_t low = max;
    size_t count;
    const struct copy_offset *offsets =
        copy_offsets_of(s->c, topic, s->part->broker, (int32_t)s->queue, &count);

    if (offsets == NULL || count < s->topic->group_count || s->c->is_all_messages) {
        return min;
    }
    for (size_t i = 0; i < count; i++) {
        low = offsets[i].offset < low ? offsets[i].offset : low;
    }
    return low > min ? low : min;
}

/* From where to where: s->at, s->end. */
static int find_range(struct stream *s)
{
    struct copy *c = s->c;
    const struct copy_queue queue = {c->brokers[s->part->broker].addr, s->topic->name, s->queue};
    int64_t min = 0;
    int rc = copy_ask_offset(c, &c->from, REQUEST_GET_MAX_OFFSET, &queue, &s->end);

    if (rc == 0) {
        rc = copy_ask_offset(c, &c->from, REQUEST_GET_MIN_OFFSET, &queue, &min);
    }
    if (rc != 0) {
        return rc;
    }
    s->wanted = lowest(s, min, s->end);
    s->place = copy_position_find(&s->position, s->queue);
    if (s->place == NULL) {
        s->at = s->wanted;
        return 0;
    }
    s->at = s->place->next;
    if (s->at > s->end) {
        return copy_error(c, ESCROW_ECONFLICT,
                          "queue %" PRIu32 " of broker %s ends at offset %" PRId64
                          ", and was copied up to %" PRId64 " before: another store?",
                          s->queue, c->brokers[s->part->broker].name, s->end, s->at);
    }
    if (min > s->at) {
        copy_warn(c, s->topic->name,
                  "%" PRId64 " messages of queue %" PRIu32
                  " are gone at the source since they were copied last",
                  min - s->at, s->queue);
        s->at = min;
    }
    return 0;
}

static void tell_progress(struct stream *s)
{
    struct copy *c = s->c;
    int64_t now;

    loop_time_forget(&c->to.loop);
    now = loop_mono_ms(&c->to.loop);
    if (c->progress_ms == 0) {
        c->progress_ms = now;
    }
    if (now - c->progress_ms >= PROGRESS_MS) {
        c->progress_ms = now;
        copy_warn(c, s->topic->name, "%" PRId64 " of %" PRId64 " messages at %s", s->copied,
                  s->found, c->brokers[s->part->broker].name);
    }
}

/* Where the part stands; --again: as if nothing had been copied. */
static int ask_position(struct stream *s, uint64_t *epoch)
{
    int rc = copy_position_ask(s->c, &s->name, s->part, &s->position, &s->prev, epoch);

    if ((rc == 0 || rc == ESCROW_EVERSION) && s->c->is_again) {
        rc = 0;
        copy_position_fini(&s->position);
        s->position.base = s->part->base;
    }
    return rc;
}

static int open_stream(struct stream *s)
{
    return s->epoch == 0 ? ask_position(s, &s->epoch) : 0;
}

/* Everything up to s->end, in batches. */
static int copy_range(struct stream *s)
{
    int rc = 0;

    while (rc == 0 && s->at < s->end) {
        rc = stream_pull(s);
        if (rc == 0 && s->has_batch && s->pub.count > 0 &&
            (s->is_full || s->pub.count >= BATCH_ROWS_MAX || s->body.len >= BATCH_SIZE_GOAL ||
             s->at >= s->end)) {
            rc = stream_flush_batch(s);
            tell_progress(s);
        }
    }
    if (rc == 0 && s->has_batch && s->pub.count > 0) {
        rc = stream_flush_batch(s); /* the queue ended with a gap */
    }
    s->has_batch = false;
    return rc;
}

/* What was seen of the queue at the target is stored, too. */
static int close_queue(struct stream *s)
{
    if (!s->is_unsaved) {
        return 0;
    }
    stream_begin_batch(s);
    return stream_flush_batch(s);
}

static int copy_queue(struct stream *s)
{
    int rc = open_stream(s);

    s->is_unsaved = false;
    if (rc == 0) {
        rc = find_range(s);
    }
    if (rc != 0 || (s->at >= s->end && (s->place == NULL || copy_place_is_sure(s->place)))) {
        return rc;
    }
    if (s->at < s->end && s->place != NULL && s->at == s->place->next) {
        rc = stream_check_store(s);
    }
    if (rc == 0) {
        rc = stream_look(s);
    }
    if (rc == 0) {
        rc = copy_range(s);
    }
    return rc == 0 ? close_queue(s) : rc;
}

/* ---- one part, one topic ---- */

static bool can_take(const struct stream *s)
{
    const struct topic_config *there = copy_target_topic(s->c, s->topic->name);
    int64_t most;

    if (there == NULL) {
        return false;
    }
    most = there->read_queue_count > there->write_queue_count ? there->read_queue_count
                                                              : there->write_queue_count;
    return (there->perm & PERM_WRITE) != 0 && most >= (int64_t)s->part->base + s->part->queues;
}

/*
 * Of what was copied before, is what is wanted still at the target? It is gone when the topic was
 * deleted there, or retention came to it, and the position says only that it was copied.
 */
static int check_copied(struct stream *s)
{
    struct copy *c = s->c;
    const char *broker = c->brokers[s->part->broker].name;
    const struct copy_queue queue = {c->to_addr, s->topic->name, s->part->base + s->queue};
    int64_t min = INT64_MAX; /* without the topic all of it is gone */
    int64_t gone;
    int rc = 0;

    if (copy_target_topic(c, s->topic->name) != NULL) {
        rc = copy_ask_offset(c, &c->to, REQUEST_GET_MIN_OFFSET, &queue, &min);
    }
    gone = copy_place_count(s->place, s->wanted, 0, min);
    if (rc == 0 && gone > 0) {
        copy_failed(c, s->topic->name,
                    "%" PRId64 " messages of queue %" PRIu32
                    " that were copied from %s before are gone at the target (deleted, or too old "
                    "there); --again copies them again",
                    gone, s->queue, broker);
    }
    if (rc == 0 && c->is_all_messages && s->wanted < s->place->first) {
        copy_failed(c, s->topic->name,
                    "offsets %" PRId64 " to %" PRId64 " of queue %" PRIu32
                    " at %s lie before what was copied first: only --again copies them, and all "
                    "else again",
                    s->wanted, s->place->first - 1, s->queue, broker);
    }
    return rc;
}

/* How many messages are to be copied, and is there a queue that was left without a look? */
static int count_part(struct stream *s, bool *has_open)
{
    int rc = ask_position(s, NULL);

    *has_open = false;
    for (s->queue = 0; rc == 0 && s->queue < s->part->queues; s->queue++) {
        rc = find_range(s);
        if (rc == 0 && s->place != NULL) {
            rc = check_copied(s);
        }
        if (rc == 0) {
            s->found += s->at < s->end ? s->end - s->at : 0;
            *has_open |= s->place != NULL && !copy_place_is_sure(s->place);
        }
    }
    return rc;
}

static int copy_part(struct stream *s)
{
    struct copy *c = s->c;
    const char *broker = c->brokers[s->part->broker].name;
    bool has_open;
    int rc = copy_source_name(c, s->topic, s->part, &s->name);

    if (rc == 0) {
        rc = count_part(s, &has_open);
    }
    if (rc != 0 || (s->found == 0 && !has_open)) {
        return rc;
    }
    if (c->is_dry) {
        copy_told(c, "messages", s->topic->name, "%" PRId64 " at %s would be copied", s->found,
                  broker);
        return 0;
    }
    if (!can_take(s)) {
        return copy_error(c, ESCROW_ENOROUTE,
                          "%" PRId64 " messages at %s are not copied: the topic is not there, not "
                          "writable, or has too few queues (escrow copy topics, --overwrite)",
                          s->found, broker);
    }
    for (s->queue = 0; rc == 0 && s->queue < s->part->queues; s->queue++) {
        rc = copy_queue(s);
    }
    if (s->copied > 0 || rc == 0) {
        copy_told(c, "messages", s->topic->name, "%" PRId64 " copied from %s", s->copied, broker);
    }
    return rc;
}

static int copy_topic(struct copy *c, const struct copy_topic *topic)
{
    struct stream *s = mem_calloc(1, sizeof *s);
    int rc = 0;

    if (s == NULL) {
        return copy_error(c, ESCROW_ENOMEM, "out of memory");
    }
    for (size_t i = 0; rc == 0 && i < topic->part_count; i++) {
        *s = (struct stream){.c = c, .topic = topic, .part = &topic->parts[i]};
        rc = copy_part(s);
        copy_position_fini(&s->position);
        buf_fini(&s->name.full);
        buf_fini(&s->prev);
        buf_fini(&s->next);
        buf_fini(&s->body);
        rc = copy_settle(c, rc, topic->name);
    }
    mem_free(s);
    return rc;
}

int copy_messages(struct copy *c)
{
    int rc = copy_read_offsets(c);

    if (rc == 0 && !c->is_dry) {
        rc = copy_read_target(c);
    }
    for (size_t i = 0; rc == 0 && i < c->topic_count; i++) {
        rc = copy_topic(c, &c->topics[i]);
    }
    return rc == 0 ? copy_tell_waiting(c) : rc;
}
