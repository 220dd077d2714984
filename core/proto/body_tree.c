#include "core/proto/body_tree.h"

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <jansson.h>

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
    json_decref(tree->docs);
    tree->docs = NULL;
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

/* Parse normalized text; the value joins tree->docs. */
static int parse(struct body_tree *tree, struct slice text, json_t **root)
{
    json_error_t why;
    json_t *value;

    if (tree->docs == NULL) {
        tree->docs = json_array();
        if (tree->docs == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    value = json_loadb((const char *)text.ptr, text.len, JSON_ALLOW_NUL, &why);
    if (value == NULL) {
        return json_error_code(&why) == json_error_out_of_memory ? ESCROW_ENOMEM : ESCROW_EPROTO;
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return ESCROW_EPROTO;
    }
    *root = value;
    return json_array_append_new(tree->docs, value) == 0 ? 0 : ESCROW_ENOMEM;
}

int body_tree_parse(struct body_tree *tree, struct slice text, struct json_limits limits,
                    struct json_t **root)
{
    struct buf standard;
    int error;

    buf_init(&standard, 0); /* json_text.h says how long it can get */
    error = json_text_normalize(text, limits, &standard);
    if (error == 0) {
        error = parse(tree, buf_slice(&standard), root);
    }
    buf_fini(&standard);
    return error;
}

bool body_tree_text(const struct json_t *value, struct slice *out)
{
    if (!json_is_string(value)) {
        return false;
    }
    *out = slice_of(json_string_value(value), json_string_length(value));
    return true;
}

bool body_tree_number(const struct json_t *value, int64_t *out)
{
    struct slice text;

    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    return body_tree_text(value, &text) && slice_to_i64(text, out);
}

struct slice body_tree_str(const struct json_t *object, const char *key)
{
    struct slice text = SLICE_EMPTY;

    (void)body_tree_text(json_object_get(object, key), &text); /* empty when it is no string */
    return text;
}

int64_t body_tree_i64(const struct json_t *object, const char *key, int64_t fallback)
{
    int64_t number;

    return body_tree_number(json_object_get(object, key), &number) ? number : fallback;
}

int32_t body_tree_i32(const struct json_t *object, const char *key, int32_t fallback)
{
    int64_t number = body_tree_i64(object, key, fallback);

    return number < INT32_MIN || number > INT32_MAX ? fallback : (int32_t)number;
}

bool body_tree_bool(const struct json_t *object, const char *key, bool fallback)
{
    const json_t *value = json_object_get(object, key);
    struct slice text;

    if (json_is_boolean(value)) {
        return json_is_true(value);
    }
    if (body_tree_text(value, &text)) {
        return slice_eq_str(text, "true") || (fallback && !slice_eq_str(text, "false"));
    }
    return fallback;
}

struct json_t *body_tree_list(const struct json_t *object, const char *key, size_t *count)
{
    json_t *value = json_object_get(object, key);

    *count = json_array_size(value); /* 0 for everything else, NULL included */
    return json_is_array(value) ? value : NULL;
}

struct json_t *body_tree_map(const struct json_t *object, const char *key, size_t *count)
{
    json_t *value = json_object_get(object, key);

    *count = json_object_size(value);
    return json_is_object(value) ? value : NULL;
}
