/*
 * One pass over the property string finds the values of all names; then the operations run over a
 * small stack. Both sides of AND and OR are skipped as Java skips them, so that a comparison which
 * fails matters only where RocketMQ would have come to it.
 *
 * Failures: a text that is not the number it is compared with ends the evaluation: SQL_ERROR, no
 * match, whatever else the expression says. RocketMQ's filter throws there and drops the message.
 */
#include "core/base/check.h"
#include "core/filter/sql_program.h"
#include "core/proto/properties.h"

#define COST_FIXED 64u /* a message costs something even when it has no properties */

struct run {
    const struct sql_program *program;
    struct slice values[SQL_NAMES_MAX]; /* empty: the message has none, for a value is not empty */
    uint32_t depth;
    struct sql_value stack[SQL_STACK_MAX];
};

static void find_values(struct run *run, struct slice properties)
{
    const struct sql_program *p = run->program;
    struct props_iter iter = props_begin(properties);
    struct slice name;
    struct slice value;

    memset(run->values, 0, p->name_count * sizeof run->values[0]);
    while (p->name_count > 0 && props_next(&iter, &name, &value)) {
        uint32_t slot;
        if (name.len > p->name_len_max) {
            continue;
        }
        for (slot = sql_name_hash(name); p->slots[slot] != 0; slot = (slot + 1) % SQL_SLOTS) {
            uint32_t index = p->slots[slot] - 1u;
            if (slice_eq(p->names[index], name)) {
                run->values[index] = value; /* of equal names the last counts */
                break;
            }
        }
    }
}

static void push(struct run *run, struct sql_value value)
{
    CHECK(run->depth < SQL_STACK_MAX);
    run->stack[run->depth++] = value;
}

static struct sql_value pop(struct run *run)
{
    CHECK(run->depth > 0);
    return run->stack[--run->depth];
}

static void push_truth(struct run *run, bool truth)
{
    push(run, (struct sql_value){.type = SQL_TYPE_BOOL, .truth = truth});
}

static void push_null(struct run *run)
{
    push(run, (struct sql_value){.type = SQL_TYPE_NULL});
}

static bool is_truth(const struct sql_value *value, bool truth)
{
    return value->type == SQL_TYPE_BOOL && value->truth == truth;
}

/* ---- operations ---- */

static void run_name(struct run *run, uint16_t index)
{
    if (run->values[index].len == 0) {
        push_null(run);
    } else {
        push(run, (struct sql_value){.type = SQL_TYPE_TEXT, .text = run->values[index]});
    }
}

/* A property alone is text, and a text is not TRUE; without the property it is NULL. */
static void run_cast(struct run *run)
{
    if (pop(run).type == SQL_TYPE_NULL) {
        push_null(run);
    } else {
        push_truth(run, false);
    }
}

static void run_not(struct run *run)
{
    struct sql_value value = pop(run);

    if (value.type == SQL_TYPE_NULL) {
        push_null(run);
    } else {
        CHECK(value.type == SQL_TYPE_BOOL);
        push_truth(run, !value.truth);
    }
}

/* The left side is not `winner`, or its jump would have been taken. */
static void run_join(struct run *run, bool winner)
{
    struct sql_value right = pop(run);
    struct sql_value left = pop(run);

    if (is_truth(&right, winner)) {
        push_truth(run, winner);
    } else if (left.type == SQL_TYPE_NULL || right.type == SQL_TYPE_NULL) {
        push_null(run);
    } else {
        push_truth(run, !winner);
    }
}

/* false: an exception. NULL = NULL is TRUE, NULL = x is NULL, but x = NULL is FALSE. */
static bool run_equal(struct run *run)
{
    struct sql_value right = pop(run);
    struct sql_value left = pop(run);
    int order;

    if (left.type == SQL_TYPE_NULL && right.type != SQL_TYPE_NULL) {
        push_null(run);
        return true;
    }
    if (right.type == SQL_TYPE_NULL) {
        push_truth(run, left.type == SQL_TYPE_NULL);
        return true;
    }
    if (!sql_compare(&left, &right, &order)) {
        return false;
    }
    push_truth(run, order == 0);
    return true;
}

static bool answers(enum sql_op_code code, int order)
{
    switch (code) {
    case SQL_OP_LT:
        return order < 0;
    case SQL_OP_LE:
        return order <= 0;
    case SQL_OP_GT:
        return order > 0;
    case SQL_OP_GE:
        return order >= 0;
    case SQL_OP_NAME:
    case SQL_OP_CONST:
    case SQL_OP_CAST:
    case SQL_OP_NOT:
    case SQL_OP_AND:
    case SQL_OP_OR:
    case SQL_OP_JUMP_FALSE:
    case SQL_OP_JUMP_TRUE:
    case SQL_OP_EQ:
    case SQL_OP_IN:
    case SQL_OP_CONTAINS:
    case SQL_OP_STARTS:
    case SQL_OP_ENDS:
        break;
    }
    UNREACHABLE("not an order");
}

