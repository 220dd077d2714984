/*
 * Happy path: place finds that the record fits behind the last one, in the open chunk of the
 * filling batch; put writes the envelope; take turns the chunks into one pwritev; after the sync
 * the batch's memory goes back to the spare chunks.
 *
 * A record that does not fit in its segment is put at the start of the next one, with a FILLER in
 * what is left. Only space that exists on disk is handed out, so that a full disk is an answer to
 * an append and never a failed write. ESCROW_ELIMIT and ESCROW_ENOSPC differ by what to expect: the
 * next segment is on its way, or there is no room for it.
 */
#include "core/store/commit_log.h"

#include "core/base/check.h"
#include "core/base/mem.h"

#include <string.h>

void commit_log_init(struct commit_log *log, struct segments *segs,
                     const struct commit_log_options *opt, uint64_t end)
{
    CHECK(end % ENVELOPE_ALIGN == 0);
    CHECK(end >= segs->first);
    CHECK(end <= segs->allocated);
    CHECK(opt->batch_bytes_max <= STORE_BATCH_BYTES_MAX);
    *log = (struct commit_log){
        .segs = segs,
        .opt = *opt,
        .appended = end,
        .written = end,
        .durable = end,
        .zeroed = end,
        .retry_ms = INT64_MIN,
    };
    log->filling = &log->batches[0];
    log->filling->first = end;
    log->filling->end = end;
}

static void batch_fini(struct log_batch *b)
{
    for (size_t i = 0; i < b->chunk_count; i++) {
        mem_free(b->chunks[i].mem);
    }
    mem_free(b->chunks);
    mem_free(b->descs);
    mem_free(b->releases);
    mem_free(b->iovs);
    mem_free(b->pieces);
    *b = (struct log_batch){.first = b->first, .end = b->end};
}

void commit_log_fini(struct commit_log *log)
{
    CHECK(log->flying == NULL);
    CHECK(!log->is_preparing);
    batch_fini(&log->batches[0]);
    batch_fini(&log->batches[1]);
    for (size_t i = 0; i < log->spare_count; i++) {
        mem_free(log->spare[i].mem);
    }
    mem_free(log->spare);
    log->spare = NULL;
    log->spare_count = 0;
}

/* ------------------------------------------------------------------ space */

/* A position with less than an envelope left in its segment is the start of the next. */
static uint64_t log_position(const struct commit_log *log, uint64_t offset)
{
    uint64_t left = segments_end_of(log->segs, offset) - offset;

    return left < ENVELOPE_SIZE ? offset + left : offset;
}

uint64_t commit_log_allocated(const struct commit_log *log)
{
    return log->segs->allocated - log->appended;
}

/*
 * Bytes that must stay free behind `end` so that every reserved decision fits wherever segments
 * end: a decision that does not fit in the rest of a segment leaves that rest unused.
 */
static uint64_t space_kept(const struct commit_log *log, uint64_t end, uint64_t reserved)
{
    uint64_t size = log->segs->segment_bytes;
    uint64_t waste = reserved < LOG_DECISION_MAX ? reserved : LOG_DECISION_MAX;
    uint64_t bounds = end < log->segs->allocated ? log->segs->allocated / size - end / size - 1 : 0;

    return reserved + LOG_START_RESERVE + bounds * waste;
}

static bool space_suffices(const struct commit_log *log, enum store_type type, uint64_t end,
                           uint64_t reserve_more)
{
    if (type == STORE_DECISION || type == STORE_RELEASE || type == STORE_START) {
        return true;
    }
    return log->segs->allocated - end >= space_kept(log, end, log->reserved + reserve_more);
}

bool commit_log_wants_segment(const struct commit_log *log)
{
    return log->is_starved ||
           commit_log_allocated(log) <
               log->opt.ahead_bytes + space_kept(log, log->appended, log->reserved);
}

/* Plenty may be allocated for others: a big record does not fit in the rest of a segment. */
static int no_space(struct commit_log *log)
{
    log->is_starved = true;
    return log->is_disk_full ? ESCROW_ENOSPC : ESCROW_ELIMIT;
}

