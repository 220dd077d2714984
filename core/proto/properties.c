/*
 * One pass over the string serves every reader: a pair ends at 0x02 or at the end, its name at the
 * first 0x01 inside. memchr does the searching; nothing is copied until a writer is asked to.
 */
#include "core/proto/properties.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <stdio.h>

#define TRANSIENT_PREFIX "__RMQ.TRANSIENT."

static const struct slice prop_names[PROP_COUNT] = {
#define X(id, text) {(const uint8_t *)(text), sizeof(text) - 1},
    PROP_NAMES(X)
#undef X
};

struct slice prop_name(enum prop_id id)
{
    CHECK((int)id >= 0);
    CHECK(id < PROP_COUNT);
    return prop_names[id];
}

bool prop_is_reserved(struct slice name)
{
    for (size_t i = 0; i < PROP_COUNT; i++) {
        if (slice_eq(prop_names[i], name)) {
            return true;
        }
    }
    return slice_has_prefix(name, SLICE_LIT(TRANSIENT_PREFIX));
}

/* Cut the next piece off at 0x02; false at the end. *piece may be anything, also empty. */
static bool next_piece(struct slice *rest, struct slice *piece)
{
    const uint8_t *end;

    if (rest->len == 0) {
        return false;
    }
    end = memchr(rest->ptr, PROPS_PAIR_SEPARATOR, rest->len);
    if (end == NULL) {
        *piece = *rest;
        *rest = SLICE_EMPTY;
        return true;
    }
    *piece = slice_of(rest->ptr, (size_t)(end - rest->ptr));
    *rest = slice_of(end + 1, rest->len - piece->len - 1);
    return true;
}

/* Is the piece a pair? */
static bool split_piece(struct slice piece, struct slice *name, struct slice *value)
{
    const uint8_t *at =
        piece.len == 0 ? NULL : memchr(piece.ptr, PROPS_NAME_VALUE_SEPARATOR, piece.len);
    size_t name_len;

    if (at == NULL) {
        return false;
    }
    name_len = (size_t)(at - piece.ptr);
    if (name_len == 0 || name_len + 1 == piece.len) {
        return false;
    }
    *name = slice_of(piece.ptr, name_len);
    *value = slice_of(at + 1, piece.len - name_len - 1);
    return true;
}

bool props_next(struct props_iter *iter, struct slice *name, struct slice *value)
{
    struct slice piece;

    while (next_piece(&iter->rest, &piece)) {
        if (split_piece(piece, name, value)) {
            return true;
        }
    }
    return false;
}

bool props_find(struct slice props, struct slice name, struct slice *value)
{
    struct props_iter iter = props_begin(props);
    struct slice this_name, this_value;
    bool found = false;

    while (props_next(&iter, &this_name, &this_value)) {
        if (slice_eq(this_name, name)) {
            *value = this_value;
            found = true;
        }
    }
    return found;
}

int64_t props_find_i64(struct slice props, struct slice name, int64_t fallback)
{
    struct slice text;
    int64_t number;

    return props_find(props, name, &text) && slice_to_i64(text, &number) ? number : fallback;
}

size_t props_count(struct slice props)
{
    struct props_iter iter = props_begin(props);
    struct slice name, value;
    size_t count = 0;

    while (props_next(&iter, &name, &value)) {
        count++;
    }
    return count;
}

/* ---- the known ones ---- */

enum {
#define X(id, text) PROP_LEN_##id = sizeof(text) - 1,
    PROP_NAMES(X)
#undef X
};

/* With the length, which nearly always tells names apart: the table is two cache lines. */
static const struct {
    uint16_t member; /* offset in struct props_known */
    uint8_t id;
    uint8_t len;
} known_names[] = {
#define X(field, id) {offsetof(struct props_known, field), PROP_##id, PROP_LEN_##id},
    PROPS_KNOWN(X)
#undef X
};

_Static_assert(PROP_COUNT <= UINT8_MAX, "a number of a name is a byte in known_names");

