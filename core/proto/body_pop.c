#include "core/proto/body_pop.h"

#include "core/base/check.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

#include <string.h>

#define BITS_BYTES_MAX ((size_t)BATCH_ACK_MESSAGES_MAX / 8)
#define BITS_TEXT_MAX  ((BITS_BYTES_MAX + 2) / 3 * 4)

/* ---- bits ---- */

static int base64_value(uint8_t c)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c == 0 ? NULL : strchr(letters, c);

    return at == NULL ? -1 : (int)(at - letters);
}

/* Into `out`, which has room for three quarters of the text. */
static bool base64_bytes(struct slice text, uint8_t *out, size_t *len)
{
    uint32_t window = 0;
    unsigned bits = 0;

    *len = 0;
    while (text.len > 0 && text.ptr[text.len - 1] == '=') {
        text.len--;
    }
    for (size_t i = 0; i < text.len; i++) {
        int value = base64_value(text.ptr[i]);
        if (value < 0) {
            return false;
        }
        window = window << 6 | (uint32_t)value;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[(*len)++] = (uint8_t)(window >> bits);
        }
    }
    return bits < 6 && (window & ((1u << bits) - 1)) == 0;
}

static void base64_put(struct json_writer *w, struct slice bytes)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct buf text;

    buf_init(&text, 0);
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = bytes.len - i < 3 ? bytes.len - i : 3;
        uint32_t group = (uint32_t)bytes.ptr[i] << 16 |
                         (n > 1 ? (uint32_t)bytes.ptr[i + 1] << 8 : 0) |
                         (n > 2 ? bytes.ptr[i + 2] : 0);
        buf_append_u8(&text, (uint8_t)letters[group >> 18]);
        buf_append_u8(&text, (uint8_t)letters[group >> 12 & 63]);
        buf_append_u8(&text, n > 1 ? (uint8_t)letters[group >> 6 & 63] : '=');
        buf_append_u8(&text, n > 2 ? (uint8_t)letters[group & 63] : '=');
    }
    if (buf_failed(&text)) {
        w->out->failed = true;
    }
    json_write_string(w, buf_slice(&text));
    buf_fini(&text);
}

static int get_numbers(const struct json_node *list, uint8_t *bytes)
{
    const struct json_node *item = NULL;
    size_t len = 0;

    while ((item = json_node_next(list, item)) != NULL) {
        int64_t number;
        if (!body_tree_number(item, &number) || number < INT8_MIN || number > UINT8_MAX) {
            return ESCROW_EPROTO;
        }
        bytes[len++] = (uint8_t)number;
    }
    return 0;
}

static int get_bits(struct body_tree *tree, const struct json_node *object, struct slice *bits)
{
    const struct json_node *list = body_tree_list(object, "b");
    struct slice text = body_tree_str(object, "b");
    size_t len = list != NULL ? json_node_count(list) : text.len / 4 * 3 + 3;
    uint8_t *bytes;

    if (list != NULL ? len > BITS_BYTES_MAX : text.len > BITS_TEXT_MAX) {
        return ESCROW_ELIMIT;
    }
    bytes = body_tree_array(tree, len, 1);
    if (bytes == NULL) {
        return ESCROW_ENOMEM;
    }
    if (list != NULL) {
        *bits = slice_of(bytes, len);
        return get_numbers(list, bytes);
    }
    if (!base64_bytes(text, bytes, &len)) {
        return ESCROW_EPROTO;
    }
    *bits = slice_of(bytes, len);
    return 0;
}

static size_t bits_count(struct slice bits)
{
    size_t count = 0;

    for (size_t i = 0; i < bits.len; i++) {
        count += (size_t)__builtin_popcount(bits.ptr[i]);
    }
    return count;
}

/* ---- batch ---- */

void batch_acks_encode(struct buf *out, const struct batch_acks *acks)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "acks");
    json_write_array_begin(&w);
    for (size_t i = 0; i < acks->count; i++) {
        const struct batch_ack *ack = &acks->acks[i];
        json_write_object_begin(&w);
        json_write_key(&w, "b");
        base64_put(&w, ack->bits);
        json_put_string(&w, "c", ack->group);
        json_put_i64(&w, "pt", ack->pop_ms);
        json_put_i64(&w, "q", ack->queue_id);
        json_put_string(&w, "r", ack->kind);
        json_put_i64(&w, "so", ack->start_offset);
        json_put_string(&w, "t", ack->topic);
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    json_put_string(&w, "brokerName", acks->broker_name);
    json_write_object_end(&w);
}

