/*
 * Writing: a row is one array; its topic is left out when it is that of the row before, which in a
 * batch of one topic saves the broker a look-up per row. The number of rows is patched at the end.
 * Reading is the mirror; the bytes are walked once by publish_check and once more when the messages
 * are appended, both times without an allocation.
 */
#include "core/proto/body_publish.h"

#include "core/base/check.h"
#include "core/proto/body_pack.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "escrow/errors.h"

#define ROW_ELEMENTS   9
#define MOVED_ELEMENTS 4 /* and these, of a moved message */

/* Heads of the elements and of the row at their widest, and the numbers. */
#define ROW_OVERHEAD_MAX (1 + 7 * 5 + 5 + 9 + 3 * 5 + 5)

#define MOVED_SYSFLAGS (SYSFLAG_COMPRESSED | SYSFLAG_MULTI_TAGS | SYSFLAG_COMPRESS_MASK)

/* ---- batch: writing ---- */

void publish_begin(struct publish_writer *pub, struct buf *out, const struct publish_head *head)
{
    msgpack_packer pk = pack_to(out);

    CHECK(head->source.len >= 1);
    CHECK(head->source.len <= PUBLISH_SOURCE_LEN_MAX);
    CHECK(head->prev.len <= POSITION_LEN_MAX);
    pack_map(&pk, 6);
    pack_key(&pk, "source");
    pack_text(&pk, head->source);
    pack_key(&pk, "lane");
    pack_u64(&pk, head->lane);
    pack_key(&pk, "epoch");
    pack_u64(&pk, head->epoch);
    pack_key(&pk, "systemId");
    pack_u64(&pk, head->system_id);
    pack_key(&pk, "timeline");
    pack_u64(&pk, head->timeline);
    pack_key(&pk, "prev");
    pack_bytes(&pk, head->prev);
    *pub = (struct publish_writer){.out = out, .count_at = pack_open_array(out)};
}

/* The topic, or nil when the last row that wrote one wrote the same. */
static void put_topic(struct publish_writer *pub, msgpack_packer *pk, struct slice topic)
{
    if (pub->topic_len == topic.len && !buf_failed(pub->out) &&
        memcmp(pub->out->ptr + pub->topic_at, topic.ptr, topic.len) == 0) {
        pack_nil(pk);
        return;
    }
    pack_text(pk, topic);
    if (!buf_failed(pub->out)) {
        pub->topic_at = pub->out->len - topic.len;
        pub->topic_len = topic.len;
    }
}

void publish_put(struct publish_writer *pub, const struct publish_row *row)
{
    msgpack_packer pk = pack_to(pub->out);

    CHECK(publish_has_room(pub));
    CHECK(row->topic.len > 0);
    pub->count++;
    pack_array(&pk, ROW_ELEMENTS + (row->is_moved ? MOVED_ELEMENTS : 0));
    put_topic(pub, &pk, row->topic);
    pack_i64(&pk, row->queue_id);
    pack_text_or_nil(&pk, row->tag);
    pack_text_or_nil(&pk, row->keys);
    pack_text_or_nil(&pk, row->ordering_key);
    pack_text(&pk, row->properties);
    pack_i64(&pk, row->born_ms);
    pack_bytes(&pk, row->body);
    pack_text_or_nil(&pk, row->uniq_key);
    if (row->is_moved) {
        pack_i64(&pk, row->flag);
        pack_i64(&pk, row->sys_flag);
        pack_i64(&pk, row->reconsume_times);
        pack_bytes(&pk, row->born_host);
    }
}

size_t publish_row_size_max(const struct publish_row *row)
{
    return ROW_OVERHEAD_MAX + row->topic.len + row->tag.len + row->keys.len +
           row->ordering_key.len + row->properties.len + row->body.len + row->uniq_key.len +
           row->born_host.len;
}

uint32_t publish_end(struct publish_writer *pub, struct slice next)
{
    msgpack_packer pk = pack_to(pub->out);

    CHECK(next.len <= POSITION_LEN_MAX);
    pack_patch_count(pub->out, pub->count_at, pub->count);
    pack_bytes(&pk, next);
    return pub->count;
}

/* ---- batch: reading ---- */

int publish_reader_begin(struct publish_reader *r, struct slice body)
{
    static const struct pack_field fields[] = {
        PACK_FIELD(struct publish_head, source, "source", PACK_TEXT, true),
        PACK_FIELD(struct publish_head, lane, "lane", PACK_U32, true),
        PACK_FIELD(struct publish_head, epoch, "epoch", PACK_U64, true),
        PACK_FIELD(struct publish_head, system_id, "systemId", PACK_U64, true),
        PACK_FIELD(struct publish_head, timeline, "timeline", PACK_U32, true),
        PACK_FIELD(struct publish_head, prev, "prev", PACK_BYTES, true)};
    int error;

    *r = (struct publish_reader){0};
    scan_init(&r->rows, body);
    error = pack_read_map(&r->rows, fields, PACK_COUNT(fields), &r->head);
    if (error == 0) {
        error = scan_array(&r->rows, &r->row_count);
    }
    if (error != 0) {
        return error;
    }
    if (r->head.source.len > PUBLISH_SOURCE_LEN_MAX || r->head.prev.len > POSITION_LEN_MAX) {
        return ESCROW_ETOOBIG;
    }
    if (r->row_count > PUBLISH_ROWS_MAX) {
        return ESCROW_ELIMIT;
    }
    return r->head.source.len == 0 ? ESCROW_EPROTO : 0;
}

