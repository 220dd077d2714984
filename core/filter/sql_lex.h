/*
 * Words of a SQL92 expression. Every token remembers where it began, so that an error can say it.
 *
 * Owns:    nothing: tokens are slices of the text.
 * Thread:  any. Pure: no allocation.
 */
#ifndef CORE_FILTER_SQL_LEX_H
#define CORE_FILTER_SQL_LEX_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/base/slice.h"

#include <stddef.h>
#include <stdint.h>

/* X(identifier, word): reserved in any mixture of cases. LIKE is not, but must not pass either. */
#define SQL_KEYWORDS(X)                                                                            \
    X(NOT)                                                                                         \
    X(AND)                                                                                         \
    X(OR)                                                                                          \
    X(BETWEEN)                                                                                     \
    X(IN)                                                                                          \
    X(TRUE)                                                                                        \
    X(FALSE)                                                                                       \
    X(NULL)                                                                                        \
    X(IS)                                                                                          \
    X(CONTAINS)                                                                                    \
    X(STARTSWITH)                                                                                  \
    X(ENDSWITH)

enum sql_token_kind {
    SQL_TOKEN_END,
    SQL_TOKEN_NAME,   /* of a property */
    SQL_TOKEN_STRING, /* with its quotes, '' not yet one */
    SQL_TOKEN_LONG,   /* digits; an L behind them is cut off */
    SQL_TOKEN_DOUBLE, /* 5.5 5. .5 5E10 */
    SQL_TOKEN_EQ,
    SQL_TOKEN_NE,
    SQL_TOKEN_LT,
    SQL_TOKEN_LE,
    SQL_TOKEN_GT,
    SQL_TOKEN_GE,
    SQL_TOKEN_OPEN,
    SQL_TOKEN_CLOSE,
    SQL_TOKEN_COMMA,
    SQL_TOKEN_PLUS,
    SQL_TOKEN_MINUS,
#define X(word) SQL_TOKEN_##word,
    SQL_KEYWORDS(X)
#undef X
};

struct sql_token {
    enum sql_token_kind kind;
    struct slice text; /* empty at the end */
    size_t at;         /* bytes before it */
};

struct sql_lexer {
    struct slice text;
    size_t at;
};

/* The next token. 0, or ESCROW_EINVAL with err: no token begins here, or it does not end. */
ESCROW_MUST_USE int sql_lex_next(struct sql_lexer *lex, struct sql_token *token,
                                 struct err_ctx *err);

/* Column of a byte, in characters from 1: continuation bytes of UTF-8 do not count. */
size_t sql_column(struct slice text, size_t at);

/* How a message names the token: "'='", "name 'price'", "a string", "the end". Cut to size. */
const char *sql_token_name(const struct sql_token *token, char *dst, size_t size);

#endif
