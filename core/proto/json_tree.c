/*
 * One loop over the tokens with a small stack of open containers. What may come next depends only
 * on the state and on the innermost container, so the machine below is all the grammar there is.
 * Strings are unescaped where they lie: an escape is never shorter than what it stands for.
 */
#include "core/proto/json_tree.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#define NODES_FIRST 64
#define REPLACEMENT UINT32_C(0xFFFD)

enum expect {
    EXPECT_VALUE,
    EXPECT_VALUE_OR_END, /* right behind '[' */
    EXPECT_KEY,
    EXPECT_KEY_OR_END, /* right behind '{' */
    EXPECT_COLON,
    EXPECT_COMMA_OR_END,
    EXPECT_NOTHING /* the value is complete */
};

struct open_container {
    uint32_t node;
    bool is_key; /* an object in the place of a key: a colon follows it */
};

struct json_parser {
    struct json_tree *tree;
    uint8_t *at;
    uint8_t *end;
    struct json_limits limits;
    uint32_t depth;
    enum expect expect;
    struct open_container open[JSON_DEPTH_MAX + 1]; /* from 1 */
};

_Static_assert(sizeof(struct json_node) <= 32, "the header promises this bound");

/* ---- nodes ---- */

static int grow(struct json_tree *tree)
{
    uint32_t cap = tree->node_cap == 0 ? NODES_FIRST : tree->node_cap * 2;
    struct json_node *nodes = mem_realloc(tree->nodes, cap * sizeof *nodes);

    if (nodes == NULL) {
        return ESCROW_ENOMEM;
    }
    tree->nodes = nodes;
    tree->node_cap = cap;
    return 0;
}

static int add_node(struct json_parser *p, enum json_node_kind kind, const uint8_t *text,
                    size_t len)
{
    struct json_tree *tree = p->tree;

    if (tree->node_count >= p->limits.elements_max) {
        return ESCROW_ELIMIT;
    }
    if (tree->node_count == tree->node_cap) {
        int error = grow(tree);
        if (error != 0) {
            return error;
        }
    }
    tree->nodes[tree->node_count++] =
        (struct json_node){.text = text, .len = (uint32_t)len, .span = 1, .kind = kind};
    if (p->depth > 0) {
        tree->nodes[p->open[p->depth].node].count++;
    }
    return 0;
}

/* What follows a complete value. */
static enum expect after_value(const struct json_parser *p)
{
    return p->depth == 0 ? EXPECT_NOTHING : EXPECT_COMMA_OR_END;
}

static int open_container(struct json_parser *p, bool is_key)
{
    bool is_object = *p->at == '{';
    int error;

    if (p->depth == p->limits.depth_max) {
        return ESCROW_ELIMIT;
    }
    error = add_node(p, is_object ? JSON_NODE_OBJECT : JSON_NODE_ARRAY, p->at, 0);
    if (error != 0) {
        return error;
    }
    p->open[++p->depth] = (struct open_container){p->tree->node_count - 1, is_key};
    p->expect = is_object ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    p->at++;
    return 0;
}

static int close_container(struct json_parser *p)
{
    struct open_container *top = &p->open[p->depth];
    struct json_node *node = &p->tree->nodes[top->node];

    CHECK(p->depth > 0);
    if ((node->kind == JSON_NODE_OBJECT) != (*p->at == '}')) {
        return ESCROW_EPROTO;
    }
    node->span = p->tree->node_count - top->node;
    p->depth--;
    p->expect = top->is_key ? EXPECT_COLON : after_value(p);
    p->at++;
    return 0;
}

/* ---- strings ---- */

static uint8_t *put_utf8(uint8_t *to, uint32_t point)
{
    if (point < 0x80) {
        *to++ = (uint8_t)point;
        return to;
    }
    if (point < 0x800) {
        *to++ = (uint8_t)(0xC0 | (point >> 6));
    } else {
        if (point < 0x10000) {
            *to++ = (uint8_t)(0xE0 | (point >> 12));
        } else {
            *to++ = (uint8_t)(0xF0 | (point >> 18));
            *to++ = (uint8_t)(0x80 | ((point >> 12) & 0x3F));
        }
        *to++ = (uint8_t)(0x80 | ((point >> 6) & 0x3F));
    }
    *to++ = (uint8_t)(0x80 | (point & 0x3F));
    return to;
}

