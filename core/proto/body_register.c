/*
 * The compressed form is inflated into a buffer that grows until the stream fits or
 * REGISTER_INFLATED_MAX is met; a bomb therefore costs that much memory once, and no more. Then it
 * is read with a cursor like any other hostile bytes.
 */
#include "core/proto/body_register.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/proto/compress.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

#include <libdeflate.h>

#define CRC_MASK       UINT32_C(0x7FFFFFFF)
#define ZLIB_LEVEL     5       /* Java's default for bodies */
#define TOPIC_SIZE_MIN (4 + 7) /* length, "T 4 4 6" */

uint32_t register_body_crc(struct slice in)
{
    return libdeflate_crc32(0, in.ptr, in.len) & CRC_MASK;
}

/* ---- plain ---- */

void register_body_encode(struct buf *out, const struct register_body *body)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "filterServerList");
    json_write_array_begin(&w);
    json_write_array_end(&w);
    json_write_key(&w, "topicConfigSerializeWrapper");
    json_write_object_begin(&w);
    json_write_key(&w, "dataVersion");
    data_version_write(&w, &body->version);
    json_write_key(&w, "topicConfigTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < body->topic_count; i++) {
        json_write_key_slice(&w, body->topics[i].name);
        topic_config_write(&w, &body->topics[i]);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
    json_write_object_end(&w);
}

static int decode_plain(struct slice in, struct register_body *body)
{
    const struct json_node *wrapper;
    const struct json_node *root;
    int error = body_tree_parse(&body->tree, in, TOPIC_TABLE_LIMITS, &root);

    if (error != 0) {
        return error;
    }
    wrapper = json_node_find(root, "topicConfigSerializeWrapper");
    if (!json_node_is(wrapper, JSON_NODE_OBJECT)) {
        return ESCROW_EPROTO;
    }
    body->version = data_version_read(json_node_find(wrapper, "dataVersion"));
    return topic_configs_read(&body->tree, wrapper, &body->topics, &body->topic_count);
}

/* ---- compressed: writing ---- */

/* Begin a length-prefixed part; returns where its length goes. */
static size_t part_begin(struct buf *out)
{
    buf_append_be32(out, 0);
    return out->len;
}

static void part_end(struct buf *out, size_t begin)
{
    if (!buf_failed(out)) {
        put_be32(out->ptr + begin - 4, (uint32_t)(out->len - begin));
    }
}

static void put_lists(struct buf *out, const struct register_body *body)
{
    size_t part = part_begin(out);

    data_version_encode(out, &body->version);
    part_end(out, part);
    buf_append_be32(out, (uint32_t)body->topic_count);
    for (size_t i = 0; i < body->topic_count; i++) {
        const struct topic_config *topic = &body->topics[i];
        part = part_begin(out);
        buf_append_slice(out, topic->name);
        buf_append_fmt(out, " %d %d %d %s", topic->read_queue_count, topic->write_queue_count,
                       topic->perm, topic->is_multi_tag ? "MULTI_TAG" : "SINGLE_TAG");
        part_end(out, part);
    }
    part = part_begin(out);
    buf_append_str(out, "[]");
    part_end(out, part);
}

int register_body_encode_compressed(struct buf *out, const struct register_body *body)
{
    struct buf lists;
    int error;

    buf_init(&lists, 0);
    put_lists(&lists, body);
    error = buf_failed(&lists) ? ESCROW_ENOMEM
                               : compress_as(out, COMPRESSION_ZLIB, buf_slice(&lists), ZLIB_LEVEL);
    buf_fini(&lists);
    return error;
}

/* ---- compressed: reading ---- */

static bool take_u32(struct slice *rest, uint32_t *value)
{
    if (rest->len < 4) {
        return false;
    }
    *value = get_be32(rest->ptr);
    *rest = slice_of(rest->ptr + 4, rest->len - 4);
    return true;
}

/* A length-prefixed part. */
static bool take_part(struct slice *rest, struct slice *part)
{
    uint32_t len;

    if (!take_u32(rest, &len) || len > rest->len) {
        return false;
    }
    *part = slice_of(rest->ptr, len);
    *rest = slice_of(rest->ptr + len, rest->len - len);
    return true;
}

/* Next blank-separated word; empty at the end. */
static struct slice take_word(struct slice *rest)
{
    size_t n = 0;
    struct slice word;

    while (n < rest->len && rest->ptr[n] != ' ') {
        n++;
    }
    word = slice_of(rest->ptr, n);
    *rest = n == rest->len ? SLICE_EMPTY : slice_of(rest->ptr + n + 1, rest->len - n - 1);
    return word;
}

static int get_topic(struct slice text, struct topic_config *topic)
{
    struct slice reads, writes, perm;

    topic->name = take_word(&text);
    reads = take_word(&text);
    writes = take_word(&text);
    perm = take_word(&text);
    topic->is_multi_tag = slice_eq_str(take_word(&text), "MULTI_TAG");
    if (topic->name.len == 0 || !slice_to_i32(reads, &topic->read_queue_count) ||
        !slice_to_i32(writes, &topic->write_queue_count) || !slice_to_i32(perm, &topic->perm) ||
        topic->read_queue_count < 0 || topic->read_queue_count > QUEUES_PER_TOPIC_MAX ||
        topic->write_queue_count < 0 || topic->write_queue_count > QUEUES_PER_TOPIC_MAX) {
        return ESCROW_EPROTO;
    }
    return 0;
}

static int get_topics(struct slice *rest, struct register_body *body)
{
    uint32_t count;

    if (!take_u32(rest, &count) || count > rest->len / TOPIC_SIZE_MIN) {
        return ESCROW_EPROTO;
    }
    if (count > TOPICS_MAX) {
        return ESCROW_ELIMIT;
    }
    body->topics = body_tree_array(&body->tree, count, sizeof *body->topics);
    if (body->topics == NULL) {
        return ESCROW_ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct slice text;
        int error = take_part(rest, &text) ? get_topic(text, &body->topics[i]) : ESCROW_EPROTO;
        if (error != 0) {
            return error;
        }
    }
    body->topic_count = count;
    return 0;
}

static int decode_compressed(struct slice in, struct register_body *body)
{
    struct slice rest, part;
    int error = decompress(&body->inflated, COMPRESSION_ZLIB, in, REGISTER_INFLATED_MAX);

    if (error != 0) {
        return error;
    }
    rest = buf_slice(&body->inflated);
    if (!take_part(&rest, &part)) {
        return ESCROW_EPROTO;
    }
    error = data_version_decode(part, &body->version);
    if (error == 0) {
        error = get_topics(&rest, body);
    }
    if (error == 0 && !take_part(&rest, &part)) { /* filter servers; what follows is not ours */
        error = ESCROW_EPROTO;
    }
    return error;
}

int register_body_decode(struct slice in, bool is_compressed, struct register_body *body)
{
    int error;

    *body = (struct register_body){0};
    buf_init(&body->inflated, 0);
    error = is_compressed ? decode_compressed(in, body) : decode_plain(in, body);
    if (error != 0) {
        register_body_fini(body);
    }
    return error;
}

void register_body_fini(struct register_body *body)
{
    body_tree_fini(&body->tree);
    buf_fini(&body->inflated);
    *body = (struct register_body){0};
}
