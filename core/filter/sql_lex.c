/*
 * The longest word that fits is the token, as in RocketMQ's generated lexer: "5.5" is one number,
 * "<=" one sign, "notable" a name. "--" begins a comment only if its line ends (otherwise it is two
 * signs), "/" only as a comment.
 */
#include "core/filter/sql_lex.h"

#include <stdio.h>

struct word {
    const char *text;
    enum sql_token_kind kind;
};

static const struct word keywords[] = {
#define X(word) {#word, SQL_TOKEN_##word},
    SQL_KEYWORDS(X)
#undef X
};

static const struct word signs[] = {
    /* two characters before one */
    {"<>", SQL_TOKEN_NE},   {"<=", SQL_TOKEN_LE},  {">=", SQL_TOKEN_GE},   {"=", SQL_TOKEN_EQ},
    {"<", SQL_TOKEN_LT},    {">", SQL_TOKEN_GT},   {"(", SQL_TOKEN_OPEN},  {")", SQL_TOKEN_CLOSE},
    {",", SQL_TOKEN_COMMA}, {"+", SQL_TOKEN_PLUS}, {"-", SQL_TOKEN_MINUS},
};

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

size_t sql_column(struct slice text, size_t at)
{
    size_t column = 1;

    for (size_t i = 0; i < at && i < text.len; i++) {
        column += (text.ptr[i] & 0xC0) != 0x80 ? 1 : 0;
    }
    return column;
}

static int lex_fail(const struct sql_lexer *lex, size_t at, const char *what, struct err_ctx *err)
{
    return err_set(err, ESCROW_EINVAL, "column %zu: %s", sql_column(lex->text, at), what);
}

/* The byte at `at`, 0 behind the end. */
static uint8_t peek(const struct sql_lexer *lex, size_t at)
{
    return at < lex->text.len ? lex->text.ptr[at] : 0;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(uint8_t c)
{
    uint8_t low = c | 0x20;

    return (low >= 'a' && low <= 'z') || c == '_' || c == '$';
}

/* ---- what is between tokens ---- */

/* End of a comment that begins at lex->at; lex->at itself when none does. */
static size_t comment_end(const struct sql_lexer *lex)
{
    const uint8_t *text = lex->text.ptr;
    size_t at = lex->at + 2;

    if (peek(lex, lex->at) == '-' && peek(lex, lex->at + 1) == '-') {
        for (; at < lex->text.len; at++) {
            if (text[at] == '\n' || text[at] == '\r') {
                return at + 1;
            }
        }
    } else if (peek(lex, lex->at) == '/' && peek(lex, lex->at + 1) == '*') {
        for (; at + 1 < lex->text.len; at++) {
            if (text[at] == '*' && text[at + 1] == '/') {
                return at + 2;
            }
        }
    }
    return lex->at;
}

static void skip_blanks(struct sql_lexer *lex)
{
    while (lex->at < lex->text.len) {
        uint8_t c = lex->text.ptr[lex->at];
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f') {
            lex->at++;
        } else {
            size_t end = comment_end(lex);
            if (end == lex->at) {
                return;
            }
            lex->at = end;
        }
    }
}

/* ---- tokens ---- */

static bool word_matches(struct slice text, const char *word)
{
    size_t len = strlen(word);

    if (text.len != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        uint8_t c = text.ptr[i];
        if ((c >= 'a' && c <= 'z' ? c - 32 : c) != word[i]) {
            return false;
        }
    }
    return true;
}

static void lex_name(struct sql_lexer *lex, struct sql_token *token)
{
    size_t at = token->at;

    while (is_name_start(peek(lex, at)) || is_digit(peek(lex, at))) {
        at++;
    }
    token->kind = SQL_TOKEN_NAME;
    token->text = slice_of(lex->text.ptr + token->at, at - token->at);
    for (size_t i = 0; i < COUNT_OF(keywords); i++) {
        if (word_matches(token->text, keywords[i].text)) {
            token->kind = keywords[i].kind;
        }
    }
    lex->at = at;
}

