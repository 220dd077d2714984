/*
 * Layout (little-endian): head of 64 bytes; sections, each a name of 32 bytes, a length, and bytes
 * padded to 8; CRC-32C over all of it and 4 zero bytes. FORMAT.md, "Checkpoint".
 *
 * Writing appends to one buffer and goes back only to fill in lengths, so that a checkpoint of
 * hundreds of megabytes costs one pass; the checksum is computed in the job that writes it.
 *
 * Failure modes: memory, at the end; on reading, anything: the checksum is judged before any length
 * in the file is used except the total.
 */
#include "core/store/checkpoint.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/crc32c.h"
#include "core/base/mem.h"

#define MAGIC            UINT32_C(0x50435345) /* "ESCP" in the file */
#define HEAD_SIZE        64u
#define SECTION_SIZE     40u /* name and length */
#define NAME_FIELD       32u
#define TRAILER_SIZE     8u
#define FLAG_CLEAN       1u
#define AT_VERSION       4u
#define AT_TOTAL         8u
#define AT_SECTION_COUNT 60u

_Static_assert(CHECKPOINT_NAME_MAX < NAME_FIELD, "a name ends in a zero");

/* ------------------------------------------------------------------ writing */

void checkpoint_begin(struct checkpoint_writer *w, struct buf *b,
                      const struct checkpoint_head *head)
{
    CHECK(b->len == 0);
    *w = (struct checkpoint_writer){.buf = b};
    buf_append_le32(b, MAGIC);
    buf_append_le32(b, CHECKPOINT_VERSION);
    buf_append_le64(b, 0); /* total length: checkpoint_end */
    buf_append_le64(b, head->position);
    buf_append_le64(b, head->log_end);
    buf_append_le64(b, head->index_end);
    buf_append_le64(b, head->log_first);
    buf_append_le32(b, head->epoch);
    buf_append_le32(b, head->salt);
    buf_append_le32(b, head->is_clean ? FLAG_CLEAN : 0);
    buf_append_le32(b, 0); /* section count: checkpoint_end */
    CHECK_IMPLIES(!buf_failed(b), b->len == HEAD_SIZE);
}

void checkpoint_section_begin(struct checkpoint_writer *w, const char *name)
{
    uint8_t field[NAME_FIELD] = {0};
    size_t len = strlen(name);

    CHECK(!w->is_open);
    CHECK(len > 0);
    CHECK(len <= CHECKPOINT_NAME_MAX);
    CHECK(w->section_count < CHECKPOINT_SECTIONS_MAX);
    memcpy(field, name, len);
    buf_append(w->buf, field, sizeof field);
    buf_append_le64(w->buf, 0); /* length: checkpoint_section_end */
    w->section_start = w->buf->len;
    w->section_count++;
    w->is_open = true;
}

void checkpoint_section_end(struct checkpoint_writer *w)
{
    static const uint8_t zeros[8];
    struct buf *b = w->buf;

    CHECK(w->is_open);
    w->is_open = false;
    if (!buf_failed(b)) {
        uint64_t len = b->len - w->section_start;
        put_le64(b->ptr + w->section_start - 8, len);
        buf_append(b, zeros, (size_t)(-len & 7));
    }
}

int checkpoint_end(struct checkpoint_writer *w)
{
    struct buf *b = w->buf;

    CHECK(!w->is_open);
    buf_append_le64(b, 0); /* checksum and zeros: checkpoint_seal */
    if (buf_failed(b)) {
        return ESCROW_ENOMEM;
    }
    if (b->len > CHECKPOINT_SIZE_MAX) {
        return ESCROW_ETOOBIG;
    }
    put_le64(b->ptr + AT_TOTAL, b->len);
    put_le32(b->ptr + AT_SECTION_COUNT, w->section_count);
    return 0;
}

void checkpoint_seal(struct buf *b)
{
    CHECK(!buf_failed(b));
    CHECK(b->len >= HEAD_SIZE + TRAILER_SIZE);
    CHECK(get_le64(b->ptr + AT_TOTAL) == b->len);
    put_le32(b->ptr + b->len - TRAILER_SIZE, crc32c(0, b->ptr, b->len - TRAILER_SIZE));
}

int checkpoint_write(struct disk *d, struct buf *b, struct err_ctx *err)
{
    checkpoint_seal(b);
    return disk_replace(d, CHECKPOINT_PATH, b->ptr, b->len, err);
}

/* ------------------------------------------------------------------ reading */

static int corrupt(struct err_ctx *err, const char *what, uint64_t at)
{
    return err_set(err, ESCROW_ECORRUPT, CHECKPOINT_PATH ": %s at byte %llu", what,
                   (unsigned long long)at);
}

/*
 * Magic, length, checksum, version, in this order: a damaged file is not mistaken for one of a
 * newer version.
 */
