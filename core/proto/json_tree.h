/*
 * JSON from strangers, and from fastjson, which writes JSON that is none: unquoted numeric keys
 * ({0:"x"}), unquoted names ({codeSet:[1]}) and whole objects as keys
 * ({{"brokerName":"b","queueId":0,"topic":"t"}:5}). All of that is read here.
 *
 * A text becomes one array of nodes in the order of the text, without recursion: a container is
 * followed by its children, of an object each key by its value; a key is a string, or an object in
 * fastjson's form. Depth and number of elements are bounded before memory is taken for an element,
 * and an element costs 32 bytes at most: what a stranger can make us allocate is known. (jansson,
 * which we used first, needs several times that and dereferences NULL when an allocation fails
 * inside it.)
 *
 * Lenient beyond fastjson's dialect: control characters may stand in a string, malformed UTF-8
 * stays as it is, half a surrogate pair becomes U+FFFD. Of equal keys the last counts, as in Java.
 *
 * Owns:    a copy of the text, unescaped in place, and the nodes; both live until json_tree_fini.
 * Thread:  whoever owns the struct.
 * Holds:   an all-zero struct is empty; nodes[0].span == node_count after a successful parse.
 */
#ifndef CORE_PROTO_JSON_TREE_H
#define CORE_PROTO_JSON_TREE_H

#include "core/base/attr.h"
#include "core/base/limits.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_DEPTH_MAX (HEADER_DEPTH_MAX * 2)

struct json_limits {
    uint32_t elements_max; /* values, containers and keys */
    uint32_t depth_max;    /* at most JSON_DEPTH_MAX */
};

#define JSON_LIMITS_BODY ((struct json_limits){BODY_ELEMENTS_MAX, JSON_DEPTH_MAX})

enum json_node_kind {
    JSON_NODE_NULL,
    JSON_NODE_FALSE,
    JSON_NODE_TRUE,
    JSON_NODE_NUMBER, /* text is the literal */
    JSON_NODE_STRING, /* text is unescaped, without a NUL at its end */
    JSON_NODE_ARRAY,
    JSON_NODE_OBJECT
};

struct json_node {
    const uint8_t *text;
    uint32_t len;
    uint32_t span;  /* nodes of this value, itself included */
    uint32_t count; /* children: elements of an array; keys plus values of an object */
    enum json_node_kind kind;
};

struct json_tree {
    uint8_t *text;
    struct json_node *nodes;
    uint32_t node_count;
    uint32_t node_cap;
};

/*
 * Parse a text into an empty tree. ESCROW_EPROTO (malformed, or nothing), ESCROW_ELIMIT (depth,
 * elements, longer than a frame), ESCROW_ENOMEM. After an error the tree is empty.
 */
ESCROW_MUST_USE int json_tree_parse(struct json_tree *tree, struct slice in,
                                    struct json_limits limits);
void json_tree_fini(struct json_tree *tree);

/* The value of the text; the tree must not be empty. */
const struct json_node *json_tree_root(const struct json_tree *tree);

/*
 * The child behind `child`, NULL for the first one. Of an object these are keys and values in turn.
 * NULL at the end, and when `node` has no children (or is NULL).
 */
const struct json_node *json_node_next(const struct json_node *node, const struct json_node *child);

/*
 * Value of the last pair with that key; NULL when there is none or `object` is no object (NULL
 * too).
 */
const struct json_node *json_node_find(const struct json_node *object, const char *key);

/* Number of pairs of an object or elements of an array; 0 for everything else, NULL too. */
size_t json_node_count(const struct json_node *node);

/* Is it (not NULL and) of that kind? */
bool json_node_is(const struct json_node *node, enum json_node_kind kind);

/* Text of a string, a number or a literal. */
static inline struct slice json_node_text(const struct json_node *node)
{
    return slice_of(node->text, node->len);
}

#endif
