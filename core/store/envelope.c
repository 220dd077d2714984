/*
 * One pass over a record decides: cheap tests first, then the checksum, which covers everything but
 * itself and the padding.
 */
#include "core/store/envelope.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/crc32c.h"

#include <string.h>

#define AT_MAGIC  0
#define AT_LENGTH 4
#define AT_OFFSET 8
#define AT_SYNCED 16
#define AT_EPOCH  24
#define AT_TYPE   28
#define AT_FLAGS  29
#define AT_ZERO16 30
#define AT_CRC    32
#define AT_ZERO32 36

_Static_assert(AT_ZERO32 + 4 == ENVELOPE_SIZE, "the table in FORMAT.md");
_Static_assert(ENVELOPE_SIZE % ENVELOPE_ALIGN == 0, "payloads are aligned too");

uint32_t envelope_seed(uint32_t salt)
{
    uint8_t raw[4];

    put_le32(raw, salt);
    return crc32c(0, raw, sizeof raw);
}

static uint32_t record_crc(const uint8_t *rec, uint32_t length, uint32_t seed)
{
    uint32_t crc = crc32c(seed, rec, AT_CRC);
    return crc32c(crc, rec + AT_ZERO32, length - AT_ZERO32);
}

void envelope_encode(uint8_t *dst, const struct envelope *e, uint32_t seed)
{
    CHECK(e->length >= ENVELOPE_SIZE);
    CHECK(e->length <= ENVELOPE_LENGTH_MAX);
    CHECK(e->offset % ENVELOPE_ALIGN == 0);
    CHECK(e->synced <= e->offset);
    put_le32(dst + AT_MAGIC, ENVELOPE_MAGIC);
    put_le32(dst + AT_LENGTH, e->length);
    put_le64(dst + AT_OFFSET, e->offset);
    put_le64(dst + AT_SYNCED, e->synced);
    put_le32(dst + AT_EPOCH, e->epoch);
    dst[AT_TYPE] = e->type;
    dst[AT_FLAGS] = e->flags;
    put_le16(dst + AT_ZERO16, 0);
    put_le32(dst + AT_ZERO32, 0);
    put_le32(dst + AT_CRC, record_crc(dst, e->length, seed));
    memset(dst + e->length, 0, (size_t)(envelope_padded(e->length) - e->length));
}

void envelope_set_flags(uint8_t *record, uint8_t flags, uint32_t seed)
{
    CHECK(get_le32(record + AT_MAGIC) == ENVELOPE_MAGIC);
    record[AT_FLAGS] = flags;
    put_le32(record + AT_CRC, record_crc(record, get_le32(record + AT_LENGTH), seed));
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    uint8_t any = 0;

    for (size_t i = 0; i < len; i++) {
        any |= bytes[i];
    }
    return any == 0;
}

enum envelope_verdict envelope_verify(const struct envelope_source *src, struct envelope *e,
                                      size_t *need)
{
    const uint8_t *rec = src->bytes;
    uint64_t padded;

    CHECK(src->have <= src->room);
    CHECK(src->offset % ENVELOPE_ALIGN == 0);
    if (src->room < ENVELOPE_SIZE) {
        return ENVELOPE_LENGTH;
    }
    if (src->have < ENVELOPE_SIZE) {
        *need = ENVELOPE_SIZE;
        return ENVELOPE_SHORT;
    }
    if (get_le32(rec + AT_MAGIC) != ENVELOPE_MAGIC) {
        return ENVELOPE_NO_MAGIC;
    }
    e->length = get_le32(rec + AT_LENGTH);
    e->offset = get_le64(rec + AT_OFFSET);
    e->synced = get_le64(rec + AT_SYNCED);
    e->epoch = get_le32(rec + AT_EPOCH);
    e->crc = get_le32(rec + AT_CRC);
    e->type = rec[AT_TYPE];
    e->flags = rec[AT_FLAGS];
    padded = envelope_padded(e->length);
    if (e->length < ENVELOPE_SIZE || e->length > ENVELOPE_LENGTH_MAX || padded > src->room) {
        return ENVELOPE_LENGTH;
    }
    if (e->offset != src->offset || e->synced > e->offset) {
        return ENVELOPE_OFFSET;
    }
    if (get_le16(rec + AT_ZERO16) != 0 || get_le32(rec + AT_ZERO32) != 0 ||
        (e->flags & ~(unsigned)ENVELOPE_MORE) != 0) {
        return ENVELOPE_RESERVED;
    }
    if (src->have < padded) {
        *need = (size_t)padded;
        return ENVELOPE_SHORT;
    }
    if (!is_zero(rec + e->length, (size_t)(padded - e->length))) {
        return ENVELOPE_RESERVED;
    }
    return e->crc == record_crc(rec, e->length, src->seed) ? ENVELOPE_VALID : ENVELOPE_CHECKSUM;
}

const char *envelope_verdict_text(enum envelope_verdict verdict)
{
    switch (verdict) {
    case ENVELOPE_VALID:
        return "valid";
    case ENVELOPE_SHORT:
        return "file is too short";
    case ENVELOPE_NO_MAGIC:
        return "no record begins here";
    case ENVELOPE_LENGTH:
        return "impossible length";
    case ENVELOPE_OFFSET:
        return "record of another place";
    case ENVELOPE_RESERVED:
        return "a byte that must be zero is not";
    case ENVELOPE_CHECKSUM:
        return "wrong checksum";
    }
    return "?";
}

const char *store_type_name(unsigned type)
{
    switch (type) {
#define X(name, number, known)                                                                     \
    case (number):                                                                                 \
        return #name;
        STORE_TYPES(X)
#undef X
    default:
        return "?";
    }
}

bool store_type_is_known(unsigned type)
{
    switch (type) {
#define X(name, number, known)                                                                     \
    case (number):                                                                                 \
        return known;
        STORE_TYPES(X)
#undef X
    default:
        return false;
    }
}
