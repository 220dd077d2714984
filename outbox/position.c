#include "outbox/position.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"

#include <inttypes.h>
#include <stdio.h>

#define FLAG_READING  1u
#define FLAG_REPLAYED 2u
#define HEAD_BYTES    18
#define VARINT_BYTES  10

void position_init(struct position *p)
{
    *p = (struct position){.is_reading = false};
    snapshot_init(&p->old);
    snapshot_init(&p->new);
}

void position_fini(struct position *p)
{
    snapshot_fini(&p->old);
    snapshot_fini(&p->new);
}

int position_copy(struct position *dst, const struct position *src)
{
    struct position copy;
    int rc;

    position_init(&copy);
    rc = snapshot_copy(&copy.old, &src->old);
    if (rc == 0) {
        rc = snapshot_copy(&copy.new, &src->new);
    }
    if (rc != 0) {
        position_fini(&copy);
        return rc;
    }
    copy.db = src->db;
    copy.reports = src->reports;
    copy.is_reading = src->is_reading;
    copy.last_order_id = src->last_order_id;
    copy.last_id = src->last_id;
    copy.replayed = src->replayed;
    position_fini(dst);
    *dst = copy;
    return 0;
}

static void put_varint(struct buf *out, uint64_t v)
{
    uint8_t raw[VARINT_BYTES];
    size_t n = 0;

    while (v >= 0x80) {
        raw[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    raw[n++] = (uint8_t)v;
    buf_append(out, raw, n);
}

static void put_snapshot(struct buf *out, const struct snapshot *s, uint64_t base)
{
    uint64_t before = s->xmin;

    put_varint(out, s->xmax - base);
    put_varint(out, s->xmax - s->xmin);
    put_varint(out, s->xip_count);
    for (size_t i = 0; i < s->xip_count; i++) {
        put_varint(out, s->xip[i] - before);
        before = s->xip[i];
    }
}

void position_encode(const struct position *p, struct buf *out)
{
    buf_append_u8(out, POSITION_VERSION);
    buf_append_u8(
        out, (uint8_t)((p->is_reading ? FLAG_READING : 0) | (p->replayed > 0 ? FLAG_REPLAYED : 0)));
    buf_append_le64(out, p->db.system_id);
    buf_append_le32(out, p->db.timeline);
    buf_append_le32(out, p->db.db_oid);
    put_varint(out, p->reports);
    put_snapshot(out, &p->old, 0);
    if (p->is_reading) {
        CHECK(p->new.xmax >= p->old.xmax);
        CHECK(p->last_id <= p->last_order_id);
        put_snapshot(out, &p->new, p->old.xmax);
        put_varint(out, p->last_order_id);
        put_varint(out, p->last_order_id - p->last_id);
    }
    if (p->replayed > 0) {
        put_varint(out, p->replayed);
    }
}

struct reader {
    const uint8_t *p;
    const uint8_t *end;
};

static bool get_varint(struct reader *r, uint64_t *out)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70 && r->p < r->end; shift += 7) {
        uint8_t byte = *r->p++;
        if (shift == 63 && byte > 1) {
            return false;
        }
        v |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *out = v;
            return true;
        }
    }
    return false;
}

static int get_snapshot(struct reader *r, struct snapshot *s, uint64_t base)
{
    uint64_t xip[SNAPSHOT_XIP_MAX];
    uint64_t xmax;
    uint64_t span;
    uint64_t count;
    uint64_t before;

    if (!get_varint(r, &xmax) || xmax > INT64_MAX - base || !get_varint(r, &span) ||
        span > xmax + base || !get_varint(r, &count)) {
        return ESCROW_EPROTO;
    }
    if (count > SNAPSHOT_XIP_MAX) {
        return ESCROW_ELIMIT;
    }
    xmax += base;
    before = xmax - span;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t step;
        if (!get_varint(r, &step) || step > xmax - before) {
            return ESCROW_EPROTO;
        }
        before += step;
        xip[i] = before;
    }
    return snapshot_set(s, xmax - span, xmax, xip, (size_t)count);
}

static int decode_fields(struct position *p, struct slice bytes)
{
    struct reader r = {bytes.ptr + HEAD_BYTES, bytes.ptr + bytes.len};
    uint64_t behind;
    int rc;

    p->is_reading = (bytes.ptr[1] & FLAG_READING) != 0;
    p->db.system_id = get_le64(bytes.ptr + 2);
    p->db.timeline = get_le32(bytes.ptr + 10);
    p->db.db_oid = get_le32(bytes.ptr + 14);
    rc = get_varint(&r, &p->reports) ? get_snapshot(&r, &p->old, 0) : ESCROW_EPROTO;
    if (rc == 0 && p->is_reading) {
        rc = get_snapshot(&r, &p->new, p->old.xmax);
        if (rc == 0 && (!get_varint(&r, &p->last_order_id) || !get_varint(&r, &behind) ||
                        p->last_order_id > INT64_MAX || behind > p->last_order_id ||
                        !snapshot_contains(&p->new, &p->old))) {
            rc = ESCROW_EPROTO;
        }
        if (rc == 0) {
            p->last_id = p->last_order_id - behind;
        }
    }
    if (rc == 0 && (bytes.ptr[1] & FLAG_REPLAYED) != 0 &&
        (!get_varint(&r, &p->replayed) || p->replayed == 0 || p->replayed > INT64_MAX)) {
        rc = ESCROW_EPROTO;
    }
    return rc != 0 ? rc : r.p == r.end ? 0 : ESCROW_EPROTO;
}

int position_decode(struct position *p, struct slice bytes)
{
    struct position decoded;
    struct buf again;
    int rc;

    if (bytes.len < HEAD_BYTES || bytes.len > POSITION_LEN_MAX) {
        return ESCROW_EPROTO;
    }
    if (bytes.ptr[0] != POSITION_VERSION) {
        return ESCROW_EVERSION;
    }
    if (bytes.ptr[1] > (FLAG_READING | FLAG_REPLAYED)) {
        return ESCROW_EPROTO;
    }
    position_init(&decoded);
    buf_init(&again, 0);
    rc = decode_fields(&decoded, bytes);
    if (rc == 0) {
        position_encode(&decoded, &again);
        rc = buf_failed(&again)                   ? ESCROW_ENOMEM
             : slice_eq(buf_slice(&again), bytes) ? 0
                                                  : ESCROW_EPROTO;
    }
    buf_fini(&again);
    if (rc != 0) {
        position_fini(&decoded);
        return rc;
    }
    position_fini(p);
    *p = decoded;
    return 0;
}

bool db_identity_equal(const struct db_identity *a, const struct db_identity *b)
{
    return a->system_id == b->system_id && a->timeline == b->timeline && a->db_oid == b->db_oid;
}

char *db_identity_format(const struct db_identity *db, char out[DB_IDENTITY_TEXT_MAX])
{
    /* Cannot be cut: three numbers of at most 20, 10 and 10 digits. */
    (void)snprintf(out, DB_IDENTITY_TEXT_MAX,
                   "system %" PRIu64 ", timeline %" PRIu32 ", database oid %" PRIu32, db->system_id,
                   db->timeline, db->db_oid);
    return out;
}
