/*
 * SQL92 against a second opinion: random expressions are drawn as trees, written as text, compiled
 * and run; the tree is evaluated by a plain walk that knows nothing of programs, slots or stacks.
 */
#include "core/filter/sql.h"

#include "tests/unit/core/filter/filter_test.h"

#include <errno.h>
#include <stdio.h>

#define ROUNDS    20000
#define NODES_MAX 200
#define DEPTH_MAX 5

enum node_kind {
    N_OR,
    N_AND,
    N_NOT,
    N_TRUTH,
    N_ORDER,
    N_EQUAL,
    N_IS_NULL,
    N_BETWEEN,
    N_IN,
    N_FIND
};

/* A value: N null, B truth, I 32 bits, L 64 bits, D double, S text, E exception. */
struct val {
    char type;
    bool truth;
    long long whole;
    double real;
    const char *text;
};

struct leaf {
    char name; /* 'a'..'d', or 0: a literal */
    struct val val;
    const char *spelled;
};

struct node {
    enum node_kind kind;
    bool is_not;
    /* N_ORDER: 0 < 1 <= 2 > 3 >=; N_FIND: 0 contains 1 starts 2 ends; N_TRUTH: 0 1 2 NULL */
    int op;
    struct node *left;
    struct node *right; /* N_EQUAL, N_IS_NULL: NULL when the leaf is meant */
    struct leaf leaf[3];
    const char *words[3];
    int word_count;
};

static struct node nodes[NODES_MAX];
static size_t node_count;
static struct rand rnd;
static const char *props[4]; /* of 'a'..'d'; NULL: the message has none */

static size_t draw(size_t bound)
{
    return (size_t)rand_below(&rnd, bound);
}

/* ---- drawing ---- */

static const char *const texts[] = {"1",    "5",          "-3",  "2.5",  "x",  "xy",
                                    "true", "3000000000", "1e1", "it's", " 5 "};
#define TEXTS (sizeof texts / sizeof texts[0])

static struct leaf draw_name(void)
{
    return (struct leaf){.name = (char)('a' + draw(4))};
}

static struct leaf draw_number(void)
{
    static const struct leaf numbers[] = {
        {0, {'I', false, 5, 0, NULL}, "5"},
        {0, {'I', false, 1, 0, NULL}, "1L"},
        {0, {'I', false, 0, 0, NULL}, "0"},
        {0, {'L', false, 3000000000, 0, NULL}, "3000000000"},
        {0, {'D', false, 0, 2.5, NULL}, "2.5"},
        {0, {'D', false, 0, 10, NULL}, "1e1"},
        {0, {'D', false, 0, .5, NULL}, ".5"},
        {0, {'I', false, -3, 0, NULL}, "-3"},
        {0, {'D', false, 0, -2.5, NULL}, "- 2.5"},
        {0, {'I', false, 5, 0, NULL}, "+5"},
    };

    return numbers[draw(sizeof numbers / sizeof numbers[0])];
}

static struct leaf draw_text(void)
{
    struct leaf leaf = {.val = {.type = 'S'}};

    leaf.val.text = texts[draw(TEXTS)];
    return leaf;
}

static struct leaf draw_leaf(bool may_be_text)
{
    size_t which = draw(6);

    return which < 3 ? draw_name() : (which < 5 || !may_be_text ? draw_number() : draw_text());
}

/* NULL is not compared with "=", and TRUE not with a literal. */
static void avoid_refusals(struct node *n)
{
    if (n->kind != N_EQUAL) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        struct node *side = i == 0 ? n->left : n->right;
        if (side != NULL && side->kind == N_TRUTH && side->op == 2) {
            side->op = 0;
        }
    }
    if (n->left != NULL && n->left->kind == N_TRUTH && n->right == NULL) {
        n->leaf[1] = draw_name();
    }
}

static struct node *draw_node(int depth)
{
    struct node *n = &nodes[node_count++];
    size_t kind = depth == 0 ? 3 + draw(7) : draw(10);

    ck_assert_uint_le(node_count, NODES_MAX);
    *n = (struct node){.kind = (enum node_kind)kind, .is_not = draw(2) == 0};
    n->op = (int)draw(n->kind == N_ORDER ? 4 : 3);
    for (size_t i = 0; i < 3; i++) {
        n->leaf[i] = draw_leaf(n->kind == N_EQUAL || n->kind == N_IS_NULL);
        n->words[i] = texts[draw(TEXTS)];
    }
    n->word_count = 1 + (int)draw(3);
    if (n->kind == N_IN) {
        n->leaf[0] = draw_name();
    }
    if (n->kind == N_FIND && draw(4) != 0) {
        n->leaf[0] = draw_name();
    }
    if (n->kind == N_BETWEEN && !n->is_not && n->leaf[1].name == 0) {
        n->leaf[2] = draw_name(); /* two literals might be refused */
    }
    if (depth > 0 && (n->kind <= N_NOT || (n->kind <= N_IS_NULL && n->kind >= N_EQUAL))) {
        n->left = n->kind <= N_NOT || draw(3) == 0 ? draw_node(depth - 1) : NULL;
        n->right =
            n->kind <= N_AND || (n->kind == N_EQUAL && draw(3) == 0) ? draw_node(depth - 1) : NULL;
    }
    avoid_refusals(n);
    return n;
}

