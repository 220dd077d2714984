#include "core/store/store_format.h"

#include "core/base/crc32c.h"
#include "core/base/mem.h"
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
    int len = snprintf(line, size, "escrow-store version=%u segment_bytes=%" PRIu64 " salt=%08x",
                       format->version, format->segment_bytes, format->salt);
    uint32_t crc = crc32c(0, line, (size_t)len);

    len += snprintf(line + len, size - (size_t)len, " crc32c=%08x\n", crc);
    return (size_t)len;
}

/*
 * The line is accepted only if it is, byte for byte, what format_line would write for the numbers in it: nothing else in the
 * file can be misread. Only the version is taken without its checksum, because the rest of a later version's line is unknown.
 */
static int format_parse(const char *text, size_t len, struct store_format *out, struct err_ctx *err)
{
    char line[LINE_MAX_BYTES];
    int fields = sscanf(text, "escrow-store version=%u segment_bytes=%" SCNu64 " salt=%8x",
                        &out->version, &out->segment_bytes, &out->salt);

    if (fields >= 1 && out->version != STORE_FORMAT_VERSION) {
        return err_set(err, ESCROW_EVERSION,
                       "%s: the data folder has format version %u, this program knows version %u",
                       STORE_FORMAT_PATH, out->version, STORE_FORMAT_VERSION);
    }
    if (fields != 3 || format_line(out, line, sizeof line) != len || memcmp(line, text, len) != 0 ||
        !store_format_is_segment_size(out->segment_bytes)) {
        return err_set(err, ESCROW_ECORRUPT, "%s: offset 0: not the line of a data folder",
                       STORE_FORMAT_PATH);
    }
    return 0;
}

int store_format_read(struct disk *d, struct store_format *out, struct err_ctx *err)
{
    char text[LINE_MAX_BYTES];
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
    memcpy(text, data, len);
    text[len] = '\0';
    mem_free(data);
    return format_parse(text, len, out, err);
}

int store_format_create(struct disk *d, const struct store_format *format, struct err_ctx *err)
{
    char line[LINE_MAX_BYTES];
    size_t len = format_line(format, line, sizeof line);

    return disk_replace(d, STORE_FORMAT_PATH, line, len, err);
}
