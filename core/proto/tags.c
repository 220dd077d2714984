#include "core/proto/tags.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#define REPLACEMENT UINT32_C(0xFFFD)

/*
 * Decode one code point. A malformed sequence yields U+FFFD and consumes its longest well-formed
 * beginning, at least one byte: what Java's decoder and the Unicode standard (3.9, "maximal
 * subpart") do.
 */
static uint32_t utf8_next(const uint8_t **at, const uint8_t *end)
{
    uint8_t lead = *(*at)++;
    uint8_t low = 0x80;
    uint8_t high = 0xBF;
    uint32_t point;
    int more;

    if (lead < 0x80) {
        return lead;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        more = 1;
        point = lead & 0x1Fu;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        more = 2;
        point = lead & 0x0Fu;
        low = lead == 0xE0 ? 0xA0 : low;
        high = lead == 0xED ? 0x9F : high;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        more = 3;
        point = lead & 0x07u;
        low = lead == 0xF0 ? 0x90 : low;
        high = lead == 0xF4 ? 0x8F : high;
    } else {
        return REPLACEMENT;
    }
    while (more-- > 0) {
        if (*at == end || **at < low || **at > high) {
            return REPLACEMENT;
        }
        point = (point << 6) | (*(*at)++ & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    return point;
}

int32_t java_hash(struct slice utf8)
{
    const uint8_t *at = utf8.ptr;
    const uint8_t *end = utf8.len == 0 ? utf8.ptr : utf8.ptr + utf8.len;
    uint32_t hash = 0;

    while (at != end) {
        uint32_t point = utf8_next(&at, end);
        if (point >= 0x10000) {
            point -= 0x10000;
            hash = hash * 31 + (0xD800 + (point >> 10));
            hash = hash * 31 + (0xDC00 + (point & 0x3FF));
        } else {
            hash = hash * 31 + point;
        }
    }
    return (int32_t)hash;
}

/* Java's String.trim: everything up to and including the blank. */
static struct slice trim(struct slice s)
{
    while (s.len > 0 && s.ptr[0] <= ' ') {
        s = slice_of(s.ptr + 1, s.len - 1);
    }
    while (s.len > 0 && s.ptr[s.len - 1] <= ' ') {
        s.len--;
    }
    return s;
}

bool tag_expression_next(struct slice *rest, struct slice *tag)
{
    while (rest->len > 0) {
        size_t end = 0;
        struct slice part;

        while (end < rest->len &&
               !(rest->ptr[end] == '|' && end + 1 < rest->len && rest->ptr[end + 1] == '|')) {
            end++;
        }
        part = trim(slice_of(rest->ptr, end));
        *rest = end == rest->len ? SLICE_EMPTY : slice_of(rest->ptr + end + 2, rest->len - end - 2);
        if (part.len > 0) {
            *tag = part;
            return true;
        }
    }
    return false;
}

static bool is_every_message(struct slice expression)
{
    return expression.len == 0 || slice_eq(expression, SLICE_LIT("*"));
}

int tag_filter_parse(struct slice expression, struct tag_filter *filter)
{
    struct slice rest = expression;
    struct slice tag;

    filter->is_all = is_every_message(expression);
    filter->count = 0;
    if (filter->is_all) {
        return 0;
    }
    while (tag_expression_next(&rest, &tag)) {
        if (filter->count == TAG_FILTER_MAX) {
            filter->count = 0;
            return ESCROW_ELIMIT;
        }
        filter->codes[filter->count++] = java_hash(tag);
    }
    return filter->count == 0 ? ESCROW_EINVAL : 0;
}

bool tag_filter_match(const struct tag_filter *filter, int64_t code)
{
    CHECK(filter->count <= TAG_FILTER_MAX);
    if (filter->is_all) {
        return true;
    }
    for (uint16_t i = 0; i < filter->count; i++) {
        if (filter->codes[i] == code) {
            return true;
        }
    }
    return false;
}

bool tag_expression_match(struct slice expression, struct slice tag)
{
    struct slice one;

    if (is_every_message(expression)) {
        return true;
    }
    while (tag_expression_next(&expression, &one)) {
        if (slice_eq(one, tag)) {
            return true;
        }
    }
    return false;
}
