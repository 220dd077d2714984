#include "core/base/buf.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"

#include <stdarg.h>
#include <stdio.h>

#define BUF_CAP_MIN 256

void buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.limit = limit};
}

void buf_fini(struct buf *b)
{
    mem_free(b->ptr);
    *b = (struct buf){.limit = b->limit};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
}

static bool buf_grow(struct buf *b, size_t need)
{
    size_t cap = b->cap < BUF_CAP_MIN ? BUF_CAP_MIN : b->cap;
    uint8_t *ptr;

    while (cap < need) {
        if (cap > SIZE_MAX / 2) {
            return false;
        }
        cap *= 2;
    }
    if (b->limit != 0 && cap > b->limit) {
        cap = b->limit; /* need <= limit was tested by the caller */
    }
    ptr = mem_realloc(b->ptr, cap);
    if (ptr == NULL) {
        return false;
    }
    b->ptr = ptr;
    b->cap = cap;
    return true;
}

uint8_t *buf_reserve(struct buf *b, size_t more)
{
    CHECK(b->len <= b->cap);
    if (b->failed) {
        return NULL;
    }
    if (more > SIZE_MAX - b->len || (b->limit != 0 && b->len + more > b->limit) ||
        (b->len + more > b->cap && !buf_grow(b, b->len + more))) {
        b->failed = true;
        return NULL;
    }
    if (b->ptr == NULL && !buf_grow(b, BUF_CAP_MIN)) {
        b->failed = true;
        return NULL;
    }
    return b->ptr + b->len;
}

void buf_commit(struct buf *b, size_t used)
{
    CHECK(used <= b->cap - b->len);
    b->len += used;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
    uint8_t *dst;

    if (len == 0) {
        return;
    }
    dst = buf_reserve(b, len);
    if (dst != NULL) {
        memcpy(dst, data, len);
        b->len += len;
    }
}

void buf_append_slice(struct buf *b, struct slice s)
{
    buf_append(b, s.ptr, s.len);
}

void buf_append_str(struct buf *b, const char *text)
{
    buf_append(b, text, strlen(text));
}

void buf_append_fmt(struct buf *b, const char *fmt, ...)
{
    char small[256];
    va_list args;
    va_list again;
    int len;

    va_start(args, fmt);
    va_copy(again, args);
    len = vsnprintf(small, sizeof small, fmt, args);
    va_end(args);
    if (len < 0) {
        b->failed = true;
    } else if ((size_t)len < sizeof small) {
        buf_append(b, small, (size_t)len);
    } else {
        uint8_t *dst = buf_reserve(b, (size_t)len + 1); /* vsnprintf writes a NUL too */
        if (dst != NULL) {
            /* the same text again: it cannot be longer */
            (void)vsnprintf((char *)dst, (size_t)len + 1, fmt, again);
            b->len += (size_t)len;
        }
    }
    va_end(again);
}

void buf_append_u8(struct buf *b, uint8_t v)
{
    buf_append(b, &v, 1);
}

#define BUF_APPEND_INT(name, type, put)                                                            \
    void name(struct buf *b, type v)                                                               \
    {                                                                                              \
        uint8_t raw[sizeof(type)];                                                                 \
        put(raw, v);                                                                               \
        buf_append(b, raw, sizeof raw);                                                            \
    }

BUF_APPEND_INT(buf_append_be16, uint16_t, put_be16)
BUF_APPEND_INT(buf_append_be32, uint32_t, put_be32)
BUF_APPEND_INT(buf_append_be64, uint64_t, put_be64)
BUF_APPEND_INT(buf_append_le16, uint16_t, put_le16)
BUF_APPEND_INT(buf_append_le32, uint32_t, put_le32)
BUF_APPEND_INT(buf_append_le64, uint64_t, put_le64)

void buf_consume(struct buf *b, size_t n)
{
    CHECK(n <= b->len);
    if (n > 0) {
        memmove(b->ptr, b->ptr + n, b->len - n);
        b->len -= n;
    }
}
