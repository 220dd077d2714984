#include "core/proto/body_tree.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <stdlib.h>

#define REAL_TEXT_MAX 64 /* longer literals are cut: digits behind the 60th change no double */

/* One array, behind a link to the one allocated before it. */
struct body_chunk {
    struct body_chunk *next;
    max_align_t data[];
};

void body_tree_fini(struct body_tree *tree)
{
    while (tree->chunks != NULL) {
        struct body_chunk *chunk = tree->chunks;
        tree->chunks = chunk->next;
        mem_free(chunk);
    }
    json_tree_fini(&tree->json);
}

void *body_tree_array(struct body_tree *tree, size_t count, size_t size_bytes)
{
    struct body_chunk *chunk;

    CHECK(size_bytes > 0);
    if (count > (SIZE_MAX - sizeof *chunk) / size_bytes) {
        return NULL;
    }
    chunk = mem_calloc(1, sizeof *chunk + count * size_bytes);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->next = tree->chunks;
    tree->chunks = chunk;
    return chunk->data;
}

int body_tree_parse(struct body_tree *tree, struct slice text, struct json_limits limits,
                    const struct json_node **root)
{
    int error = json_tree_parse(&tree->json, text, limits);

    if (error != 0) {
        return error;
    }
    *root = json_tree_root(&tree->json);
    return json_node_is(*root, JSON_NODE_OBJECT) ? 0 : ESCROW_EPROTO;
}

bool body_tree_text(const struct json_node *value, struct slice *out)
{
    if (!json_node_is(value, JSON_NODE_STRING)) {
        return false;
    }
    *out = json_node_text(value);
    return true;
}

bool body_tree_number(const struct json_node *value, int64_t *out)
{
    return (json_node_is(value, JSON_NODE_NUMBER) || json_node_is(value, JSON_NODE_STRING)) &&
           slice_to_i64(json_node_text(value), out);
}

struct slice body_tree_str(const struct json_node *object, const char *key)
{
    struct slice text = SLICE_EMPTY;

    (void)body_tree_text(json_node_find(object, key), &text); /* empty when it is no string */
    return text;
}

int64_t body_tree_i64(const struct json_node *object, const char *key, int64_t fallback)
{
    int64_t number;

    return body_tree_number(json_node_find(object, key), &number) ? number : fallback;
}

int32_t body_tree_i32(const struct json_node *object, const char *key, int32_t fallback)
{
    int64_t number = body_tree_i64(object, key, fallback);

    return number < INT32_MIN || number > INT32_MAX ? fallback : (int32_t)number;
}

double body_tree_f64(const struct json_node *object, const char *key, double fallback)
{
    const struct json_node *value = json_node_find(object, key);
    char text[REAL_TEXT_MAX];

    if (!json_node_is(value, JSON_NODE_NUMBER)) {
        return fallback;
    }
    return strtod(slice_to_cstr(json_node_text(value), text, sizeof text), NULL);
}

bool body_tree_bool(const struct json_node *object, const char *key, bool fallback)
{
    const struct json_node *value = json_node_find(object, key);

    if (json_node_is(value, JSON_NODE_TRUE) || json_node_is(value, JSON_NODE_FALSE)) {
        return value->kind == JSON_NODE_TRUE;
    }
    if (json_node_is(value, JSON_NODE_STRING) && slice_eq_str(json_node_text(value), "true")) {
        return true;
    }
    if (json_node_is(value, JSON_NODE_STRING) && slice_eq_str(json_node_text(value), "false")) {
        return false;
    }
    return fallback;
}

const struct json_node *body_tree_list(const struct json_node *object, const char *key)
{
    const struct json_node *value = json_node_find(object, key);

    return json_node_is(value, JSON_NODE_ARRAY) ? value : NULL;
}

const struct json_node *body_tree_map(const struct json_node *object, const char *key)
{
    const struct json_node *value = json_node_find(object, key);

    return json_node_is(value, JSON_NODE_OBJECT) ? value : NULL;
}

bool body_tree_next_pair(const struct json_node *map, const struct json_node **cursor,
                         const struct json_node **key, const struct json_node **value)
{
    *key = json_node_next(map, *cursor);
    if (*key == NULL) {
        return false;
    }
    *value = json_node_next(map, *key);
    CHECK(*value != NULL); /* a key is always followed by its value */
    *cursor = *value;
    return true;
}
