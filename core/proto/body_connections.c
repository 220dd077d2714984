#include "core/proto/body_connections.h"

#include "core/proto/body_tree.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

static void put_rows(struct json_writer *w, const struct connection_row *rows, size_t count)
{
    json_write_key(w, "connectionSet");
    json_write_array_begin(w);
    for (size_t i = 0; i < count; i++) {
        json_write_object_begin(w);
        json_put_string(w, "clientAddr", rows[i].client_addr);
        json_put_string(w, "clientId", rows[i].client_id);
        json_put_string(w, "language", slice_str(rows[i].language));
        json_put_i64(w, "version", rows[i].version);
        json_write_object_end(w);
    }
    json_write_array_end(w);
}

void consumer_connections_encode(struct buf *out, const struct consumer_connections *body)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    put_rows(&w, body->rows, body->row_count);
    json_put_string(&w, "consumeFromWhere", slice_str(consume_from_name(body->from)));
    json_put_string(&w, "consumeType", slice_str(consume_type_name(body->type)));
    json_put_string(&w, "messageModel", slice_str(message_model_name(body->model)));
    json_write_key(&w, "subscriptionTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < body->subscription_count; i++) {
        json_write_key_slice(&w, body->subscriptions[i].topic);
        subscription_encode(&w, &body->subscriptions[i]);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
}

void producer_connections_encode(struct buf *out, const struct connection_row *rows, size_t count)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    put_rows(&w, rows, count);
    json_write_object_end(&w);
}

int connections_count(struct slice body, size_t *count)
{
    struct body_tree tree = {.chunks = NULL};
    const struct json_node *root = NULL;
    const struct json_node *set;
    int rc = body_tree_parse(&tree, body, JSON_LIMITS_BODY, &root);

    *count = 0;
    if (rc == 0) {
        set = body_tree_list(root, "connectionSet");
        rc = set == NULL ? ESCROW_EPROTO : 0;
        *count = set == NULL ? 0 : set->count;
    }
    body_tree_fini(&tree);
    return rc;
}
