/* escrow copy: messages are read from the source, and put into the batch that is being made. */
#include "core/base/bytes.h"
#include "core/proto/codes.h"
#include "core/proto/record.h"
#include "src/tools/copy/stream.h"

#include <inttypes.h>
#include <string.h>

#define PULL_MAX      256
#define PULLS_IN_VAIN 10
#define PULL_PAUSE_MS 100

/* ---- one message ---- */

static void put_host(const struct record_host *host, uint8_t *dst, struct slice *out)
{
    memcpy(dst, host->ip, host->ip_len);
    put_be16(dst + host->ip_len, host->port);
    *out = slice_of(dst, (size_t)host->ip_len + 2);
}

/*
 * The properties, without the checksum over the old record; the id apart, or the broker would make
 * one.
 */
static int take_properties(struct stream *s, struct slice from, struct publish_row *row)
{
    const struct slice drop[] = {prop_name(PROP_CRC32), prop_name(PROP_UNIQ_KEY)};
    struct props_writer w;
    size_t drops = 1;

    if (props_find(from, prop_name(PROP_UNIQ_KEY), &row->uniq_key) &&
        props_check_text(row->uniq_key) == 0) {
        drops = 2;
    } else {
        row->uniq_key = SLICE_EMPTY;
    }
    props_writer_init(&w, s->properties, sizeof s->properties);
    props_put_except(&w, from, drop, drops);
    row->properties = slice_of(w.ptr, w.len);
    return w.error;
}

void stream_tell_gap(struct stream *s, int64_t next)
{
    int64_t first = s->at > s->told_to ? s->at : s->told_to;

    if (next > first) {
        copy_failed(s->c, s->topic->name,
                    "offsets %" PRId64 " to %" PRId64 " of queue %" PRIu32
                    " at %s are not copied: they were passed over there",
                    first, next - 1, s->queue, s->c->brokers[s->part->broker].name);
        s->told_to = next;
    }
}

void stream_refuse(struct stream *s, int64_t offset, int error, const char *why)
{
    s->refused = error;
    s->refused_at = offset;
    s->is_full = true;
    (void)snprintf(s->refused_text, sizeof s->refused_text, "%s", why); /* cut when longer */
}

/* Why a message cannot be copied, as far as it can be seen here; NULL: it may be. */
static const char *refusal_of(const struct record_view *view, int *error)
{
    if ((view->f.sys_flag & (SYSFLAG_NEED_UNWRAP | SYSFLAG_INNER_BATCH)) != 0) {
        *error = ESCROW_ENOTSUP;
        return "it is a batch that only RocketMQ 5 reads";
    }
    if (view->f.body.len > MESSAGE_BODY_MAX) {
        *error = ESCROW_ETOOBIG;
        return "its body is larger than 4 MiB, the most that the target takes";
    }
    *error = 0;
    return NULL;
}

/* Room for one more in the batch? */
static bool is_next_batch(const struct stream *s, const struct publish_row *row)
{
    return s->pub.count > 0 && (s->body.len + publish_row_size_max(row) > BATCH_SIZE_MAX ||
                                s->batch_at < s->alone_until);
}

static int put_message(struct stream *s, const struct record_view *view)
{
    uint8_t host[PUBLISH_HOST_IPV6];
    struct publish_row row = {
        .topic = slice_str(s->topic->name),
        .body = view->f.body,
        .born_ms = view->f.born_ms,
        .queue_id = (int32_t)(s->part->base + s->queue),
        .is_moved = true,
        .flag = view->f.flag,
        .sys_flag =
            view->f.sys_flag & (SYSFLAG_COMPRESSED | SYSFLAG_MULTI_TAGS | SYSFLAG_COMPRESS_MASK),
        .reconsume_times = view->f.reconsume_times > 0 ? view->f.reconsume_times : 0};
    const char *why;
    int rc;

    why = refusal_of(view, &rc);
    if (why != NULL) {
        stream_refuse(s, view->f.queue_offset, rc, why);
        return 0;
    }
    put_host(&view->f.born_host, host, &row.born_host);
    rc = take_properties(s, view->f.properties, &row);
    if (rc != 0) {
        stream_refuse(s, view->f.queue_offset, rc, "its properties are malformed");
        return 0;
    }
    stream_begin_batch(s);
    if (is_next_batch(s, &row)) {
        s->is_full = true; /* the message comes with the next pull */
        return 0;
    }
    if (s->place == NULL) {
        s->place = copy_position_add(&s->position, s->queue, s->start);
    }
    rc = s->place == NULL ? ESCROW_ENOMEM : copy_place_add(s->place, view->f.queue_offset);
    if (rc == 0) {
        stream_tell_gap(s, view->f.queue_offset);
        publish_put(&s->pub, &row);
        s->place->last_ms = view->f.store_ms;
        s->at = view->f.queue_offset + 1;
    }
    return rc;
}

