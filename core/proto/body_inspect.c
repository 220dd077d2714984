#include "core/proto/body_inspect.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/body_pack.h"
#include "escrow/errors.h"

#define TXN_ELEMENTS    9
#define METRIC_ELEMENTS 4
#define GROUP_ELEMENTS  7

/* ---- what all lists share ---- */

static void list_begin(struct list_writer *w, struct buf *out, const char *key, size_t pairs)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, pairs);
    pack_key(&pk, key);
    *w = (struct list_writer){.out = out, .count_at = pack_open_array(out)};
}

static msgpack_packer row_begin(struct list_writer *w, size_t elements)
{
    msgpack_packer pk = pack_to(w->out);

    CHECK(w->count < UINT32_MAX);
    w->count++;
    pack_array(&pk, elements);
    return pk;
}

typedef int read_row_fn(struct scan *s, void *row);

/* Read a body that is a map with a list under `key`, and every row of it once. */
static int list_decode(struct slice body, const char *key, read_row_fn *read, void *row,
                       struct list_reader *r)
{
    const struct pack_field fields[] = {
        {.key = key,
         .kind = PACK_ROWS,
         .at = offsetof(struct list_reader, rows),
         .count_at = offsetof(struct list_reader, count),
         .is_required = true},
        PACK_FIELD(struct list_reader, cursor, "cursor", PACK_U64, false)};
    struct scan rows;
    int error;

    *r = (struct list_reader){.cursor = UINT64_MAX};
    error = pack_read_body(body, fields, PACK_COUNT(fields), r);
    r->has_more = r->cursor != UINT64_MAX;
    r->cursor = r->has_more ? r->cursor : 0;
    rows = r->rows;
    for (uint32_t i = 0; error == 0 && i < r->count; i++) {
        error = read(&rows, row);
    }
    return error;
}

static bool list_next(struct list_reader *r, read_row_fn *read, void *row)
{
    int error;

    if (r->index == r->count) {
        return false;
    }
    error = read(&r->rows, row);
    CHECK(error == 0); /* decode has read it */
    r->index++;
    return true;
}

/* ---- 30004 ---- */

void list_txn_request_encode(struct buf *out, const struct list_txn_request *req)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, 6);
    pack_key(&pk, "state");
    pack_text_or_nil(&pk, req->state);
    pack_key(&pk, "group");
    pack_text_or_nil(&pk, req->group);
    pack_key(&pk, "olderThanMs");
    pack_i64_or_nil(&pk, req->older_than_ms, INSPECT_NONE);
    pack_key(&pk, "limit");
    pack_u64(&pk, req->limit);
    pack_key(&pk, "cursor");
    pack_u64(&pk, req->cursor);
    pack_key(&pk, "transactionId");
    pack_text_or_nil(&pk, req->transaction_id);
}

int list_txn_request_decode(struct slice body, struct list_txn_request *req)
{
    static const struct pack_field fields[] = {
        PACK_FIELD(struct list_txn_request, state, "state", PACK_TEXT, false),
        PACK_FIELD(struct list_txn_request, group, "group", PACK_TEXT, false),
        PACK_FIELD(struct list_txn_request, older_than_ms, "olderThanMs", PACK_I64, false),
        PACK_FIELD(struct list_txn_request, limit, "limit", PACK_U32, false),
        PACK_FIELD(struct list_txn_request, cursor, "cursor", PACK_U64, false),
        PACK_FIELD(struct list_txn_request, transaction_id, "transactionId", PACK_TEXT, false)};
    int error;

    *req = (struct list_txn_request){.older_than_ms = INSPECT_NONE, .limit = LIST_ROWS_MAX};
    error = pack_read_body(body, fields, PACK_COUNT(fields), req);
    if (req->limit == 0 || req->limit > LIST_ROWS_MAX) {
        req->limit = LIST_ROWS_MAX;
    }
    return error;
}

void list_txn_begin(struct list_writer *w, struct buf *out)
{
    list_begin(w, out, "rows", 2);
}

