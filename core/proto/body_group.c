#include "core/proto/body_group.h"

#include "core/base/check.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

#include <string.h>

#define POLICY_DEFAULT "{\"type\":\"CUSTOMIZED\"}"

/* ---- texts ---- */

/* Keep what was written as a text of the tree, or nothing if that is what `nothing` says. */
static int text_keep(struct body_tree *tree, const struct buf *text, const char *nothing,
                     struct slice *out)
{
    uint8_t *copy;

    *out = SLICE_EMPTY;
    if (buf_failed(text)) {
        return ESCROW_ENOMEM;
    }
    if (slice_eq_str(buf_slice(text), nothing)) {
        return 0;
    }
    if (text->len > GROUP_TEXT_MAX) {
        return ESCROW_ELIMIT;
    }
    copy = body_tree_array(tree, text->len, 1);
    if (copy == NULL) {
        return ESCROW_ENOMEM;
    }
    memcpy(copy, text->ptr, text->len);
    *out = slice_of(copy, text->len);
    return 0;
}

static int attributes_write(struct json_writer *w, const struct json_node *value)
{
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *text;

    if (!json_node_is(value, JSON_NODE_OBJECT)) {
        return ESCROW_EPROTO;
    }
    json_write_object_begin(w);
    while (body_tree_next_pair(value, &cursor, &key, &text)) {
        if (!json_node_is(key, JSON_NODE_STRING) || !json_node_is(text, JSON_NODE_STRING)) {
            return ESCROW_EPROTO;
        }
        json_write_key_slice(w, json_node_text(key));
        json_write_string(w, json_node_text(text));
    }
    json_write_object_end(w);
    return 0;
}

static int exponential_write(struct json_writer *w, const struct json_node *policy)
{
    const struct {
        const char *name;
        int64_t fallback;
    } numbers[] = {{"initial", 5000}, {"max", 7200000}, {"multiplier", 2}};

    if (!json_node_is(policy, JSON_NODE_OBJECT)) {
        return ESCROW_EPROTO;
    }
    json_write_key(w, "exponentialRetryPolicy");
    json_write_object_begin(w);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        json_put_i64(w, numbers[i].name,
                     body_tree_i64(policy, numbers[i].name, numbers[i].fallback));
    }
    json_write_object_end(w);
    return 0;
}

static int customized_write(struct json_writer *w, const struct json_node *policy)
{
    const struct json_node *next = body_tree_list(policy, "next");
    const struct json_node *child = NULL;
    int64_t number;

    if (!json_node_is(policy, JSON_NODE_OBJECT)) {
        return ESCROW_EPROTO;
    }
    json_write_key(w, "customizedRetryPolicy");
    json_write_object_begin(w);
    if (next != NULL) {
        json_write_key(w, "next");
        json_write_array_begin(w);
        while ((child = json_node_next(next, child)) != NULL) {
            if (!body_tree_number(child, &number)) {
                return ESCROW_EPROTO;
            }
            json_write_i64(w, number);
        }
        json_write_array_end(w);
    }
    json_write_object_end(w);
    return 0;
}

static bool is_there(const struct json_node *value)
{
    return value != NULL && !json_node_is(value, JSON_NODE_NULL);
}

static int policy_write(struct json_writer *w, const struct json_node *value)
{
    const struct json_node *customized = json_node_find(value, "customizedRetryPolicy");
    const struct json_node *exponential = json_node_find(value, "exponentialRetryPolicy");
    struct slice type = body_tree_str(value, "type");
    int error = 0;

    if (!json_node_is(value, JSON_NODE_OBJECT)) {
        return ESCROW_EPROTO;
    }
    if (json_node_find(value, "type") == NULL) {
        type = SLICE_LIT("CUSTOMIZED");
    }
    if (!slice_eq_str(type, "CUSTOMIZED") && !slice_eq_str(type, "EXPONENTIAL")) {
        return ESCROW_EPROTO;
    }
    json_write_object_begin(w);
    if (is_there(customized)) {
        error = customized_write(w, customized);
    }
    if (error == 0 && is_there(exponential)) {
        error = exponential_write(w, exponential);
    }
    json_put_string(w, "type", type);
    json_write_object_end(w);
    return error;
}