static void note_known(struct props_known *known, struct slice name, struct slice value)
{
    for (size_t i = 0; i < sizeof known_names / sizeof known_names[0]; i++) {
        if (known_names[i].len == name.len &&
            memcmp(prop_names[known_names[i].id].ptr, name.ptr, name.len) == 0) {
            memcpy((uint8_t *)known + known_names[i].member, &value, sizeof value);
            return;
        }
    }
}

size_t props_scan(struct slice props, struct props_known *known)
{
    struct props_iter iter = props_begin(props);
    struct slice name, value;
    size_t count = 0;

    memset(known, 0, sizeof *known);
    while (props_next(&iter, &name, &value)) {
        note_known(known, name, value);
        count++;
    }
    return count;
}

bool props_next_key(struct slice *rest, struct slice *key)
{
    size_t begin = 0;
    size_t end;

    while (begin < rest->len && rest->ptr[begin] == ' ') {
        begin++;
    }
    end = begin;
    while (end < rest->len && rest->ptr[end] != ' ') {
        end++;
    }
    if (end == begin) {
        *rest = SLICE_EMPTY;
        return false;
    }
    *key = slice_of(rest->ptr + begin, end - begin);
    *rest = slice_of(rest->ptr + end, rest->len - end);
    return true;
}

/* ---- writing ---- */

int props_check_text(struct slice text)
{
    if (text.len == 0 || memchr(text.ptr, PROPS_NAME_VALUE_SEPARATOR, text.len) != NULL ||
        memchr(text.ptr, PROPS_PAIR_SEPARATOR, text.len) != NULL) {
        return ESCROW_EINVAL;
    }
    return 0;
}

void props_writer_init(struct props_writer *w, uint8_t *dst, size_t cap)
{
    *w = (struct props_writer){.ptr = dst, .cap = cap};
}

static bool writer_has_room(struct props_writer *w, size_t more)
{
    CHECK(w->len <= w->cap);
    if (w->error == 0 && more > w->cap - w->len) {
        w->error = ESCROW_ETOOBIG;
    }
    return w->error == 0;
}

static void writer_append(struct props_writer *w, struct slice s)
{
    if (s.len > 0) {
        memcpy(w->ptr + w->len, s.ptr, s.len);
        w->len += s.len;
    }
}

static void writer_pair(struct props_writer *w, struct slice name, struct slice value)
{
    if (!writer_has_room(w, props_pair_size(name, value))) {
        return;
    }
    writer_append(w, name);
    w->ptr[w->len++] = PROPS_NAME_VALUE_SEPARATOR;
    writer_append(w, value);
    w->ptr[w->len++] = PROPS_PAIR_SEPARATOR;
}

void props_put(struct props_writer *w, struct slice name, struct slice value)
{
    if (w->error == 0 && (props_check_text(name) != 0 || props_check_text(value) != 0)) {
        w->error = ESCROW_EINVAL;
    }
    writer_pair(w, name, value);
}

void props_put_i64(struct props_writer *w, struct slice name, int64_t value)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%lld", (long long)value);

    CHECK(len > 0);
    props_put(w, name, slice_of(text, (size_t)len));
}

void props_put_all(struct props_writer *w, struct slice props)
{
    bool is_open = props.len > 0 && props.ptr[props.len - 1] != PROPS_PAIR_SEPARATOR;

    if (writer_has_room(w, props.len + (is_open ? 1 : 0))) {
        writer_append(w, props);
        if (is_open) {
            w->ptr[w->len++] = PROPS_PAIR_SEPARATOR;
        }
    }
}

static bool is_listed(struct slice name, const struct slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_eq(name, names[i])) {
            return true;
        }
    }
    return false;
}

void props_put_except(struct props_writer *w, struct slice props, const struct slice *drop,
                      size_t drop_count)
{
    struct props_iter iter = props_begin(props);
    struct slice name, value;

    while (w->error == 0 && props_next(&iter, &name, &value)) {
        if (!is_listed(name, drop, drop_count)) {
            writer_pair(w, name, value); /* the value may hold 0x01, as the sender had it */
        }
    }
}
