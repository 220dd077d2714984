/*
 * Numbers from text: the grammar is checked here, then strtod, which rounds correctly, does the
 * arithmetic. Java's grammar is neither C's (which knows "infinity", "nan(1)" and reads a prefix of
 * what it does not know) nor JSON's.
 */
#include "core/filter/sql_value.h"

#include "core/base/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(uint8_t c)
{
    uint8_t low = c | 0x20;

    return is_digit(c) || (low >= 'a' && low <= 'f');
}

/* ---- whole numbers ---- */

static bool read_whole(struct slice text, uint64_t max, int64_t *out)
{
    bool is_negative = text.len > 0 && text.ptr[0] == '-';
    size_t at = is_negative || (text.len > 0 && text.ptr[0] == '+') ? 1 : 0;
    uint64_t limit = max + (is_negative ? 1 : 0);
    uint64_t number = 0;

    if (at == text.len) {
        return false;
    }
    for (; at < text.len; at++) {
        uint64_t digit = (uint64_t)text.ptr[at] - '0';
        if (!is_digit(text.ptr[at]) || number > (limit - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    *out = is_negative ? (int64_t)(0 - number) : (int64_t)number;
    return true;
}

bool sql_read_int(struct slice text, int64_t *out)
{
    return read_whole(text, INT32_MAX, out);
}

bool sql_read_long(struct slice text, int64_t *out)
{
    return read_whole(text, INT64_MAX, out);
}

/* ---- numbers with a fraction ---- */

static struct slice trim(struct slice text)
{
    while (text.len > 0 && text.ptr[0] <= ' ') {
        text = slice_of(text.ptr + 1, text.len - 1);
    }
    while (text.len > 0 && text.ptr[text.len - 1] <= ' ') {
        text.len--;
    }
    return text;
}

static size_t skip(struct slice text, size_t at, bool (*is)(uint8_t c))
{
    while (at < text.len && is(text.ptr[at])) {
        at++;
    }
    return at;
}

/* Digits, a point, digits: at least one digit in all. 0 when it is not there. */
static size_t skip_mantissa(struct slice text, size_t at, bool (*is)(uint8_t c))
{
    size_t whole = skip(text, at, is);
    size_t digits = whole - at;

    at = whole;
    if (at < text.len && text.ptr[at] == '.') {
        size_t end = skip(text, at + 1, is);
        digits += end - (at + 1);
        at = end;
    }
    return digits == 0 ? 0 : at;
}

/* e or p, sign, digits. 0 when it is not there. */
static size_t skip_exponent(struct slice text, size_t at, uint8_t letter)
{
    size_t end;

    if (at >= text.len || (text.ptr[at] | 0x20) != letter) {
        return 0;
    }
    at++;
    if (at < text.len && (text.ptr[at] == '+' || text.ptr[at] == '-')) {
        at++;
    }
    end = skip(text, at, is_digit);
    return end == at ? 0 : end;
}

/* Length of the number without the d or f behind it, 0 when Java would not take it. */
static size_t number_len(struct slice text)
{
    size_t at = text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+') ? 1 : 0;
    size_t end;

    if (text.len - at > 2 && text.ptr[at] == '0' && (text.ptr[at + 1] | 0x20) == 'x') {
        end = skip_mantissa(text, at + 2, is_hex);
        end = end == 0 ? 0 : skip_exponent(text, end, 'p');
    } else {
        end = skip_mantissa(text, at, is_digit);
        if (end != 0) {
            size_t exponent = skip_exponent(text, end, 'e');
            end = exponent != 0 ? exponent : end;
        }
    }
    if (end != 0 && end + 1 == text.len) {
        uint8_t last = text.ptr[end] | 0x20;
        return last == 'd' || last == 'f' ? end : 0;
    }
    return end == text.len ? end : 0;
}

/* Far beyond what a double and SQL_NUMBER_LEN_MAX digits can tell apart from infinity or 0. */
#define EXPONENT_MAX 100000

static int64_t exponent_of(struct slice text)
{
    int64_t exponent;

    if (!sql_read_int(text, &exponent)) {
        exponent = text.ptr[0] == '-' ? -EXPONENT_MAX : EXPONENT_MAX;
    }
    if (exponent < -EXPONENT_MAX) {
        return -EXPONENT_MAX;
    }
    return exponent > EXPONENT_MAX ? EXPONENT_MAX : exponent;
}

/*
 * The value of a number whose grammar is right. The point is taken out and the exponent lowered
 * instead: which character strtod takes for a point is a matter of the process's locale.
 */
static double number_of(struct slice text)
{
    char copy[SQL_NUMBER_LEN_MAX + 16];
    bool is_hexadecimal =
        memchr(text.ptr, 'x', text.len) != NULL || memchr(text.ptr, 'X', text.len) != NULL;
    char letter = is_hexadecimal ? 'p' : 'e';
    bool is_fraction = false;
    int64_t exponent = 0;
    size_t len = 0;
    size_t at;

    CHECK(text.len <= SQL_NUMBER_LEN_MAX);
    for (at = 0; at < text.len && (text.ptr[at] | 0x20) != letter; at++) {
        if (text.ptr[at] == '.') {
            is_fraction = true;
        } else {
            copy[len++] = (char)text.ptr[at];
            exponent -= is_fraction ? (is_hexadecimal ? 4 : 1) : 0;
        }
    }
    if (at < text.len) {
        exponent += exponent_of(slice_of(text.ptr + at + 1, text.len - at - 1));
    }
    (void)snprintf(copy + len, sizeof copy - len, "%c%" PRId64, letter, exponent);
    return strtod(copy, NULL);
}

bool sql_read_double(struct slice text, double *out)
{
    struct slice bare;
    size_t len;

    text = trim(text);
    bare = text;
    if (bare.len > 0 && (bare.ptr[0] == '-' || bare.ptr[0] == '+')) {
        bare = slice_of(bare.ptr + 1, bare.len - 1);
    }
    if (slice_eq_str(bare, "NaN")) {
        *out = __builtin_nan("");
        return true;
    }
    if (slice_eq_str(bare, "Infinity")) {
        *out = text.ptr[0] == '-' ? -__builtin_inf() : __builtin_inf();
        return true;
    }
    len = text.len > SQL_NUMBER_LEN_MAX ? 0 : number_len(text);
    if (len == 0) {
        return false;
    }
    *out = number_of(slice_of(text.ptr, len));
    return true;
}

bool sql_read_bool(struct slice text)
{
    static const char word[] = "true";

    if (text.len != sizeof word - 1) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != word[i]) {
            return false;
        }
    }
    return true;
}

/* ---- order ---- */

static int sign_of(bool is_less, bool is_more)
{
    return is_less ? -1 : (is_more ? 1 : 0);
}

int sql_compare_double(double a, double b)
{
    if (a < b || a > b) {
        return a < b ? -1 : 1;
    }
    if (__builtin_isnan(a) || __builtin_isnan(b)) {
        return (__builtin_isnan(a) ? 1 : 0) - (__builtin_isnan(b) ? 1 : 0);
    }
    return (__builtin_signbit(b) ? 1 : 0) - (__builtin_signbit(a) ? 1 : 0);
}

static int compare_text(struct slice a, struct slice b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);

    return order != 0 ? order : sign_of(a.len<b.len, a.len> b.len);
}