static int subscriptions_write(struct json_writer *w, const struct json_node *value)
{
    const struct json_node *child = NULL;
    static const char *const names[] = {"expression", "expressionType", "topic"};

    if (!json_node_is(value, JSON_NODE_ARRAY)) {
        return ESCROW_EPROTO;
    }
    json_write_array_begin(w);
    while ((child = json_node_next(value, child)) != NULL) {
        if (!json_node_is(child, JSON_NODE_OBJECT)) {
            return ESCROW_EPROTO;
        }
        json_write_object_begin(w);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            struct slice text;
            if (body_tree_text(json_node_find(child, names[i]), &text)) {
                json_put_string(w, names[i], text);
            }
        }
        json_put_i64(w, "version", body_tree_i64(child, "version", 0));
        json_write_object_end(w);
    }
    json_write_array_end(w);
    return 0;
}

/* ---- one group ---- */

void group_config_init(struct group_config *group, struct slice name)
{
    *group = (struct group_config){.name = name,
                                   .is_consume_enabled = true,
                                   .is_consume_from_min_enabled = true,
                                   .is_broadcast_enabled = true,
                                   .is_notify_enabled = true,
                                   .retry_queue_count = 1,
                                   .retry_max_times = 16,
                                   .slow_broker_id = 1,
                                   .consume_timeout_min = 15};
}

static void group_config_write(struct json_writer *w, const struct group_config *group)
{
    json_write_object_begin(w);
    json_write_key(w, "attributes");
    json_write_text(w, group->attributes.len > 0 ? group->attributes : SLICE_LIT("{}"));
    json_put_i64(w, "brokerId", group->broker_id);
    json_put_bool(w, "consumeBroadcastEnable", group->is_broadcast_enabled);
    json_put_bool(w, "consumeEnable", group->is_consume_enabled);
    json_put_bool(w, "consumeFromMinEnable", group->is_consume_from_min_enabled);
    json_put_bool(w, "consumeMessageOrderly", group->is_orderly);
    json_put_i64(w, "consumeTimeoutMinute", group->consume_timeout_min);
    json_put_string(w, "groupName", group->name);
    json_write_key(w, "groupRetryPolicy");
    json_write_text(w,
                    group->retry_policy.len > 0 ? group->retry_policy : SLICE_LIT(POLICY_DEFAULT));
    json_put_i64(w, "groupSysFlag", group->sys_flag);
    json_put_bool(w, "notifyConsumerIdsChangedEnable", group->is_notify_enabled);
    json_put_i64(w, "retryMaxTimes", group->retry_max_times);
    json_put_i64(w, "retryQueueNums", group->retry_queue_count);
    if (group->subscriptions.len > 0) {
        json_write_key(w, "subscriptionDataSet");
        json_write_text(w, group->subscriptions);
    }
    json_put_i64(w, "whichBrokerWhenConsumeSlowly", group->slow_broker_id);
    json_write_object_end(w);
}

void group_config_encode(struct buf *out, const struct group_config *group)
{
    struct json_writer w = json_writer_to(out);

    group_config_write(&w, group);
}

static int texts_read(struct body_tree *tree, const struct json_node *object,
                      struct group_config *group)
{
    const struct {
        const char *name;
        const char *nothing;
        int (*write)(struct json_writer *w, const struct json_node *value);
        struct slice *text;
    } texts[] = {
        {"attributes", "{}", attributes_write, &group->attributes},
        {"groupRetryPolicy", POLICY_DEFAULT, policy_write, &group->retry_policy},
        {"subscriptionDataSet", "[]", subscriptions_write, &group->subscriptions},
    };
    int error = 0;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && error == 0; i++) {
        const struct json_node *value = json_node_find(object, texts[i].name);
        struct json_writer w;
        struct buf text;
        if (!is_there(value)) {
            continue;
        }
        buf_init(&text, 0);
        w = json_writer_to(&text);
        error = texts[i].write(&w, value);
        if (error == 0) {
            error = text_keep(tree, &text, texts[i].nothing, texts[i].text);
        }
        buf_fini(&text);
    }
    return error;
}

