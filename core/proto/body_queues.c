/*
 * A queue as a key arrives as an object in the place of a key (json_tree.h); there it is read like
 * any other object.
 */
#include "core/proto/body_queues.h"

#include "core/proto/json_write.h"
#include "escrow/errors.h"

/* ---- queues ---- */

void message_queue_write(struct json_writer *w, const struct message_queue *queue)
{
    json_write_object_begin(w);
    json_put_string(w, "brokerName", queue->broker_name);
    json_put_i64(w, "queueId", queue->queue_id);
    json_put_string(w, "topic", queue->topic);
    json_write_object_end(w);
}

static void put_queues(struct json_writer *w, const char *key, const struct message_queue *queues,
                       size_t count)
{
    json_write_key(w, key);
    json_write_array_begin(w);
    for (size_t i = 0; i < count; i++) {
        message_queue_write(w, &queues[i]);
    }
    json_write_array_end(w);
}

static int get_queue(const struct json_node *object, struct message_queue *queue)
{
    queue->topic = body_tree_str(object, "topic");
    queue->broker_name = body_tree_str(object, "brokerName");
    queue->queue_id = body_tree_i32(object, "queueId", -1);
    return queue->topic.len == 0 || queue->queue_id < 0 ? ESCROW_EPROTO : 0;
}

static int get_queues(struct body_tree *tree, const struct json_node *list,
                      struct message_queue **queues, size_t *count)
{
    const struct json_node *queue = NULL;

