/*
 * Recursive descent, one function per level of the grammar, weakest first:
 *
 *     or         and { OR and }
 *     and        equality { AND equality }
 *     equality   comparison { = comparison | <> comparison | IS [NOT] NULL }
 *     comparison unary { < unary | <= unary | > unary | >= unary | [NOT] BETWEEN unary AND unary
 *                | [NOT] IN ( string {, string} ) | [NOT] CONTAINS|STARTSWITH|ENDSWITH string }
 *     unary      + unary | - unary | NOT unary | primary
 *     primary    string | number | TRUE | FALSE | NULL | name | ( or )
 *
 * It is RocketMQ's grammar, which is ActiveMQ's: NOT binds tighter than a comparison. Each function
 * emits the operations of what it reads and says what kind of thing that was; the kind decides
 * which comparisons are refused here, as RocketMQ's constructors do. Operands of an order are never
 * conditions, so each of them is one push: BETWEEN can repeat its left side.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/filter/sql_lex.h"
#include "core/filter/sql_program.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum expr_kind {
    EXPR_CONST,     /* a literal: its value is known and is checked */
    EXPR_VALUE,     /* a literal with a sign: not checked, as in RocketMQ */
    EXPR_NAME,      /* a property */
    EXPR_CONDITION, /* TRUE, FALSE or NULL when it runs */
};

/* What was just emitted. Of the first three kinds it is the last operation, a push. */
struct expr {
    enum expr_kind kind;
    size_t at; /* where it began, for messages */
};

struct parser {
    struct sql_lexer lex;
    struct sql_token token; /* the next one, not yet taken */
    struct sql_token after; /* and the one behind it */
    uint32_t depth;
    struct sql_builder *builder;
    struct err_ctx *err;
};

static int parse_or(struct parser *p, struct expr *out);
static int parse_unary(struct parser *p, struct expr *out);

/* ---- errors, tokens ---- */

static int fail(struct parser *p, int code, size_t at, const char *fmt, ...) ESCROW_PRINTF(4, 5);

static int fail(struct parser *p, int code, size_t at, const char *fmt, ...)
{
    char what[200];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    (void)err_set(p->err, code, "column %zu: %s", sql_column(p->lex.text, at), what);
    return code;
}

static int fail_expected(struct parser *p, const char *what)
{
    char found[64];

    if (p->token.kind == SQL_TOKEN_NAME && p->token.text.len == 4 &&
        strncasecmp((const char *)p->token.text.ptr, "LIKE", 4) == 0) {
        return fail(p, ESCROW_EINVAL, p->token.at,
                    "LIKE is not supported; use CONTAINS, STARTSWITH or ENDSWITH");
    }
    return fail(p, ESCROW_EINVAL, p->token.at, "expected %s, found %s", what,
                sql_token_name(&p->token, found, sizeof found));
}

static int advance(struct parser *p)
{
    p->token = p->after;
    return sql_lex_next(&p->lex, &p->after, p->err);
}

/* Take the next token, which must be of this kind. */
static int expect(struct parser *p, enum sql_token_kind kind, const char *what)
{
    return p->token.kind == kind ? advance(p) : fail_expected(p, what);
}

/* ---- emitting ---- */

static int emit(struct parser *p, struct sql_op op)
{
    if (!sql_builder_op(p->builder, op)) {
        return fail(p, ESCROW_ELIMIT, p->token.at, "the expression has too many terms");
    }
    return 0;
}

static int emit_code(struct parser *p, enum sql_op_code code)
{
    return emit(p, (struct sql_op){.code = (uint8_t)code});
}

static int add_const(struct parser *p, struct sql_value value, uint16_t *index)
{
    if (!sql_builder_const(p->builder, value, index)) {
        return fail(p, ESCROW_ELIMIT, p->token.at, "the expression has more than %u constants",
                    SQL_TERMS_MAX);
    }
    return 0;
}

static int emit_const(struct parser *p, struct sql_value value)
{
    struct sql_op op = {.code = SQL_OP_CONST};
    int rc = add_const(p, value, &op.a);

    return rc != 0 ? rc : emit(p, op);
}