static int group_config_read(struct body_tree *tree, const struct json_node *object,
                             struct group_config *group)
{
    struct group_config def;

    group_config_init(&def, body_tree_str(object, "groupName"));
    if (def.name.len == 0 || def.name.len > GROUP_LEN_MAX) {
        return ESCROW_EPROTO;
    }
    *group = (struct group_config){
        .name = def.name,
        .is_consume_enabled = body_tree_bool(object, "consumeEnable", def.is_consume_enabled),
        .is_consume_from_min_enabled =
            body_tree_bool(object, "consumeFromMinEnable", def.is_consume_from_min_enabled),
        .is_broadcast_enabled =
            body_tree_bool(object, "consumeBroadcastEnable", def.is_broadcast_enabled),
        .is_orderly = body_tree_bool(object, "consumeMessageOrderly", def.is_orderly),
        .is_notify_enabled =
            body_tree_bool(object, "notifyConsumerIdsChangedEnable", def.is_notify_enabled),
        .retry_queue_count = body_tree_i32(object, "retryQueueNums", def.retry_queue_count),
        .retry_max_times = body_tree_i32(object, "retryMaxTimes", def.retry_max_times),
        .slow_broker_id = body_tree_i32(object, "whichBrokerWhenConsumeSlowly", def.slow_broker_id),
        .consume_timeout_min =
            body_tree_i32(object, "consumeTimeoutMinute", def.consume_timeout_min),
        .broker_id = body_tree_i64(object, "brokerId", def.broker_id),
        .sys_flag = body_tree_i32(object, "groupSysFlag", def.sys_flag)};
    return texts_read(tree, object, group);
}

int group_config_decode(struct slice body, struct group_config *group, struct body_tree *tree)
{
    const struct json_node *root;
    int error;

    *tree = (struct body_tree){0};
    error = body_tree_parse(tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        error = group_config_read(tree, root, group);
    }
    if (error != 0) {
        body_tree_fini(tree);
        *tree = (struct body_tree){0};
    }
    return error;
}

/* ---- attributes ---- */

static struct slice attribute_name(const struct json_node *key)
{
    struct slice name = json_node_text(key);

    return name.len > 0 && (name.ptr[0] == '+' || name.ptr[0] == '-')
               ? slice_of(name.ptr + 1, name.len - 1)
               : name;
}

static bool is_taken_away(const struct json_node *key)
{
    return key->len > 0 && key->text[0] == '-';
}

/* How often is it named among the pairs of an object, whatever stands before the name? */
static uint32_t attribute_count(const struct json_node *object, struct slice name)
{
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;
    uint32_t count = 0;

    while (body_tree_next_pair(object, &cursor, &key, &value)) {
        count += slice_eq(attribute_name(key), name) ? 1 : 0;
    }
    return count;
}

static int changes_check(const struct json_node *current, const struct json_node *changes,
                         struct err_ctx *err)
{
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;

    if (json_node_count(changes) > GROUP_ATTRIBUTES_MAX) {
        return err_set(err, ESCROW_ELIMIT, "more than %d attributes", GROUP_ATTRIBUTES_MAX);
    }
    while (body_tree_next_pair(changes, &cursor, &key, &value)) {
        struct slice name = attribute_name(key);
        if (name.len == 0 || name.ptr[0] == '+' || name.ptr[0] == '-' ||
            attribute_count(changes, name) > 1) {
            return err_set(err, ESCROW_EINVAL, "attribute '%.*s': no name, or named twice",
                           SLICE_ARGS(name));
        }
        if (is_taken_away(key) && attribute_count(current, name) == 0) {
            return err_set(err, ESCROW_EINVAL, "attribute '%.*s' is not there to be deleted",
                           SLICE_ARGS(name));
        }
    }
    return 0;
}

