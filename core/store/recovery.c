/*
 * Happy path: log_scan_next walks valid records until zeros. recovery_find_end then looks at what
 * lies behind: nothing (the log was closed or killed between two writes), remains of a write that a
 * crash cut off, or valid records that say that the bad one had been durable. Only the last is
 * corruption.
 */
#include "core/store/recovery.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/store_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SCAN_CHUNK_BYTES (1u << 20)
#define SETTLE_BYTES     (1u << 20)
#define START_VERSION_AT 8 /* in the payload of a START */

const char *recovery_where(const struct segments *segs, uint64_t offset,
                           char text[RECOVERY_WHERE_MAX])
{
    char path[SEGMENT_PATH_MAX];

    segment_path(segments_start_of(segs, offset), path);
    (void)snprintf(text, RECOVERY_WHERE_MAX, "%s at offset %" PRIu64 " (log offset %" PRIu64 ")",
                   path, offset % segs->segment_bytes, offset);
    return text;
}

/* ------------------------------------------------------------------ walking records */

int log_scan_init(struct log_scan *scan, struct segments *segs, uint32_t seed, uint64_t from,
                  uint32_t epoch)
{
    CHECK(from % ENVELOPE_ALIGN == 0);
    *scan = (struct log_scan){.segs = segs, .pos = from, .seed = seed, .epoch = epoch, .why = ""};
    scan->buf_cap = SCAN_CHUNK_BYTES;
    scan->buf = mem_alloc(scan->buf_cap);
    return scan->buf == NULL ? ESCROW_ENOMEM : 0;
}

void log_scan_fini(struct log_scan *scan)
{
    mem_free(scan->buf);
    scan->buf = NULL;
}

void log_scan_seek(struct log_scan *scan, uint64_t from)
{
    CHECK(from % ENVELOPE_ALIGN == 0);
    scan->pos = from;
    scan->is_fresh = true;
}

/* A record that is longer than the buffer makes it grow, once: records have a longest length. */
static int scan_grow(struct log_scan *scan, size_t need, struct err_ctx *err)
{
    uint8_t *grown;

    if (need <= scan->buf_cap) {
        return 0;
    }
    CHECK(need <= envelope_padded(ENVELOPE_LENGTH_MAX));
    grown = mem_realloc(scan->buf, (size_t)envelope_padded(ENVELOPE_LENGTH_MAX));
    if (grown == NULL) {
        return err_set(err, ESCROW_ENOMEM, "commit log: out of memory");
    }
    scan->buf = grown;
    scan->buf_cap = (size_t)envelope_padded(ENVELOPE_LENGTH_MAX);
    return 0;
}

/* Have at least `need` bytes from scan->pos in the buffer, as far as the segment goes. */
static int scan_fill(struct log_scan *scan, size_t need, struct err_ctx *err)
{
    uint64_t room = segments_end_of(scan->segs, scan->pos) - scan->pos;
    size_t have = 0;
    size_t want = need > SCAN_CHUNK_BYTES ? need : SCAN_CHUNK_BYTES;
    int rc = scan_grow(scan, need, err);

    if (rc != 0) {
        return rc;
    }
    if (scan->pos >= scan->buf_at && scan->pos < scan->buf_at + scan->buf_len) {
        have = (size_t)(scan->buf_at + scan->buf_len - scan->pos);
        memmove(scan->buf, scan->buf + (scan->pos - scan->buf_at), have);
    }
    scan->buf_at = scan->pos;
    scan->buf_len = have;
    if (want > room) {
        want = (size_t)room;
    }
    CHECK(want <= scan->buf_cap);
    if (have < want) {
        size_t got;
        rc = segments_read(scan->segs, scan->pos + have, scan->buf + have, want - have, &got, err);
        if (rc != 0) {
            return rc;
        }
        scan->buf_len += got;
    }
    return 0;
}

static enum envelope_verdict scan_verify(const struct log_scan *scan, struct envelope *e,
                                         size_t *need)
{
    uint64_t room = segments_end_of(scan->segs, scan->pos) - scan->pos;
    bool is_inside = scan->pos >= scan->buf_at && scan->pos < scan->buf_at + scan->buf_len;
    size_t at = is_inside ? (size_t)(scan->pos - scan->buf_at) : 0;
    struct envelope_source src = {
        .bytes = scan->buf + at,
        .have = is_inside ? scan->buf_len - at : 0,
        .offset = scan->pos,
        .room = room,
        .seed = scan->seed,
    };

    return envelope_verify(&src, e, need);
}