/* The push that is the whole of a CONST, VALUE or NAME. */
static struct sql_op *last_op(struct parser *p)
{
    CHECK(p->builder->op_count > 0);
    return &p->builder->ops[p->builder->op_count - 1];
}

static struct sql_value *value_of(struct parser *p, const struct sql_op *op)
{
    CHECK(op->code == SQL_OP_CONST);
    return &p->builder->consts[op->a];
}

/* A jump whose target is not known yet; its place is *at. */
static int emit_jump(struct parser *p, enum sql_op_code code, uint32_t *at)
{
    *at = p->builder->op_count;
    return emit_code(p, code);
}

/* AND or OR, and its jump leads behind it. */
static int emit_join(struct parser *p, enum sql_op_code code, uint32_t jump)
{
    int rc = emit_code(p, code);

    if (rc == 0) {
        p->builder->ops[jump].a = (uint16_t)p->builder->op_count;
    }
    return rc;
}

/* ---- what may stand where ---- */

/* Make a condition of what was just emitted. */
static int as_condition(struct parser *p, struct expr *expr)
{
    struct sql_value *value;

    switch (expr->kind) {
    case EXPR_CONDITION:
        return 0;
    case EXPR_NAME:
        expr->kind = EXPR_CONDITION;
        return emit_code(p, SQL_OP_CAST);
    case EXPR_CONST:
        value = value_of(p, last_op(p));
        if (value->type == SQL_TYPE_BOOL || value->type == SQL_TYPE_NULL) {
            expr->kind = EXPR_CONDITION;
            return 0;
        }
        break;
    case EXPR_VALUE:
        break;
    }
    return fail(p, ESCROW_EINVAL, expr->at, "expected a condition, found a value");
}

/* May this be compared by < <= > >= BETWEEN? */
static int check_ordered(struct parser *p, const struct expr *expr)
{
    const struct sql_value *value;

    if (expr->kind == EXPR_CONDITION) {
        return fail(p, ESCROW_EINVAL, expr->at,
                    "a condition has no order; only numbers and properties do");
    }
    if (expr->kind != EXPR_CONST) {
        return 0;
    }
    value = value_of(p, last_op(p));
    if (value->type == SQL_TYPE_INT || value->type == SQL_TYPE_LONG ||
        value->type == SQL_TYPE_DOUBLE) {
        return 0;
    }
    return fail(p, ESCROW_EINVAL, expr->at, "%s has no order; only numbers and properties do",
                value->type == SQL_TYPE_TEXT   ? "a string"
                : value->type == SQL_TYPE_NULL ? "NULL"
                                               : "TRUE or FALSE");
}

static int check_equal(struct parser *p, const struct expr *expr)
{
    if (expr->kind == EXPR_CONST && value_of(p, last_op(p))->type == SQL_TYPE_NULL) {
        return fail(p, ESCROW_EINVAL, expr->at, "NULL is compared with IS NULL and IS NOT NULL");
    }
    return 0;
}

static bool is_truth_constant(struct parser *p, const struct expr *expr)
{
    return expr->kind == EXPR_CONST && value_of(p, last_op(p))->type == SQL_TYPE_BOOL;
}

/* ---- primary and unary ---- */

static int parse_number(struct parser *p)
{
    struct slice text = p->token.text;
    struct sql_value value = {.type = SQL_TYPE_LONG};

    if (p->token.kind == SQL_TOKEN_DOUBLE) {
        bool is_zero = true;
        value.type = SQL_TYPE_DOUBLE;
        if (text.len > SQL_NUMBER_LEN_MAX || !sql_read_double(text, &value.real)) {
            return fail(p, ESCROW_ELIMIT, p->token.at, "the number has more than %u characters",
                        SQL_NUMBER_LEN_MAX);
        }
        for (size_t i = 0; i < text.len && (text.ptr[i] | 0x20) != 'e'; i++) {
            is_zero = is_zero && (text.ptr[i] == '0' || text.ptr[i] == '.');
        }
        if (__builtin_isinf(value.real) || (value.real == 0 && !is_zero)) {
            return fail(p, ESCROW_EINVAL, p->token.at, "the number is too %s for a double",
                        value.real == 0 ? "small" : "big");
        }
    } else if (!sql_read_long(text, &value.whole)) {
        return fail(p, ESCROW_EINVAL, p->token.at,
                    "the number is too big for 64 bits; with a fraction it would be a double");
    } else if (value.whole <= INT32_MAX) {
        value.type = SQL_TYPE_INT;
    }
    return emit_const(p, value);
}