/* Where the record goes, and whether that is allowed. */
static int find_place(struct commit_log *log, uint64_t reserve_more, struct log_slot *slot)
{
    const struct log_batch *b = log->filling;
    uint64_t padded = envelope_padded(slot->length);
    bool is_alone = b->desc_count == 0 || (log->is_group && log->mark.desc_count == 0);
    uint64_t at = log->appended;
    uint64_t distance;

    if (at < log->segs->allocated && padded > segments_end_of(log->segs, at) - at) {
        slot->has_filler = at % log->segs->segment_bytes != 0;
        at = segments_end_of(log->segs, at);
    }
    if (at >= log->segs->allocated) {
        return no_space(log);
    }
    if (!space_suffices(log, slot->type, at + padded, reserve_more)) {
        return no_space(log);
    }
    distance = at + padded - b->first;
    if (distance > STORE_BATCH_BYTES_MAX || b->desc_count >= LOG_DESCS_MAX) {
        return is_alone ? ESCROW_ETOOBIG : ESCROW_ELIMIT; /* alone it will fit no better later */
    }
    if (distance > log->opt.batch_bytes_max && !is_alone) {
        return ESCROW_ELIMIT;
    }
    slot->offset = at;
    return 0;
}

/* ------------------------------------------------------------------ memory */

/*
 * `list` is the address of a pointer to the first of *cap items; all object pointers look alike
 * (POSIX).
 */
static int grow(void *list, size_t *cap, size_t need, size_t item)
{
    size_t wider = *cap == 0 ? 16 : *cap;
    void *items;

    if (need <= *cap) {
        return 0;
    }
    while (wider < need) {
        wider *= 2;
    }
    memcpy(&items, list, sizeof items);
    items = mem_realloc(items, wider * item);
    if (items == NULL) {
        return ESCROW_ENOMEM;
    }
    memcpy(list, &items, sizeof items);
    *cap = wider;
    return 0;
}

#define GROW(list, cap, need) grow(&(list), &(cap), (need), sizeof *(list))

static int chunk_get(struct commit_log *log, size_t size, struct log_chunk *chunk)
{
    bool is_plain = size <= LOG_CHUNK_BYTES;
    int rc;

    if (is_plain && log->spare_count > 0) {
        *chunk = log->spare[--log->spare_count];
        chunk->len = 0;
        return 0;
    }
    /* Room to put it back into spare one day. */
    rc = is_plain ? GROW(log->spare, log->spare_cap, log->plain_count + 1) : 0;
    if (rc != 0) {
        return rc;
    }
    *chunk = (struct log_chunk){.cap = is_plain ? LOG_CHUNK_BYTES : size};
    chunk->mem = mem_alloc(chunk->cap);
    if (chunk->mem == NULL) {
        return ESCROW_ENOMEM;
    }
    log->plain_count += is_plain ? 1 : 0;
    log->memory_bytes += chunk->cap;
    return 0;
}

static void chunk_drop(struct commit_log *log, struct log_chunk *chunk)
{
    if (chunk->cap == LOG_CHUNK_BYTES) {
        CHECK(log->spare_count < log->spare_cap);
        log->spare[log->spare_count++] = *chunk;
    } else {
        log->memory_bytes -= chunk->cap;
        mem_free(chunk->mem);
    }
    chunk->mem = NULL;
}

/* Empty chunks are left by appends that were given up. */
static void batch_drop_empty(struct commit_log *log, struct log_batch *b)
{
    while (b->chunk_count > 0 && b->chunks[b->chunk_count - 1].len == 0) {
        chunk_drop(log, &b->chunks[--b->chunk_count]);
    }
}

/* The last chunk of the batch has `size` bytes free for log offset `at`. */
static int batch_room(struct commit_log *log, uint64_t at, size_t size)
{
    struct log_batch *b = log->filling;
    struct log_chunk *last = b->chunk_count > 0 ? &b->chunks[b->chunk_count - 1] : NULL;
    struct log_chunk fresh;
    int rc;

    /* A chunk never spans two segments, also when a record ends exactly where its segment does. */
    if (last != NULL && last->at + last->len == at && at % log->segs->segment_bytes != 0 &&
        last->cap - last->len >= size) {
        return 0;
    }
    rc = GROW(b->chunks, b->chunk_cap, b->chunk_count + 1);
    if (rc == 0) {
        rc = chunk_get(log, size, &fresh);
    }
    if (rc == 0) {
        fresh.at = at;
        b->chunks[b->chunk_count++] = fresh;
    }
    return rc;
}