/* May this valid record follow the one before? (FORMAT.md, invariants 3 and 4) */
static const char *scan_order(const struct log_scan *scan, const struct envelope *e)
{
    if (scan->is_fresh) {
        return NULL;
    }
    if (e->epoch < scan->epoch) {
        return "record of an older epoch";
    }
    if (e->epoch > scan->epoch && e->type != STORE_START) {
        return "record of an epoch that never began";
    }
    if (e->synced < scan->synced) {
        return "record of an older batch";
    }
    return NULL;
}

static uint64_t scan_after(const struct log_scan *scan, uint64_t offset, const struct envelope *e)
{
    uint64_t end = segments_end_of(scan->segs, offset);
    uint64_t next = offset + envelope_padded(e->length);

    return e->type == STORE_FILLER || end - next < ENVELOPE_SIZE ? end : next;
}

int log_scan_next(struct log_scan *scan, struct envelope *e, struct slice *payload,
                  struct err_ctx *err)
{
    enum envelope_verdict verdict;
    const char *order;
    size_t need = 0;

    if (scan->pos >= scan->segs->allocated) {
        scan->why = "end of the last segment";
        return 0;
    }
    while ((verdict = scan_verify(scan, e, &need)) == ENVELOPE_SHORT) {
        size_t before = scan->buf_at == scan->pos ? scan->buf_len : 0;
        int rc = scan_fill(scan, need, err);
        if (rc != 0) {
            return rc;
        }
        if (scan->buf_len <= before) {
            /* the file is shorter than its segment: somebody truncated it while it was open */
            break;
        }
    }
    if (verdict != ENVELOPE_VALID) {
        scan->why = envelope_verdict_text(verdict);
        return 0;
    }
    order = scan_order(scan, e);
    if (order != NULL) {
        scan->why = order;
        return 0;
    }
    *payload =
        slice_of(scan->buf + (scan->pos - scan->buf_at) + ENVELOPE_SIZE, e->length - ENVELOPE_SIZE);
    scan->is_fresh = false;
    scan->epoch = e->epoch;
    scan->synced = e->synced;
    scan->pos = scan_after(scan, scan->pos, e);
    if (e->type == STORE_FILLER) {
        scan->filled = scan->pos;
    }
    return 1;
}

/* ------------------------------------------------------------------ the end of the log */

int recovery_check_version(const struct segments *segs, uint64_t offset, unsigned type,
                           struct slice payload, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    uint32_t version;

    if (!store_type_is_known(type)) {
        return err_set(err, ESCROW_EVERSION,
                       "%s: record type %u is not known to this version of the program",
                       recovery_where(segs, offset, where), type);
    }
    if (type != STORE_START || payload.len < START_VERSION_AT + sizeof version) {
        return 0;
    }
    version = get_le32(payload.ptr + START_VERSION_AT);
    if (version > STORE_FORMAT_VERSION) {
        return err_set(err, ESCROW_EVERSION,
                       "%s: from here on the log has format version %" PRIu32
                       ", this program knows version %u",
                       recovery_where(segs, offset, where), version, STORE_FORMAT_VERSION);
    }
    return 0;
}

static int find_last_record(struct log_scan *scan, struct recovery_end *out, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct envelope e;
    struct slice payload = SLICE_EMPTY;
    int rc;

    for (;;) {
        uint64_t at = scan->pos;
        rc = log_scan_next(scan, &e, &payload, err);
        if (rc <= 0) {
            break;
        }
        rc = recovery_check_version(scan->segs, at, e.type, payload, err);
        if (rc != 0) {
            return rc;
        }
        if (e.type == STORE_START && out->group_records > 0) {
            return err_set(err, ESCROW_ECORRUPT, "%s: an epoch begins inside an atomic group",
                           recovery_where(scan->segs, at, where));
        }
        out->group_records++;
        if ((e.flags & ENVELOPE_MORE) == 0) {
            out->records += out->group_records;
            out->group_records = 0;
            out->cut = scan->pos;
            out->epoch = e.epoch;
            out->settled = e.synced > out->settled ? e.synced : out->settled;
        }
    }
    out->bad = scan->pos;
    out->why = scan->why;
    return rc;
}

