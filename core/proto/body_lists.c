#include "core/proto/body_lists.h"

#include "core/proto/json_write.h"
#include "escrow/errors.h"

void name_list_encode(struct buf *out, const char *key, const struct slice *names, size_t count)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, key);
    json_write_array_begin(&w);
    for (size_t i = 0; i < count; i++) {
        json_write_string(&w, names[i]);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
}

static int get_names(struct name_list *list, const struct json_node *root, const char *key)
{
    const struct json_node *array = body_tree_list(root, key);
    const struct json_node *name = NULL;

    list->names = body_tree_array(&list->tree, json_node_count(array), sizeof *list->names);
    if (list->names == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((name = json_node_next(array, name)) != NULL) {
        if (!body_tree_text(name, &list->names[list->count++])) {
            return ESCROW_EPROTO;
        }
    }
    return 0;
}

int name_list_decode(struct slice body, const char *key, struct name_list *list)
{
    const struct json_node *root;
    int error;

    *list = (struct name_list){0};
    error = body_tree_parse(&list->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        error = get_names(list, root, key);
    }
    if (error != 0) {
        name_list_fini(list);
    }
    return error;
}

void name_list_fini(struct name_list *list)
{
    body_tree_fini(&list->tree);
    *list = (struct name_list){0};
}

void kv_table_encode(struct buf *out, const struct kv_pair *pairs, size_t count)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "table");
    json_write_object_begin(&w);
    for (size_t i = 0; i < count; i++) {
        json_write_key_slice(&w, pairs[i].key);
        json_write_string(&w, pairs[i].value);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
}

static int get_pairs(struct kv_table *table, const struct json_node *root)
{
    const struct json_node *map = body_tree_map(root, "table");
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;

    table->pairs = body_tree_array(&table->tree, json_node_count(map), sizeof *table->pairs);
    if (table->pairs == NULL) {
        return ESCROW_ENOMEM;
    }
    while (body_tree_next_pair(map, &cursor, &key, &value)) {
        struct kv_pair *pair = &table->pairs[table->count];
        if (!body_tree_text(key, &pair->key) || !body_tree_text(value, &pair->value)) {
            return ESCROW_EPROTO;
        }
        table->count++;
    }
    return 0;
}

int kv_table_decode(struct slice body, struct kv_table *table)
{
    const struct json_node *root;
    int error;

    *table = (struct kv_table){0};
    error = body_tree_parse(&table->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        error = get_pairs(table, root);
    }
    if (error != 0) {
        kv_table_fini(table);
    }
    return error;
}

void kv_table_fini(struct kv_table *table)
{
    body_tree_fini(&table->tree);
    *table = (struct kv_table){0};
}
