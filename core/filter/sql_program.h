/*
 * A compiled expression: operations for a stack of values, their constants, the names of the
 * properties they read. Between parser and evaluator; nobody else includes it.
 *
 * Owns:    sql_builder: its arrays, until sql_builder_finish has made one block of them.
 * Thread:  whoever owns the struct.
 * Holds:   a jump goes forward; the stack has one value at the end and never more than
 *          SQL_STACK_MAX; each index is below its count. sql_program_check() asserts it.
 */
#ifndef CORE_FILTER_SQL_PROGRAM_H
#define CORE_FILTER_SQL_PROGRAM_H

#include "core/filter/sql.h"
#include "core/filter/sql_value.h"

#include <stddef.h>

/* A term costs at most its push, one comparison and what joins it: cast, NOT, jump, AND. */
#define SQL_OPS_MAX (8u * SQL_TERMS_MAX)
/* Per open parenthesis: the left sides of OR, AND, = and < wait; one is being computed. */
#define SQL_STACK_MAX (4u * (SQL_DEPTH_MAX + 1) + 2)
/* Places of the table that finds a name; a power of 2, at most half full. */
#define SQL_SLOTS 128u

enum sql_op_code {
    SQL_OP_NAME,  /* push the value of name `a`, NULL when the message has none */
    SQL_OP_CONST, /* push constant `a` */
    SQL_OP_CAST,  /* a lone property as condition */
    SQL_OP_NOT,
    SQL_OP_AND, /* pop two, push one; the left one was not FALSE: */
    SQL_OP_OR,
    SQL_OP_JUMP_FALSE, /* to op `a` when the top is FALSE, which stays */
    SQL_OP_JUMP_TRUE,
    SQL_OP_EQ, /* pop two, push a truth */
    SQL_OP_LT,
    SQL_OP_LE,
    SQL_OP_GT,
    SQL_OP_GE,
    SQL_OP_IN,       /* top among constants [a, a + b) */
    SQL_OP_CONTAINS, /* top and constant `a` */
    SQL_OP_STARTS,
    SQL_OP_ENDS,
};

struct sql_op {
    uint8_t code;
    bool is_not; /* IN, CONTAINS, STARTS, ENDS */
    uint16_t a;
    uint16_t b;
};

struct sql_program {
    uint32_t op_count;
    uint32_t const_count;
    uint32_t name_count;
    uint32_t scan_count; /* operations that walk through a value */
    size_t name_len_max;
    const struct sql_op *ops;
    const struct sql_value *consts;
    const struct slice *names;
    uint8_t slots[SQL_SLOTS]; /* name index + 1, by sql_name_hash, then the next free place */
};

static inline uint32_t sql_name_hash(struct slice name)
{
    uint32_t hash = UINT32_C(2166136261);

    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ name.ptr[i]) * UINT32_C(16777619);
    }
    return (hash ^ (hash >> 15)) % SQL_SLOTS;
}

/* Asserts what "Holds" says. */
void sql_program_check(const struct sql_program *program);

/* ---- building ---- */

struct sql_builder {
    uint32_t op_count;
    uint32_t const_count;
    uint32_t name_count;
    size_t text_len;
    struct sql_op ops[SQL_OPS_MAX];
    struct sql_value consts[SQL_TERMS_MAX];
    struct slice names[SQL_NAMES_MAX]; /* of the expression */
    uint8_t text[SQL_TEXT_MAX];        /* texts of constants, quotes undone */
};

/* false: too many. The index of what was added, of an equal name that was there. */
ESCROW_MUST_USE bool sql_builder_op(struct sql_builder *b, struct sql_op op);
ESCROW_MUST_USE bool sql_builder_const(struct sql_builder *b, struct sql_value value,
                                       uint16_t *index);
ESCROW_MUST_USE bool sql_builder_name(struct sql_builder *b, struct slice name, uint16_t *index);

/* Copy a text, making '' one quote; it is a part of the expression, so it always fits. */
struct slice sql_builder_text(struct sql_builder *b, struct slice quoted);

/* One block with everything. NULL when out of memory. */
struct sql_program *sql_builder_finish(const struct sql_builder *b);

#endif