/* What lies behind the last valid record is looked at piece by piece. */
struct search {
    struct segments *segs;
    struct log_scan *probe; /* its buffer verifies a candidate */
    uint64_t bad;           /* X */
    uint64_t dirty_end;     /* behind the last byte seen that is not zero */
    uint64_t witness;       /* a valid record that was written when X was durable; 0 = none */
    uint64_t witness_synced;
    bool is_any; /* any valid record will do */
};

/* Is there a valid record at `at` that says X was durable? Any epoch, any type. */
static int search_probe(struct search *s, uint64_t at, struct err_ctx *err)
{
    uint8_t head[ENVELOPE_SIZE];
    struct envelope e;
    size_t need;
    size_t got;
    int rc = segments_read(s->segs, at, head, sizeof head, &got, err);

    if (rc != 0 || got < sizeof head || get_le64(head + 8) != at ||
        (get_le64(head + 16) <= s->bad && !s->is_any)) {
        return rc;
    }
    log_scan_seek(s->probe, at);
    need = ENVELOPE_SIZE;
    for (int round = 0; round < 2; round++) { /* once for the length, once for all of it */
        rc = scan_fill(s->probe, need, err);
        if (rc != 0) {
            return rc;
        }
        if (scan_verify(s->probe, &e, &need) == ENVELOPE_VALID) {
            s->witness = at;
            s->witness_synced = e.synced;
            return 0;
        }
    }
    return 0;
}

static int search_piece(struct search *s, uint64_t at, const uint8_t *bytes, size_t len,
                        struct err_ctx *err)
{
    for (size_t i = 0; i + sizeof(uint64_t) <= len; i += sizeof(uint64_t)) {
        uint64_t word = get_le64(bytes + i);
        if (word == 0) {
            continue;
        }
        s->dirty_end = at + i + sizeof word;
        if ((uint32_t)word == ENVELOPE_MAGIC && at + i > s->bad) {
            int rc = search_probe(s, at + i, err);
            if (rc != 0 || s->witness != 0) {
                return rc;
            }
        }
    }
    return 0;
}

/* [from, to) of the log, then the heads of the segments behind. Stops at the first witness. */
static int search_run(struct search *s, uint64_t from, uint64_t to, struct err_ctx *err)
{
    uint8_t *buf = mem_alloc(SCAN_CHUNK_BYTES);
    uint64_t at = from;
    int rc = buf == NULL ? err_set(err, ESCROW_ENOMEM, "recovery: out of memory") : 0;

    while (rc == 0 && at < to && s->witness == 0) {
        uint64_t left = to - at;
        size_t got = 0;
        rc = segments_read(s->segs, at, buf,
                           left < SCAN_CHUNK_BYTES ? (size_t)left : SCAN_CHUNK_BYTES, &got, err);
        if (rc == 0) {
            rc = search_piece(s, at, buf, got, err);
        }
        at = got > 0 ? at + got : segments_end_of(s->segs, at);
    }
    while (rc == 0 && at < s->segs->allocated && s->witness == 0) {
        rc = at % s->segs->segment_bytes == 0 ? search_probe(s, at, err) : 0;
        at = segments_end_of(s->segs, at);
    }
    mem_free(buf);
    return rc;
}

/*
 * A FILLER is written only when the name of the next segment is durable, and no segment is unlinked
 * before one below it: if the last one ends with a FILLER, somebody took away those behind.
 */
static int judge_filler(const struct log_scan *scan, uint64_t bad, struct err_ctx *err)
{
    char path[SEGMENT_PATH_MAX];

    if (bad != scan->segs->allocated || bad != scan->filled || bad == 0) {
        return 0;
    }
    segment_path(bad, path);
    return err_set(err, ESCROW_ECORRUPT,
                   "%s: segment is missing: a FILLER at the end of the one before says that the "
                   "log goes on at log offset %" PRIu64,
                   path, bad);
}