/* ---- writing ---- */

static void put_blank(struct buf *out)
{
    static const char *const blanks[] = {" ", "  ", "\t", "\n", " /* and */ ", " -- or\n"};

    buf_append_str(out, draw(4) == 0 ? blanks[draw(6)] : " ");
}

static void put_word(struct buf *out, const char *word)
{
    bool is_lower = draw(2) == 0;

    put_blank(out);
    for (; *word != '\0'; word++) {
        buf_append_u8(out, (uint8_t)(is_lower ? tolower((unsigned char)*word) : *word));
    }
    put_blank(out);
}

static void put_text(struct buf *out, const char *text)
{
    buf_append_str(out, "'");
    for (; *text != '\0'; text++) {
        buf_append_str(out, *text == '\'' ? "'" : "");
        buf_append_u8(out, (uint8_t)*text);
    }
    buf_append_str(out, "'");
}

static void put_leaf(struct buf *out, const struct leaf *leaf)
{
    bool has_parenthesis = draw(8) == 0;

    buf_append_str(out, has_parenthesis ? "(" : "");
    if (leaf->name != 0) {
        buf_append_u8(out, (uint8_t)leaf->name);
    } else if (leaf->val.type == 'S') {
        put_text(out, leaf->val.text);
    } else {
        buf_append_str(out, leaf->spelled);
    }
    buf_append_str(out, has_parenthesis ? ")" : "");
}

static void put_node(struct buf *out, const struct node *n);

static void put_child(struct buf *out, const struct node *child, bool needs_parenthesis)
{
    bool has_parenthesis = needs_parenthesis || draw(4) == 0;

    buf_append_str(out, has_parenthesis ? "(" : "");
    put_node(out, child);
    buf_append_str(out, has_parenthesis ? ")" : "");
}

static void put_side(struct buf *out, const struct node *child, const struct leaf *leaf)
{
    if (child != NULL) {
        put_child(out, child, true);
    } else {
        put_leaf(out, leaf);
    }
}

static void put_list(struct buf *out, const struct node *n)
{
    buf_append_str(out, "(");
    for (int i = 0; i < n->word_count; i++) {
        buf_append_str(out, i > 0 ? "," : "");
        put_text(out, n->words[i]);
    }
    buf_append_str(out, ")");
}

static void put_node(struct buf *out, const struct node *n)
{
    static const char *const orders[] = {"<", "<=", ">", ">="};
    static const char *const finds[] = {"CONTAINS", "STARTSWITH", "ENDSWITH"};
    static const char *const truth[] = {"FALSE", "TRUE", "NULL"};

    switch (n->kind) {
    case N_OR:
        put_child(out, n->left, false);
        put_word(out, "OR");
        put_child(out, n->right, n->right->kind == N_OR);
        break;
    case N_AND:
        put_child(out, n->left, n->left->kind == N_OR);
        put_word(out, "AND");
        put_child(out, n->right, n->right->kind <= N_AND);
        break;
    case N_NOT:
        put_word(out, "NOT");
        put_child(out, n->left, true);
        break;
    case N_TRUTH:
        put_word(out, truth[n->op]);
        break;
    case N_ORDER:
        put_leaf(out, &n->leaf[0]);
        put_word(out, orders[n->op]);
        put_leaf(out, &n->leaf[1]);
        break;
    case N_EQUAL:
        put_side(out, n->left, &n->leaf[0]);
        put_word(out, n->is_not ? "<>" : "=");
        put_side(out, n->right, &n->leaf[1]);
        break;
    case N_IS_NULL:
        put_side(out, n->left, &n->leaf[0]);
        put_word(out, n->is_not ? "IS NOT NULL" : "IS NULL");
        break;
    case N_BETWEEN:
        put_leaf(out, &n->leaf[0]);
        put_word(out, n->is_not ? "NOT BETWEEN" : "BETWEEN");
        put_leaf(out, &n->leaf[1]);
        put_word(out, "AND");
        put_leaf(out, &n->leaf[2]);
        break;
    case N_IN:
        put_leaf(out, &n->leaf[0]);
        put_word(out, n->is_not ? "NOT IN" : "IN");
        put_list(out, n);
        break;
    case N_FIND:
        put_leaf(out, &n->leaf[0]);
        put_word(out, n->is_not ? "NOT" : "");
        put_word(out, finds[n->op]);
        put_text(out, n->words[0]);
        break;
    }
}

