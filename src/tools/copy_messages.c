/*
 * escrow copy: messages. Each old queue is read from where its copy stands to its end as it was
 * when the queue's turn came; what was read is published in batches of one queue, each with the
 * position it brings the part to (a topic's queues at one old broker): stored together or not at
 * all. So a copy that is ended anywhere goes on with the first message that is not there, and no
 * message is there twice, whatever answers were lost.
 *
 * When a queue has been copied its end at the target is looked at: if nobody else has written into
 * it, its place is CLEAN, and offsets of groups can be told (copy_offsets.c). Else it is MIXED, for
 * good.
 */
#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "core/proto/body_route.h"
#include "core/proto/codes.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "src/tools/copy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BATCH_ROWS_MAX  1000
#define BATCH_SIZE_GOAL (1u << 20)
/*
 * Beyond it a message is left for the next batch, unless it is the first: a frame has to hold it
 * all. Less than the goal and the largest message together, so that tests come here.
 */
#define BATCH_SIZE_MAX (9u << 19)
#define PULL_MAX       256
#define PULLS_IN_VAIN  10
#define PULL_PAUSE_MS  100
#define PROGRESS_MS    5000

/* One topic at one old broker. */
struct stream {
    struct copy *c;
    const struct copy_topic *topic;
    const struct copy_part *part;
    struct copy_source_name name;
    struct copy_position position; /* as of the batch that is being made */
    struct copy_place *place;      /* of the queue whose turn it is; NULL: none yet */
    struct buf prev;               /* the position that is stored */
    struct buf next;
    uint64_t epoch; /* 0: not opened yet */
    /* the queue */
    uint32_t queue;
    int64_t at;      /* old offset of the next message */
    int64_t end;     /* old offset behind the last */
    int64_t start;   /* new offset of what comes first */
    bool is_mixed;   /* others have written into the queue */
    bool is_looking; /* at the last message that was copied, the one before `at` */
    int64_t wanted;  /* old offset of the first message that is to be at the target */
    /* the batch */
    struct publish_writer pub;
    struct buf body;
    bool has_batch;
    bool is_full;
    int64_t copied; /* stored, of the topic at this broker */
    int64_t found;  /* to be copied when the topic's turn came */
    uint8_t properties[PROPERTIES_LEN_MAX];
};

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
        return copy_error(c, ESCROW_EVERSION, "the target holds a position that is not understood");
    }
    if (rc == 0 && position->place_count > 0 && position->base != part->base) {
        rc = copy_error(c, ESCROW_ECONFLICT,
                        "the source has other queues, or another broker, than when its messages "
                        "were copied first");
    }
    if (rc == 0) {
        position->base = part->base;
    }
    return rc;
}

/* ---- batches ---- */

static void begin_batch(struct stream *s)
{
    struct publish_head head = {
        .source = slice_str(s->name.text), .epoch = s->epoch, .prev = buf_slice(&s->prev)};

    if (!s->has_batch) {
        buf_clear(&s->body);
        publish_begin(&s->pub, &s->body, &head);
        s->has_batch = true;
    }
}

static int on_published(void *arg, struct header *header, struct slice body)
{
    struct publish_answer answer;

    (void)header;
    (void)arg;
    return publish_answer_decode(body, &answer);
}

static int flush_batch(struct stream *s)
{
    struct copy *c = s->c;
    struct cli_request req = {.addr = c->to_addr, .code = REQUEST_ESCROW_PUBLISH_BATCH};
    struct buf was;
    uint32_t rows;
    int rc;

    buf_clear(&s->next);
    copy_position_encode(&s->next, buf_slice(&s->name.full), &s->position);
    if (s->next.len > POSITION_LEN_MAX) {
        return copy_error(c, ESCROW_ELIMIT, "too many gaps in the offsets of its queues");
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
    }
    return rc;
}

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

/* The source passed over what is between `at` and an offset: gone there, or not to be read. */
static void tell_gap(struct stream *s, int64_t next)
{
    if (next > s->at) {
        copy_failed(s->c, s->topic->name,
                    "offsets %" PRId64 " to %" PRId64 " of queue %" PRIu32
                    " at %s are not copied: they were passed over there",
                    s->at, next - 1, s->queue, s->c->brokers[s->part->broker].name);
    }
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
    int rc;

    if ((view->f.sys_flag & (SYSFLAG_NEED_UNWRAP | SYSFLAG_INNER_BATCH)) != 0) {
        return ESCROW_ENOTSUP;
    }
    put_host(&view->f.born_host, host, &row.born_host);
    rc = take_properties(s, view->f.properties, &row);
    if (rc != 0) {
        return rc;
    }
    begin_batch(s);
    if (s->pub.count > 0 && s->body.len + publish_row_size_max(&row) > BATCH_SIZE_MAX) {
        s->is_full = true; /* the message comes with the next pull */
        return 0;
    }
    if (s->place == NULL) {
        s->place = copy_position_add(&s->position, s->queue, s->start);
        if (s->place != NULL && s->is_mixed) {
            s->place->state = COPY_MIXED;
        }
    }
    rc = s->place == NULL ? ESCROW_ENOMEM : copy_place_add(s->place, view->f.queue_offset);
    if (rc == 0) {
        tell_gap(s, view->f.queue_offset);
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
        tell_gap(s, next);
        s->at = next;
    }
    return rc;
}

