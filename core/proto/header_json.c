/*
 * The parser is a cursor over the bytes; each function consumes one thing and leaves the cursor
 * behind it, or returns ESCROW_EPROTO and the whole header is dropped. Strings are the bulk of a
 * header, so their end is looked for eight bytes at a time; only strings with a backslash (message
 * properties: the separators are control characters) are copied.
 */
#include "core/proto/header_json.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/proto/codes.h"
#include "core/proto/header_private.h"
#include "escrow/errors.h"

struct json {
    const uint8_t *ptr;
    const uint8_t *end;
    struct header *h;
};

enum json_kind { JSON_STRING, JSON_LITERAL, JSON_NULL, JSON_NESTED };

struct json_value {
    enum json_kind kind;
    struct slice text; /* unescaped, if a string; else the value as it stands */
};

/* ---- eight bytes at a time ---- */

#define EVERY_BYTE(b) (UINT64_C(0x0101010101010101) * (uint8_t)(b))

/* High bit of the first byte that is zero; bytes behind it may be marked falsely. */
static inline uint64_t zero_bytes(uint64_t x)
{
    return (x - EVERY_BYTE(0x01)) & ~x & EVERY_BYTE(0x80);
}

/* First '"' or '\\' at or after ptr, or end. */
static inline const uint8_t *find_quote_or_backslash(const uint8_t *ptr, const uint8_t *end)
{
    while (end - ptr >= 8) {
        uint64_t word = get_le64(ptr);
        uint64_t hits = zero_bytes(word ^ EVERY_BYTE('"')) | zero_bytes(word ^ EVERY_BYTE('\\'));
        if (hits != 0) {
            return ptr + (unsigned)__builtin_ctzll(hits) / 8;
        }
        ptr += 8;
    }
    while (ptr < end && *ptr != '"' && *ptr != '\\') {
        ptr++;
    }
    return ptr;
}

/* First byte that a JSON string must escape, at or after ptr, or end. */
static const uint8_t *find_to_escape(const uint8_t *ptr, const uint8_t *end)
{
    while (end - ptr >= 8) {
        uint64_t word = get_le64(ptr);
        /* below 0x20: the three high bits are zero */
        uint64_t hits = zero_bytes(word ^ EVERY_BYTE('"')) | zero_bytes(word ^ EVERY_BYTE('\\')) |
                        zero_bytes(word & EVERY_BYTE(0xe0));
        if (hits != 0) {
            return ptr + (unsigned)__builtin_ctzll(hits) / 8;
        }
        ptr += 8;
    }
    while (ptr < end && *ptr != '"' && *ptr != '\\' && *ptr >= 0x20) {
        ptr++;
    }
    return ptr;
}

/* ---- reading ---- */

static __attribute__((noinline)) void skip_space(struct json *j)
{
    while (j->ptr < j->end &&
           (*j->ptr == ' ' || *j->ptr == '\n' || *j->ptr == '\r' || *j->ptr == '\t')) {
        j->ptr++;
    }
}

/* Next byte that is not white space, 0 at the end. Does not consume it. */
static inline uint8_t peek(struct json *j)
{
    if (j->ptr<j->end && * j->ptr> ' ') {
        return *j->ptr;
    }
    skip_space(j);
    return j->ptr < j->end ? *j->ptr : 0;
}