/* ---- the plain walk ---- */

static struct val walk(const struct node *n);

static struct val truth_val(bool truth)
{
    return (struct val){.type = 'B', .truth = truth};
}

static struct val val_of(const struct leaf *leaf)
{
    if (leaf->name == 0) {
        return leaf->val;
    }
    if (props[leaf->name - 'a'] == NULL) {
        return (struct val){.type = 'N'};
    }
    return (struct val){.type = 'S', .text = props[leaf->name - 'a']};
}

/* Read a text as the type; an exception when it is none. */
static struct val read_as(const char *text, char type)
{
    struct val v = {.type = type, .text = text};
    char *end = NULL;

    errno = 0;
    if (type == 'B') {
        v.truth = strcasecmp(text, "true") == 0;
    } else if (type == 'I' || type == 'L') {
        v.whole = strtoll(text, &end, 10);
        if (*end != '\0' || end == text || *text == ' ' ||
            (type == 'I' && (v.whole > INT32_MAX || v.whole < INT32_MIN))) {
            v.type = 'E';
        }
    } else if (type == 'D') {
        v.real = strtod(text, &end);
        if (end == text || end[strspn(end, " ")] != '\0') {
            v.type = 'E';
        }
    }
    return v;
}

/* -1, 0, 1; 9: an exception. */
static int order_of(struct val a, struct val b)
{
    if (a.type == 'S' && b.type != 'S') {
        a = read_as(a.text, b.type);
    } else if (b.type == 'S' && a.type != 'S') {
        b = read_as(b.text, a.type);
    }
    if (a.type == 'E' || b.type == 'E') {
        return 9;
    }
    if (a.type == 'S') {
        return strcmp(a.text, b.text) == 0 ? 0 : -1;
    }
    if (a.type == 'B' || b.type == 'B') {
        return a.type == b.type && a.truth == b.truth ? 0 : -1;
    }
    if (a.type == 'D' || b.type == 'D') {
        double x = a.type == 'D' ? a.real : (double)a.whole;
        double y = b.type == 'D' ? b.real : (double)b.whole;
        return (x > y) - (x < y);
    }
    return (a.whole > b.whole) - (a.whole < b.whole);
}

static struct val ordered(struct val a, int op, struct val b)
{
    int order;

    if (a.type == 'N' || b.type == 'N') {
        return (struct val){.type = 'N'};
    }
    if (a.type == 'S' && b.type == 'S') {
        a = read_as(a.text, 'D');
        b = read_as(b.text, 'D');
    }
    order = a.type == 'E' || b.type == 'E' ? 9 : order_of(a, b);
    if (order == 9) {
        return (struct val){.type = 'E'};
    }
    return truth_val(op == 0 ? order < 0 : op == 1 ? order <= 0 : op == 2 ? order > 0 : order >= 0);
}

static struct val inverted(struct val v, bool is_not)
{
    v.truth = v.truth != is_not;
    return v;
}

static struct val equal(struct val a, struct val b)
{
    int order;

    if (a.type == 'E' || b.type == 'E') {
        return (struct val){.type = 'E'};
    }
    if (a.type == 'N' || b.type == 'N') {
        return a.type == b.type ? truth_val(true)
                                : (a.type == 'N' ? (struct val){.type = 'N'} : truth_val(false));
    }
    order = order_of(a, b);
    return order == 9 ? (struct val){.type = 'E'} : truth_val(order == 0);
}

/* AND is the same with the truths exchanged. */
static struct val joined(struct val left, bool winner, const struct node *right,
                         const struct val *known)
{
    struct val v;

    if (left.type == 'E' || (left.type == 'B' && left.truth == winner)) {
        return left;
    }
    v = known != NULL ? *known : walk(right);
    if (v.type == 'E' || (v.type == 'B' && v.truth == winner)) {
        return v;
    }
    return left.type == 'N' || v.type == 'N' ? (struct val){.type = 'N'} : truth_val(!winner);
}

static struct val found(const struct node *n)
{
    struct val v = val_of(&n->leaf[0]);
    const char *want = n->words[0];
    size_t len = strlen(want);
    bool is_found;

