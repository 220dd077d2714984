/*
 * SQL92 expressions over the properties of a message, as RocketMQ's consumers write them:
 *
 *     color = 'blue' AND (price BETWEEN 10 AND 20.5 OR vip IS NOT NULL) AND name STARTSWITH 'a'
 *
 * Compiled once into a flat program (sql_program.h), evaluated against the raw property string of a
 * message. README.md has the language, what its values do, and where it differs from RocketMQ's.
 *
 * Owns:    a program owns its constants and names: one block of memory.
 * Thread:  any; a program never changes.
 * Pure:    evaluation allocates nothing, and its time is bounded by sql_cost.
 */
#ifndef CORE_FILTER_SQL_H
#define CORE_FILTER_SQL_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/base/slice.h"

#include <stdint.h>

/* Bounds of one expression, each with an error of its own. */
#define SQL_TEXT_MAX  8192u /* bytes; the longest seen in practice have a few hundred */
#define SQL_DEPTH_MAX 64u   /* open parentheses and signs; parsing recurses */
#define SQL_TERMS_MAX 1024u /* constants, elements of IN lists counted one by one */
#define SQL_NAMES_MAX 64u   /* different properties */

/* A condition's outcome. ERROR: a comparison that RocketMQ ends with an exception. */
enum sql_truth {
    SQL_FALSE,
    SQL_TRUE,
    SQL_NULL,
    SQL_ERROR,
};

struct sql_program;

/*
 * 0, and the caller owns *out (sql_free). ESCROW_EINVAL, ESCROW_ELIMIT with err "column N: ...", N
 * counted in characters from 1; ESCROW_ENOMEM. On an error *out is NULL.
 */
ESCROW_MUST_USE int sql_compile(struct slice text, struct sql_program **out, struct err_ctx *err);

void sql_free(struct sql_program **program); /* sets it NULL; NULL inside is fine */

/* What the expression says of a message with these properties. Only SQL_TRUE is a match. */
enum sql_truth sql_eval(const struct sql_program *program, struct slice properties);

/* Bytes that sql_eval looks at, at most, for properties of this length. */
uint64_t sql_cost(const struct sql_program *program, size_t properties_len);

#endif
