#include "core/store/queue_path.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/store/queue.h"

#include <stdio.h>

#define FILE_NAME_DIGITS 20u
#define ENCODED_MAX      (3u * RETRY_TOPIC_LEN_MAX)

static bool byte_is_plain(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static void path_add(struct queue_path *p, const char *bytes, size_t len)
{
    CHECK(len < sizeof p->text - p->len);
    memcpy(p->text + p->len, bytes, len);
    p->len += len;
    p->text[p->len] = '\0';
}

static size_t topic_encode(struct slice topic, char dst[ENCODED_MAX])
{
    static const char hex[] = "0123456789ABCDEF";
    size_t len = 0;

    CHECK(topic.len > 0);
    CHECK(topic.len <= RETRY_TOPIC_LEN_MAX);
    for (size_t i = 0; i < topic.len; i++) {
        uint8_t c = topic.ptr[i];
        if (byte_is_plain(c)) {
            dst[len++] = (char)c;
        } else {
            dst[len++] = '%';
            dst[len++] = hex[c >> 4];
            dst[len++] = hex[c & 15];
        }
    }
    return len;
}

void queue_path_topic(struct queue_path *p, struct slice topic)
{
    char encoded[ENCODED_MAX];
    size_t left = topic_encode(topic, encoded);
    const char *next = encoded;

    p->len = 0;
    path_add(p, QUEUE_PATH_ROOT "/", sizeof QUEUE_PATH_ROOT);
    while (left > QUEUE_PATH_PART_MAX) {
        path_add(p, next, QUEUE_PATH_PART_MAX);
        path_add(p, "+/", 2);
        next += QUEUE_PATH_PART_MAX;
        left -= QUEUE_PATH_PART_MAX;
    }
    path_add(p, next, left);
}

void queue_path_queue(struct queue_path *p, struct slice topic, uint32_t id)
{
    char text[16];
    int len = snprintf(text, sizeof text, "/%u", id);

    queue_path_topic(p, topic);
    path_add(p, text, (size_t)len);
}

void queue_path_file(struct queue_path *p, struct slice topic, uint32_t id, uint32_t file)
{
    char text[32];
    int len = snprintf(text, sizeof text, "/%020llu", (unsigned long long)file * QUEUE_FILE_SIZE);

    queue_path_queue(p, topic, id);
    path_add(p, text, (size_t)len);
}

bool queue_path_append(struct queue_path *p, const char *name)
{
    size_t len = strlen(name);

    if (len + 1 >= sizeof p->text - p->len) {
        return false;
    }
    path_add(p, "/", 1);
    path_add(p, name, len);
    return true;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool queue_path_topic_decode(struct slice encoded, uint8_t *dst, size_t *len)
{
    size_t i = 0;

    *len = 0;
    while (i < encoded.len) {
        uint8_t c = encoded.ptr[i++];
        if (*len == RETRY_TOPIC_LEN_MAX) {
            return false;
        }
        if (c == '%') {
            int high = encoded.len - i < 2 ? -1 : hex_value(encoded.ptr[i]);
            int low = encoded.len - i < 2 ? -1 : hex_value(encoded.ptr[i + 1]);
            if (high < 0 || low < 0 || byte_is_plain((uint8_t)(high * 16 + low))) {
                return false;
            }
            c = (uint8_t)(high * 16 + low);
            i += 2;
        } else if (!byte_is_plain(c)) {
            return false;
        }
        dst[(*len)++] = c;
    }
    return *len > 0;
}

/* Decimal digits only, at most 20 of them. */
static bool digits_decode(struct slice name, uint64_t *value)
{
    uint64_t v = 0;

    if (name.len == 0 || name.len > FILE_NAME_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (c < '0' || c > '9' || v > (UINT64_MAX - (uint64_t)(c - '0')) / 10) {
            return false;
        }
        v = v * 10 + (uint64_t)(c - '0');
    }
    *value = v;
    return true;
}

bool queue_path_id_decode(struct slice name, uint32_t *id)
{
    uint64_t value;

    if (!digits_decode(name, &value) || value >= QUEUES_PER_TOPIC_MAX ||
        (name.len > 1 && name.ptr[0] == '0')) {
        return false;
    }
    *id = (uint32_t)value;
    return true;
}

bool queue_path_file_decode(struct slice name, uint32_t *file)
{
    uint64_t value;

    if (name.len != FILE_NAME_DIGITS || !digits_decode(name, &value) ||
        value % QUEUE_FILE_SIZE != 0 || value / QUEUE_FILE_SIZE > UINT32_MAX) {
        return false;
    }
    *file = (uint32_t)(value / QUEUE_FILE_SIZE);
    return true;
}
