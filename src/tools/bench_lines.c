#include "src/tools/bench_lines.h"

#include <string.h>

size_t bench_lines_read(struct slice data, bool is_redis, bench_line_fn *fn, void *arg)
{
    size_t used = 0;

    while (used < data.len) {
        const uint8_t *at = data.ptr + used;
        const uint8_t *end = memchr(at, '\n', data.len - used);
        struct slice line;

        if (end == NULL) {
            break;
        }
        line = slice_of(at, (size_t)(end - at));
        used += line.len + 1;
        if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
            line.len--;
        }
        if (is_redis && line.len > 0 && line.ptr[0] == '$') {
            continue; /* the length of the id */
        }
        fn(arg,
           is_redis ? line.len > 0 && line.ptr[0] != '-'
                    : slice_has_prefix(line, SLICE_LIT("INSERTED ")),
           line);
    }
    return used;
}
