#include "core/proto/body_heartbeat.h"

#include "core/base/check.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

/* ---- names ---- */

static const char *const consume_types[] = {
#define X(name) "CONSUME_" #name,
    CONSUME_TYPES(X)
#undef X
};

static const char *const message_models[] = {
#define X(name) #name,
    MESSAGE_MODELS(X)
#undef X
};

static const char *const consume_froms[] = {
#define X(name) "CONSUME_FROM_" #name,
    CONSUME_FROMS(X)
#undef X
};

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

const char *consume_type_name(enum consume_type type)
{
    CHECK((size_t)type < COUNT_OF(consume_types));
    return consume_types[type];
}

const char *message_model_name(enum message_model model)
{
    CHECK((size_t)model < COUNT_OF(message_models));
    return message_models[model];
}

const char *consume_from_name(enum consume_from from)
{
    CHECK((size_t)from < COUNT_OF(consume_froms));
    return consume_froms[from];
}

/* Index of a name, 0 when it is none of them. */
static size_t find_name(const char *const *names, size_t count, struct slice name)
{
    for (size_t i = 0; i < count; i++) {
        if (slice_eq_str(name, names[i])) {
            return i;
        }
    }
    return 0;
}

/* ---- reading ---- */

static int get_tags(struct body_tree *tree, const struct json_node *object,
                    struct subscription *sub)
{
    const struct json_node *list = body_tree_list(object, "tagsSet");
    const struct json_node *tag = NULL;

    sub->tags = body_tree_array(tree, json_node_count(list), sizeof *sub->tags);
    if (sub->tags == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((tag = json_node_next(list, tag)) != NULL) {
        if (!body_tree_text(tag, &sub->tags[sub->tag_count++])) {
            return ESCROW_EPROTO;
        }
    }
    return 0;
}

static int get_codes(struct body_tree *tree, const struct json_node *object,
                     struct subscription *sub)
{
    const struct json_node *list = body_tree_list(object, "codeSet");
    const struct json_node *code = NULL;
    int64_t number;

    sub->codes = body_tree_array(tree, json_node_count(list), sizeof *sub->codes);
    if (sub->codes == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((code = json_node_next(list, code)) != NULL) {
        if (!body_tree_number(code, &number) || number < INT32_MIN || number > INT32_MAX) {
            return ESCROW_EPROTO;
        }
        sub->codes[sub->code_count++] = (int32_t)number;
    }
    return 0;
}

static int get_subscription(struct body_tree *tree, const struct json_node *object,
                            struct subscription *sub)
{
    int error;

    sub->topic = body_tree_str(object, "topic");
    sub->expression = body_tree_str(object, "subString");
    sub->expression_type = body_tree_str(object, "expressionType");
    sub->version = body_tree_i64(object, "subVersion", 0);
    sub->is_class_filter = body_tree_bool(object, "classFilterMode", false);
    if (sub->topic.len == 0) {
        return ESCROW_EPROTO;
    }
    if (sub->expression.len == 0) {
        sub->expression = SLICE_LIT("*");
    }
    if (sub->expression_type.len == 0) {
        sub->expression_type = SLICE_LIT("TAG");
    }
    error = get_tags(tree, object, sub);
    return error == 0 ? get_codes(tree, object, sub) : error;
}

static int get_consumer(struct body_tree *tree, const struct json_node *object,
                        struct heartbeat_consumer *consumer)
{
    const struct json_node *list = body_tree_list(object, "subscriptionDataSet");
    const struct json_node *sub = NULL;

