/*
 * JSON from strangers. What we accept has consistent spans and counts and, written again, is
 * accepted again; what jansson accepts (it is stricter) we accept too, unless a limit says no.
 */
#include "core/base/check.h"
#include "core/proto/json_tree.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

#include <jansson.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Children fill the span of their parent exactly. */
static void check_node(const struct json_node *node)
{
    const struct json_node *child = NULL;
    uint32_t count = 0;
    uint32_t span = 1;

    while ((child = json_node_next(node, child)) != NULL) {
        count++;
        span += child->span;
    }
    CHECK(count == node->count);
    CHECK(span == node->span);
    CHECK_IMPLIES(node->kind == JSON_NODE_OBJECT, count % 2 == 0);
    CHECK_IMPLIES(node->kind != JSON_NODE_OBJECT && node->kind != JSON_NODE_ARRAY, count == 0);
}

static void write_node(struct json_writer *w, const struct json_node *node)
{
    const struct json_node *child = NULL;
    bool is_key = true;

    if (node->kind == JSON_NODE_STRING) {
        json_write_string(w, json_node_text(node));
    } else if (node->kind == JSON_NODE_ARRAY) {
        json_write_array_begin(w);
        while ((child = json_node_next(node, child)) != NULL) {
            write_node(w, child);
        }
        json_write_array_end(w);
    } else if (node->kind == JSON_NODE_OBJECT) {
        json_write_object_begin(w);
        while ((child = json_node_next(node, child)) != NULL) {
            write_node(w, child);
            if (is_key) {
                json_write_object_key_end(w);
            }
            is_key = !is_key;
        }
        json_write_object_end(w);
    } else {
        json_write_i64(w, 0);
    }
}

static void check_again(const struct json_tree *tree)
{
    struct json_tree again = {0};
    struct buf out;
    struct json_writer w;
    int error;

    buf_init(&out, 0);
    w = json_writer_to(&out);
    write_node(&w, json_tree_root(tree));
    error = json_tree_parse(&again, buf_slice(&out), JSON_LIMITS_BODY);
    CHECK(error == 0);
    CHECK(again.node_count == tree->node_count);
    json_tree_fini(&again);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_tree tree = {0};
    int error = json_tree_parse(&tree, slice_of(data, size), JSON_LIMITS_BODY);
    json_t *value = NULL;

    if (size > 0 && memchr(data, 0, size) == NULL) { /* jansson takes a NUL for the end */
        value = json_loadb((const char *)data, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    }
    CHECK(error == 0 || error == ESCROW_EPROTO || error == ESCROW_ELIMIT);
    CHECK_IMPLIES(value != NULL, error != ESCROW_EPROTO);
    json_decref(value);
    if (error == 0) {
        CHECK(json_tree_root(&tree)->span == tree.node_count);
        for (uint32_t i = 0; i < tree.node_count; i++) {
            check_node(&tree.nodes[i]);
        }
        check_again(&tree);
    }
    json_tree_fini(&tree);
    return 0;
}