static int lex_string(struct sql_lexer *lex, struct sql_token *token, struct err_ctx *err)
{
    size_t at = token->at + 1;

    for (;;) {
        const uint8_t *quote =
            at >= lex->text.len ? NULL : memchr(lex->text.ptr + at, '\'', lex->text.len - at);
        if (quote == NULL) {
            return lex_fail(lex, token->at, "the string does not end", err);
        }
        at = (size_t)(quote - lex->text.ptr) + 1;
        if (peek(lex, at) != '\'') {
            break;
        }
        at++;
    }
    token->kind = SQL_TOKEN_STRING;
    token->text = slice_of(lex->text.ptr + token->at, at - token->at);
    lex->at = at;
    return 0;
}

static size_t digits_end(const struct sql_lexer *lex, size_t at)
{
    while (is_digit(peek(lex, at))) {
        at++;
    }
    return at;
}

static void lex_number(struct sql_lexer *lex, struct sql_token *token)
{
    size_t whole = digits_end(lex, token->at);
    size_t end = whole;
    size_t exponent;

    if (peek(lex, end) == '.') {
        end = digits_end(lex, end + 1);
    }
    if ((peek(lex, end) | 0x20) == 'e') {
        exponent = end + 1 + (peek(lex, end + 1) == '+' || peek(lex, end + 1) == '-' ? 1 : 0);
        if (is_digit(peek(lex, exponent))) {
            end = digits_end(lex, exponent);
        }
    }
    token->kind = end == whole ? SQL_TOKEN_LONG : SQL_TOKEN_DOUBLE;
    if (end == whole && peek(lex, token->at) == '0') {
        end = token->at + 1; /* no whole number begins with 0: the rest is not of it */
    }
    token->text = slice_of(lex->text.ptr + token->at, end - token->at);
    lex->at = end;
    if (token->kind == SQL_TOKEN_LONG && lex->text.ptr[token->at] != '0' &&
        (peek(lex, end) | 0x20) == 'l') {
        lex->at++;
    }
}

static bool lex_sign(struct sql_lexer *lex, struct sql_token *token)
{
    struct slice rest = slice_of(lex->text.ptr + token->at, lex->text.len - token->at);

    for (size_t i = 0; i < COUNT_OF(signs); i++) {
        struct slice sign = slice_str(signs[i].text);
        if (slice_has_prefix(rest, sign)) {
            token->kind = signs[i].kind;
            token->text = slice_of(rest.ptr, sign.len);
            lex->at = token->at + sign.len;
            return true;
        }
    }
    return false;
}

int sql_lex_next(struct sql_lexer *lex, struct sql_token *token, struct err_ctx *err)
{
    char what[64];
    uint8_t c;

    skip_blanks(lex);
    *token = (struct sql_token){.kind = SQL_TOKEN_END, .at = lex->at};
    if (lex->at == lex->text.len) {
        return 0;
    }
    c = lex->text.ptr[lex->at];
    if (is_name_start(c)) {
        lex_name(lex, token);
        return 0;
    }
    if (c == '\'') {
        return lex_string(lex, token, err);
    }
    if (is_digit(c) || (c == '.' && is_digit(peek(lex, lex->at + 1)))) {
        lex_number(lex, token);
        return 0;
    }
    if (lex_sign(lex, token)) {
        return 0;
    }
    if (c == '/' && peek(lex, lex->at + 1) == '*') {
        return lex_fail(lex, lex->at, "the comment does not end", err);
    }
    if (c > ' ' && c < 0x7F) {
        (void)snprintf(what, sizeof what, "'%c' has no meaning here", c);
    } else {
        (void)snprintf(what, sizeof what, "byte 0x%02x has no meaning outside a string", c);
    }
    return lex_fail(lex, lex->at, what, err);
}

const char *sql_token_name(const struct sql_token *token, char *dst, size_t size)
{
    int len = token->text.len > 32 ? 32 : (int)token->text.len;

    if (token->kind == SQL_TOKEN_END) {
        (void)snprintf(dst, size, "the end");
    } else if (token->kind == SQL_TOKEN_STRING) {
        (void)snprintf(dst, size, "a string");
    } else {
        (void)snprintf(dst, size, "'%.*s'", len, (const char *)token->text.ptr);
    }
    return dst;
}
