/*
 * escrow copy: messages, topic after topic. Each old queue is read from where its copy stands to
 * its end as it was when the queue's turn came; what was read is published in batches of one queue,
 * each with the position it brings the part to (a topic's queues at one old broker): stored
 * together or not at all. So a copy that is ended anywhere goes on with the first message that is
 * not there, and no message is there twice, whatever answers were lost.
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

/* ---- one part: a topic at one broker ---- */

/* Where the part stands; --again: as if nothing had been copied. */
static int ask_position(struct stream *s, uint64_t *epoch)
{
    int rc = copy_position_ask(s->c, &s->name, s->part, &s->position, &s->prev, epoch);

    if ((rc == 0 || rc == ESCROW_EVERSION || rc == ESCROW_ECONFLICT) && s->c->is_again) {
        rc = 0;
        copy_position_fini(&s->position);
        s->position.base = s->part->base;
    }
    return rc;
}

/* In a dry run: when the topics would have been copied, too. */
static bool can_take(const struct stream *s)
{
    const struct topic_config *there = copy_target_topic(s->c, s->topic->name);
    int64_t most;

    if (s->c->is_dry && s->c->has_step[COPY_TOPICS] && (there == NULL || s->c->is_overwrite)) {
        there = &s->topic->config;
    }
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

/* Is nothing of the part to be copied after this error? */
static bool is_of_part(const struct stream *s, int error)
{
    return copy_is_over(s->c, error) || error == ESCROW_ECONFLICT || error == ESCROW_EPERM ||
           error == ESCROW_ENOROUTE || error == ESCROW_EVERSION || error == ESCROW_EFOREIGN;
}

/* A queue's trouble is told, and leaves the other queues alone. */
static int settle_queue(struct stream *s, int error)
{
    struct copy *c = s->c;

    if (error == 0 || is_of_part(s, error)) {
        return error;
    }
    copy_failed(c, s->topic->name, "queue %" PRIu32 " at %s: %.200s (%s)", s->queue,
                c->brokers[s->part->broker].name,
                c->err.code == error ? c->err.text : escrow_strerror(error),
                escrow_error_name(error));
    return 0;
}

static int count_queue(struct stream *s)
{
    int rc = stream_find_range(s);

    if (rc == 0 && s->gone > 0) {
        copy_warn(s->c, s->topic->name,
                  "%" PRId64 " messages of queue %" PRIu32
                  " are gone at the source since they were copied last",
                  s->gone, s->queue);
    }
    if (rc == 0 && s->place != NULL) {
        rc = check_copied(s);
    }
    if (rc == 0 && s->place != NULL && s->at < s->end && s->at == s->place->next) {
        rc = stream_check_store(s);
    }
    if (rc == 0) {
        s->found += s->at < s->end ? s->end - s->at : 0;
        s->has_work |= s->at < s->end || (s->place != NULL && !copy_place_is_sure(s->place));
    }
    return rc;
}

/* How many messages are to be copied? Looks at every queue before anything is copied. */
static int count_part(struct stream *s)
{
    int rc = ask_position(s, NULL);

    for (s->queue = 0; rc == 0 && s->queue < s->part->queues; s->queue++) {
        rc = count_queue(s);
        if (rc != 0 && !s->c->is_dry && !is_of_part(s, rc)) {
            s->has_work = true; /* its turn will tell */
            rc = 0;
        }
        rc = settle_queue(s, rc);
    }
    return rc;
}

static int copy_queues(struct stream *s)
{
    int rc = ask_position(s, &s->epoch);

    if (rc == 0) {
        rc = stream_save(s);
    }
    for (s->queue = 0; rc == 0 && s->queue < s->part->queues; s->queue++) {
        rc = settle_queue(s, stream_copy_queue(s));
        if (rc == 0) {
            rc = stream_restore(s);
        }
    }
    return rc;
}

static void tell_copied(struct stream *s)
{
    const char *broker = s->c->brokers[s->part->broker].name;

    if (s->passed > 0) {
        copy_told(s->c, "messages", s->topic->name,
                  "%" PRId64 " copied from %s, %" PRId64 " passed over", s->copied, broker,
                  s->passed);
    } else {
        copy_told(s->c, "messages", s->topic->name, "%" PRId64 " copied from %s", s->copied,
                  broker);
    }
}

static int copy_part(struct stream *s)
{
    struct copy *c = s->c;
    const char *broker = c->brokers[s->part->broker].name;
    int rc = copy_source_name(c, s->topic, s->part, &s->name);

    if (rc == 0) {
        rc = count_part(s);
    }
    if (rc != 0 || !s->has_work) {
        return rc;
    }
    if (s->found > 0 && !can_take(s)) {
        return copy_error(c, ESCROW_ENOROUTE,
                          "%" PRId64 " messages at %s are not copied: the topic is not there, not "
                          "writable, or has too few queues (escrow copy topics, --overwrite)",
                          s->found, broker);
    }
    if (c->is_dry) {
        if (s->found > 0) {
            copy_told(c, "messages", s->topic->name, "%" PRId64 " at %s would be copied", s->found,
                      broker);
        }
        return 0;
    }
    rc = copy_queues(s);
    if (s->copied > 0 || s->passed > 0 || rc == 0) {
        tell_copied(s);
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
        buf_fini(&s->saved);
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