static int parse_name(struct parser *p)
{
    struct sql_op op = {.code = SQL_OP_NAME};

    if (!sql_builder_name(p->builder, p->token.text, &op.a)) {
        return fail(p, ESCROW_ELIMIT, p->token.at, "more than %u different properties",
                    SQL_NAMES_MAX);
    }
    return emit(p, op);
}

static int enter(struct parser *p)
{
    if (p->depth == SQL_DEPTH_MAX) {
        return fail(p, ESCROW_ELIMIT, p->token.at, "nested more than %u deep", SQL_DEPTH_MAX);
    }
    p->depth++;
    return 0;
}

static int parse_parenthesis(struct parser *p, struct expr *out)
{
    size_t at = p->token.at;
    int rc = enter(p);

    if (rc == 0) {
        rc = advance(p);
    }
    if (rc == 0) {
        rc = parse_or(p, out);
    }
    if (rc == 0) {
        rc = expect(p, SQL_TOKEN_CLOSE, "')' or an operator");
    }
    p->depth--;
    out->at = at;
    return rc;
}

static int parse_primary(struct parser *p, struct expr *out)
{
    struct sql_value value = {.type = SQL_TYPE_NULL};
    enum sql_token_kind kind = p->token.kind;
    int rc;

    *out = (struct expr){.kind = EXPR_CONST, .at = p->token.at};
    if (kind == SQL_TOKEN_OPEN) {
        return parse_parenthesis(p, out);
    }
    if (kind == SQL_TOKEN_STRING) {
        value.type = SQL_TYPE_TEXT;
        value.text = sql_builder_text(p->builder, p->token.text);
        rc = emit_const(p, value);
    } else if (kind == SQL_TOKEN_LONG || kind == SQL_TOKEN_DOUBLE) {
        rc = parse_number(p);
    } else if (kind == SQL_TOKEN_TRUE || kind == SQL_TOKEN_FALSE) {
        value.type = SQL_TYPE_BOOL;
        value.truth = kind == SQL_TOKEN_TRUE;
        rc = emit_const(p, value);
    } else if (kind == SQL_TOKEN_NULL) {
        rc = emit_const(p, value);
    } else if (kind == SQL_TOKEN_NAME) {
        out->kind = EXPR_NAME;
        rc = parse_name(p);
    } else {
        return fail_expected(p, "a property, a value or '('");
    }
    return rc != 0 ? rc : advance(p);
}

/* A number changes its sign; anything else becomes NULL, as it does in RocketMQ. */
static int negate(struct parser *p, struct expr *expr)
{
    struct sql_value *value;

    if (expr->kind == EXPR_CONDITION) {
        return fail(p, ESCROW_EINVAL, expr->at, "'-' stands before a number, not a condition");
    }
    if (expr->kind == EXPR_NAME) {
        expr->kind = EXPR_VALUE;
        p->builder->op_count--;
        return emit_const(p, (struct sql_value){.type = SQL_TYPE_NULL});
    }
    expr->kind = EXPR_VALUE;
    value = value_of(p, last_op(p));
    if (value->type == SQL_TYPE_DOUBLE) {
        value->real = -value->real;
    } else if (value->type == SQL_TYPE_INT || value->type == SQL_TYPE_LONG) {
        value->whole = -value->whole; /* it was read without a sign: there is no INT64_MIN */
    } else {
        *value = (struct sql_value){.type = SQL_TYPE_NULL};
    }
    return 0;
}

