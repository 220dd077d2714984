/*
 * escrow copy: the messages of one old queue, from where its copy stands to its end as it was when
 * its turn came.
 *
 * A message that cannot be copied is said, and ends the turn of its queue, or is passed over
 * (--skip-refused). That a batch is refused does not tell which of its messages is meant: they are
 * put into batches of their own, up to that one.
 */
#include "core/proto/codes.h"
#include "src/tools/copy/stream.h"

#include <inttypes.h>

#define PROGRESS_MS 5000

/* ---- where it begins ---- */

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

    if (offsets == NULL || count < s->topic->group_count || s->c->is_all_messages ||
        s->c->has_unknown) {
        return min;
    }
    for (size_t i = 0; i < count; i++) {
        low = offsets[i].offset < low ? offsets[i].offset : low;
    }
    return low > min ? low : min;
}

int stream_find_range(struct stream *s)
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
    s->gone = 0;
    s->place = copy_position_find(&s->position, s->queue);
    if (s->place == NULL) {
        s->at = s->wanted;
        return 0;
    }
    s->at = s->place->next;
    if (s->at > s->end) {
        return copy_error(c, ESCROW_ECONFLICT,
                          "queue %" PRIu32 " at %s ends at offset %" PRId64
                          ", and was copied up to %" PRId64 " before: another store?",
                          s->queue, c->brokers[s->part->broker].name, s->end, s->at);
    }
    if (min > s->at) {
        s->gone = min - s->at;
        s->at = min;
    }
    return 0;
}

/* ---- messages that cannot be copied ---- */

/* As if nothing had been put since the last batch that was stored. */
static int restore(struct stream *s)
{
    int rc = stream_restore(s);

    s->place = copy_position_find(&s->position, s->queue);
    return rc;
}

/* A batch: when it is refused for a message, that one alone is found. */
static int flush(struct stream *s)
{
    int64_t last = s->place->next - 1;
    bool is_one = s->pub.count == 1;
    int rc = stream_flush_batch(s);

    if (!stream_is_refusal(rc)) {
        return rc;
    }
    s->refused = 0;
    if (is_one) {
        stream_refuse(s, last, rc, s->c->err.text);
    } else {
        s->alone_until = last + 1;
    }
    s->at = s->batch_at;
    return restore(s);
}

/* The message that is next cannot be copied. */
static void pass_over(struct stream *s)
{
    struct copy *c = s->c;

    stream_tell_gap(s, s->refused_at);
    copy_failed(c, s->topic->name,
                "offset %" PRId64 " of queue %" PRIu32 " at %s cannot be copied: %.150s (%s); %s",
                s->refused_at, s->queue, c->brokers[s->part->broker].name, s->refused_text,
                escrow_error_name(s->refused),
                c->is_skip_refused ? "it is passed over"
                                   : "what lies behind it in this queue is not copied either, "
                                     "unless --skip-refused passes over it");
    if (c->is_skip_refused) {
        s->passed++;
        s->at = s->told_to = s->refused_at + 1;
    } else {
        s->end = s->at;
    }
    s->refused = 0;
    s->is_full = false;
}

/* ---- its turn ---- */

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

/* Everything up to s->end, in batches. */
static int copy_range(struct stream *s)
{
    int rc = 0;

    while (rc == 0 && s->at < s->end) {
        rc = stream_pull(s);
        if (rc == 0 && s->has_batch && s->pub.count > 0 &&
            (s->is_full || s->pub.count >= BATCH_ROWS_MAX || s->body.len >= BATCH_SIZE_GOAL ||
             s->at >= s->end)) {
            rc = flush(s);
            tell_progress(s);
        }
        if (rc == 0 && s->refused != 0 && s->refused_at >= s->at) {
            pass_over(s);
        }
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

int stream_copy_queue(struct stream *s)
{
    int rc;

    s->is_unsaved = s->is_full = s->has_batch = false;
    s->refused = 0;
    s->alone_until = s->told_to = 0;
    rc = stream_find_range(s);
    if (rc != 0 || (s->at >= s->end && (s->place == NULL || copy_place_is_sure(s->place)))) {
        return rc;
    }
    rc = stream_look(s);
    if (rc == 0) {
        rc = copy_range(s);
    }
    return rc == 0 ? close_queue(s) : rc;
}
