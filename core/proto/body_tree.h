/*
 * What a decoded JSON body owns: the parsed text that its slices point into, and its arrays. Every
 * decoded body has one as a member; its decode fills it, its fini frees it. The functions are for
 * the decoders of this folder.
 *
 * Reading a value of another kind than expected gives the fallback: RocketMQ's own readers are as
 * lenient, and what has to be there is tested by the decoder.
 *
 * Owns:    the parsed text and the arrays.
 * Thread:  whoever owns the struct.
 * Holds:   an all-zero struct is empty; fini may be called on it, and twice.
 */
#ifndef CORE_PROTO_BODY_TREE_H
#define CORE_PROTO_BODY_TREE_H

#include "core/base/attr.h"
#include "core/base/slice.h"
#include "core/proto/json_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct body_chunk;

struct body_tree {
    struct json_tree json;
    struct body_chunk *chunks;
};

void body_tree_fini(struct body_tree *tree);

/*
 * Parse a text into an empty tree; *root is its value, an object. ESCROW_EPROTO (also: not an
 * object), ESCROW_ELIMIT, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int body_tree_parse(struct body_tree *tree, struct slice text,
                                    struct json_limits limits, const struct json_node **root);

/* A zeroed array that lives as long as the tree; NULL when out of memory. count may be 0. */
void *body_tree_array(struct body_tree *tree, size_t count, size_t size_bytes) ESCROW_MUST_USE;

/* Members of an object (NULL: every member is absent). Slices live as long as the tree. */
struct slice body_tree_str(const struct json_node *object, const char *key);
int64_t body_tree_i64(const struct json_node *object, const char *key, int64_t fallback);
int32_t body_tree_i32(const struct json_node *object, const char *key, int32_t fallback);
double body_tree_f64(const struct json_node *object, const char *key, double fallback);
bool body_tree_bool(const struct json_node *object, const char *key, bool fallback);

/*
 * A value itself: text of a string; integer, or a string with a decimal integer in it. false when
 * it is none.
 */
bool body_tree_text(const struct json_node *value, struct slice *out);
bool body_tree_number(const struct json_node *value, int64_t *out);

/* Member that is an array, or an object; NULL when it is absent or of another kind. */
const struct json_node *body_tree_list(const struct json_node *object, const char *key);
const struct json_node *body_tree_map(const struct json_node *object, const char *key);

/* Walk the pairs of an object: *cursor starts NULL; false at the end, and at once for NULL. */
bool body_tree_next_pair(const struct json_node *map, const struct json_node **cursor,
                         const struct json_node **key, const struct json_node **value);

#endif