/* The position behind the rows, the last thing there is. */
static int read_next_position(struct publish_reader *r)
{
    struct scan at = r->rows;
    int error = scan_bin(&at, &r->next);

    if (error == 0 && scan_left(&at) != 0) {
        error = ESCROW_EPROTO;
    }
    if (error == 0 && r->next.len > POSITION_LEN_MAX) {
        error = ESCROW_ETOOBIG;
    }
    return error;
}

/* What a row of a moved message has beyond the others. */
static int read_moved(struct scan *s, struct publish_row *row, struct pack_row *elements)
{
    int error;

    row->is_moved = elements->left >= MOVED_ELEMENTS;
    row->flag = row->sys_flag = row->reconsume_times = 0;
    row->born_host = SLICE_EMPTY;
    if (!row->is_moved) {
        return 0;
    }
    elements->left -= MOVED_ELEMENTS;
    if ((error = scan_i32(s, &row->flag)) != 0 || (error = scan_i32(s, &row->sys_flag)) != 0 ||
        (error = scan_i32(s, &row->reconsume_times)) != 0) {
        return error;
    }
    return scan_bin(s, &row->born_host);
}

static int read_row(struct publish_reader *r, struct publish_row *row)
{
    struct scan *s = &r->rows;
    struct pack_row elements;
    int error;

    if ((error = pack_row_begin(s, ROW_ELEMENTS, &elements)) != 0 ||
        (error = pack_read_text_or_nil(s, &row->topic)) != 0 ||
        (error = scan_i32(s, &row->queue_id)) != 0 ||
        (error = pack_read_text_or_nil(s, &row->tag)) != 0 ||
        (error = pack_read_text_or_nil(s, &row->keys)) != 0 ||
        (error = pack_read_text_or_nil(s, &row->ordering_key)) != 0 ||
        (error = scan_str(s, &row->properties)) != 0 || (error = scan_i64(s, &row->born_ms)) != 0 ||
        (error = scan_bin(s, &row->body)) != 0 ||
        (error = pack_read_text_or_nil(s, &row->uniq_key)) != 0 ||
        (error = read_moved(s, row, &elements)) != 0) {
        return error;
    }
    row->is_same_topic = row->topic.len == 0;
    if (row->is_same_topic) {
        row->topic = r->topic;
    }
    return pack_row_end(s, &elements);
}

/* Bytes of the pair in the stored property string; 0 for an absent value. */
static size_t pair_size(enum prop_id id, struct slice value)
{
    return value.len == 0 ? 0 : props_pair_size(prop_name(id), value);
}

static size_t stored_properties_size(const struct publish_row *row)
{
    return row->properties.len + 1 /* the last separator, if missing */ +
           pair_size(PROP_TAGS, row->tag) + pair_size(PROP_KEYS, row->keys) +
           pair_size(PROP_SHARDING_KEY, row->ordering_key) +
           pair_size(PROP_UNIQ_KEY, row->uniq_key);
}

static bool is_pair_value(struct slice value)
{
    return value.len == 0 || props_check_text(value) == 0;
}

static bool is_moved_well(const struct publish_row *row)
{
    return row->queue_id >= 0 && (row->sys_flag & ~MOVED_SYSFLAGS) == 0 &&
           row->reconsume_times >= 0 &&
           (row->born_host.len == 0 || row->born_host.len == PUBLISH_HOST_IPV4 ||
            row->born_host.len == PUBLISH_HOST_IPV6);
}

static int check_row(const struct publish_row *row)
{
    if ((row->is_moved && !is_moved_well(row)) || row->topic.len == 0 ||
        row->queue_id < PUBLISH_QUEUE_ANY || !is_pair_value(row->tag) ||
        !is_pair_value(row->keys) || !is_pair_value(row->ordering_key) ||
        !is_pair_value(row->uniq_key)) {
        return ESCROW_EPROTO;
    }
    if (row->body.len > MESSAGE_BODY_MAX || row->topic.len > RETRY_TOPIC_LEN_MAX ||
        stored_properties_size(row) > PROPERTIES_LEN_MAX) {
        return ESCROW_ETOOBIG;
    }
    return 0;
}

int publish_reader_next(struct publish_reader *r, struct publish_row *row)
{
    int error;

    if (r->row_index == r->row_count) {
        return read_next_position(r);
    }
    error = read_row(r, row);
    if (error == 0) {
        error = check_row(row);
    }
    if (error != 0) {
        return error;
    }
    r->topic = row->topic;
    r->row_index++;
    return 1;
}

