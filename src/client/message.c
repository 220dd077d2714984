#include "src/client/client_private.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"

#include <string.h>

#define DELAY_LEVEL_MAX 64 /* more than any broker has */

struct escrow_message *escrow_message_new(const char *topic, const void *body, size_t body_bytes)
{
    struct escrow_message *m = mem_calloc(1, sizeof *m);

    if (m == NULL) {
        return NULL;
    }
    buf_init(&m->properties, PROPERTIES_LEN_MAX);
    m->topic = mem_strdup(topic);
    m->body = mem_alloc(body_bytes);
    if (m->topic == NULL || m->body == NULL) {
        escrow_message_free(&m);
        return NULL;
    }
    if (body_bytes > 0) {
        memcpy(m->body, body, body_bytes);
    }
    m->body_len = body_bytes;
    return m;
}

void escrow_message_free(struct escrow_message **message)
{
    struct escrow_message *m = *message;

    *message = NULL;
    if (m != NULL) {
        mem_free(m->topic);
        mem_free(m->body);
        mem_free(m->tag);
        mem_free(m->keys);
        mem_free(m->ordering_key);
        buf_fini(&m->properties);
        mem_free(m);
    }
}

static int set_text(char **member, const char *value, const char *what)
{
    char *copy;

    if (props_check_text(slice_str(value)) != 0) {
        return last_error_set(ESCROW_EINVAL, "message: %s is empty or has a byte 0x01 or 0x02",
                              what);
    }
    copy = mem_strdup(value);
    if (copy == NULL) {
        return last_error_set(ESCROW_ENOMEM, "message: out of memory");
    }
    mem_free(*member);
    *member = copy;
    return 0;
}

int escrow_message_set_tag(struct escrow_message *message, const char *tag)
{
    return set_text(&message->tag, tag, "the tag");
}

int escrow_message_set_keys(struct escrow_message *message, const char *keys)
{
    return set_text(&message->keys, keys, "keys");
}

int escrow_message_set_ordering_key(struct escrow_message *message, const char *key)
{
    return set_text(&message->ordering_key, key, "the ordering key");
}

static int set_time(struct escrow_message *message, enum prop_id prop, int64_t value, int64_t max)
{
    if (value < 0 || value > max) {
        return last_error_set(ESCROW_EINVAL, "message: a delay or time of %lld: expected 0 to %lld",
                              (long long)value, (long long)max);
    }
    message->time_prop = prop;
    message->time_value = value;
    return 0;
}

int escrow_message_set_delay_level(struct escrow_message *message, int32_t delay_level)
{
    return set_time(message, PROP_DELAY, delay_level, DELAY_LEVEL_MAX);
}

int escrow_message_set_delay(struct escrow_message *message, int64_t delay_ms)
{
    return set_time(message, PROP_TIMER_DELAY_MS, delay_ms, INT64_MAX);
}

int escrow_message_set_deliver_at(struct escrow_message *message, int64_t deliver_at_ms)
{
    return set_time(message, PROP_TIMER_DELIVER_MS, deliver_at_ms, INT64_MAX);
}

int escrow_message_set_property(struct escrow_message *message, const char *name, const char *value)
{
    size_t before = message->properties.len;

    if (props_check_text(slice_str(name)) != 0 || props_check_text(slice_str(value)) != 0 ||
        prop_is_reserved(slice_str(name))) {
        return last_error_set(
            ESCROW_EINVAL,
            "message: property '%.60s': the name is reserved, or name or value is "
            "empty or has a byte 0x01 or 0x02",
            name);
    }
    buf_append_str(&message->properties, name);
    buf_append_u8(&message->properties, PROPS_NAME_VALUE_SEPARATOR);
    buf_append_str(&message->properties, value);
    buf_append_u8(&message->properties, PROPS_PAIR_SEPARATOR);
    if (buf_failed(&message->properties)) {
        message->properties.len = before;
        message->properties.failed = false;
        return last_error_set(ESCROW_ETOOBIG, "message: properties have more than %d bytes",
                              PROPERTIES_LEN_MAX);
    }
    return 0;
}

int message_check(const struct escrow_producer *p, const struct escrow_message *m)
{
    if (name_check_topic(slice_str(m->topic)) != 0) {
        return last_error_set(
            ESCROW_EINVAL,
            "message: topic '%.80s': use letters, digits, '%%', '|', '_' and '-', "
            "at most %d",
            m->topic, TOPIC_LEN_MAX);
    }
    if (m->body_len == 0) {
        return last_error_set(ESCROW_EINVAL, "message: the body is empty");
    }
    if (m->body_len > p->body_max) {
        return last_error_set(ESCROW_ETOOBIG, "message: %zu bytes, more than body.max.bytes = %llu",
                              m->body_len, (unsigned long long)p->body_max);
    }
    return 0;
}

void escrow_receipt_free(struct escrow_receipt **receipt)
{
    mem_free(*receipt);
    *receipt = NULL;
}

const char *escrow_receipt_message_id(const struct escrow_receipt *receipt)
{
    return receipt->message_id;
}

const char *escrow_receipt_offset_id(const struct escrow_receipt *receipt)
{
    return receipt->offset_id;
}

const char *escrow_receipt_broker(const struct escrow_receipt *receipt)
{
    return receipt->broker;
}

int32_t escrow_receipt_queue(const struct escrow_receipt *receipt)
{
    return receipt->queue;
}

int64_t escrow_receipt_offset(const struct escrow_receipt *receipt)
{
    return receipt->offset;
}