/* Everything commit_log_take will need for this batch, so that taking cannot fail. */
static int batch_room_for_job(struct log_batch *b)
{
    int rc = GROW(b->iovs, b->iov_cap, b->chunk_count + LOG_ZERO_IOVS);

    return rc != 0 ? rc : GROW(b->pieces, b->piece_cap, b->chunk_count + LOG_ZERO_IOVS);
}

/* ------------------------------------------------------------------ append */

int commit_log_place(struct commit_log *log, enum store_type type, size_t length,
                     uint64_t reserve_more, struct log_slot *slot)
{
    struct log_batch *b = log->filling;
    int rc;

    CHECK(length >= ENVELOPE_SIZE);
    if (log->has_failed) {
        return ESCROW_EIO;
    }
    *slot = (struct log_slot){.type = type};
    if (length > ENVELOPE_LENGTH_MAX || envelope_padded(length) > log->segs->segment_bytes) {
        return ESCROW_ETOOBIG;
    }
    slot->length = (uint32_t)length;
    rc = find_place(log, reserve_more, slot);
    if (rc == 0) {
        rc = GROW(b->descs, b->desc_cap, b->desc_count + 1);
    }
    if (rc == 0) {
        batch_drop_empty(log, b);
        rc = slot->has_filler ? batch_room(log, log->appended, ENVELOPE_SIZE) : 0;
    }
    if (rc == 0) {
        slot->filler_chunk = b->chunk_count - 1;
        rc = batch_room(log, slot->offset, (size_t)envelope_padded(length));
    }
    if (rc == 0) {
        rc = batch_room_for_job(b);
    }
    if (rc == 0) {
        struct log_chunk *chunk = &b->chunks[b->chunk_count - 1];
        slot->dst = chunk->mem + chunk->len;
    }
    return rc;
}

/*
 * A FILLER behind the last record of the segment. commit_log_place made room for it. Before the
 * START of an epoch, which is the first record of all, it ends the one before: every epoch begins
 * with its START (FORMAT.md, invariant 3).
 */
static void put_filler(struct commit_log *log, struct log_chunk *chunk)
{
    struct envelope e = {
        .length = ENVELOPE_SIZE,
        .offset = log->appended,
        .synced = log->filling->first,
        .epoch = log->records == 0 ? log->opt.epoch - 1 : log->opt.epoch,
        .type = STORE_FILLER,
        .flags = log->is_group ? ENVELOPE_MORE : 0,
    };

    CHECK(chunk->at + chunk->len == log->appended);
    CHECK(chunk->cap - chunk->len >= ENVELOPE_SIZE);
    envelope_encode(chunk->mem + chunk->len, &e, log->opt.seed);
    chunk->len += ENVELOPE_SIZE;
    log->appended = segments_end_of(log->segs, log->appended);
}

struct log_desc *commit_log_put(struct commit_log *log, const struct log_slot *slot)
{
    struct log_batch *b = log->filling;
    struct log_chunk *chunk = &b->chunks[b->chunk_count - 1];
    struct log_desc *desc = &b->descs[b->desc_count];
    struct envelope e = {
        .length = slot->length,
        .offset = slot->offset,
        .synced = b->first,
        .epoch = log->opt.epoch,
        .type = (uint8_t)slot->type,
        .flags = log->is_group ? ENVELOPE_MORE : 0,
    };

    if (slot->has_filler) {
        put_filler(log, &b->chunks[slot->filler_chunk]);
    }
    CHECK(log->appended == slot->offset);
    CHECK(chunk->mem + chunk->len == slot->dst);
    CHECK(chunk->at + chunk->len == slot->offset);
    envelope_encode(slot->dst, &e, log->opt.seed);
    chunk->len += (size_t)envelope_padded(slot->length);
    CHECK(chunk->len <= chunk->cap);
    log->appended = log_position(log, slot->offset + envelope_padded(slot->length));
    b->end = log->appended;
    b->desc_count++;
    log->records++;
    log->bytes += slot->length;
    *desc = (struct log_desc){
        .offset = slot->offset,
        .record = slot->dst,
        .queue_offset = -1,
        .length = slot->length,
        .type = e.type,
        .flags = e.flags,
    };
    return desc;
}