    *queues = body_tree_array(tree, json_node_count(list), sizeof **queues);
    if (*queues == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((queue = json_node_next(list, queue)) != NULL) {
        int error = get_queue(queue, &(*queues)[(*count)++]);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

/* ---- locks ---- */

void queue_lock_encode(struct buf *out, const struct queue_lock *lock)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_put_string(&w, "clientId", lock->client_id);
    json_put_string(&w, "consumerGroup", lock->group);
    put_queues(&w, "mqSet", lock->queues, lock->queue_count);
    json_put_bool(&w, "onlyThisBroker", lock->is_only_this_broker);
    json_write_object_end(&w);
}

int queue_lock_decode(struct slice body, struct queue_lock *lock)
{
    const struct json_node *root;
    int error;

    *lock = (struct queue_lock){0};
    error = body_tree_parse(&lock->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        lock->group = body_tree_str(root, "consumerGroup");
        lock->client_id = body_tree_str(root, "clientId");
        lock->is_only_this_broker = body_tree_bool(root, "onlyThisBroker", false);
        error = lock->group.len == 0 || lock->client_id.len == 0
                    ? ESCROW_EPROTO
                    : get_queues(&lock->tree, body_tree_list(root, "mqSet"), &lock->queues,
                                 &lock->queue_count);
    }
    if (error != 0) {
        queue_lock_fini(lock);
    }
    return error;
}

void queue_lock_fini(struct queue_lock *lock)
{
    body_tree_fini(&lock->tree);
    *lock = (struct queue_lock){0};
}

void queue_set_encode(struct buf *out, const struct message_queue *queues, size_t count)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    put_queues(&w, "lockOKMQSet", queues, count);
    json_write_object_end(&w);
}

int queue_set_decode(struct slice body, struct queue_set *set)
{
    const struct json_node *root;
    int error;

    *set = (struct queue_set){0};
    error = body_tree_parse(&set->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        error =
            get_queues(&set->tree, body_tree_list(root, "lockOKMQSet"), &set->queues, &set->count);
    }
    if (error != 0) {
        queue_set_fini(set);
    }
    return error;
}

void queue_set_fini(struct queue_set *set)
{
    body_tree_fini(&set->tree);
    *set = (struct queue_set){0};
}

/* ---- tables ---- */

/* What the table is called in the body. */
static const char *table_key(enum queue_table_kind kind)
{
    return kind == QUEUE_TABLE_MEMBER ? "messageQueueTable" : "offsetTable";
}

static void put_row(struct json_writer *w, enum queue_table_kind kind,
                    const struct queue_stats *row)
{
    switch (kind) {
    case QUEUE_TABLE_TOPIC:
        json_write_object_begin(w);
        json_put_i64(w, "lastUpdateTimestamp", row->last_ms);
        json_put_i64(w, "maxOffset", row->max_offset);
        json_put_i64(w, "minOffset", row->min_offset);
        json_write_object_end(w);
        return;
    case QUEUE_TABLE_CONSUME:
        json_write_object_begin(w);
        json_put_i64(w, "brokerOffset", row->max_offset);
        json_put_i64(w, "consumerOffset", row->consumer_offset);
        json_put_i64(w, "lastTimestamp", row->last_ms);
        json_put_i64(w, "pullOffset", row->pull_offset);
        json_write_object_end(w);
        return;
    case QUEUE_TABLE_OFFSETS:
    case QUEUE_TABLE_MEMBER:
        json_write_i64(w, row->consumer_offset);
        return;
    }
}

static void put_rows(struct json_writer *w, enum queue_table_kind kind,
                     const struct queue_table *table)
{
    json_write_object_begin(w);
    for (size_t i = 0; i < table->count; i++) {
        message_queue_write(w, &table->rows[i].queue);
        json_write_object_key_end(w);
        put_row(w, kind, &table->rows[i]);
    }
    json_write_object_end(w);
}

void queue_offsets_write(struct json_writer *w, const struct queue_table *table)
{
    put_rows(w, QUEUE_TABLE_OFFSETS, table);
}

void queue_table_write(struct json_writer *w, enum queue_table_kind kind,
                       const struct queue_table *table)
{
    json_write_object_begin(w);
    if (kind == QUEUE_TABLE_CONSUME) {
        json_write_key(w, "consumeTps");
        json_write_f64(w, table->tps);
    }
    json_write_key(w, table_key(kind));
    put_rows(w, kind, table);
    if (kind == QUEUE_TABLE_TOPIC) {
        json_write_key(w, "topicPutTps");
        json_write_f64(w, table->tps);
    }
    json_write_object_end(w);
}

void queue_table_encode(struct buf *out, enum queue_table_kind kind,
                        const struct queue_table *table)
{
    struct json_writer w = json_writer_to(out);

    queue_table_write(&w, kind, table);
}

static int get_row(enum queue_table_kind kind, const struct json_node *value,
                   struct queue_stats *row)
{
    switch (kind) {
    case QUEUE_TABLE_TOPIC:
        row->min_offset = body_tree_i64(value, "minOffset", 0);
        row->max_offset = body_tree_i64(value, "maxOffset", 0);
        row->last_ms = body_tree_i64(value, "lastUpdateTimestamp", 0);
        break;
    case QUEUE_TABLE_CONSUME:
        row->max_offset = body_tree_i64(value, "brokerOffset", 0);
        row->consumer_offset = body_tree_i64(value, "consumerOffset", 0);
        row->pull_offset = body_tree_i64(value, "pullOffset", 0);
        row->last_ms = body_tree_i64(value, "lastTimestamp", 0);
        break;
    case QUEUE_TABLE_OFFSETS:
    case QUEUE_TABLE_MEMBER:
        return body_tree_number(value, &row->consumer_offset) ? 0 : ESCROW_EPROTO;
    }
    return json_node_is(value, JSON_NODE_OBJECT) ? 0 : ESCROW_EPROTO;
}

static int get_table(struct queue_table *table, enum queue_table_kind kind,
                     const struct json_node *root)
{
    const struct json_node *map = body_tree_map(root, table_key(kind));
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;

    table->rows = body_tree_array(&table->tree, json_node_count(map), sizeof *table->rows);
    if (table->rows == NULL) {
        return ESCROW_ENOMEM;
    }
    while (body_tree_next_pair(map, &cursor, &key, &value)) {
        struct queue_stats *row = &table->rows[table->count++];
        int error = get_queue(key, &row->queue);
        if (error == 0) {
            error = get_row(kind, value, row);
        }
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

int queue_table_decode(struct slice body, enum queue_table_kind kind, struct queue_table *table)
{
    const struct json_node *root;
    int error;

    *table = (struct queue_table){0};
    error = body_tree_parse(&table->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        const char *name = kind == QUEUE_TABLE_TOPIC ? "topicPutTps" : "consumeTps";
        table->tps = body_tree_f64(root, name, 0);
        error = get_table(table, kind, root);
    }
    if (error != 0) {
        queue_table_fini(table);
    }
    return error;
}

void queue_table_fini(struct queue_table *table)
{
    body_tree_fini(&table->tree);
    *table = (struct queue_table){0};
}
