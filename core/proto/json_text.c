/*
 * One loop over the tokens with a small stack of open containers. What may come next depends only
 * on the state and on the innermost container, so the machine below is all the grammar there is.
 * Blanks between tokens are dropped.
 *
 * An object in the place of a key is copied like any other, but escaped into a string: `key_level`
 * is the depth at which it began, and when that depth is reached again the string is closed.
 */
#include "core/proto/json_text.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <stdbool.h>

enum expect {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* right behind '[' */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* right behind '{' */
    EXPECT_COLON,
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING /* the value is complete */
};

struct text_walk {
    const uint8_t *at;
    const uint8_t *end;
    struct buf *out;
    struct json_limits limits;
    uint32_t elements;
    uint32_t depth;
    uint32_t key_level; /* 0 = not inside an object that is a key */
    enum expect expect;
    bool is_object[JSON_DEPTH_MAX + 1]; /* of each open container, from 1 */
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* A character of a number, of true, false, null, or of a name without quotes. */
static bool is_bare(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '+' || c == '.' || c == '_' || c == '$';
}

static void emit(struct text_walk *w, const uint8_t *bytes, size_t len)
{
    if (w->key_level == 0) {
        buf_append(w->out, bytes, len);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\') {
            buf_append_u8(w->out, '\\');
        }
        buf_append_u8(w->out, bytes[i]);
    }
}

static void emit_byte(struct text_walk *w, uint8_t c)
{
    emit(w, &c, 1);
}

static int count_element(struct text_walk *w)
{
    return ++w->elements > w->limits.elements_max ? ESCROW_ELIMIT : 0;
}

/* What follows a complete value. */
static enum expect after_value(const struct text_walk *w)
{
    return w->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA_OR_END;
}

/* Copy a string, quotes and escapes as they are; w->at stands on the opening quote. */
static int copy_string(struct text_walk *w)
{
    const uint8_t *start = w->at++;

    while (w->at < w->end && *w->at != '"') {
        if (*w->at == '\\') {
            w->at++; /* whatever is escaped, it ends no string */
        }
        if (w->at == w->end || *w->at < 0x20) {
            return ESCROW_EPROTO;
        }
        w->at++;
    }
    if (w->at == w->end) {
        return ESCROW_EPROTO;
    }
    w->at++;
    emit(w, start, (size_t)(w->at - start));
    return 0;
}

static int copy_bare(struct text_walk *w, bool needs_quotes)
{
    const uint8_t *start = w->at;

    while (w->at < w->end && is_bare(*w->at)) {
        w->at++;
    }
    if (w->at == start) {
        return ESCROW_EPROTO;
    }
    if (needs_quotes) {
        emit_byte(w, '"');
    }
    emit(w, start, (size_t)(w->at - start));
    if (needs_quotes) {
        emit_byte(w, '"');
    }
    return 0;
}

static int open_container(struct text_walk *w, bool is_object)
{
    if (w->depth == w->limits.depth_max) {
        return ESCROW_ELIMIT;
    }
    w->is_object[++w->depth] = is_object;
    emit_byte(w, is_object ? '{' : '[');
    w->at++;
    w->expect = is_object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return 0;
}

static int close_container(struct text_walk *w)
{
    bool is_object = *w->at == '}';

    CHECK(w->depth > 0);
    if (w->is_object[w->depth] != is_object) {
        return ESCROW_EPROTO;
    }
    emit_byte(w, is_object ? '}' : ']');
    w->at++;
    w->depth--;
    w->expect = after_value(w);
    if (w->key_level != 0 && w->depth + 1 == w->key_level) {
        w->key_level = 0;
        buf_append_u8(w->out, '"');
        w->expect = EXPECT_COLON;
    }
    return 0;
}

static int take_value(struct text_walk *w)
{
    uint8_t c = *w->at;
    int error = count_element(w);

    if (error != 0) {
        return error;
    }
    if (c == '{' || c == '[') {
        return open_container(w, c == '{');
    }
    error = c == '"' ? copy_string(w) : copy_bare(w, false);
    w->expect = after_value(w);
    return error;
}

static int take_key(struct text_walk *w)
{
    uint8_t c = *w->at;
    int error = count_element(w);

    if (error != 0) {
        return error;
    }
    if (c == '{') {
        if (w->key_level != 0) {
            return ESCROW_EPROTO;
        }
        buf_append_u8(w->out, '"');
        w->key_level = w->depth + 1;
        return open_container(w, true);
    }
    w->expect = EXPECT_COLON;
    return c == '"' ? copy_string(w) : copy_bare(w, true);
}

static int take_colon(struct text_walk *w)
{
    if (*w->at != ':') {
        return ESCROW_EPROTO;
    }
    emit_byte(w, *w->at++);
    w->expect = EXPECT_VALUE;
    return 0;
}

static int take_comma_or_end(struct text_walk *w)
{
    if (*w->at != ',') {
        return *w->at == '}' || *w->at == ']' ? close_container(w) : ESCROW_EPROTO;
    }
    emit_byte(w, *w->at++);
    w->expect = w->is_object[w->depth] ? EXPECT_KEY : EXPECT_VALUE;
    return 0;
}

static int take_token(struct text_walk *w)
{
    switch (w->expect) {
    case EXPECT_VALUE:
        return take_value(w);
    case EXPECT_VALUE_OR_END:
        return *w->at == ']' ? close_container(w) : take_value(w);
    case EXPECT_KEY:
        return take_key(w);
    case EXPECT_KEY_OR_END:
        return *w->at == '}' ? close_container(w) : take_key(w);
    case EXPECT_COLON:
        return take_colon(w);
    case EXPECT_COMMA_OR_END:
        return take_comma_or_end(w);
    case EXPECT_NOTHING:
        return ESCROW_EPROTO;
    }
    UNREACHABLE("expect is one of its values");
}

int json_text_normalize(struct slice in, struct json_limits limits, struct buf *out)
{
    struct text_walk w = {.at = in.ptr, .out = out, .limits = limits, .expect = EXPECT_VALUE};

    CHECK(limits.depth_max <= JSON_DEPTH_MAX);
    w.end = in.len == 0 ? in.ptr : in.ptr + in.len;
    while (w.at != w.end) {
        int error;
        if (is_blank(*w.at)) {
            w.at++;
            continue;
        }
        error = take_token(&w);
        if (error != 0) {
            return error;
        }
        if (buf_failed(out)) {
            return ESCROW_ENOMEM;
        }
    }
    return w.expect == EXPECT_NOTHING ? 0 : ESCROW_EPROTO;
}