/* Four hex digits at p->at, which moves behind them. */
static bool take_hex4(struct json_parser *p, uint32_t *value)
{
    uint32_t sum = 0;

    if (p->end - p->at < 4) {
        return false;
    }
    for (int i = 0; i < 4; i++) {
        uint8_t c = *p->at++;
        uint32_t digit = c >= '0' && c <= '9'   ? c - (uint32_t)'0'
                         : c >= 'a' && c <= 'f' ? c - (uint32_t)'a' + 10
                         : c >= 'A' && c <= 'F' ? c - (uint32_t)'A' + 10
                                                : 16;
        if (digit == 16) {
            return false;
        }
        sum = sum * 16 + digit;
    }
    *value = sum;
    return true;
}

/* Behind "\u": one code point; two escapes if they are a surrogate pair. */
static bool take_unicode(struct json_parser *p, uint32_t *point)
{
    uint32_t low;
    uint8_t *behind;

    if (!take_hex4(p, point)) {
        return false;
    }
    if (*point < 0xD800 || *point > 0xDFFF) {
        return true;
    }
    behind = p->at;
    if (*point < 0xDC00 && p->end - p->at >= 2 && p->at[0] == '\\' && p->at[1] == 'u') {
        p->at += 2;
        if (!take_hex4(p, &low)) {
            return false;
        }
        if (low >= 0xDC00 && low <= 0xDFFF) {
            *point = 0x10000 + ((*point - 0xD800) << 10) + (low - 0xDC00);
            return true;
        }
        p->at = behind; /* an escape of its own */
    }
    *point = REPLACEMENT;
    return true;
}

/* Behind a backslash: write what the escape stands for at *to. */
static bool take_escape(struct json_parser *p, uint8_t **to)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *found;
    uint32_t point;
    uint8_t c;

    if (p->at == p->end) {
        return false;
    }
    c = *p->at++;
    if (c == 'u') {
        if (!take_unicode(p, &point)) {
            return false;
        }
        *to = put_utf8(*to, point);
        return true;
    }
    found = c == '\0' ? NULL : strchr(letters, c);
    if (found == NULL) {
        return false;
    }
    *(*to)++ = (uint8_t)values[found - letters];
    return true;
}

/* A string; p->at stands on its opening quote. */
static int take_string(struct json_parser *p)
{
    uint8_t *start = ++p->at;
    uint8_t *to = start;

    while (p->at < p->end && *p->at != '"') {
        if (*p->at == '\\') {
            p->at++;
            if (!take_escape(p, &to)) {
                return ESCROW_EPROTO;
            }
        } else {
            *to++ = *p->at++;
        }
    }
    if (p->at == p->end) {
        return ESCROW_EPROTO;
    }
    p->at++;
    return add_node(p, JSON_NODE_STRING, start, (size_t)(to - start));
}

/* ---- bare words ---- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* A character of a number, of true, false, null, or of a name without quotes. */
static bool is_bare(uint8_t c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '+' || c == '.' || c == '_' || c == '$';
}

static size_t digits(struct slice s, size_t i)
{
    size_t start = i;

    while (i < s.len && is_digit(s.ptr[i])) {
        i++;
    }
    return i - start;
}

/* -? digits (. digits)? ([eE] [+-]? digits)? */
static bool is_number(struct slice s)
{
    size_t i = s.len > 0 && s.ptr[0] == '-' ? 1 : 0;
    size_t n = digits(s, i);

    if (n == 0) {
        return false;
    }
    i += n;
    if (i < s.len && s.ptr[i] == '.') {
        n = digits(s, i + 1);
        if (n == 0) {
            return false;
        }
        i += 1 + n;
    }
    if (i < s.len && (s.ptr[i] == 'e' || s.ptr[i] == 'E')) {
        i++;
        i += i < s.len && (s.ptr[i] == '+' || s.ptr[i] == '-') ? 1 : 0;
        n = digits(s, i);
        if (n == 0) {
            return false;
        }
        i += n;
    }
    return i == s.len;
}

static bool bare_kind(struct slice word, enum json_node_kind *kind)
{
    if (slice_eq_str(word, "null")) {
        *kind = JSON_NODE_NULL;
    } else if (slice_eq_str(word, "true")) {
        *kind = JSON_NODE_TRUE;
    } else if (slice_eq_str(word, "false")) {
        *kind = JSON_NODE_FALSE;
    } else {
        *kind = JSON_NODE_NUMBER;
        return is_number(word);
    }
    return true;
}

static int take_bare(struct json_parser *p, bool is_key)
{
    enum json_node_kind kind = JSON_NODE_STRING;
    struct slice word = slice_of(p->at, 0);

    while (p->at < p->end && is_bare(*p->at)) {
        p->at++;
    }
    word.len = (size_t)(p->at - word.ptr);
    if (word.len == 0 || (!is_key && !bare_kind(word, &kind))) {
        return ESCROW_EPROTO;
    }
    return add_node(p, kind, word.ptr, word.len);
}

/* ---- the machine ---- */

