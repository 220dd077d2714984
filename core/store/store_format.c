#include "core/store/store_format.h"

#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "core/base/slice.h"
#include "core/store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LINE_MAX_BYTES 256

bool store_format_is_segment_size(uint64_t segment_bytes)
{
    return segment_bytes >= STORE_SEGMENT_BYTES_MIN && segment_bytes <= STORE_SEGMENT_BYTES_MAX &&
           segment_bytes % 4096 == 0;
}

static size_t format_line(const struct store_format *format, char *line, size_t size)
{
    int len =
        snprintf(line, size, "escrow-store version=%u segment_bytes=%" PRIu64 " salt=%08x id=%08x",
                 format->version, format->segment_bytes, format->salt, format->id);
    uint32_t crc = crc32c(0, line, (size_t)len);

    len += snprintf(line + len, size - (size_t)len, " crc32c=%08x\n", crc);
    return (size_t)len;
}

/* What follows `word` in the text, up to the next blank or the end; empty when it is not there. */
static struct slice word_after(struct slice text, const char *word)
{
    size_t len = strlen(word);

    for (size_t i = 0; i + len <= text.len; i++) {
        if (memcmp(text.ptr + i, word, len) == 0) {
            const uint8_t *begin = text.ptr + i + len;
            size_t rest = text.len - i - len;
            size_t n = 0;
            while (n < rest && begin[n] != ' ' && begin[n] != '\n') {
                n++;
            }
            return slice_of(begin, n);
        }
    }
    return SLICE_EMPTY;
}

static uint32_t parse_hex(struct slice digits)
{
    uint32_t value = 0;

    for (size_t i = 0; i < digits.len && i < 8; i++) {
        uint8_t c = digits.ptr[i];
        uint32_t digit = c >= '0' && c <= '9' ? c - 48u : c >= 'a' && c <= 'f' ? c - 87u : 0;
        value = value << 4 | digit;
    }
    return value;
}

/*
 * The line is accepted only if it is, byte for byte, what format_line would write for the numbers
 * in it: nothing else in the file can be misread. Only the version is taken without its checksum,
 * because the rest of a later version's line is unknown.
 */
static int format_parse(struct slice text, struct store_format *out, struct err_ctx *err)
{
    char line[LINE_MAX_BYTES];
    int64_t version = 0;
    int64_t segment_bytes = 0;

    if (slice_has_prefix(text, SLICE_LIT("escrow-store version=")) &&
        slice_to_i64(word_after(text, "version="), &version) && version > 0 &&
        version != STORE_FORMAT_VERSION) {
        return err_set(err, ESCROW_EVERSION,
                       "%s: the data folder has format version %" PRId64
                       ", this program knows version %u",
                       STORE_FORMAT_PATH, version, STORE_FORMAT_VERSION);
    }
    (void)slice_to_i64(word_after(text, "segment_bytes="), &segment_bytes); /* 0 is refused below */
    *out = (struct store_format){
        .version = STORE_FORMAT_VERSION,
        .salt = parse_hex(word_after(text, " salt=")),
        .id = parse_hex(word_after(text, " id=")),
        .segment_bytes = segment_bytes > 0 ? (uint64_t)segment_bytes : 0,
    };
    if (!store_format_is_segment_size(out->segment_bytes) ||
        format_line(out, line, sizeof line) != text.len || memcmp(line, text.ptr, text.len) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "%s: offset 0: not the line of a data folder",
                       STORE_FORMAT_PATH);
    }
    return 0;
}

int store_format_read(struct disk *d, struct store_format *out, struct err_ctx *err)
{
    uint8_t *data;
    size_t len;
    int rc = disk_read_all(d, STORE_FORMAT_PATH, LINE_MAX_BYTES - 1, &data, &len, err);

    *out = (struct store_format){.version = 0};
    if (rc == ESCROW_ETOOBIG) {
        return err_set(err, ESCROW_ECORRUPT, "%s: offset 0: not the line of a data folder",
                       STORE_FORMAT_PATH);
    }
    if (rc != 0) {
        return rc;
    }
    rc = format_parse(slice_of(data, len), out, err);
    mem_free(data);
    return rc;
}

int store_format_create(struct disk *d, const struct store_format *format, struct err_ctx *err)
{
    char line[LINE_MAX_BYTES];
    size_t len = format_line(format, line, sizeof line);

    return disk_replace(d, STORE_FORMAT_PATH, line, len, err);
}
