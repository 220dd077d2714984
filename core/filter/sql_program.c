/*
 * The builder has room for the largest expression; what it holds at the end is copied into one
 * block of the size that it has: header, operations, constants, names, texts.
 */
#include "core/filter/sql_program.h"

#include "core/base/check.h"
#include "core/base/mem.h"

_Static_assert(SQL_OPS_MAX <= UINT16_MAX, "a jump's target fits");
_Static_assert(SQL_TERMS_MAX <= UINT16_MAX, "a constant's index fits");
_Static_assert(SQL_NAMES_MAX < UINT8_MAX && SQL_NAMES_MAX * 2 <= SQL_SLOTS, "slots hold the names");
_Static_assert((SQL_SLOTS & (SQL_SLOTS - 1)) == 0, "slots wrap around");
_Static_assert(_Alignof(struct sql_value) >= _Alignof(struct slice), "order of the block's parts");
_Static_assert(_Alignof(struct slice) >= _Alignof(struct sql_op), "order of the block's parts");

bool sql_builder_op(struct sql_builder *b, struct sql_op op)
{
    if (b->op_count == SQL_OPS_MAX) {
        return false;
    }
    b->ops[b->op_count++] = op;
    return true;
}

bool sql_builder_const(struct sql_builder *b, struct sql_value value, uint16_t *index)
{
    if (b->const_count == SQL_TERMS_MAX) {
        return false;
    }
    *index = (uint16_t)b->const_count;
    b->consts[b->const_count++] = value;
    return true;
}

bool sql_builder_name(struct sql_builder *b, struct slice name, uint16_t *index)
{
    for (uint32_t i = 0; i < b->name_count; i++) {
        if (slice_eq(b->names[i], name)) {
            *index = (uint16_t)i;
            return true;
        }
    }
    if (b->name_count == SQL_NAMES_MAX) {
        return false;
    }
    *index = (uint16_t)b->name_count;
    b->names[b->name_count++] = name;
    return true;
}

struct slice sql_builder_text(struct sql_builder *b, struct slice quoted)
{
    uint8_t *dst = b->text + b->text_len;
    size_t len = 0;

    CHECK(quoted.len >= 2);
    CHECK(quoted.len - 2 <= sizeof b->text - b->text_len);
    for (size_t i = 1; i + 1 < quoted.len; i++) {
        dst[len++] = quoted.ptr[i];
        i += quoted.ptr[i] == '\'' ? 1 : 0;
    }
    b->text_len += len;
    return slice_of(dst, len);
}

static void fill_slots(struct sql_program *p)
{
    for (uint32_t i = 0; i < p->name_count; i++) {
        uint32_t slot = sql_name_hash(p->names[i]);
        while (p->slots[slot] != 0) {
            slot = (slot + 1) % SQL_SLOTS;
        }
        p->slots[slot] = (uint8_t)(i + 1);
        p->name_len_max = p->names[i].len > p->name_len_max ? p->names[i].len : p->name_len_max;
    }
}

static uint8_t *copy_text(struct slice *text, uint8_t *dst)
{
    if (text->len > 0) {
        memcpy(dst, text->ptr, text->len);
    }
    text->ptr = dst;
    return dst + text->len;
}

struct sql_program *sql_builder_finish(const struct sql_builder *b)
{
    size_t consts_size = b->const_count * sizeof *b->consts;
    size_t names_size = b->name_count * sizeof *b->names;
    size_t ops_size = b->op_count * sizeof *b->ops;
    size_t texts_size = b->text_len;
    struct sql_program *p;
    struct sql_value *consts;
    struct slice *names;
    struct sql_op *ops;
    uint8_t *text;

    for (uint32_t i = 0; i < b->name_count; i++) {
        texts_size += b->names[i].len;
    }
    p = mem_calloc(1, sizeof *p + consts_size + names_size + ops_size + texts_size);
    if (p == NULL) {
        return NULL;
    }
    consts = (struct sql_value *)(p + 1);
    names = (struct slice *)(consts + b->const_count);
    ops = (struct sql_op *)(names + b->name_count);
    text = (uint8_t *)(ops + b->op_count);
    memcpy(consts, b->consts, consts_size);
    memcpy(names, b->names, names_size);
    memcpy(ops, b->ops, ops_size);
    for (uint32_t i = 0; i < b->const_count; i++) {
        text = consts[i].type == SQL_TYPE_TEXT ? copy_text(&consts[i].text, text) : text;
    }
    for (uint32_t i = 0; i < b->name_count; i++) {
        text = copy_text(&names[i], text);
    }
    CHECK(text <= (uint8_t *)(ops + b->op_count) + texts_size);
    p->op_count = b->op_count;
    p->const_count = b->const_count;
    p->name_count = b->name_count;
    p->ops = ops;
    p->consts = consts;
    p->names = names;
    for (uint32_t i = 0; i < b->op_count; i++) {
        p->scan_count += ops[i].code >= SQL_OP_EQ ? 1 : 0;
    }
    fill_slots(p);
    sql_program_check(p);
    return p;
}

void sql_free(struct sql_program **program)
{
    mem_free(*program);
    *program = NULL;
}

/* Values on the stack after an operation, before it `depth`. */
static uint32_t depth_after(const struct sql_op *op, uint32_t depth)
{
    switch ((enum sql_op_code)op->code) {
    case SQL_OP_NAME:
    case SQL_OP_CONST:
        return depth + 1;
    case SQL_OP_AND:
    case SQL_OP_OR:
    case SQL_OP_EQ:
    case SQL_OP_LT:
    case SQL_OP_LE:
    case SQL_OP_GT:
    case SQL_OP_GE:
        CHECK(depth >= 2);
        return depth - 1;
    case SQL_OP_CAST:
    case SQL_OP_NOT:
    case SQL_OP_JUMP_FALSE:
    case SQL_OP_JUMP_TRUE:
    case SQL_OP_IN:
    case SQL_OP_CONTAINS:
    case SQL_OP_STARTS:
    case SQL_OP_ENDS:
        CHECK(depth >= 1);
        return depth;
    }
    UNREACHABLE("every operation is handled");
}

static void check_op(const struct sql_program *p, uint32_t i)
{
    const struct sql_op *op = &p->ops[i];

    switch ((enum sql_op_code)op->code) {
    case SQL_OP_NAME:
        CHECK(op->a < p->name_count);
        break;
    case SQL_OP_CONST:
    case SQL_OP_CONTAINS:
    case SQL_OP_STARTS:
    case SQL_OP_ENDS:
        CHECK(op->a < p->const_count);
        break;
    case SQL_OP_IN:
        CHECK((uint32_t)op->a + op->b <= p->const_count);
        break;
    case SQL_OP_JUMP_FALSE:
    case SQL_OP_JUMP_TRUE:
        CHECK(op->a > i);
        CHECK(op->a <= p->op_count);
        break;
    case SQL_OP_CAST:
    case SQL_OP_NOT:
    case SQL_OP_AND:
    case SQL_OP_OR:
    case SQL_OP_EQ:
    case SQL_OP_LT:
    case SQL_OP_LE:
    case SQL_OP_GT:
    case SQL_OP_GE:
        break;
    }
}

void sql_program_check(const struct sql_program *program)
{
    uint32_t depth = 0;

    for (uint32_t i = 0; i < program->op_count; i++) {
        check_op(program, i);
        depth = depth_after(&program->ops[i], depth);
        CHECK(depth <= SQL_STACK_MAX);
    }
    CHECK(depth == 1);
}