void list_txn_put(struct list_writer *w, const struct list_txn_row *row)
{
    msgpack_packer pk = row_begin(w, TXN_ELEMENTS);

    pack_text(&pk, row->transaction_id);
    pack_i64(&pk, row->offset);
    pack_text(&pk, row->group);
    pack_text(&pk, row->topic);
    pack_text(&pk, row->state);
    pack_i64(&pk, row->born_ms);
    pack_u64(&pk, row->checks);
    pack_i64_or_nil(&pk, row->next_check_ms, INSPECT_NONE);
    if (row->is_not_mine) {
        pack_text(&pk, row->database);
    } else {
        pack_nil(&pk);
    }
}

void list_txn_end(struct list_writer *w, bool has_more, uint64_t cursor)
{
    msgpack_packer pk = pack_to(w->out);

    pack_patch_count(w->out, w->count_at, w->count);
    pack_key(&pk, "cursor");
    if (has_more) {
        CHECK(cursor != UINT64_MAX); /* what absence is read as */
        pack_u64(&pk, cursor);
    } else {
        pack_nil(&pk);
    }
}

static int read_txn(struct scan *s, void *into)
{
    struct list_txn_row *txn = into;
    struct pack_row row;
    int error;

    if ((error = pack_row_begin(s, TXN_ELEMENTS, &row)) != 0 ||
        (error = scan_str(s, &txn->transaction_id)) != 0 ||
        (error = scan_i64(s, &txn->offset)) != 0 || (error = scan_str(s, &txn->group)) != 0 ||
        (error = scan_str(s, &txn->topic)) != 0 || (error = scan_str(s, &txn->state)) != 0 ||
        (error = scan_i64(s, &txn->born_ms)) != 0 || (error = scan_u32(s, &txn->checks)) != 0 ||
        (error = pack_read_i64_or_nil(s, INSPECT_NONE, &txn->next_check_ms)) != 0) {
        return error;
    }
    txn->is_not_mine = scan_peek(s) != SCAN_NIL;
    if ((error = pack_read_text_or_nil(s, &txn->database)) != 0) {
        return error;
    }
    return pack_row_end(s, &row);
}

int list_txn_decode(struct slice body, struct list_reader *r)
{
    struct list_txn_row row;

    return list_decode(body, "rows", read_txn, &row, r);
}

bool list_txn_next(struct list_reader *r, struct list_txn_row *row)
{
    return list_next(r, read_txn, row);
}

/* ---- 30005 ---- */

void status_begin(struct list_writer *w, struct buf *out)
{
    list_begin(w, out, "metrics", 1);
}

void status_put(struct list_writer *w, const struct metric_row *row)
{
    msgpack_packer pk = row_begin(w, METRIC_ELEMENTS);

    pack_text(&pk, row->name);
    pack_u64(&pk, (uint64_t)row->kind);
    pack_i64(&pk, row->value);
    pack_text(&pk, row->help);
}

void status_end(struct list_writer *w)
{
    pack_patch_count(w->out, w->count_at, w->count);
}

static int read_metric(struct scan *s, void *into)
{
    struct metric_row *metric = into;
    struct pack_row row;
    uint32_t kind;
    int error;

    if ((error = pack_row_begin(s, METRIC_ELEMENTS, &row)) != 0 ||
        (error = scan_str(s, &metric->name)) != 0 || (error = scan_u32(s, &kind)) != 0 ||
        (error = scan_i64(s, &metric->value)) != 0 || (error = scan_str(s, &metric->help)) != 0) {
        return error;
    }
    if (kind > METRIC_GAUGE) {
        return ESCROW_EPROTO;
    }
    metric->kind = (enum metric_kind)kind;
    return pack_row_end(s, &row);
}

int status_decode(struct slice body, struct list_reader *r)
{
    struct metric_row row;

    return list_decode(body, "metrics", read_metric, &row, r);
}

bool status_next(struct list_reader *r, struct metric_row *row)
{
    return list_next(r, read_metric, row);
}

/* ---- 30006 ---- */