/* Two properties are compared as numbers. false: an exception. */
static bool run_order(struct run *run, enum sql_op_code code)
{
    struct sql_value right = pop(run);
    struct sql_value left = pop(run);
    double a;
    double b;
    int order;

    if (left.type == SQL_TYPE_NULL || right.type == SQL_TYPE_NULL) {
        push_null(run);
        return true;
    }
    if (left.type == SQL_TYPE_TEXT && right.type == SQL_TYPE_TEXT) {
        if (!sql_read_double(left.text, &a) || !sql_read_double(right.text, &b)) {
            return false;
        }
        order = sql_compare_double(a, b);
    } else if (!sql_compare(&left, &right, &order)) {
        return false;
    }
    push_truth(run, answers(code, order));
    return true;
}

static void run_in(struct run *run, const struct sql_op *op)
{
    struct sql_value value = pop(run);
    bool is_in = false;

    if (value.type == SQL_TYPE_NULL) {
        push_null(run);
        return;
    }
    CHECK(value.type == SQL_TYPE_TEXT);
    for (uint32_t i = op->a; i < (uint32_t)op->a + op->b && !is_in; i++) {
        is_in = slice_eq(value.text, run->program->consts[i].text);
    }
    push_truth(run, is_in != op->is_not);
}

/* What is not a text, and the empty text, is never found, and never "not found" either. */
static void run_search(struct run *run, const struct sql_op *op)
{
    struct sql_value value = pop(run);
    struct slice want = run->program->consts[op->a].text;
    struct slice text = value.text;
    bool is_found = false;

    if (value.type != SQL_TYPE_TEXT || want.len == 0) {
        push_truth(run, false);
        return;
    }
    if (text.len >= want.len) {
        if (op->code == SQL_OP_CONTAINS) {
            is_found = memmem(text.ptr, text.len, want.ptr, want.len) != NULL;
        } else {
            size_t at = op->code == SQL_OP_STARTS ? 0 : text.len - want.len;
            is_found = memcmp(text.ptr + at, want.ptr, want.len) == 0;
        }
    }
    push_truth(run, is_found != op->is_not);
}

/* Run one operation; *at is the next one. false: an exception. */
static bool run_op(struct run *run, const struct sql_op *op, uint32_t *at)
{
    switch ((enum sql_op_code)op->code) {
    case SQL_OP_NAME:
        run_name(run, op->a);
        return true;
    case SQL_OP_CONST:
        push(run, run->program->consts[op->a]);
        return true;
    case SQL_OP_CAST:
        run_cast(run);
        return true;
    case SQL_OP_NOT:
        run_not(run);
        return true;
    case SQL_OP_AND:
        run_join(run, false);
        return true;
    case SQL_OP_OR:
        run_join(run, true);
        return true;
    case SQL_OP_JUMP_FALSE:
    case SQL_OP_JUMP_TRUE:
        CHECK(run->depth > 0);
        if (is_truth(&run->stack[run->depth - 1], op->code == SQL_OP_JUMP_TRUE)) {
            *at = op->a;
        }
        return true;
    case SQL_OP_EQ:
        return run_equal(run);
    case SQL_OP_LT:
    case SQL_OP_LE:
    case SQL_OP_GT:
    case SQL_OP_GE:
        return run_order(run, (enum sql_op_code)op->code);
    case SQL_OP_IN:
        run_in(run, op);
        return true;
    case SQL_OP_CONTAINS:
    case SQL_OP_STARTS:
    case SQL_OP_ENDS:
        run_search(run, op);
        return true;
    }
    UNREACHABLE("every operation is handled");
}

enum sql_truth sql_eval(const struct sql_program *program, struct slice properties)
{
    ESCROW_UNINITIALIZED struct run run;
    uint32_t at = 0;

    run.program = program;
    run.depth = 0;
    find_values(&run, properties);
    while (at < program->op_count) {
        const struct sql_op *op = &program->ops[at++];
        if (!run_op(&run, op, &at)) {
            return SQL_ERROR;
        }
    }
    CHECK(run.depth == 1);
    if (run.stack[0].type == SQL_TYPE_NULL) {
        return SQL_NULL;
    }
    CHECK(run.stack[0].type == SQL_TYPE_BOOL);
    return run.stack[0].truth ? SQL_TRUE : SQL_FALSE;
}

uint64_t sql_cost(const struct sql_program *program, size_t properties_len)
{
    return COST_FIXED + program->op_count + program->const_count +
           ((uint64_t)program->scan_count + 1) * properties_len;
}