static int parse_unary(struct parser *p, struct expr *out)
{
    enum sql_token_kind kind = p->token.kind;
    size_t at = p->token.at;
    int rc;

    if (kind != SQL_TOKEN_PLUS && kind != SQL_TOKEN_MINUS && kind != SQL_TOKEN_NOT) {
        return parse_primary(p, out);
    }
    rc = enter(p);
    if (rc == 0) {
        rc = advance(p);
    }
    if (rc == 0) {
        rc = parse_unary(p, out);
    }
    p->depth--;
    if (rc == 0 && kind == SQL_TOKEN_MINUS) {
        rc = negate(p, out);
    } else if (rc == 0 && kind == SQL_TOKEN_NOT) {
        rc = as_condition(p, out);
        rc = rc != 0 ? rc : emit_code(p, SQL_OP_NOT);
    }
    out->at = at;
    return rc;
}

/* ---- comparison ---- */

static int parse_order(struct parser *p, struct expr *left, enum sql_op_code code)
{
    struct expr right;
    int rc = check_ordered(p, left);

    if (rc == 0) {
        rc = advance(p);
    }
    if (rc == 0) {
        rc = parse_unary(p, &right);
    }
    if (rc == 0) {
        rc = check_ordered(p, &right);
    }
    left->kind = EXPR_CONDITION;
    return rc != 0 ? rc : emit_code(p, code);
}

/* One bound of BETWEEN, with its comparison. *push is its value. */
static int parse_bound(struct parser *p, enum sql_op_code code, struct expr *bound,
                       struct sql_op *push)
{
    int rc = parse_unary(p, bound);

    if (rc == 0) {
        rc = check_ordered(p, bound);
    }
    if (rc == 0) {
        *push = *last_op(p);
        rc = emit_code(p, code);
    }
    return rc;
}

/* value >= low AND value <= high; value < low OR value > high. */
static int parse_between(struct parser *p, struct expr *left, bool is_not)
{
    struct sql_op push;
    struct sql_op low_push;
    struct sql_op high_push;
    struct expr low;
    struct expr high;
    uint32_t jump = 0;
    int order;
    int rc = check_ordered(p, left);

    if (rc != 0) {
        return rc;
    }
    push = *last_op(p);
    rc = advance(p);
    if (rc == 0) {
        rc = parse_bound(p, is_not ? SQL_OP_LT : SQL_OP_GE, &low, &low_push);
    }
    if (rc == 0) {
        rc = emit_jump(p, is_not ? SQL_OP_JUMP_TRUE : SQL_OP_JUMP_FALSE, &jump);
    }
    if (rc == 0) {
        rc = emit(p, push);
    }
    if (rc == 0) {
        rc = expect(p, SQL_TOKEN_AND, "AND and the upper bound");
    }
    if (rc == 0) {
        rc = parse_bound(p, is_not ? SQL_OP_GT : SQL_OP_LE, &high, &high_push);
    }
    if (rc != 0) {
        return rc;
    }
    if (!is_not && low.kind == EXPR_CONST && high.kind == EXPR_CONST &&
        sql_compare(value_of(p, &high_push), value_of(p, &low_push), &order) && order < 0) {
        return fail(p, ESCROW_EINVAL, low.at, "the lower bound is above the upper bound");
    }
    left->kind = EXPR_CONDITION;
    return emit_join(p, is_not ? SQL_OP_OR : SQL_OP_AND, jump);
}

static int parse_text(struct parser *p, uint16_t *index)
{
    struct sql_value value = {.type = SQL_TYPE_TEXT};
    int rc;

    if (p->token.kind != SQL_TOKEN_STRING) {
        return fail_expected(p, "a string");
    }
    value.text = sql_builder_text(p->builder, p->token.text);
    rc = add_const(p, value, index);
    return rc != 0 ? rc : advance(p);
}

static int parse_in(struct parser *p, struct expr *left, bool is_not)
{
    struct sql_op op = {.code = SQL_OP_IN, .is_not = is_not};
    uint16_t index;
    int rc;

    if (left->kind != EXPR_NAME) {
        return fail(p, ESCROW_EINVAL, left->at, "only a property can be IN a list");
    }
    rc = advance(p);
    if (rc == 0) {
        rc = expect(p, SQL_TOKEN_OPEN, "'(' and a list of strings");
    }
    if (rc == 0) {
        rc = parse_text(p, &op.a);
        op.b = 1;
    }
    while (rc == 0 && p->token.kind == SQL_TOKEN_COMMA) {
        rc = advance(p);
        if (rc == 0) {
            rc = parse_text(p, &index);
            op.b++;
        }
    }
    if (rc == 0) {
        rc = expect(p, SQL_TOKEN_CLOSE, "',' or ')'");
    }
    left->kind = EXPR_CONDITION;
    return rc != 0 ? rc : emit(p, op);
}

