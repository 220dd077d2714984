/*
 * A borrowed run of bytes. Never owns, never NUL-terminated; valid as long as what it points into.
 */
#ifndef CORE_BASE_SLICE_H
#define CORE_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *ptr; /* may be NULL when len is 0 */
    size_t len;
};

#define SLICE_EMPTY ((struct slice){NULL, 0})

/* For string literals only. */
#define SLICE_LIT(text) ((struct slice){(const uint8_t *)("" text), sizeof(text) - 1})

static inline struct slice slice_of(const void *ptr, size_t len)
{
    return (struct slice){(const uint8_t *)ptr, len};
}

static inline struct slice slice_str(const char *text)
{
    return slice_of(text, text == NULL ? 0 : strlen(text));
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *text)
{
    return slice_eq(a, slice_str(text));
}

static inline bool slice_has_prefix(struct slice a, struct slice prefix)
{
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.ptr, prefix.ptr, prefix.len) == 0);
}

/* For printf("%.*s", SLICE_ARGS(s)). */
#define SLICE_ARGS(s) (int)(s).len, (const char *)((s).len == 0 ? (const uint8_t *)"" : (s).ptr)

/*
 * Decimal integer, optional '-', nothing around it. false when malformed or out of range; *out is
 * then unchanged.
 */
bool slice_to_i64(struct slice s, int64_t *out);
bool slice_to_i32(struct slice s, int32_t *out);

/* Copy with a NUL at the end, cut to size-1; returns dst. */
char *slice_to_cstr(struct slice s, char *dst, size_t size);

#endif