static bool is_whole(const struct sql_value *value)
{
    return value->type == SQL_TYPE_INT || value->type == SQL_TYPE_LONG;
}

/* Make a text what the other side is. false: it is not such a number. */
static bool convert(struct sql_value *text, enum sql_type type)
{
    struct slice from = text->text;
    bool is_good = true;

    switch (type) {
    case SQL_TYPE_BOOL:
        text->truth = sql_read_bool(from);
        break;
    case SQL_TYPE_INT:
        is_good = sql_read_int(from, &text->whole);
        break;
    case SQL_TYPE_LONG:
        is_good = sql_read_long(from, &text->whole);
        break;
    case SQL_TYPE_DOUBLE:
        is_good = sql_read_double(from, &text->real);
        break;
    case SQL_TYPE_NULL:
    case SQL_TYPE_TEXT:
        return true;
    }
    text->type = type;
    return is_good;
}

static double as_double(const struct sql_value *value)
{
    return value->type == SQL_TYPE_DOUBLE ? value->real : (double)value->whole;
}

bool sql_compare(const struct sql_value *a, const struct sql_value *b, int *order)
{
    struct sql_value left = *a;
    struct sql_value right = *b;

    CHECK(a->type != SQL_TYPE_NULL);
    CHECK(b->type != SQL_TYPE_NULL);
    if (left.type == SQL_TYPE_TEXT && !convert(&left, right.type)) {
        return false;
    }
    if (right.type == SQL_TYPE_TEXT && !convert(&right, left.type)) {
        return false;
    }
    if (left.type == SQL_TYPE_TEXT) {
        *order = compare_text(left.text, right.text);
    } else if (left.type == SQL_TYPE_BOOL || right.type == SQL_TYPE_BOOL) {
        *order = left.type != right.type ? -1 : (int)left.truth - (int)right.truth;
    } else if (is_whole(&left) && is_whole(&right)) {
        *order = sign_of(left.whole<right.whole, left.whole> right.whole);
    } else {
        *order = sql_compare_double(as_double(&left), as_double(&right));
    }
    return true;
}