static int parse_search(struct parser *p, struct expr *left, struct sql_op op)
{
    int rc = advance(p);

    if (rc == 0) {
        rc = parse_text(p, &op.a);
    }
    left->kind = EXPR_CONDITION;
    return rc != 0 ? rc : emit(p, op);
}

/* May NOT stand before it? */
static bool is_negatable(enum sql_token_kind kind)
{
    return kind == SQL_TOKEN_BETWEEN || kind == SQL_TOKEN_IN || kind == SQL_TOKEN_CONTAINS ||
           kind == SQL_TOKEN_STARTSWITH || kind == SQL_TOKEN_ENDSWITH;
}

/* The operator at p->token applied to *left. *is_done when it is none of this level. */
static int parse_comparison_tail(struct parser *p, struct expr *left, bool is_not, bool *is_done)
{
    switch ((int)p->token.kind) { /* an int: most tokens are not operators */
    case SQL_TOKEN_LT:
        return parse_order(p, left, SQL_OP_LT);
    case SQL_TOKEN_LE:
        return parse_order(p, left, SQL_OP_LE);
    case SQL_TOKEN_GT:
        return parse_order(p, left, SQL_OP_GT);
    case SQL_TOKEN_GE:
        return parse_order(p, left, SQL_OP_GE);
    case SQL_TOKEN_BETWEEN:
        return parse_between(p, left, is_not);
    case SQL_TOKEN_IN:
        return parse_in(p, left, is_not);
    case SQL_TOKEN_CONTAINS:
        return parse_search(p, left, (struct sql_op){.code = SQL_OP_CONTAINS, .is_not = is_not});
    case SQL_TOKEN_STARTSWITH:
        return parse_search(p, left, (struct sql_op){.code = SQL_OP_STARTS, .is_not = is_not});
    case SQL_TOKEN_ENDSWITH:
        return parse_search(p, left, (struct sql_op){.code = SQL_OP_ENDS, .is_not = is_not});
    default:
        *is_done = true;
        return 0;
    }
}

static int parse_comparison(struct parser *p, struct expr *out)
{
    bool is_done = false;
    int rc = parse_unary(p, out);

    while (rc == 0 && !is_done) {
        bool is_not = p->token.kind == SQL_TOKEN_NOT && is_negatable(p->after.kind);
        rc = is_not ? advance(p) : 0;
        if (rc == 0) {
            rc = parse_comparison_tail(p, out, is_not, &is_done);
        }
    }
    return rc;
}

/* ---- equality, AND, OR ---- */

static int parse_equal(struct parser *p, struct expr *left, bool is_not)
{
    bool is_truth_left = is_truth_constant(p, left);
    struct expr right;
    int rc = check_equal(p, left);

    if (rc == 0) {
        rc = advance(p);
    }
    if (rc == 0) {
        rc = parse_comparison(p, &right);
    }
    if (rc == 0) {
        rc = check_equal(p, &right);
    }
    if (rc == 0 && is_truth_left && right.kind == EXPR_CONST && !is_truth_constant(p, &right)) {
        rc = fail(p, ESCROW_EINVAL, right.at, "TRUE or FALSE is compared with a number or string");
    }
    left->kind = EXPR_CONDITION;
    if (rc == 0) {
        rc = emit_code(p, SQL_OP_EQ);
    }
    return rc == 0 && is_not ? emit_code(p, SQL_OP_NOT) : rc;
}

