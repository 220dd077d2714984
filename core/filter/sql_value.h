/*
 * Values of an expression while it runs, and Java's rules for comparing them and for reading
 * numbers from text: what RocketMQ's filter does, it does through java.lang.Integer, Long, Double,
 * Boolean.
 *
 * Owns:    nothing: texts are borrowed.
 * Thread:  any. Pure: no allocation.
 */
#ifndef CORE_FILTER_SQL_VALUE_H
#define CORE_FILTER_SQL_VALUE_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum sql_type {
    SQL_TYPE_NULL,
    SQL_TYPE_BOOL,
    SQL_TYPE_INT,  /* a literal within 32 bits: a property beside it must be one, too */
    SQL_TYPE_LONG, /* any other whole literal */
    SQL_TYPE_DOUBLE,
    SQL_TYPE_TEXT, /* every property is one */
};

struct sql_value {
    enum sql_type type;
    union {
        bool truth;
        int64_t whole; /* INT and LONG */
        double real;
        struct slice text;
    };
};

/* Characters of a number with fraction or exponent in a property; a longer one is no number. */
#define SQL_NUMBER_LEN_MAX 512u

/* Integer.valueOf, Long.valueOf: a sign, then digits, nothing else. false: Java would throw. */
bool sql_read_int(struct slice text, int64_t *out);
bool sql_read_long(struct slice text, int64_t *out);

/*
 * Double.valueOf: blanks around it, sign, decimal or hexadecimal, exponent, d or f behind it, NaN,
 * Infinity. Too big is infinite, too small is 0. Whatever the process's locale is.
 */
bool sql_read_double(struct slice text, double *out);

/* Boolean.valueOf: "true" in any mixture of cases; everything else is false. */
bool sql_read_bool(struct slice text);

/* Double.compareTo: NaN is equal to itself and above everything, -0.0 below 0.0. */
int sql_compare_double(double a, double b);

/*
 * Order of two values that are not NULL: *order is negative, 0 or positive, and -1 where two types
 * have none. false: a text is not the number that the other side calls for.
 */
ESCROW_MUST_USE bool sql_compare(const struct sql_value *a, const struct sql_value *b, int *order);

#endif