static int get_ack(struct body_tree *tree, const struct json_node *object, struct batch_ack *ack)
{
    ack->group = body_tree_str(object, "c");
    ack->topic = body_tree_str(object, "t");
    ack->kind = body_tree_str(object, "r");
    ack->queue_id = body_tree_i32(object, "q", -1);
    ack->pop_ms = body_tree_i64(object, "pt", -1);
    ack->start_offset = body_tree_i64(object, "so", -1);
    if (ack->group.len == 0 || ack->topic.len == 0 || ack->queue_id < 0 || ack->pop_ms < 0 ||
        ack->start_offset < 0 ||
        ack->start_offset > INT64_MAX - (int64_t)BATCH_ACK_MESSAGES_MAX * 2) {
        return ESCROW_EPROTO;
    }
    return get_bits(tree, object, &ack->bits);
}

static int get_acks(struct batch_acks *acks, const struct json_node *list)
{
    const struct json_node *item = NULL;

    acks->acks = body_tree_array(&acks->tree, json_node_count(list), sizeof *acks->acks);
    if (acks->acks == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((item = json_node_next(list, item)) != NULL) {
        int error = get_ack(&acks->tree, item, &acks->acks[acks->count]);
        if (error != 0) {
            return error;
        }
        acks->message_count += bits_count(acks->acks[acks->count++].bits);
    }
    return acks->message_count > BATCH_ACK_MESSAGES_MAX ? ESCROW_ELIMIT : 0;
}

int batch_acks_decode(struct slice body, struct batch_acks *acks)
{
    const struct json_node *root;
    int error;

    *acks = (struct batch_acks){0};
    error = body_tree_parse(&acks->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        acks->broker_name = body_tree_str(root, "brokerName");
        error = get_acks(acks, body_tree_list(root, "acks"));
    }
    if (error != 0) {
        batch_acks_fini(acks);
    }
    return error;
}

void batch_acks_fini(struct batch_acks *acks)
{
    body_tree_fini(&acks->tree);
    *acks = (struct batch_acks){0};
}

/* ---- modes ---- */

static const char *mode_name(enum request_mode mode)
{
    return mode == REQUEST_MODE_POP ? "POP" : "PULL";
}

void mode_request_encode(struct buf *out, const struct mode_request *req)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_put_string(&w, "consumerGroup", req->group);
    json_put_string(&w, "mode", slice_str(mode_name(req->mode)));
    json_put_i64(&w, "popShareQueueNum", req->share_queues);
    json_put_string(&w, "topic", req->topic);
    json_write_object_end(&w);
}

int mode_request_decode(struct slice body, struct mode_request *req)
{
    const struct json_node *root;
    struct slice mode;
    int error;

    *req = (struct mode_request){.mode = REQUEST_MODE_PULL};
    error = body_tree_parse(&req->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        req->topic = body_tree_str(root, "topic");
        req->group = body_tree_str(root, "consumerGroup");
        req->share_queues = body_tree_i32(root, "popShareQueueNum", 0);
        mode = body_tree_str(root, "mode");
        req->mode = slice_eq_str(mode, "POP") ? REQUEST_MODE_POP : REQUEST_MODE_PULL;
        error =
            req->topic.len == 0 || req->group.len == 0 || !slice_eq_str(mode, mode_name(req->mode))
                ? ESCROW_EPROTO
                : 0;
    }
    if (error != 0) {
        mode_request_fini(req);
    }
    return error;
}

void mode_request_fini(struct mode_request *req)
{
    body_tree_fini(&req->tree);
    *req = (struct mode_request){.mode = REQUEST_MODE_PULL};
}

/* ---- assignment ---- */

int assignment_request_decode(struct slice body, struct assignment_request *req)
{
    const struct json_node *root;
    int error;

    *req = (struct assignment_request){0};
    error = body_tree_parse(&req->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        req->topic = body_tree_str(root, "topic");
        req->group = body_tree_str(root, "consumerGroup");
        req->client_id = body_tree_str(root, "clientId");
        req->strategy = body_tree_str(root, "strategyName");
        req->is_broadcast = slice_eq_str(body_tree_str(root, "messageModel"), "BROADCASTING");
        error = req->topic.len == 0 || req->group.len == 0 ? ESCROW_EPROTO : 0;
    }
    if (error != 0) {
        assignment_request_fini(req);
    }
    return error;
}

void assignment_request_fini(struct assignment_request *req)
{
    body_tree_fini(&req->tree);
    *req = (struct assignment_request){0};
}

void assignments_encode(struct buf *out, const struct message_queue *queues, size_t count,
                        enum request_mode mode)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    if (queues != NULL) {
        json_write_key(&w, "messageQueueAssignments");
        json_write_array_begin(&w);
        for (size_t i = 0; i < count; i++) {
            json_write_object_begin(&w);
            json_write_key(&w, "messageQueue");
            message_queue_write(&w, &queues[i]);
            json_put_string(&w, "mode", slice_str(mode_name(mode)));
            json_write_object_end(&w);
        }
        json_write_array_end(&w);
    }
    json_write_object_end(&w);
}
