#include "core/proto/body_topic.h"

#include "core/proto/json_write.h"
#include "escrow/errors.h"

/* ---- topics ---- */

void topic_config_write(struct json_writer *w, const struct topic_config *topic)
{
    json_write_object_begin(w);
    json_write_key(w, "attributes");
    json_write_object_begin(w);
    json_write_object_end(w);
    json_put_bool(w, "order", topic->is_ordered);
    json_put_i64(w, "perm", topic->perm);
    json_put_i64(w, "readQueueNums", topic->read_queue_count);
    json_put_string(w, "topicFilterType",
                    topic->is_multi_tag ? SLICE_LIT("MULTI_TAG") : SLICE_LIT("SINGLE_TAG"));
    json_put_string(w, "topicName", topic->name);
    json_put_i64(w, "topicSysFlag", topic->sys_flag);
    json_put_i64(w, "writeQueueNums", topic->write_queue_count);
    json_write_object_end(w);
}

void topic_config_encode(struct buf *out, const struct topic_config *topic)
{
    struct json_writer w = json_writer_to(out);

    topic_config_write(&w, topic);
}

int topic_config_read(const struct json_node *object, struct topic_config *topic)
{
    topic->name = body_tree_str(object, "topicName");
    topic->read_queue_count = body_tree_i32(object, "readQueueNums", 16);
    topic->write_queue_count = body_tree_i32(object, "writeQueueNums", 16);
    topic->perm = body_tree_i32(object, "perm", 6);
    topic->sys_flag = body_tree_i32(object, "topicSysFlag", 0);
    topic->is_ordered = body_tree_bool(object, "order", false);
    topic->is_multi_tag = slice_eq_str(body_tree_str(object, "topicFilterType"), "MULTI_TAG");
    if (topic->name.len == 0 || topic->read_queue_count < 0 ||
        topic->read_queue_count > QUEUES_PER_TOPIC_MAX || topic->write_queue_count < 0 ||
        topic->write_queue_count > QUEUES_PER_TOPIC_MAX) {
        return ESCROW_EPROTO;
    }
    return 0;
}

int topic_configs_read(struct body_tree *tree, const struct json_node *owner,
                       struct topic_config **topics, size_t *count)
{
    const struct json_node *map = body_tree_map(owner, "topicConfigTable");
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;
    int error = 0;

    *count = 0;
    if (json_node_count(map) > REGISTER_TOPICS_MAX) {
        return ESCROW_ELIMIT;
    }
    *topics = body_tree_array(tree, json_node_count(map), sizeof **topics);
    if (*topics == NULL) {
        return ESCROW_ENOMEM;
    }
    while (error == 0 && body_tree_next_pair(map, &cursor, &key, &value)) {
        error = topic_config_read(value, &(*topics)[(*count)++]);
    }
    return error;
}

/* ---- versions ---- */

void data_version_write(struct json_writer *w, const struct data_version *version)
{
    json_write_object_begin(w);
    json_put_i64(w, "counter", version->counter);
    json_put_i64(w, "stateVersion", version->state_version);
    json_put_i64(w, "timestamp", version->timestamp_ms);
    json_write_object_end(w);
}

void data_version_encode(struct buf *out, const struct data_version *version)
{
    struct json_writer w = json_writer_to(out);

    data_version_write(&w, version);
}

struct data_version data_version_read(const struct json_node *object)
{
    return (struct data_version){.counter = body_tree_i64(object, "counter", 0),
                                 .state_version = body_tree_i64(object, "stateVersion", 0),
                                 .timestamp_ms = body_tree_i64(object, "timestamp", 0)};
}

int data_version_decode(struct slice body, struct data_version *version)
{
    struct body_tree tree = {0};
    const struct json_node *root;
    int error = body_tree_parse(&tree, body, JSON_LIMITS_BODY, &root);

    if (error == 0) {
        *version = data_version_read(root);
    }
    body_tree_fini(&tree);
    return error;
}

/* ---- the table ---- */

void topic_table_encode(struct buf *out, const struct topic_table *table)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "dataVersion");
    data_version_write(&w, &table->version);
    json_write_key(&w, "topicConfigTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < table->topic_count; i++) {
        json_write_key_slice(&w, table->topics[i].name);
        topic_config_write(&w, &table->topics[i]);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
}

int topic_table_decode(struct slice body, struct topic_table *table)
{
    const struct json_node *root;
    int error;

    *table = (struct topic_table){0};
    error = body_tree_parse(&table->tree, body, TOPIC_TABLE_LIMITS, &root);
    if (error == 0) {
        table->version = data_version_read(json_node_find(root, "dataVersion"));
        error = topic_configs_read(&table->tree, root, &table->topics, &table->topic_count);
    }
    if (error != 0) {
        topic_table_fini(table);
    }
    return error;
}

void topic_table_fini(struct topic_table *table)
{
    body_tree_fini(&table->tree);
    *table = (struct topic_table){0};
}