/* ---- pulls ---- */

static void pull_fields(struct header_writer *w, void *arg)
{
    const struct stream *s = arg;

    header_put_str(w, "consumerGroup", SLICE_LIT("TOOLS_CONSUMER")); /* every broker has it */
    header_put_str(w, "topic", slice_str(s->topic->name));
    header_put_i64(w, "queueId", s->queue);
    header_put_i64(w, "queueOffset", s->is_looking ? s->at - 1 : s->at);
    header_put_i64(w, "maxMsgNums", s->is_looking ? 1 : PULL_MAX);
    header_put_i64(w, "sysFlag", 4);
    header_put_i64(w, "commitOffset", 0);
    header_put_i64(w, "suspendTimeoutMillis", 0);
    header_put_str(w, "subscription", SLICE_LIT("*"));
    header_put_i64(w, "subVersion", 0);
    header_put_str(w, "expressionType", SLICE_LIT("TAG"));
}

static bool is_of_queue(const struct stream *s, const struct record_view *view)
{
    return slice_eq_str(view->f.topic, s->topic->name) && view->f.queue_id == (int32_t)s->queue &&
           view->f.queue_offset >= s->at && view->f.queue_offset < INT64_MAX;
}

static int on_pulled(void *arg, struct header *header, struct slice body)
{
    struct stream *s = arg;
    struct record_walk walk = {body};
    struct record_view view;
    int64_t was = s->at;
    int64_t next = 0;
    int rc = header_get_i64(header, "nextBeginOffset", &next);

    if (rc != 0 || header->code != RESPONSE_SUCCESS) {
        walk.rest = SLICE_EMPTY;
    }
    while (rc == 0 && !s->is_full && (rc = record_walk_next(&walk, &view)) == 1) {
        rc = is_of_queue(s, &view) ? put_message(s, &view) : ESCROW_EPROTO;
    }
    if (rc == 0 && s->at == was && next > was && !s->is_full) {
        next = next < s->end ? next : s->end;
        stream_tell_gap(s, next);
        s->at = next;
    }
    return rc;
}

int stream_pull(struct stream *s)
{
    struct copy *c = s->c;
    struct cli_request req = {.addr = c->brokers[s->part->broker].addr,
                              .code = REQUEST_PULL_MESSAGE,
                              .fields = pull_fields,
                              .fields_arg = s};
    int64_t was = s->at;
    int rc = 0;

    for (int i = 0; rc == 0 && s->at == was && !s->is_full; i++) {
        if (i == PULLS_IN_VAIN || (i > 0 && !cli_wait(&c->from, PULL_PAUSE_MS))) {
            return copy_error(c, ESCROW_EPROTO,
                              "it does not go on at offset %" PRId64
                              " although it ends at %" PRId64,
                              s->at, s->end);
        }
        rc = copy_ask_pull(c, &req, on_pulled, s);
    }
    return rc;
}

/* The message before `at`: the same as when it was copied? One that is gone cannot be asked. */
static int on_looked(void *arg, struct header *header, struct slice body)
{
    const struct stream *s = arg;
    struct record_walk walk = {body};
    struct record_view view;
    int rc;

    if (header->code != RESPONSE_SUCCESS) {
        return 0;
    }
    rc = record_walk_next(&walk, &view);
    if (rc < 0) {
        return rc;
    }
    return rc == 1 && view.f.queue_offset == s->at - 1 && view.f.store_ms != s->place->last_ms
               ? ESCROW_ECONFLICT
               : 0;
}

/* Clusters and brokers are often called alike: is it the store that was copied from before? */
int stream_check_store(struct stream *s)
{
    struct copy *c = s->c;
    struct cli_request req = {.addr = c->brokers[s->part->broker].addr,
                              .code = REQUEST_PULL_MESSAGE,
                              .fields = pull_fields,
                              .fields_arg = s};
    int rc;

    s->is_looking = true;
    rc = copy_ask_pull(c, &req, on_looked, s);
    s->is_looking = false;
    if (rc == ESCROW_ECONFLICT) {
        rc = copy_error(c, rc,
                        "offset %" PRId64 " of queue %" PRIu32
                        " at %s is not the message that was copied: another store than before",
                        s->at - 1, s->queue, c->brokers[s->part->broker].name);
    }
    return rc;
}