static inline bool take(struct json *j, uint8_t c)
{
    if (peek(j) != c) {
        return false;
    }
    j->ptr++;
    return true;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Four hex digits at ptr, which may be short of end: -1. */
static int32_t read_hex4(const uint8_t *ptr, const uint8_t *end)
{
    int32_t value = 0;
    int i;

    if (end - ptr < 4) {
        return -1;
    }
    for (i = 0; i < 4; i++) {
        int digit = hex_digit(ptr[i]);
        if (digit < 0) {
            return -1;
        }
        value = value << 4 | digit;
    }
    return value;
}

static uint8_t *put_utf8(uint8_t *dst, uint32_t point)
{
    if (point < 0x80) {
        *dst++ = (uint8_t)point;
    } else if (point < 0x800) {
        *dst++ = (uint8_t)(0xc0 | point >> 6);
        *dst++ = (uint8_t)(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
        *dst++ = (uint8_t)(0xe0 | point >> 12);
        *dst++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *dst++ = (uint8_t)(0x80 | (point & 0x3f));
    } else {
        *dst++ = (uint8_t)(0xf0 | point >> 18);
        *dst++ = (uint8_t)(0x80 | (point >> 12 & 0x3f));
        *dst++ = (uint8_t)(0x80 | (point >> 6 & 0x3f));
        *dst++ = (uint8_t)(0x80 | (point & 0x3f));
    }
    return dst;
}

static bool is_high_half(int32_t unit)
{
    return unit >= 0xd800 && unit <= 0xdbff;
}

static bool is_low_half(int32_t unit)
{
    return unit >= 0xdc00 && unit <= 0xdfff;
}

/*
 * The part of \uXXXX behind the u; two of them make one character above U+FFFF. Half of such a pair
 * alone becomes U+FFFD. Writes at most 3 bytes for 6 and 4 for 12. Returns the byte behind, or
 * NULL.
 */
static const uint8_t *unescape_unicode(const uint8_t *src, const uint8_t *end, uint8_t **dst)
{
    int32_t unit = read_hex4(src, end);
    uint32_t point;

    if (unit < 0) {
        return NULL;
    }
    src += 4;
    point = (uint32_t)unit;
    if (is_high_half(unit) && end - src >= 6 && src[0] == '\\' && src[1] == 'u' &&
        is_low_half(read_hex4(src + 2, end))) {
        point = 0x10000 + ((point - 0xd800) << 10) + ((uint32_t)read_hex4(src + 2, end) - 0xdc00);
        src += 6;
    } else if (is_high_half(unit) || is_low_half(unit)) {
        point = 0xfffd;
    }
    *dst = put_utf8(*dst, point);
    return src;
}

/* One escape; src is behind the backslash. Returns the byte behind the escape, or NULL. */
static const uint8_t *unescape_one(const uint8_t *src, const uint8_t *end, uint8_t **dst)
{
    uint8_t c;

    if (src == end) {
        return NULL;
    }
    switch (*src) {
    case '"':
    case '\\':
    case '/':
        c = *src;
        break;
    case 'b':
        c = '\b';
        break;
    case 'f':
        c = '\f';
        break;
    case 'n':
        c = '\n';
        break;
    case 'r':
        c = '\r';
        break;
    case 't':
        c = '\t';
        break;
    case 'u':
        return unescape_unicode(src + 1, end, dst);
    default:
        return NULL;
    }
    *(*dst)++ = c;
    return src + 1;
}

/*
 * Closing quote of the string whose text begins at ptr, NULL when there is none. An escape is two
 * bytes long as far as finding the end goes.
 */
static const uint8_t *find_string_end(const uint8_t *ptr, const uint8_t *end)
{
    for (;;) {
        ptr = find_quote_or_backslash(ptr, end);
        if (ptr == end) {
            return NULL;
        }
        if (*ptr == '"') {
            return ptr;
        }
        if (end - ptr < 2) {
            return NULL;
        }
        ptr += 2;
    }
}

static int unescape(struct json *j, struct slice raw, struct slice *out)
{
    const uint8_t *src = raw.ptr;
    const uint8_t *end = raw.ptr + raw.len;
    uint8_t *text = header_scratch(j->h, raw.len);
    uint8_t *dst = text;

    if (text == NULL) {
        return ESCROW_ENOMEM;
    }
    while (src < end) {
        const uint8_t *stop = find_quote_or_backslash(src, end);
        size_t run = (size_t)(stop - src);

        memcpy(dst, src, run);
        dst += run;
        src = stop;
        if (src < end) { /* a backslash: the raw text has no bare quote */
            src = unescape_one(src + 1, end, &dst);
            if (src == NULL) {
                return ESCROW_EPROTO;
            }
        }
    }
    *out = slice_of(text, (size_t)(dst - text));
    header_scratch_trim(j->h, raw.len, out->len);
    return 0;
}

/* A string with escapes; text is behind its opening quote. */
static __attribute__((noinline)) int read_escaped(struct json *j, const uint8_t *text,
                                                  struct slice *out)
{
    const uint8_t *quote = find_string_end(text, j->end);

    if (quote == NULL) {
        return ESCROW_EPROTO;
    }
    j->ptr = quote + 1;
    return unescape(j, slice_of(text, (size_t)(quote - text)), out);
}

/* A string, the cursor on its opening quote. */
static int read_string(struct json *j, struct slice *out)
{
    const uint8_t *text = j->ptr + 1;
    const uint8_t *stop = find_quote_or_backslash(text, j->end);

    if (stop == j->end || *stop != '"') {
        return read_escaped(j, text, out);
    }
    *out = slice_of(text, (size_t)(stop - text));
    j->ptr = stop + 1;
    return 0;
}

static bool is_digit_at(const struct json *j)
{
    return j->ptr < j->end && *j->ptr >= '0' && *j->ptr <= '9';
}

static int skip_digits(struct json *j)
{
    if (!is_digit_at(j)) {
        return ESCROW_EPROTO;
    }
    while (is_digit_at(j)) {
        j->ptr++;
    }
    return 0;
}

/* -?digits(.digits)?([eE][+-]?digits)? with no leading zeros; the cursor on the first byte. */
static int skip_number(struct json *j)
{
    if (*j->ptr == '-') {
        j->ptr++;
    }
    if (is_digit_at(j) && *j->ptr == '0') {
        j->ptr++; /* a digit behind it is no ',' and no bracket: refused by whoever reads on */
    } else if (skip_digits(j) != 0) {
        return ESCROW_EPROTO;
    }
    if (j->ptr < j->end && *j->ptr == '.') {
        j->ptr++;
        if (skip_digits(j) != 0) {
            return ESCROW_EPROTO;
        }
    }
    if (j->ptr < j->end && (*j->ptr | 0x20) == 'e') {
        j->ptr++;
        if (j->ptr < j->end && (*j->ptr == '+' || *j->ptr == '-')) {
            j->ptr++;
        }
        return skip_digits(j);
    }
    return 0;
}

static int skip_word(struct json *j, struct slice word)
{
    if ((size_t)(j->end - j->ptr) < word.len || memcmp(j->ptr, word.ptr, word.len) != 0) {
        return ESCROW_EPROTO;
    }
    j->ptr += word.len;
    return 0;
}

static int skip_value(struct json *j, uint32_t depth);

/* Members or elements up to the closing bracket; the cursor on the opening one. */
static int skip_container(struct json *j, uint32_t depth)
{
    bool is_object = *j->ptr == '{';
    uint8_t close = is_object ? '}' : ']';

    if (depth > HEADER_DEPTH_MAX) {
        return ESCROW_EPROTO;
    }
    j->ptr++;
    if (take(j, close)) {
        return 0;
    }
    do {
        int rc;

        if (is_object && (peek(j) != '"' || skip_value(j, depth) != 0 || !take(j, ':'))) {
            return ESCROW_EPROTO;
        }
        rc = skip_value(j, depth);
        if (rc != 0) {
            return rc;
        }
    } while (take(j, ','));
    return take(j, close) ? 0 : ESCROW_EPROTO;
}

/*
 * One value of any kind; depth counts the containers around it. Escapes in skipped strings are not
 * looked at.
 */
static int skip_value(struct json *j, uint32_t depth)
{
    switch (peek(j)) {
    case '"': {
        const uint8_t *quote = find_string_end(j->ptr + 1, j->end);
        if (quote == NULL) {
            return ESCROW_EPROTO;
        }
        j->ptr = quote + 1;
        return 0;
    }
    case '{':
    case '[':
        return skip_container(j, depth + 1);
    case 't':
        return skip_word(j, SLICE_LIT("true"));
    case 'f':
        return skip_word(j, SLICE_LIT("false"));
    case 'n':
        return skip_word(j, SLICE_LIT("null"));
    case 0:
        return ESCROW_EPROTO;
    default:
        return skip_number(j);
    }
}

static int read_value(struct json *j, uint32_t depth, struct json_value *out)
{
    uint8_t first = peek(j);
    const uint8_t *start = j->ptr;
    int rc;

    if (first == '"') {
        out->kind = JSON_STRING;
        return read_string(j, &out->text);
    }
    rc = skip_value(j, depth);
    if (rc != 0) {
        return rc;
    }
    out->kind = first == 'n'                   ? JSON_NULL
                : first == '{' || first == '[' ? JSON_NESTED
                                               : JSON_LITERAL;
    out->text = slice_of(start, (size_t)(j->ptr - start));
    return 0;
}

/* {"key": value, ...} into the table; the cursor is on the value of extFields. */
static int read_fields(struct json *j)
{
    if (peek(j) == 'n') {
        return skip_word(j, SLICE_LIT("null"));
    }
    if (!take(j, '{')) {
        return ESCROW_EPROTO;
    }
    if (take(j, '}')) {
        return 0;
    }
    do {
        struct slice key;
        struct json_value value;
        int rc;

        if (peek(j) != '"') {
            return ESCROW_EPROTO;
        }
        rc = read_string(j, &key);
        if (rc != 0) {
            return rc;
        }
        if (!take(j, ':')) {
            return ESCROW_EPROTO;
        }
        rc = read_value(j, 2, &value);
        if (rc == 0 && value.kind != JSON_NULL) {
            rc = header_add_text(j->h, key, value.text);
        }
        if (rc != 0) {
            return rc;
        }
    } while (take(j, ','));
    return take(j, '}') ? 0 : ESCROW_EPROTO;
}

/* A number, or a string that holds one; null leaves *out alone. */
static int read_i32(struct json *j, int32_t *out)
{
    struct json_value value;
    int rc = read_value(j, 1, &value);

    if (rc != 0 || value.kind == JSON_NULL) {
        return rc;
    }
    return value.kind != JSON_NESTED && slice_to_i32(value.text, out) ? 0 : ESCROW_EPROTO;
}

static int read_language(struct json *j)
{
    struct json_value value;
    int64_t number;
    int rc = read_value(j, 1, &value);

    if (rc != 0) {
        return rc;
    }
    if (value.kind == JSON_LITERAL && slice_to_i64(value.text, &number)) {
        j->h->language = language_by_number(number);
    } else {
        j->h->language = language_by_name(value.text);
    }
    return 0;
}

static int read_remark(struct json *j)
{
    struct json_value value;
    int rc = read_value(j, 1, &value);

    if (rc == 0) {
        j->h->remark = value.kind == JSON_NULL ? SLICE_EMPTY : value.text;
    }
    return rc;
}

static int read_member(struct json *j, struct slice key, bool *has_code)
{
    if (slice_eq(key, SLICE_LIT("extFields"))) {
        return read_fields(j);
    }
    if (slice_eq(key, SLICE_LIT("code"))) {
        *has_code = peek(j) != 'n';
        return read_i32(j, &j->h->code);
    }
    if (slice_eq(key, SLICE_LIT("flag"))) {
        return read_i32(j, &j->h->flag);
    }
    if (slice_eq(key, SLICE_LIT("opaque"))) {
        return read_i32(j, &j->h->opaque);
    }
    if (slice_eq(key, SLICE_LIT("version"))) {
        return read_i32(j, &j->h->version);
    }
    if (slice_eq(key, SLICE_LIT("language"))) {
        return read_language(j);
    }
    if (slice_eq(key, SLICE_LIT("remark"))) {
        return read_remark(j);
    }
    return skip_value(j, 1); /* serializeTypeCurrentRPC and whatever comes later */
}

int header_json_decode(struct header *h, struct slice in)
{
    struct json j = {.ptr = in.ptr, .end = in.len == 0 ? in.ptr : in.ptr + in.len, .h = h};
    bool has_code = false;

    if (!take(&j, '{') || peek(&j) != '"') {
        return ESCROW_EPROTO;
    }
    do {
        struct slice key;
        int rc;

        if (peek(&j) != '"') {
            return ESCROW_EPROTO;
        }
        rc = read_string(&j, &key);
        if (rc != 0) {
            return rc;
        }
        if (!take(&j, ':')) {
            return ESCROW_EPROTO;
        }
        rc = read_member(&j, key, &has_code);
        if (rc != 0) {
            return rc;
        }
    } while (take(&j, ','));
    if (!take(&j, '}')) {
        return ESCROW_EPROTO;
    }
    skip_space(&j);
    return j.ptr == j.end && has_code ? 0 : ESCROW_EPROTO;
}

/* ---- writing: keys in alphabetical order, as Java does; no blanks ---- */

static void put_escape(struct buf *out, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', 0, 0};

    switch (c) {
    case '"':
    case '\\':
        text[1] = (char)c;
        break;
    case '\b':
        text[1] = 'b';
        break;
    case '\f':
        text[1] = 'f';
        break;
    case '\n':
        text[1] = 'n';
        break;
    case '\r':
        text[1] = 'r';
        break;
    case '\t':
        text[1] = 't';
        break;
    default:
        text[4] = hex[c >> 4];
        text[5] = hex[c & 15];
        buf_append(out, text, 6);
        return;
    }
    buf_append(out, text, 2);
}

/* "text", with `after` behind the closing quote (0 = nothing). */
static void put_string(struct buf *out, struct slice text, uint8_t after)
{
    const uint8_t *ptr = text.ptr;
    const uint8_t *end = text.len == 0 ? text.ptr : text.ptr + text.len;
    const uint8_t *stop = text.len == 0 ? end : find_to_escape(ptr, end);

    if (stop == end) { /* nothing to escape: one piece */
        uint8_t *dst = buf_reserve(out, text.len + 3);
        if (dst == NULL) {
            return;
        }
        dst[0] = '"';
        if (text.len > 0) {
            memcpy(dst + 1, text.ptr, text.len);
        }
        dst[text.len + 1] = '"';
        dst[text.len + 2] = after;
        buf_commit(out, text.len + (after == 0 ? 2 : 3));
        return;
    }
    buf_append_u8(out, '"');
    for (;;) {
        buf_append(out, ptr, (size_t)(stop - ptr));
        if (stop == end) {
            break;
        }
        put_escape(out, *stop);
        ptr = stop + 1;
        stop = find_to_escape(ptr, end);
    }
    buf_append_u8(out, '"');
    if (after != 0) {
        buf_append_u8(out, after);
    }
}

static void put_number(struct buf *out, int64_t number)
{
    uint8_t text[HEADER_NUMBER_TEXT_MAX];

    buf_append(out, text, header_number_text(number, text));
}

void header_json_begin(struct header_writer *w)
{
    buf_append_slice(w->buf, SLICE_LIT("{\"code\":"));
    put_number(w->buf, w->head.code);
    buf_append_slice(w->buf, SLICE_LIT(",\"extFields\":{"));
}

void header_json_put(struct header_writer *w, struct slice key, struct slice value)
{
    if (w->field_count > 1) {
        buf_append_u8(w->buf, ',');
    }
    put_string(w->buf, key, ':');
    put_string(w->buf, value, 0);
}

void header_json_end(struct header_writer *w)
{
    struct buf *out = w->buf;

    buf_append_slice(out, SLICE_LIT("},\"flag\":"));
    put_number(out, w->head.flag);
    buf_append_slice(out, SLICE_LIT(",\"language\":\"JAVA\",\"opaque\":"));
    put_number(out, w->head.opaque);
    if (w->head.remark.ptr != NULL) {
        buf_append_slice(out, SLICE_LIT(",\"remark\":"));
        put_string(out, w->head.remark, ',');
    } else {
        buf_append_u8(out, ',');
    }
    buf_append_slice(out, SLICE_LIT("\"serializeTypeCurrentRPC\":\"JSON\",\"version\":"));
    put_number(out, HEADER_VERSION);
    buf_append_u8(out, '}');
}
