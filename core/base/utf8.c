#include "core/base/utf8.h"

#include "core/base/check.h"

#include <string.h>

size_t utf8_len(const uint8_t *at, size_t left)
{
    uint8_t c = at[0];
    size_t len = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;

    if (c < 0x80) {
        return 1;
    }
    if (c < 0xC2 || c > 0xF4 || left < len) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    if ((c == 0xE0 && at[1] < 0xA0) || (c == 0xED && at[1] > 0x9F) || (c == 0xF0 && at[1] < 0x90) ||
        (c == 0xF4 && at[1] > 0x8F)) {
        return 0; /* overlong, surrogate, beyond U+10FFFF */
    }
    return len;
}

const char *utf8_clean(const char *text, char *to, size_t size)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t left = strlen(text);
    size_t used = 0;

    CHECK(size >= 1);
    while (left > 0) {
        size_t len = utf8_len(at, left);
        size_t step = len == 0 ? 1 : len;
        if (step >= size - used) {
            break;
        }
        if (len == 0) {
            to[used] = '?';
        } else {
            memcpy(to + used, at, len);
        }
        used += step;
        at += step;
        left -= step;
    }
    to[used] = '\0';
    return to;
}
