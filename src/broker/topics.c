#include "src/broker/topics.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"

#include <string.h>

/* name length u16, read u32, write u32, perm u32, sys_flag u32, flags u8 */
#define TOPIC_FIXED_BYTES  19
#define TOPIC_FLAG_ORDERED 1u
#define TOPIC_FLAG_DELETED 2u

void topics_init(struct topics *t, struct hash_key key)
{
    *t = (struct topics){.version = 0};
    strmap_init(&t->by_name, key);
}

void topics_fini(struct topics *t)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&t->by_name, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(&t->by_name);
}

struct topic *topics_find(const struct topics *t, struct slice name)
{
    return strmap_find(&t->by_name, name);
}

static bool topic_is_sane(const struct topic *topic)
{
    return topic->name[0] != '\0' && topic->read_queues > 0 && topic->write_queues > 0 &&
           topic->read_queues <= QUEUES_PER_TOPIC_MAX &&
           topic->write_queues <= QUEUES_PER_TOPIC_MAX && topic->perm <= 15;
}

static int topics_insert(struct topics *t, const struct topic *topic, struct topic **out)
{
    struct topic *copy = mem_alloc(sizeof *copy);
    int rc;

    if (copy == NULL) {
        return ESCROW_ENOMEM;
    }
    *copy = *topic;
    rc = strmap_put(&t->by_name, slice_str(copy->name), copy);
    if (rc != 0) {
        mem_free(copy);
        return rc;
    }
    *out = copy;
    return 0;
}

int topics_add(struct topics *t, const struct topic *topic, struct topic **out)
{
    int rc;

    if (!topic_is_sane(topic)) {
        return ESCROW_EINVAL;
    }
    if (topics_find(t, slice_str(topic->name)) != NULL) {
        return ESCROW_EEXIST;
    }
    /* As many as name servers take in one registration: with more they would drop the broker. */
    if (t->by_name.count >= REGISTER_TOPICS_MAX) {
        return ESCROW_ELIMIT;
    }
    rc = topics_insert(t, topic, out);
    if (rc == 0) {
        (*out)->is_creating = true;
    }
    return rc;
}

void topics_undo(struct topics *t, struct topic **topic)
{
    CHECK((*topic)->is_creating);
    CHECK(strmap_take(&t->by_name, slice_str((*topic)->name)) == *topic);
    mem_free(*topic);
    *topic = NULL;
}

void topic_encode(struct buf *out, const struct topic *topic, bool is_deleted)
{
    size_t len = strlen(topic->name);

    buf_append_le16(out, (uint16_t)len);
    buf_append(out, topic->name, len);
    buf_append_le32(out, topic->read_queues);
    buf_append_le32(out, topic->write_queues);
    buf_append_le32(out, topic->perm);
    buf_append_le32(out, topic->sys_flag);
    buf_append_u8(out, (uint8_t)((topic->is_ordered ? TOPIC_FLAG_ORDERED : 0) |
                                 (is_deleted ? TOPIC_FLAG_DELETED : 0)));
}

/* Decode one topic at the start of `in`; *used receives its size. */
static int topic_decode(struct slice in, struct topic *topic, bool *is_deleted, size_t *used)
{
    size_t len;
    const uint8_t *p;

    if (in.len < TOPIC_FIXED_BYTES) {
        return ESCROW_ECORRUPT;
    }
    len = get_le16(in.ptr);
    if (len == 0 || len >= sizeof topic->name || in.len < TOPIC_FIXED_BYTES + len ||
        memchr(in.ptr + 2, '\0', len) != NULL) {
        return ESCROW_ECORRUPT;
    }
    *topic = (struct topic){.next_queue = 0};
    (void)slice_to_cstr(slice_of(in.ptr + 2, len), topic->name, sizeof topic->name);
    p = in.ptr + 2 + len;
    topic->read_queues = get_le32(p);
    topic->write_queues = get_le32(p + 4);
    topic->perm = get_le32(p + 8);
    topic->sys_flag = get_le32(p + 12);
    topic->is_ordered = (p[16] & TOPIC_FLAG_ORDERED) != 0;
    *is_deleted = (p[16] & TOPIC_FLAG_DELETED) != 0;
    *used = TOPIC_FIXED_BYTES + len;
    return topic_is_sane(topic) ? 0 : ESCROW_ECORRUPT;
}

static int topics_put(struct topics *t, const struct topic *topic, bool is_deleted)
{
    struct topic *found = topics_find(t, slice_str(topic->name));

    if (is_deleted) {
        if (found != NULL) {
            (void)strmap_take(&t->by_name, slice_str(topic->name)); /* it is `found` */
            mem_free(found);
        }
        return 0;
    }
    if (found == NULL) {
        return topics_insert(t, topic, &found);
    }
    found->read_queues = topic->read_queues;
    found->write_queues = topic->write_queues;
    found->perm = topic->perm;
    found->sys_flag = topic->sys_flag;
    found->is_ordered = topic->is_ordered;
    found->is_creating = false;
    return 0;
}

int topics_apply(struct topics *t, struct slice payload, struct slice *deleted, struct err_ctx *err)
{
    struct topic topic;
    bool is_deleted = false;
    size_t used = 0;
    int rc = topic_decode(payload, &topic, &is_deleted, &used);

    if (rc != 0 || used != payload.len) {
        return err_set(err, ESCROW_ECORRUPT, "malformed TOPIC record");
    }
    rc = topics_put(t, &topic, is_deleted);
    if (rc != 0) {
        return err_set(err, rc, "topic %s: %s", topic.name, escrow_strerror(rc));
    }
    t->version++;
    *deleted = is_deleted ? slice_of(payload.ptr + 2, strlen(topic.name)) : SLICE_EMPTY;
    return 0;
}

void topics_save(const struct topics *t, struct buf *out)
{
    size_t cursor = 0;
    const struct topic *topic;

    buf_append_le64(out, t->version);
    while ((topic = topics_next(t, &cursor)) != NULL) {
        if (!topic->is_creating) {
            topic_encode(out, topic, false);
        }
    }
}

int topics_load(struct topics *t, struct slice section, struct err_ctx *err)
{
    CHECK(t->by_name.count == 0);
    if (section.len < 8) {
        return err_set(err, ESCROW_ECORRUPT, "checkpoint section topics: too short");
    }
    t->version = get_le64(section.ptr);
    section = slice_of(section.ptr + 8, section.len - 8);
    while (section.len > 0) {
        struct topic topic;
        bool is_deleted = false;
        size_t used = 0;
        int rc = topic_decode(section, &topic, &is_deleted, &used);
        if (rc == 0) {
            rc = topics_put(t, &topic, is_deleted);
        }
        if (rc != 0) {
            return err_set(err, rc, "checkpoint section topics: %s", escrow_strerror(rc));
        }
        section = slice_of(section.ptr + used, section.len - used);
    }
    return 0;
}

const struct topic *topics_next(const struct topics *t, size_t *cursor)
{
    const struct strmap_slot *slot = strmap_next(&t->by_name, cursor);

    return slot == NULL ? NULL : slot->value;
}