    consumer->group = body_tree_str(object, "groupName");
    consumer->type = (enum consume_type)find_name(consume_types, COUNT_OF(consume_types),
                                                  body_tree_str(object, "consumeType"));
    consumer->model = (enum message_model)find_name(message_models, COUNT_OF(message_models),
                                                    body_tree_str(object, "messageModel"));
    consumer->from = (enum consume_from)find_name(consume_froms, COUNT_OF(consume_froms),
                                                  body_tree_str(object, "consumeFromWhere"));
    consumer->unit_mode = body_tree_bool(object, "unitMode", false);
    if (consumer->group.len == 0) {
        return ESCROW_EPROTO;
    }
    consumer->subscriptions =
        body_tree_array(tree, json_node_count(list), sizeof *consumer->subscriptions);
    if (consumer->subscriptions == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((sub = json_node_next(list, sub)) != NULL) {
        int error =
            get_subscription(tree, sub, &consumer->subscriptions[consumer->subscription_count++]);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

static int get_producers(struct heartbeat *hb, const struct json_node *root)
{
    const struct json_node *list = body_tree_list(root, "producerDataSet");
    const struct json_node *producer = NULL;

    hb->producer_groups =
        body_tree_array(&hb->tree, json_node_count(list), sizeof *hb->producer_groups);
    if (hb->producer_groups == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((producer = json_node_next(list, producer)) != NULL) {
        struct slice group = body_tree_str(producer, "groupName");
        if (group.len == 0) {
            return ESCROW_EPROTO;
        }
        hb->producer_groups[hb->producer_count++] = group;
    }
    return 0;
}

static int get_consumers(struct heartbeat *hb, const struct json_node *root)
{
    const struct json_node *list = body_tree_list(root, "consumerDataSet");
    const struct json_node *consumer = NULL;

    hb->consumers = body_tree_array(&hb->tree, json_node_count(list), sizeof *hb->consumers);
    if (hb->consumers == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((consumer = json_node_next(list, consumer)) != NULL) {
        int error = get_consumer(&hb->tree, consumer, &hb->consumers[hb->consumer_count++]);
        if (error != 0) {
            return error;
        }
    }
    return 0;
}

int heartbeat_decode(struct slice body, struct heartbeat *hb)
{
    const struct json_node *root;
    int error;

    *hb = (struct heartbeat){0};
    error = body_tree_parse(&hb->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        hb->client_id = body_tree_str(root, "clientID");
        error = hb->client_id.len == 0 ? ESCROW_EPROTO : get_producers(hb, root);
    }
    if (error == 0) {
        error = get_consumers(hb, root);
    }
    if (error != 0) {
        heartbeat_fini(hb);
    }
    return error;
}

void heartbeat_fini(struct heartbeat *hb)
{
    body_tree_fini(&hb->tree);
    *hb = (struct heartbeat){0};
}

static int get_client_config(struct client_config *config, const struct json_node *root)
{
    const struct json_node *sub = json_node_find(root, "subscriptionData");

    config->client_id = body_tree_str(root, "clientId");
    config->group = body_tree_str(root, "group");
    if (config->group.len == 0) {
        return ESCROW_EPROTO;
    }
    return sub == NULL ? 0 : get_subscription(&config->tree, sub, &config->subscription);
}

int client_config_decode(struct slice body, struct client_config *config)
{
    const struct json_node *root;
    int error;

    *config = (struct client_config){0};
    error = body_tree_parse(&config->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        error = get_client_config(config, root);
    }
    if (error != 0) {
        client_config_fini(config);
    }
    return error;
}

void client_config_fini(struct client_config *config)
{
    body_tree_fini(&config->tree);
    *config = (struct client_config){0};
}

/* ---- writing ---- */

void subscription_encode(struct json_writer *w, const struct subscription *sub)
{
    json_write_object_begin(w);
    json_put_bool(w, "classFilterMode", sub->is_class_filter);
    json_write_key(w, "codeSet");
    json_write_array_begin(w);
    for (size_t i = 0; i < sub->code_count; i++) {
        json_write_i64(w, sub->codes[i]);
    }
    json_write_array_end(w);
    json_put_string(w, "expressionType",
                    sub->expression_type.len == 0 ? SLICE_LIT("TAG") : sub->expression_type);
    json_put_string(w, "subString", sub->expression.len == 0 ? SLICE_LIT("*") : sub->expression);
    json_put_i64(w, "subVersion", sub->version);
    json_write_key(w, "tagsSet");
    json_write_array_begin(w);
    for (size_t i = 0; i < sub->tag_count; i++) {
        json_write_string(w, sub->tags[i]);
    }
    json_write_array_end(w);
    json_put_string(w, "topic", sub->topic);
    json_write_object_end(w);
}

static void put_consumer(struct json_writer *w, const struct heartbeat_consumer *consumer)
{
    json_write_object_begin(w);
    json_put_string(w, "consumeFromWhere", slice_str(consume_from_name(consumer->from)));
    json_put_string(w, "consumeType", slice_str(consume_type_name(consumer->type)));
    json_put_string(w, "groupName", consumer->group);
    json_put_string(w, "messageModel", slice_str(message_model_name(consumer->model)));
    json_write_key(w, "subscriptionDataSet");
    json_write_array_begin(w);
    for (size_t i = 0; i < consumer->subscription_count; i++) {
        subscription_encode(w, &consumer->subscriptions[i]);
    }
    json_write_array_end(w);
    json_put_bool(w, "unitMode", consumer->unit_mode);
    json_write_object_end(w);
}

void heartbeat_encode(struct buf *out, const struct heartbeat *hb)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_put_string(&w, "clientID", hb->client_id);
    json_write_key(&w, "consumerDataSet");
    json_write_array_begin(&w);
    for (size_t i = 0; i < hb->consumer_count; i++) {
        put_consumer(&w, &hb->consumers[i]);
    }
    json_write_array_end(&w);
    json_write_key(&w, "producerDataSet");
    json_write_array_begin(&w);
    for (size_t i = 0; i < hb->producer_count; i++) {
        json_write_object_begin(&w);
        json_put_string(&w, "groupName", hb->producer_groups[i]);
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
}
