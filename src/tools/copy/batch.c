/*
 * escrow copy: positions at the target, and the batches that move them. What was read is published
 * with the position it brings the part to: stored together or not at all.
 */
#include "core/base/check.h"
#include "core/proto/codes.h"
#include "src/tools/copy/stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- the position at the target ---- */

int copy_source_name(struct copy *c, const struct copy_topic *topic, const struct copy_part *part,
                     struct copy_source_name *name)
{
    const struct copy_broker *b = &c->brokers[part->broker];
    const struct hash_key key = {UINT64_C(0x657363726f772063), UINT64_C(0x6f7079206f662061)};
    const char *const parts[] = {b->cluster, b->name, topic->name};
    struct hash128 hash;

    buf_clear(&name->full);
    for (size_t i = 0; i < 3; i++) {
        buf_append(&name->full, parts[i], strlen(parts[i]) + 1);
    }
    if (buf_failed(&name->full)) {
        return copy_error(c, ESCROW_ENOMEM, "out of memory");
    }
    hash = hash_wide(&key, buf_slice(&name->full));
    (void)snprintf(name->text, sizeof name->text, "escrow-copy-%016" PRIx64 "%016" PRIx64, hash.hi,
                   hash.lo); /* fits */
    (void)snprintf(name->owner, sizeof name->owner, "escrow copy: %.60s at %.40s", topic->name,
                   b->name); /* cut when longer */
    return 0;
}

struct opening {
    const struct copy_source_name *name;
    struct copy_position *position;
    struct buf *raw;
    uint64_t *epoch; /* NULL: only look */
};

static int on_opened(void *arg, struct header *header, struct slice body)
{
    const struct opening *o = arg;
    struct source_open_answer answer;
    int rc = source_open_answer_decode(body, &answer);

    (void)header;
    copy_position_fini(o->position);
    buf_clear(o->raw);
    if (rc != 0) {
        return rc;
    }
    if (o->epoch != NULL) {
        *o->epoch = answer.epoch;
    }
    if (!answer.has_position) {
        return 0;
    }
    buf_append_slice(o->raw, answer.position);
    return buf_failed(o->raw)
               ? ESCROW_ENOMEM
               : copy_position_decode(answer.position, buf_slice(&o->name->full), o->position);
}

int copy_position_ask(struct copy *c, const struct copy_source_name *name,
                      const struct copy_part *part, struct copy_position *position, struct buf *raw,
                      uint64_t *epoch)
{
    struct opening opening = {name, position, raw, epoch};
    struct source_open_request open = {
        .source = slice_str(name->text), .owner = slice_str(name->owner), .peek = epoch == NULL};
    struct cli_request req = {.addr = c->to_addr, .code = REQUEST_ESCROW_SOURCE_OPEN};
    struct buf body;
    int rc;

    buf_init(&body, 0);
    source_open_request_encode(&body, &open);
    req.body = buf_slice(&body);
    rc = buf_failed(&body) ? copy_error(c, ESCROW_ENOMEM, "out of memory")
                           : copy_ask(c, &c->to, &req, on_opened, &opening);
    buf_fini(&body);
    if (rc == ESCROW_EFOREIGN || rc == ESCROW_EPROTO || rc == ESCROW_EVERSION) {
        return copy_error(
            c, ESCROW_EVERSION,
            "the target holds a position that is not understood, of another version of "
            "this command? --again copies as if nothing had been copied");
    }
    if (rc == 0 && position->place_count > 0 && position->base != part->base) {
        rc = copy_error(c, ESCROW_ECONFLICT,
                        "the source has other queues, or another broker, than when its messages "
                        "were copied first: delete the topic at the target, and copy with "
                        "--again");
    }
    if (rc == 0) {
        position->base = part->base;
    }
    return rc;
}

int stream_save(struct stream *s)
{
    buf_clear(&s->saved);
    copy_position_encode(&s->saved, SLICE_EMPTY, &s->position);
    return buf_failed(&s->saved) ? copy_error(s->c, ESCROW_ENOMEM, "out of memory") : 0;
}

int stream_restore(struct stream *s)
{
    int rc;

    copy_position_fini(&s->position);
    s->place = NULL;
    rc = copy_position_decode(buf_slice(&s->saved), SLICE_EMPTY, &s->position);
    CHECK(rc == 0 || rc == ESCROW_ENOMEM); /* it is our own */
    return rc == 0 ? 0 : copy_error(s->c, rc, "out of memory");
}

bool stream_is_refusal(int error)
{
    switch (error) {
    case ESCROW_ETOOBIG:
    case ESCROW_EINVAL:
    case ESCROW_ENOTSUP:
    case ESCROW_EREJECTED:
        return true;
    default:
        return false;
    }
}

/* ---- batches ---- */

void stream_begin_batch(struct stream *s)
{
    struct publish_head head = {
        .source = slice_str(s->name.text), .epoch = s->epoch, .prev = buf_slice(&s->prev)};

    if (!s->has_batch) {
        buf_clear(&s->body);
        publish_begin(&s->pub, &s->body, &head);
        s->has_batch = true;
        s->batch_at = s->at;
    }
}

static int on_published(void *arg, struct header *header, struct slice body)
{
    struct publish_answer answer;

    (void)header;
    (void)arg;
    return publish_answer_decode(body, &answer);
}

int stream_look(struct stream *s)
{
    const struct copy_queue queue = {s->c->to_addr, s->topic->name, s->part->base + s->queue};
    int64_t max = 0;
    int rc = copy_ask_offset(s->c, &s->c->to, REQUEST_GET_MAX_OFFSET, &queue, &max);

    if (rc == 0 && s->place != NULL) {
        s->is_unsaved |= !copy_place_is_sure(s->place);
        copy_place_look(s->place, max);
    }
    s->start = max;
    return rc;
}

/* Into s->next. With fewer runs when it is too long: tens of bytes are left for each queue. */
static int encode_position(struct stream *s)
{
    do {
        buf_clear(&s->next);
        copy_position_encode(&s->next, buf_slice(&s->name.full), &s->position);
    } while (s->next.len > POSITION_LEN_MAX && copy_position_shrink(&s->position));
    if (s->next.len > POSITION_LEN_MAX) {
        return copy_error(s->c, ESCROW_ELIMIT, "the position of %zu queues is too long",
                          s->position.place_count);
    }
    return 0;
}

int stream_flush_batch(struct stream *s)
{
    struct copy *c = s->c;
    struct cli_request req = {.addr = c->to_addr, .code = REQUEST_ESCROW_PUBLISH_BATCH};
    struct buf was;
    uint32_t rows;
    int rc = encode_position(s);

    if (rc != 0) {
        return rc;
    }
    rows = publish_end(&s->pub, buf_slice(&s->next));
    s->has_batch = s->is_full = false;
    if (buf_failed(&s->body) || buf_failed(&s->next)) {
        return copy_error(c, ESCROW_ENOMEM, "out of memory");
    }
    req.body = buf_slice(&s->body);
    rc = copy_ask(c, &c->to, &req, on_published, NULL);
    if (rc == ESCROW_EFENCED) {
        return copy_error(c, rc, "another copy of the same topic has begun");
    }
    if (rc == 0) {
        was = s->prev;
        s->prev = s->next;
        s->next = was;
        s->copied += rows;
        s->is_unsaved = false;
        rc = stream_save(s);
    }
    if (rc == 0) {
        rc = rows > 0 ? stream_look(s) : 0;
    }
    return rc;
}
