/*
 * Reading the log from disk in order, and finding its end after a crash. FORMAT.md, "Recovery", is
 * the specification.
 *
 * Owns:    a struct log_scan its buffer; segments are borrowed.
 * Thread:  any one thread; blocks.
 * Errors:  ESCROW_ECORRUPT, ESCROW_EVERSION and ESCROW_EIO, each with file and offset. Only
 *          recovery_cut changes anything.
 */
#ifndef CORE_STORE_RECOVERY_H
#define CORE_STORE_RECOVERY_H

#include "core/base/err.h"
#include "core/base/slice.h"
#include "core/store/envelope.h"
#include "core/store/segment.h"

/* How far behind a bad record a valid one is looked for: two batches. */
#define RECOVERY_SEARCH_BYTES (UINT64_C(64) << 20)

/* "log/<segment> at offset <n> (log offset <m>)" for error lines. */
#define RECOVERY_WHERE_MAX 128u
const char *recovery_where(const struct segments *segs, uint64_t offset,
                           char text[RECOVERY_WHERE_MAX]);

struct log_scan {
    struct segments *segs;
    uint64_t pos; /* where the next record is expected */
    uint32_t seed;
    uint32_t epoch;  /* of the last record */
    uint64_t synced; /* of the last record */
    uint64_t filled; /* where the log goes on behind the last FILLER; 0 = there was none */
    bool is_fresh;   /* the next record is the first after a seek: its epoch is not judged */
    const char *why; /* after the end: why there is no record at pos; static storage */
    uint8_t *buf;
    uint64_t buf_at; /* log offset of buf[0] */
    size_t buf_len;
    size_t buf_cap;
};

/*
 * Begin at `from`, the start of a record (or of nothing yet). epoch: of the record before, 0 when
 * there is none.
 */
ESCROW_MUST_USE int log_scan_init(struct log_scan *scan, struct segments *segs, uint32_t seed,
                                  uint64_t from, uint32_t epoch);
void log_scan_fini(struct log_scan *scan);

/*
 * Go on elsewhere; what is in the buffer stays. What is read next need not follow what was read
 * before.
 */
void log_scan_seek(struct log_scan *scan, uint64_t from);

/*
 * The next record: 1, with *e and *payload (borrowed until the next call). 0: there is no valid
 * record at scan->pos that could follow the last one. ESCROW_EIO. The type is not judged.
 */
ESCROW_MUST_USE int log_scan_next(struct log_scan *scan, struct envelope *e, struct slice *payload,
                                  struct err_ctx *err);

/*
 * May this version of the program go on behind this record? ESCROW_EVERSION: its type is unknown,
 * or it is the START of a process that wrote a later version of the format.
 */
ESCROW_MUST_USE int recovery_check_version(const struct segments *segs, uint64_t offset,
                                           unsigned type, struct slice payload,
                                           struct err_ctx *err);

struct recovery_end {
    uint64_t bad;       /* X: no valid record here */
    uint64_t cut;       /* G: where the log ends; < bad when a group is incomplete */
    uint64_t dirty_end; /* behind the last byte at or after G that is not zero; == cut when clean */
    uint64_t settled; /* everything below was durable: where the scan began, or what the last record
                           below G says */
    uint64_t records; /* below G */
    uint64_t group_records; /* valid ones from G to X */
    uint32_t epoch;         /* of the last record below G, or the one given */
    const char *why;        /* static storage */
};

/*
 * Scan from `from` to the end of the log and judge what stands there. 0: the log ends at out->cut
 * and everything behind may be cut. ESCROW_ECORRUPT: a record that had been durable is damaged.
 * ESCROW_EVERSION: a record of an unknown type.
 */
ESCROW_MUST_USE int recovery_find_end(struct segments *segs, uint32_t seed, uint64_t from,
                                      uint32_t epoch, struct recovery_end *out,
                                      struct err_ctx *err);

/*
 * Judge what stands behind the end of a scan: out->bad, out->cut and out->why are set,
 * out->dirty_end is filled. The scan is used for its buffer and stands anywhere afterwards. 0 or
 * ESCROW_ECORRUPT, as recovery_find_end: also when the scan's last record is a FILLER and the
 * segment behind it is missing.
 */
ESCROW_MUST_USE int recovery_judge(struct log_scan *scan, struct recovery_end *out,
                                   struct err_ctx *err);

/*
 * The first valid record behind `bad`, of any epoch, as far as the log is allocated: 1 and *next; 0
 * when there is none. For looking at a damaged log; recovery never goes on behind damage.
 */
ESCROW_MUST_USE int recovery_find_next(struct log_scan *scan, uint64_t bad, uint64_t *next,
                                       struct err_ctx *err);

/*
 * Make [end->settled, end->cut) durable: written again as it was read, and synced. A sync alone
 * would not do: where one has failed before, the kernel may take the pages for clean, and answers
 * the next one with success.
 */
ESCROW_MUST_USE int recovery_settle(struct segments *segs, const struct recovery_end *end,
                                    struct err_ctx *err);

/* Make [end->cut, end->dirty_end) read as zeros, durably. */
ESCROW_MUST_USE int recovery_cut(struct segments *segs, const struct recovery_end *end,
                                 struct err_ctx *err);

#endif
