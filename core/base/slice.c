#include "core/base/slice.h"

#include "core/base/check.h"

bool slice_to_i64(struct slice s, int64_t *out)
{
    bool negative = s.len > 0 && s.ptr[0] == '-';
    size_t i = negative ? 1 : 0;
    uint64_t limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    uint64_t value = 0;

    if (i == s.len || s.len - i > 19) {
        return false;
    }
    for (; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c < '0' || c > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(c - '0'); /* at most 19 digits: fits in 64 bits */
    }
    if (value > limit) {
        return false;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

bool slice_to_i32(struct slice s, int32_t *out)
{
    int64_t wide;

    if (!slice_to_i64(s, &wide) || wide < INT32_MIN || wide > INT32_MAX) {
        return false;
    }
    *out = (int32_t)wide;
    return true;
}

char *slice_to_cstr(struct slice s, char *dst, size_t size)
{
    size_t len = s.len;

    CHECK(size > 0);
    if (len > size - 1) {
        len = size - 1;
    }
    if (len > 0) {
        memcpy(dst, s.ptr, len);
    }
    dst[len] = '\0';
    return dst;
}