static int pull(struct stream *s)
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
                              "queue %" PRIu32 " of broker %s does not go on at offset %" PRId64
                              " although it ends at %" PRId64,
                              s->queue, c->brokers[s->part->broker].name, s->at, s->end);
        }
        rc = copy_ask_pull(c, &req, on_pulled, s);
    }
    if (rc == ESCROW_ENOTSUP) {
        rc = copy_error(c, rc, "queue %" PRIu32 " holds batches that only RocketMQ 5 reads",
                        s->queue);
    } else if (rc == ESCROW_ELIMIT) {
        rc = copy_error(c, rc, "too many gaps in the offsets of queue %" PRIu32, s->queue);
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
static int check_store(struct stream *s)
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

/* ---- one queue ---- */

static int target_range(const struct stream *s, int64_t *min, int64_t *max)
{
    const struct copy_queue queue = {s->c->to_addr, s->topic->name, s->part->base + s->queue};
    int rc = copy_ask_offset(s->c, &s->c->to, REQUEST_GET_MIN_OFFSET, &queue, min);

    return rc == 0 ? copy_ask_offset(s->c, &s->c->to, REQUEST_GET_MAX_OFFSET, &queue, max) : rc;
}

static bool is_alone(const struct copy_place *place, int64_t max)
{
    return max == place->start + copy_place_total(place);
}

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
    s->at = copy_place_next(s->place);
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

    if (rc == 0 && s->c->is_again) {
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
        rc = pull(s);
        if (rc == 0 && s->has_batch && s->pub.count > 0 &&
            (s->is_full || s->pub.count >= BATCH_ROWS_MAX || s->body.len >= BATCH_SIZE_GOAL ||
             s->at >= s->end)) {
            rc = flush_batch(s);
            tell_progress(s);
        }
    }
    if (rc == 0 && s->has_batch && s->pub.count > 0) {
        rc = flush_batch(s); /* the queue ended with a gap */
    }
    s->has_batch = false;
    return rc;
}

/* Did anybody else write into the queue? */
static int close_queue(struct stream *s)
{
    int64_t min = 0;
    int64_t max = 0;
    int rc;

    if (s->place == NULL || s->place->state != COPY_OPEN) {
        return 0;
    }
    rc = target_range(s, &min, &max);
    if (rc == 0) {
        s->place->state = is_alone(s->place, max) ? COPY_CLEAN : COPY_MIXED;
        begin_batch(s);
        rc = flush_batch(s);
    }
    return rc;
}

static int copy_queue(struct stream *s)
{
    int64_t min = 0;
    int64_t max = 0;
    int rc = open_stream(s);

    if (rc == 0) {
        rc = find_range(s);
    }
    if (rc != 0 || s->at >= s->end) {
        return rc != 0 ? rc : close_queue(s);
    }
    if (s->place != NULL && s->at == copy_place_next(s->place)) {
        rc = check_store(s);
    }
    if (rc == 0) {
        rc = target_range(s, &min, &max);
    }
    if (rc != 0) {
        return rc;
    }
    s->start = max;
    s->is_mixed =
        s->place == NULL ? max > min : s->place->state == COPY_MIXED || !is_alone(s->place, max);
    if (s->place != NULL) {
        s->place->state = s->is_mixed ? COPY_MIXED : COPY_OPEN;
    }
    rc = copy_range(s);
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
    int64_t first = copy_place_find(s->place, s->wanted);
    int64_t end = s->place->start + copy_place_total(s->place);
    int64_t min = end; /* without the topic all of it is gone */
    int64_t max = 0;
    int rc = copy_target_topic(c, s->topic->name) == NULL ? 0 : target_range(s, &min, &max);

    if (rc == 0 && first < end && first < min) {
        copy_failed(c, s->topic->name,
                    "%" PRId64 " messages of queue %" PRIu32
                    " that were copied from %s before are gone at the target (deleted, or too old "
                    "there); --again copies them again",
                    (min < end ? min : end) - first, s->queue, broker);
    }
    if (rc == 0 && c->is_all_messages && s->wanted < s->place->runs[0].first) {
        copy_failed(c, s->topic->name,
                    "offsets %" PRId64 " to %" PRId64 " of queue %" PRIu32
                    " at %s lie before what was copied first: only --again copies them, and all "
                    "else again",
                    s->wanted, s->place->runs[0].first - 1, s->queue, broker);
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
            *has_open |= s->place != NULL && s->place->state == COPY_OPEN;
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