static int parse_is_null(struct parser *p, struct expr *left)
{
    bool is_not;
    int rc = advance(p);

    is_not = rc == 0 && p->token.kind == SQL_TOKEN_NOT;
    if (is_not) {
        rc = advance(p);
    }
    if (rc == 0) {
        rc = expect(p, SQL_TOKEN_NULL, is_not ? "NULL" : "NULL or NOT NULL");
    }
    if (rc == 0) {
        rc = emit_const(p, (struct sql_value){.type = SQL_TYPE_NULL});
    }
    if (rc == 0) {
        rc = emit_code(p, SQL_OP_EQ);
    }
    left->kind = EXPR_CONDITION;
    return rc == 0 && is_not ? emit_code(p, SQL_OP_NOT) : rc;
}

static int parse_equality(struct parser *p, struct expr *out)
{
    int rc = parse_comparison(p, out);

    while (rc == 0) {
        if (p->token.kind == SQL_TOKEN_EQ || p->token.kind == SQL_TOKEN_NE) {
            rc = parse_equal(p, out, p->token.kind == SQL_TOKEN_NE);
        } else if (p->token.kind == SQL_TOKEN_IS) {
            rc = parse_is_null(p, out);
        } else {
            break;
        }
    }
    return rc;
}

/* One more operand of AND or OR, read by `parse`, after *left. */
static int parse_joined(struct parser *p, struct expr *left, bool is_or)
{
    struct expr right;
    uint32_t jump = 0;
    int rc = as_condition(p, left);

    if (rc == 0) {
        rc = emit_jump(p, is_or ? SQL_OP_JUMP_TRUE : SQL_OP_JUMP_FALSE, &jump);
    }
    if (rc == 0) {
        rc = advance(p);
    }
    if (rc == 0 && is_or) {
        rc = parse_equality(p, &right);
        while (rc == 0 && p->token.kind == SQL_TOKEN_AND) {
            rc = parse_joined(p, &right, false);
        }
    } else if (rc == 0) {
        rc = parse_equality(p, &right);
    }
    if (rc == 0) {
        rc = as_condition(p, &right);
    }
    return rc != 0 ? rc : emit_join(p, is_or ? SQL_OP_OR : SQL_OP_AND, jump);
}

static int parse_or(struct parser *p, struct expr *out)
{
    int rc = parse_equality(p, out);

    while (rc == 0 && p->token.kind == SQL_TOKEN_AND) {
        rc = parse_joined(p, out, false);
    }
    while (rc == 0 && p->token.kind == SQL_TOKEN_OR) {
        rc = parse_joined(p, out, true);
    }
    return rc;
}

/* ---- the whole ---- */

static int parse_all(struct parser *p)
{
    struct expr expr;
    int rc = sql_lex_next(&p->lex, &p->after, p->err);

    if (rc == 0) {
        rc = advance(p);
    }
    if (rc == 0 && p->token.kind == SQL_TOKEN_END) {
        rc = fail(p, ESCROW_EINVAL, p->token.at, "the expression is empty");
    }
    if (rc == 0) {
        rc = parse_or(p, &expr);
    }
    if (rc == 0 && p->token.kind != SQL_TOKEN_END) {
        rc = fail_expected(p, "AND, OR, a comparison or the end");
    }
    return rc != 0 ? rc : as_condition(p, &expr);
}

int sql_compile(struct slice text, struct sql_program **out, struct err_ctx *err)
{
    struct parser p = {.lex = {.text = text}, .err = err};
    int rc;

    *out = NULL;
    if (text.len > SQL_TEXT_MAX) {
        return err_set(err, ESCROW_ELIMIT, "column %zu: the expression is longer than %u bytes",
                       sql_column(text, SQL_TEXT_MAX), SQL_TEXT_MAX);
    }
    p.builder = mem_alloc(sizeof *p.builder);
    if (p.builder == NULL) {
        return err_set(err, ESCROW_ENOMEM, "%s", escrow_strerror(ESCROW_ENOMEM));
    }
    p.builder->op_count = 0;
    p.builder->const_count = 0;
    p.builder->name_count = 0;
    p.builder->text_len = 0;
    rc = parse_all(&p);
    if (rc == 0) {
        *out = sql_builder_finish(p.builder);
        if (*out == NULL) {
            rc = err_set(err, ESCROW_ENOMEM, "%s", escrow_strerror(ESCROW_ENOMEM));
        }
    }
    mem_free(p.builder);
    return rc;
}