static uint32_t changed_write(struct json_writer *w, const struct json_node *current,
                              const struct json_node *changes)
{
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;
    uint32_t count = 0;

    json_write_object_begin(w);
    while (body_tree_next_pair(current, &cursor, &key, &value)) {
        if (attribute_count(changes, json_node_text(key)) == 0) {
            json_write_key_slice(w, json_node_text(key));
            json_write_string(w, json_node_text(value));
            count++;
        }
    }
    cursor = NULL;
    while (body_tree_next_pair(changes, &cursor, &key, &value)) {
        if (!is_taken_away(key)) {
            json_write_key_slice(w, attribute_name(key));
            json_write_string(w, json_node_text(value));
            count++;
        }
    }
    json_write_object_end(w);
    return count;
}

static int attributes_parse(struct json_tree *tree, struct slice text)
{
    return json_tree_parse(tree, text.len > 0 ? text : SLICE_LIT("{}"), JSON_LIMITS_BODY);
}

int group_attributes_change(struct slice current, struct slice changes, struct buf *out,
                            struct err_ctx *err)
{
    struct json_tree old = {0};
    struct json_tree new = {0};
    struct json_writer w = json_writer_to(out);
    int rc = attributes_parse(&old, current);

    if (rc == 0) {
        rc = attributes_parse(&new, changes);
    }
    if (rc != 0) {
        rc = err_set(err, rc, "attributes: %s", escrow_strerror(rc));
    } else {
        rc = changes_check(json_tree_root(&old), json_tree_root(&new), err);
    }
    if (rc == 0) {
        uint32_t count = changed_write(&w, json_tree_root(&old), json_tree_root(&new));
        if (buf_failed(out)) {
            rc = err_set(err, ESCROW_ENOMEM, "out of memory");
        } else if (count > GROUP_ATTRIBUTES_MAX || out->len > GROUP_TEXT_MAX) {
            rc = err_set(err, ESCROW_ELIMIT, "more than %d attributes, or %d bytes of them",
                         GROUP_ATTRIBUTES_MAX, GROUP_TEXT_MAX);
        } else if (count == 0) {
            buf_clear(out);
        }
    }
    json_tree_fini(&old);
    json_tree_fini(&new);
    return rc;
}

/* ---- the table ---- */

void group_table_encode(struct buf *out, const struct group_table *table)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "dataVersion");
    data_version_write(&w, &table->version);
    json_write_key(&w, "subscriptionGroupTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < table->group_count; i++) {
        json_write_key_slice(&w, table->groups[i].name);
        group_config_write(&w, &table->groups[i]);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
}

static int group_configs_read(struct group_table *table, const struct json_node *root)
{
    const struct json_node *map = body_tree_map(root, "subscriptionGroupTable");
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;
    int error = 0;

    table->groups = body_tree_array(&table->tree, json_node_count(map), sizeof *table->groups);
    if (table->groups == NULL) {
        return ESCROW_ENOMEM;
    }
    while (error == 0 && body_tree_next_pair(map, &cursor, &key, &value)) {
        error = group_config_read(&table->tree, value, &table->groups[table->group_count++]);
    }
    return error;
}

int group_table_decode(struct slice body, struct group_table *table)
{
    const struct json_node *root;
    int error;

    *table = (struct group_table){0};
    error = body_tree_parse(&table->tree, body, TOPIC_TABLE_LIMITS, &root);
    if (error == 0) {
        table->version = data_version_read(json_node_find(root, "dataVersion"));
        error = group_configs_read(table, root);
    }
    if (error != 0) {
        group_table_fini(table);
    }
    return error;
}

void group_table_fini(struct group_table *table)
{
    body_tree_fini(&table->tree);
    *table = (struct group_table){0};
}