int publish_check(struct publish_reader *r, size_t *bytes)
{
    struct publish_reader walk = *r;
    struct publish_row row = {0};
    size_t sum = 0;
    int more;

    CHECK(r->row_index == 0);
    while ((more = publish_reader_next(&walk, &row)) == 1) {
        sum += row.body.len + stored_properties_size(&row);
    }
    r->next = walk.next;
    *bytes = sum;
    return more;
}

/* ---- the other bodies ---- */

void publish_answer_encode(struct buf *out, const struct publish_answer *answer)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, 3);
    pack_key(&pk, "offset");
    pack_i64_or_nil(&pk, answer->offset, PUBLISH_OFFSET_NONE);
    pack_key(&pk, "count");
    pack_u64(&pk, answer->count);
    pack_key(&pk, "position");
    pack_bytes(&pk, answer->position);
}

int publish_answer_decode(struct slice body, struct publish_answer *answer)
{
    static const struct pack_field fields[] = {
        PACK_FIELD(struct publish_answer, offset, "offset", PACK_I64, false),
        PACK_FIELD(struct publish_answer, count, "count", PACK_U32, true),
        PACK_FIELD(struct publish_answer, position, "position", PACK_BYTES, true)};
    int error;

    *answer = (struct publish_answer){.offset = PUBLISH_OFFSET_NONE};
    error = pack_read_body(body, fields, PACK_COUNT(fields), answer);
    return error == 0 && answer->position.len > POSITION_LEN_MAX ? ESCROW_ETOOBIG : error;
}

void source_open_request_encode(struct buf *out, const struct source_open_request *req)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, 7);
    pack_key(&pk, "source");
    pack_text(&pk, req->source);
    pack_key(&pk, "lane");
    pack_u64(&pk, req->lane);
    pack_key(&pk, "systemId");
    pack_u64(&pk, req->system_id);
    pack_key(&pk, "timeline");
    pack_u64(&pk, req->timeline);
    pack_key(&pk, "owner");
    pack_text(&pk, req->owner);
    pack_key(&pk, "adopt");
    pack_bool(&pk, req->adopt);
    pack_key(&pk, "peek");
    pack_bool(&pk, req->peek);
}

int source_open_request_decode(struct slice body, struct source_open_request *req)
{
    static const struct pack_field fields[] = {
        PACK_FIELD(struct source_open_request, source, "source", PACK_TEXT, true),
        PACK_FIELD(struct source_open_request, lane, "lane", PACK_U32, true),
        PACK_FIELD(struct source_open_request, system_id, "systemId", PACK_U64, true),
        PACK_FIELD(struct source_open_request, timeline, "timeline", PACK_U32, true),
        PACK_FIELD(struct source_open_request, owner, "owner", PACK_TEXT, false),
        PACK_FIELD(struct source_open_request, adopt, "adopt", PACK_BOOL, false),
        PACK_FIELD(struct source_open_request, peek, "peek", PACK_BOOL, false)};
    int error;

    *req = (struct source_open_request){0};
    error = pack_read_body(body, fields, PACK_COUNT(fields), req);
    if (error == 0 && req->source.len == 0) {
        error = ESCROW_EPROTO;
    }
    if (error == 0 &&
        (req->source.len > PUBLISH_SOURCE_LEN_MAX || req->owner.len > PUBLISH_OWNER_LEN_MAX)) {
        error = ESCROW_ETOOBIG;
    }
    return error;
}

void source_open_answer_encode(struct buf *out, const struct source_open_answer *answer)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, 4);
    pack_key(&pk, "epoch");
    pack_u64(&pk, answer->epoch);
    pack_key(&pk, "position");
    if (answer->has_position) {
        pack_bytes(&pk, answer->position);
    } else {
        pack_nil(&pk);
    }
    pack_key(&pk, "lastSystemId");
    pack_u64(&pk, answer->last_system_id);
    pack_key(&pk, "lastTimeline");
    pack_u64(&pk, answer->last_timeline);
}

int source_open_answer_decode(struct slice body, struct source_open_answer *answer)
{
    static const struct pack_field fields[] = {
        PACK_FIELD(struct source_open_answer, epoch, "epoch", PACK_U64, true),
        PACK_FIELD(struct source_open_answer, position, "position", PACK_BYTES, false),
        PACK_FIELD(struct source_open_answer, last_system_id, "lastSystemId", PACK_U64, false),
        PACK_FIELD(struct source_open_answer, last_timeline, "lastTimeline", PACK_U32, false)};
    int error;

    *answer = (struct source_open_answer){0};
    error = pack_read_body(body, fields, PACK_COUNT(fields), answer);
    answer->has_position = answer->position.ptr != NULL; /* bytes of length 0 have a place too */
    return error == 0 && answer->position.len > POSITION_LEN_MAX ? ESCROW_ETOOBIG : error;
}