int recovery_judge(struct log_scan *scan, struct recovery_end *out, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct segments *segs = scan->segs;
    const char *why = out->why;
    uint64_t to = segs->allocated - out->bad < RECOVERY_SEARCH_BYTES
                      ? segs->allocated
                      : out->bad + RECOVERY_SEARCH_BYTES;
    struct search s = {.segs = segs, .probe = scan, .bad = out->bad, .dirty_end = out->cut};
    int rc = judge_filler(scan, out->bad, err);

    if (rc == 0) {
        rc = search_run(&s, out->cut, to, err);
    }
    if (rc == 0 && s.witness != 0) {
        return err_set(err, ESCROW_ECORRUPT,
                       "%s: %s, but everything up to log offset %" PRIu64
                       " had been written safely before the record at log offset %" PRIu64,
                       recovery_where(segs, out->bad, where), why, s.witness_synced, s.witness);
    }
    out->dirty_end = s.dirty_end;
    return rc;
}

int recovery_find_next(struct log_scan *scan, uint64_t bad, uint64_t *next, struct err_ctx *err)
{
    struct segments *segs = scan->segs;
    struct search s = {.segs = segs, .probe = scan, .bad = bad, .is_any = true};
    int rc = bad + ENVELOPE_ALIGN < segs->allocated
                 ? search_run(&s, bad + ENVELOPE_ALIGN, segs->allocated, err)
                 : 0;

    *next = s.witness;
    return rc != 0 ? rc : s.witness != 0;
}

int recovery_find_end(struct segments *segs, uint32_t seed, uint64_t from, uint32_t epoch,
                      struct recovery_end *out, struct err_ctx *err)
{
    struct log_scan scan;
    int rc = log_scan_init(&scan, segs, seed, from, epoch);

    *out = (struct recovery_end){
        .bad = from, .cut = from, .dirty_end = from, .settled = from, .epoch = epoch};
    if (rc != 0) {
        return err_set(err, rc, "recovery: out of memory");
    }
    rc = find_last_record(&scan, out, err);
    if (rc == 0) {
        rc = recovery_judge(&scan, out, err);
    }
    CHECK_IMPLIES(rc == 0, out->cut <= out->bad);
    CHECK_IMPLIES(rc == 0, out->dirty_end >= out->cut);
    log_scan_fini(&scan);
    return rc;
}

static int settle_range(struct disk_file *file, uint64_t at, uint64_t end, uint8_t *buf,
                        struct err_ctx *err)
{
    size_t got = 0;
    int rc = 0;

    while (rc == 0 && at < end) {
        struct iovec iov = {.iov_base = buf,
                            .iov_len = end - at < SETTLE_BYTES ? end - at : SETTLE_BYTES};
        rc = disk_pread(file, buf, iov.iov_len, at, &got, err);
        iov.iov_len = got;
        if (rc == 0 && got == 0) {
            return err_set(err, ESCROW_EIO, "recovery: a log segment was shortened meanwhile");
        }
        if (rc == 0) {
            rc = disk_pwritev(file, &iov, 1, at, err);
        }
        at += iov.iov_len;
    }
    return rc;
}

int recovery_settle(struct segments *segs, const struct recovery_end *end, struct err_ctx *err)
{
    uint8_t *buf = mem_alloc(SETTLE_BYTES);
    uint64_t at = end->settled;
    int rc = buf == NULL ? err_set(err, ESCROW_ENOMEM, "recovery: out of memory") : 0;

    while (rc == 0 && at < end->cut) {
        uint64_t start = segments_start_of(segs, at);
        uint64_t stop = segments_end_of(segs, at);
        struct disk_file *file;

        if (stop > end->cut) {
            stop = end->cut;
        }
        rc = segments_open(segs, at, true, &file, err);
        if (rc == 0) {
            rc = settle_range(file, at - start, stop - start, buf, err);
        }
        if (rc == 0) {
            rc = disk_sync(file, err);
        }
        at = stop;
    }
    mem_free(buf);
    return rc;
}

int recovery_cut(struct segments *segs, const struct recovery_end *end, struct err_ctx *err)
{
    uint64_t at = end->cut;

    while (at < end->dirty_end) {
        uint64_t start = segments_start_of(segs, at);
        uint64_t stop = segments_end_of(segs, at);
        struct disk_file *file;
        int rc = segments_open(segs, at, true, &file, err);

        if (stop > end->dirty_end) {
            stop = end->dirty_end;
        }
        if (rc == 0) {
            rc = disk_zero(file, at - start, stop - at, err);
        }
        if (rc == 0) {
            rc = disk_sync(file, err);
        }
        if (rc != 0) {
            return rc;
        }
        at = stop;
    }
    return 0;
}