int commit_log_want_releases(struct commit_log *log, size_t count)
{
    struct log_batch *b = log->filling;

    return GROW(b->releases, b->release_cap, b->release_count + count);
}

void commit_log_put_release(struct commit_log *log, struct queue *queue)
{
    struct log_batch *b = log->filling;

    CHECK(b->release_count < b->release_cap);
    b->releases[b->release_count++] = queue;
}

/* ------------------------------------------------------------------ groups */

void commit_log_group_begin(struct commit_log *log)
{
    struct log_batch *b = log->filling;

    CHECK(!log->is_group);
    batch_drop_empty(log, b);
    log->is_group = true;
    log->mark = (struct log_mark){
        .end = log->appended,
        .chunk_count = b->chunk_count,
        .chunk_len = b->chunk_count > 0 ? b->chunks[b->chunk_count - 1].len : 0,
        .desc_count = b->desc_count,
        .release_count = b->release_count,
        .records = log->records,
        .bytes = log->bytes,
    };
}

void commit_log_group_end(struct commit_log *log)
{
    struct log_batch *b = log->filling;

    CHECK(log->is_group);
    log->is_group = false;
    if (b->desc_count > log->mark.desc_count) {
        struct log_desc *last = &b->descs[b->desc_count - 1];
        last->flags = 0;
        envelope_set_flags(last->record, 0, log->opt.seed);
    }
}

void commit_log_group_abort(struct commit_log *log)
{
    struct log_batch *b = log->filling;

    CHECK(log->is_group);
    log->is_group = false;
    while (b->chunk_count > log->mark.chunk_count) {
        chunk_drop(log, &b->chunks[--b->chunk_count]);
    }
    if (b->chunk_count > 0) {
        b->chunks[b->chunk_count - 1].len = log->mark.chunk_len;
    }
    b->desc_count = log->mark.desc_count;
    b->release_count = log->mark.release_count;
    b->end = log->mark.end;
    log->appended = log->mark.end;
    log->records = log->mark.records;
    log->bytes = log->mark.bytes;
}

/* ------------------------------------------------------------------ batches */

/* One piece for each segment the batch touches. */
static void batch_pack(struct commit_log *log, struct log_batch *b)
{
    struct log_piece *piece = NULL;
    uint64_t next = 0;

    b->piece_count = 0;
    for (size_t i = 0; i < b->chunk_count; i++) {
        struct log_chunk *chunk = &b->chunks[i];
        b->iovs[i] = (struct iovec){.iov_base = chunk->mem, .iov_len = chunk->len};
        if (piece == NULL || chunk->at != next || chunk->at % log->segs->segment_bytes == 0) {
            CHECK(b->piece_count < b->piece_cap);
            piece = &b->pieces[b->piece_count++];
            *piece = (struct log_piece){
                .file = segments_file(log->segs, chunk->at),
                .file_offset = chunk->at % log->segs->segment_bytes,
                .iov_first = (int)i,
            };
            CHECK(piece->file != NULL);
        }
        piece->iov_count++;
        next = chunk->at + chunk->len;
        CHECK(next <= segments_end_of(log->segs, chunk->at));
    }
}

/* A batch of `size` bytes is the last one now. */
static void note_size(struct commit_log *log, uint64_t size)
{
    uint64_t faded = log->recent_bytes - log->recent_bytes / 4;

    log->recent_bytes = size > faded ? size : faded;
}

/*
 * How many bytes of zeros to write behind the log offset `end`, where a batch of `size` bytes ends.
 */
static uint64_t zeros_wanted(const struct commit_log *log, uint64_t size, uint64_t end)
{
    uint64_t left = segments_end_of(log->segs, end - 1) - end;
    uint64_t want = size * LOG_ZERO_FACTOR;

    if (end <= log->zeroed || log->recent_bytes > LOG_ZERO_BATCH_MAX) {
        return 0;
    }
    want = want < LOG_ZERO_BYTES_MIN ? LOG_ZERO_BYTES_MIN : want;
    want = want > LOG_ZERO_BYTES_MAX ? LOG_ZERO_BYTES_MAX : want;
    want -= (end + want) % LOG_ZERO_PAGE;
    return want < left ? want : left;
}