void list_groups_request_encode(struct buf *out, struct slice group)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, 1);
    pack_key(&pk, "group");
    pack_text_or_nil(&pk, group);
}

int list_groups_request_decode(struct slice body, struct slice *group)
{
    static const struct pack_field fields[] = {{.key = "group", .kind = PACK_TEXT}};

    *group = SLICE_EMPTY;
    return pack_read_body(body, fields, PACK_COUNT(fields), group);
}

void list_groups_begin(struct list_writer *w, struct buf *out)
{
    list_begin(w, out, "rows", 1);
}

void list_groups_put(struct list_writer *w, const struct group_row *row)
{
    msgpack_packer pk = row_begin(w, GROUP_ELEMENTS);

    pack_text(&pk, row->group);
    pack_text(&pk, row->topic);
    pack_i64(&pk, row->queue_id);
    pack_i64(&pk, row->committed);
    pack_i64(&pk, row->max);
    pack_i64(&pk, row->lag);
    pack_u64(&pk, row->members);
}

void list_groups_end(struct list_writer *w)
{
    pack_patch_count(w->out, w->count_at, w->count);
}

static int read_group(struct scan *s, void *into)
{
    struct group_row *group = into;
    struct pack_row row;
    int error;

    if ((error = pack_row_begin(s, GROUP_ELEMENTS, &row)) != 0 ||
        (error = scan_str(s, &group->group)) != 0 || (error = scan_str(s, &group->topic)) != 0 ||
        (error = scan_i32(s, &group->queue_id)) != 0 ||
        (error = scan_i64(s, &group->committed)) != 0 || (error = scan_i64(s, &group->max)) != 0 ||
        (error = scan_i64(s, &group->lag)) != 0 || (error = scan_u32(s, &group->members)) != 0) {
        return error;
    }
    return pack_row_end(s, &row);
}

int list_groups_decode(struct slice body, struct list_reader *r)
{
    struct group_row row;

    return list_decode(body, "rows", read_group, &row, r);
}

bool list_groups_next(struct list_reader *r, struct group_row *row)
{
    return list_next(r, read_group, row);
}

/* ---- 30007 ---- */

void txn_horizon_encode(struct buf *out, const struct txn_horizon *horizon)
{
    msgpack_packer pk = pack_to(out);

    pack_map(&pk, 5);
    pack_key(&pk, "bornMs");
    pack_i64_or_nil(&pk, horizon->born_ms, INSPECT_NONE);
    pack_key(&pk, "undecided");
    pack_u64(&pk, horizon->undecided);
    pack_key(&pk, "nowMs");
    pack_i64(&pk, horizon->now_ms);
    pack_key(&pk, "broker");
    pack_text(&pk, horizon->broker);
    pack_key(&pk, "offset");
    pack_u64(&pk, horizon->offset);
}

/* Fit for a database's array of texts, and for a terminal. */
static bool identity_is_sound(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] <= ' ' || name.ptr[i] > '~' || name.ptr[i] == '"' || name.ptr[i] == '\\') {
            return false;
        }
    }
    return name.len > 0 && name.len <= BROKER_IDENTITY_MAX;
}

int txn_horizon_decode(struct slice body, struct txn_horizon *horizon)
{
    static const struct pack_field fields[] = {
        PACK_FIELD(struct txn_horizon, born_ms, "bornMs", PACK_I64, false),
        PACK_FIELD(struct txn_horizon, undecided, "undecided", PACK_U64, true),
        PACK_FIELD(struct txn_horizon, now_ms, "nowMs", PACK_I64, true),
        PACK_FIELD(struct txn_horizon, broker, "broker", PACK_TEXT, true),
        PACK_FIELD(struct txn_horizon, offset, "offset", PACK_U64, true)};

    int rc;

    *horizon = (struct txn_horizon){.born_ms = INSPECT_NONE};
    rc = pack_read_body(body, fields, PACK_COUNT(fields), horizon);
    return rc == 0 && !identity_is_sound(horizon->broker) ? ESCROW_EPROTO : rc;
}