static int judge_file(struct slice file, struct err_ctx *err)
{
    uint32_t version;
    size_t end;

    if (file.len < HEAD_SIZE + TRAILER_SIZE) {
        return corrupt(err, "file too short: ends", file.len);
    }
    if (get_le32(file.ptr) != MAGIC) {
        return corrupt(err, "wrong magic number", 0);
    }
    if (get_le64(file.ptr + AT_TOTAL) != file.len) {
        return corrupt(err, "length is not the file's", AT_TOTAL);
    }
    end = file.len - TRAILER_SIZE;
    if (get_le32(file.ptr + end) != crc32c(0, file.ptr, end) || get_le32(file.ptr + end + 4) != 0) {
        return corrupt(err, "checksum does not match", end);
    }
    version = get_le32(file.ptr + AT_VERSION);
    if (version != CHECKPOINT_VERSION) {
        return err_set(err, ESCROW_EVERSION,
                       CHECKPOINT_PATH ": format version %u; this program reads version %u",
                       version, CHECKPOINT_VERSION);
    }
    return 0;
}

static bool name_is_valid(const uint8_t *field, size_t *len)
{
    size_t n = 0;

    while (n < NAME_FIELD && field[n] != 0) {
        n++;
    }
    *len = n;
    for (size_t i = n; i < NAME_FIELD; i++) {
        if (field[i] != 0) {
            return false;
        }
    }
    return n > 0 && n < NAME_FIELD;
}

/* One section from *at on; moves *at behind it. */
static int decode_section(struct slice file, size_t *at, struct checkpoint *out,
                          struct err_ctx *err)
{
    size_t end = file.len - TRAILER_SIZE;
    const uint8_t *field = file.ptr + *at;
    struct slice ignored;
    char name[NAME_FIELD];
    size_t name_len;
    uint64_t len;
    uint64_t padded;

    if (end - *at < SECTION_SIZE) {
        return corrupt(err, "section beyond the end", *at);
    }
    len = get_le64(field + NAME_FIELD);
    padded = len + (-len & 7);
    if (!name_is_valid(field, &name_len)) {
        return corrupt(err, "bad name of a section", *at);
    }
    memcpy(name, field, sizeof name);
    if (checkpoint_find(out, name, &ignored)) {
        return corrupt(err, "second section of the same name", *at);
    }
    if (len > end - *at - SECTION_SIZE || padded > end - *at - SECTION_SIZE) {
        return corrupt(err, "section longer than the file", *at);
    }
    out->sections[out->section_count++] = (struct checkpoint_section){
        .name = slice_of(field, name_len), .bytes = slice_of(field + SECTION_SIZE, (size_t)len)};
    *at += SECTION_SIZE + (size_t)padded;
    return 0;
}

static int decode_body(struct slice file, struct checkpoint *out, struct err_ctx *err)
{
    const uint8_t *p = file.ptr;
    uint32_t flags = get_le32(p + 56);
    uint32_t count = get_le32(p + AT_SECTION_COUNT);
    size_t at = HEAD_SIZE;
    int rc = 0;

    out->head = (struct checkpoint_head){.position = get_le64(p + 16),
                                         .log_end = get_le64(p + 24),
                                         .index_end = get_le64(p + 32),
                                         .log_first = get_le64(p + 40),
                                         .epoch = get_le32(p + 48),
                                         .salt = get_le32(p + 52),
                                         .is_clean = (flags & FLAG_CLEAN) != 0};
    if ((flags & ~FLAG_CLEAN) != 0) {
        return corrupt(err, "unknown flag", 56);
    }
    if (out->head.log_first > out->head.position ||
        (out->head.is_clean && out->head.log_end < out->head.position) ||
        (!out->head.is_clean && out->head.log_end != 0)) {
        return corrupt(err, "positions contradict each other", 16);
    }
    if (count > CHECKPOINT_SECTIONS_MAX) {
        return corrupt(err, "too many sections", AT_SECTION_COUNT);
    }
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        rc = decode_section(file, &at, out, err);
    }
    if (rc == 0 && at != file.len - TRAILER_SIZE) {
        rc = corrupt(err, "bytes behind the last section", at);
    }
    return rc;
}

int checkpoint_decode(struct slice file, struct checkpoint *out, struct err_ctx *err)
{
    int rc;

    *out = (struct checkpoint){.size_bytes = file.len};
    rc = judge_file(file, err);
    if (rc == 0) {
        rc = decode_body(file, out, err);
    }
    if (rc != 0) {
        *out = (struct checkpoint){0};
    }
    return rc;
}

int checkpoint_read(struct disk *d, struct checkpoint *out, struct err_ctx *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int rc = disk_read_all(d, CHECKPOINT_PATH, CHECKPOINT_SIZE_MAX, &data, &len, err);

    *out = (struct checkpoint){0};
    if (rc == 0) {
        rc = checkpoint_decode(slice_of(data, len), out, err);
    }
    if (rc != 0) {
        mem_free(data);
        return rc;
    }
    out->mem = data;
    return 0;
}

bool checkpoint_find(const struct checkpoint *ckpt, const char *name, struct slice *bytes)
{
    for (uint32_t i = 0; i < ckpt->section_count; i++) {
        if (slice_eq_str(ckpt->sections[i].name, name)) {
            *bytes = ckpt->sections[i].bytes;
            return true;
        }
    }
    *bytes = SLICE_EMPTY;
    return false;
}

void checkpoint_fini(struct checkpoint *ckpt)
{
    mem_free(ckpt->mem);
    *ckpt = (struct checkpoint){0};
}