/*
 * The first of them end the batch's last write, the others are writes of their own: the kernel's
 * page is as large as the write that made it, and every sync within looks at all of its blocks.
 * batch_room_for_job made room.
 */
static void zero_ahead(struct commit_log *log, struct log_batch *b)
{
    static const uint8_t zeros[LOG_CHUNK_BYTES] = {0};
    const struct log_chunk *last = &b->chunks[b->chunk_count - 1];
    struct log_piece *piece = &b->pieces[b->piece_count - 1];
    uint64_t at = last->at + last->len;
    size_t used = b->chunk_count; /* of iovs */
    uint64_t end;

    note_size(log, at - b->first);
    end = at + zeros_wanted(log, at - b->first, at);
    log->zeroed = end > log->zeroed ? end : log->zeroed;
    while (at < end) {
        uint64_t to = (at / LOG_CHUNK_BYTES + 1) * LOG_CHUNK_BYTES;
        size_t n = (size_t)((to < end ? to : end) - at);

        CHECK(used < b->iov_cap);
        b->iovs[used] = (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = n};
        if (at % LOG_CHUNK_BYTES == 0) {
            CHECK(b->piece_count < b->piece_cap);
            piece = &b->pieces[b->piece_count++];
            *piece = (struct log_piece){.file = piece[-1].file,
                                        .file_offset = at % log->segs->segment_bytes,
                                        .iov_first = (int)used};
        }
        piece->iov_count++;
        used++;
        at += n;
    }
}

struct log_batch *commit_log_take(struct commit_log *log)
{
    struct log_batch *b = log->filling;
    struct log_batch *next = b == &log->batches[0] ? &log->batches[1] : &log->batches[0];

    if (log->flying != NULL || log->is_group || b->desc_count == 0 || log->has_failed) {
        return NULL;
    }
    batch_drop_empty(log, b);
    batch_pack(log, b);
    zero_ahead(log, b);
    CHECK(b->end == log->appended);
    CHECK(b->first == log->durable);
    CHECK(next->desc_count == 0);
    b->rc = 0;
    next->first = b->end;
    next->end = b->end;
    log->flying = b;
    log->filling = next;
    return b;
}

void commit_log_synced(struct commit_log *log, struct log_batch *batch)
{
    CHECK(batch == log->flying);
    CHECK(log->durable == batch->first);
    log->written = batch->end;
    log->durable = batch->end;
    log->batch_count++;
    segments_retire(log->segs, log->durable);
}

void commit_log_recycle(struct commit_log *log, struct log_batch *batch)
{
    CHECK(batch == log->flying);
    for (size_t i = 0; i < batch->chunk_count; i++) {
        chunk_drop(log, &batch->chunks[i]);
    }
    batch->chunk_count = 0;
    batch->desc_count = 0;
    batch->release_count = 0;
    batch->piece_count = 0;
    log->flying = NULL;
}

void commit_log_trim(struct commit_log *log)
{
    for (size_t i = 0; i < 2; i++) {
        struct log_batch *b = &log->batches[i];
        if (b != log->flying && b->desc_count == 0 && !log->is_group) {
            batch_drop_empty(log, b);
            CHECK(b->chunk_count == 0);
            batch_fini(b);
        }
    }
    while (log->spare_count > 0) {
        mem_free(log->spare[--log->spare_count].mem);
        log->plain_count--;
        log->memory_bytes -= LOG_CHUNK_BYTES;
    }
}

void commit_log_check(const struct commit_log *log)
{
    const struct log_batch *b = log->filling;

    CHECK(log->appended >= log->written);
    CHECK(log->written >= log->durable);
    CHECK(log->appended <= log->segs->allocated);
    CHECK(log->appended % ENVELOPE_ALIGN == 0);
    CHECK(b->end == log->appended);
    CHECK(b != log->flying);
    CHECK(b->first == (log->flying == NULL ? log->durable : log->flying->end));
    CHECK(log->spare_count <= log->plain_count);
    for (size_t i = 1; i < b->desc_count; i++) {
        CHECK(b->descs[i].offset > b->descs[i - 1].offset);
    }
}
