/*
 * A message as handlers see it: one copy of its record, with the texts that C wants NUL-terminated
 * made once.
 */
#include "src/client/client_private.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"

#include <stdio.h>
#include <string.h>

/*
 * A compressed body may stand for so much: as large as a frame, in which it could be sent as it is.
 */
#define DELIVERY_BODY_MAX FRAME_SIZE_MAX

static char *text_of(struct slice s)
{
    char *text = mem_alloc(s.len + 1);

    return text == NULL ? NULL : slice_to_cstr(s, text, s.len + 1);
}

/* name NUL value NUL name NUL value NUL ... */
static char *properties_of(struct slice props, size_t *len)
{
    struct props_iter iter = props_begin(props);
    struct slice name;
    struct slice value;
    char *text = mem_alloc(props.len + 2);
    size_t at = 0;

    while (text != NULL && props_next(&iter, &name, &value)) {
        (void)slice_to_cstr(name, text + at, name.len + 1);
        at += name.len + 1;
        (void)slice_to_cstr(value, text + at, value.len + 1);
        at += value.len + 1;
    }
    if (text != NULL) {
        text[at] = '\0'; /* for values with a NUL inside, which end early here */
    }
    *len = at;
    return text;
}

int delivery_new(struct slice record, const char *broker, struct escrow_delivery **out)
{
    struct escrow_delivery *d = mem_calloc(1, sizeof *d);
    struct record_view view;
    struct slice id = SLICE_EMPTY;
    int rc = d == NULL ? ESCROW_ENOMEM : 0;

    *out = NULL;
    if (rc == 0) {
        buf_init(&d->record, 0);
        buf_append_slice(&d->record, record);
        rc = buf_failed(&d->record) ? ESCROW_ENOMEM : record_decode(buf_slice(&d->record), &view);
    }
    if (rc == 0) {
        struct slice topic = view.f.topic;
        if (name_topic_class(topic) == TOPIC_RETRY &&
            !props_find(view.f.properties, prop_name(PROP_RETRY_TOPIC), &topic)) {
            topic =
                view.f.topic; /* otherwise a redelivery: handlers see the topic it was sent to */
        }
        if (!props_find(view.f.properties, prop_name(PROP_UNIQ_KEY), &id)) {
            id = SLICE_EMPTY;
        }
        d->topic = text_of(topic);
        d->message_id = text_of(id);
        d->properties = properties_of(view.f.properties, &d->properties_len);
        rc = d->topic == NULL || d->message_id == NULL || d->properties == NULL ? ESCROW_ENOMEM : 0;
    }
    if (rc != 0) {
        delivery_free(&d);
        return rc;
    }
    d->stored = view.f.body;
    d->packed = compression_of(view.f.sys_flag);
    d->compression = d->packed;
    d->body = d->stored.ptr;
    d->body_len = d->stored.len;
    d->queue = view.f.queue_id;
    d->offset = view.f.queue_offset;
    d->born_ms = view.f.born_ms;
    d->store_ms = view.f.store_ms;
    d->physical_offset = view.f.physical_offset;
    d->attempt = view.f.reconsume_times;
    (void)snprintf(d->broker, sizeof d->broker, "%s", broker); /* broker names are bounded alike */
    *out = d;
    return 0;
}

void delivery_free(struct escrow_delivery **delivery)
{
    struct escrow_delivery *d = *delivery;

    *delivery = NULL;
    if (d != NULL) {
        buf_fini(&d->opened);
        buf_fini(&d->record);
        mem_free(d->topic);
        mem_free(d->message_id);
        mem_free(d->properties);
        mem_free(d);
    }
}

int delivery_open(struct escrow_delivery *d)
{
    int rc;

    if (d->compression == COMPRESSION_NONE) {
        return 0;
    }
    rc = decompress(&d->opened, d->compression, d->stored, DELIVERY_BODY_MAX);
    if (rc != 0) {
        buf_fini(&d->opened); /* the room that was tried */
        return rc == ESCROW_ENOMEM ? rc : 0;
    }
    d->compression = COMPRESSION_NONE;
    d->body = d->opened.ptr;
    d->body_len = d->opened.len;
    return 0;
}

void delivery_close(struct escrow_delivery *d)
{
    if (d->body != d->stored.ptr) {
        buf_fini(&d->opened);
        d->compression = d->packed;
        d->body = d->stored.ptr;
        d->body_len = d->stored.len;
    }
}

const char *escrow_delivery_compression(const struct escrow_delivery *message)
{
    return message->compression == COMPRESSION_NONE ? NULL : compression_name(message->compression);
}

const char *escrow_delivery_topic(const struct escrow_delivery *message)
{
    return message->topic;
}

const char *escrow_delivery_message_id(const struct escrow_delivery *message)
{
    return message->message_id;
}

const void *escrow_delivery_body(const struct escrow_delivery *message, size_t *bytes)
{
    *bytes = message->body_len;
    return message->body;
}

const char *escrow_delivery_property(const struct escrow_delivery *message, const char *name)
{
    const char *p = message->properties;
    const char *end = p + message->properties_len;
    const char *found = NULL;

    while (p < end) { /* of two with one name the later counts */
        const char *value = p + strlen(p) + 1;
        if (strcmp(p, name) == 0) {
            found = value;
        }
        p = value + strlen(value) + 1;
    }
    return found;
}

const char *escrow_delivery_tag(const struct escrow_delivery *message)
{
    return escrow_delivery_property(message, "TAGS");
}

const char *escrow_delivery_keys(const struct escrow_delivery *message)
{
    return escrow_delivery_property(message, "KEYS");
}

const char *escrow_delivery_broker(const struct escrow_delivery *message)
{
    return message->broker;
}

int32_t escrow_delivery_queue(const struct escrow_delivery *message)
{
    return message->queue;
}

int64_t escrow_delivery_offset(const struct escrow_delivery *message)
{
    return message->offset;
}

int64_t escrow_delivery_born_ms(const struct escrow_delivery *message)
{
    return message->born_ms;
}

int64_t escrow_delivery_stored_ms(const struct escrow_delivery *message)
{
    return message->store_ms;
}

int32_t escrow_delivery_attempt(const struct escrow_delivery *message)
{
    return message->attempt;
}