    if (v.type != 'S') {
        return truth_val(false);
    }
    if (n->op == 0) {
        is_found = strstr(v.text, want) != NULL;
    } else if (n->op == 1) {
        is_found = strncmp(v.text, want, len) == 0;
    } else {
        is_found = strlen(v.text) >= len && strcmp(v.text + strlen(v.text) - len, want) == 0;
    }
    return truth_val(is_found != n->is_not);
}

static struct val listed(const struct node *n)
{
    struct val v = val_of(&n->leaf[0]);
    bool is_in = false;

    if (v.type == 'N') {
        return v;
    }
    for (int i = 0; i < n->word_count; i++) {
        is_in = is_in || strcmp(v.text, n->words[i]) == 0;
    }
    return truth_val(is_in != n->is_not);
}

static struct val between(const struct node *n)
{
    struct val v = val_of(&n->leaf[0]);
    struct val low = ordered(v, n->is_not ? 0 : 3, val_of(&n->leaf[1]));
    struct val high = ordered(v, n->is_not ? 2 : 1, val_of(&n->leaf[2]));

    return joined(low, n->is_not, NULL, &high);
}

static struct val walk(const struct node *n)
{
    struct val left;

    switch (n->kind) {
    case N_OR:
    case N_AND:
        return joined(walk(n->left), n->kind == N_OR, n->right, NULL);
    case N_NOT:
        return inverted(walk(n->left), true);
    case N_TRUTH:
        return n->op == 2 ? (struct val){.type = 'N'} : truth_val(n->op == 1);
    case N_ORDER:
        return ordered(val_of(&n->leaf[0]), n->op, val_of(&n->leaf[1]));
    case N_EQUAL:
        left = n->left != NULL ? walk(n->left) : val_of(&n->leaf[0]);
        if (left.type == 'E') {
            return left;
        }
        return inverted(equal(left, n->right != NULL ? walk(n->right) : val_of(&n->leaf[1])),
                        n->is_not);
    case N_IS_NULL:
        left = n->left != NULL ? walk(n->left) : val_of(&n->leaf[0]);
        return left.type == 'E' ? left : truth_val((left.type == 'N') != n->is_not);
    case N_BETWEEN:
        return between(n);
    case N_IN:
        return listed(n);
    case N_FIND:
        return found(n);
    }
    ck_abort();
}

/* ---- the test ---- */

static void draw_message(struct buf *out)
{
    for (size_t i = 0; i < 4; i++) {
        size_t which = draw(TEXTS + 3);
        props[i] = which < TEXTS ? texts[which] : NULL;
        if (props[i] != NULL) {
            buf_append_fmt(out, "%c%c%s%c", (char)('a' + i), 1, props[i], 2);
        }
    }
}

START_TEST(program_and_plain_walk_agree)
{
    /* Shows: 20,000 random expressions, each on five messages, give the same truth both ways. */
    static const char types[] = {
        [SQL_FALSE] = 'F', [SQL_TRUE] = 'T', [SQL_NULL] = 'N', [SQL_ERROR] = 'E'};
    size_t seen[256] = {0};
    struct buf text;
    struct buf message;

    buf_init(&text, 0);
    buf_init(&message, 0);
    rand_init(&rnd, 92);
    for (size_t round = 0; round < ROUNDS; round++) {
        struct sql_program *program;
        struct err_ctx err = {.code = 0};
        const struct node *root;
        node_count = 0;
        root = draw_node((int)draw(DEPTH_MAX));
        buf_clear(&text);
        put_node(&text, root);
        ck_assert_msg(sql_compile(buf_slice(&text), &program, &err) == 0, "%.*s: %s",
                      SLICE_ARGS(buf_slice(&text)), err.text);
        for (int i = 0; i < 5; i++) {
            struct val want;
            char type;
            buf_clear(&message);
            draw_message(&message);
            want = walk(root);
            type = want.type == 'B' ? (want.truth ? 'T' : 'F') : want.type;
            seen[(unsigned char)type]++;
            ck_assert_msg(types[sql_eval(program, buf_slice(&message))] == type,
                          "%.*s with %.*s: want %c", SLICE_ARGS(buf_slice(&text)),
                          SLICE_ARGS(buf_slice(&message)), type);
        }
        sql_free(&program);
    }
    ck_assert_uint_gt(seen['T'], ROUNDS / 2); /* each outcome was really there */
    ck_assert_uint_gt(seen['F'], ROUNDS / 2);
    ck_assert_uint_gt(seen['N'], ROUNDS / 20);
    ck_assert_uint_gt(seen['E'], ROUNDS / 20);
    buf_fini(&text);
    buf_fini(&message);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("sql_random");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, program_and_plain_walk_agree);
    return run_tests(tc, "core/filter/sql_random");
}