static int take_value(struct json_parser *p)
{
    int error;

    if (*p->at == '{' || *p->at == '[') {
        return open_container(p, false);
    }
    error = *p->at == '"' ? take_string(p) : take_bare(p, false);
    p->expect = after_value(p);
    return error;
}

static int take_key(struct json_parser *p)
{
    if (*p->at == '{') {
        return open_container(p, true);
    }
    p->expect = EXPECT_COLON;
    return *p->at == '"' ? take_string(p) : take_bare(p, true);
}

static int take_colon(struct json_parser *p)
{
    if (*p->at != ':') {
        return ESCROW_EPROTO;
    }
    p->at++;
    p->expect = EXPECT_VALUE;
    return 0;
}

static int take_comma_or_end(struct json_parser *p)
{
    if (*p->at == '}' || *p->at == ']') {
        return close_container(p);
    }
    if (*p->at != ',') {
        return ESCROW_EPROTO;
    }
    p->at++;
    p->expect =
        p->tree->nodes[p->open[p->depth].node].kind == JSON_NODE_OBJECT ? EXPECT_KEY : EXPECT_VALUE;
    return 0;
}

static int take_token(struct json_parser *p)
{
    switch (p->expect) {
    case EXPECT_VALUE:
        return take_value(p);
    case EXPECT_VALUE_OR_END:
        return *p->at == ']' ? close_container(p) : take_value(p);
    case EXPECT_KEY:
        return take_key(p);
    case EXPECT_KEY_OR_END:
        return *p->at == '}' ? close_container(p) : take_key(p);
    case EXPECT_COLON:
        return take_colon(p);
    case EXPECT_COMMA_OR_END:
        return take_comma_or_end(p);
    case EXPECT_NOTHING:
        return ESCROW_EPROTO;
    }
    UNREACHABLE("expect is one of its values");
}

static int parse(struct json_parser *p)
{
    while (p->at < p->end) {
        uint8_t c = *p->at;
        int error;
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            p->at++;
            continue;
        }
        error = take_token(p);
        if (error != 0) {
            return error;
        }
    }
    return p->expect == EXPECT_NOTHING ? 0 : ESCROW_EPROTO;
}

int json_tree_parse(struct json_tree *tree, struct slice in, struct json_limits limits)
{
    struct json_parser p = {.tree = tree, .limits = limits, .expect = EXPECT_VALUE};
    int error;

    CHECK(tree->nodes == NULL);
    CHECK(limits.depth_max <= JSON_DEPTH_MAX);
    if (in.len == 0) {
        return ESCROW_EPROTO;
    }
    if (in.len > FRAME_SIZE_MAX) {
        return ESCROW_ELIMIT;
    }
    tree->text = mem_alloc(in.len);
    if (tree->text == NULL) {
        return ESCROW_ENOMEM;
    }
    memcpy(tree->text, in.ptr, in.len);
    p.at = tree->text;
    p.end = tree->text + in.len;
    error = parse(&p);
    if (error != 0) {
        json_tree_fini(tree);
    }
    return error;
}

void json_tree_fini(struct json_tree *tree)
{
    mem_free(tree->text);
    mem_free(tree->nodes);
    *tree = (struct json_tree){0};
}

/* ---- looking ---- */

const struct json_node *json_tree_root(const struct json_tree *tree)
{
    CHECK(tree->node_count > 0);
    DCHECK(tree->nodes[0].span == tree->node_count);
    return tree->nodes;
}

bool json_node_is(const struct json_node *node, enum json_node_kind kind)
{
    return node != NULL && node->kind == kind;
}

size_t json_node_count(const struct json_node *node)
{
    if (node == NULL) {
        return 0;
    }
    return node->kind == JSON_NODE_OBJECT ? node->count / 2 : node->count;
}

const struct json_node *json_node_next(const struct json_node *node, const struct json_node *child)
{
    const struct json_node *next;

    if (node == NULL) {
        return NULL;
    }
    next = child == NULL ? node + 1 : child + child->span;
    return next == node + node->span ? NULL : next;
}

const struct json_node *json_node_find(const struct json_node *object, const char *key)
{
    struct slice want = slice_str(key);
    const struct json_node *found = NULL;
    const struct json_node *child;
    const struct json_node *value;

    if (!json_node_is(object, JSON_NODE_OBJECT)) {
        return NULL;
    }
    for (child = json_node_next(object, NULL); child != NULL;
         child = json_node_next(object, value)) {
        value = json_node_next(object, child);
        CHECK(value != NULL); /* a key is always followed by its value */
        if (child->kind == JSON_NODE_STRING && slice_eq(json_node_text(child), want)) {
            found = value;
        }
    }
    return found;
}
