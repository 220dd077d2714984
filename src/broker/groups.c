#include "src/broker/groups.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"

#include <string.h>

/* name length u16, change u8, flags u16, five i32, broker id i64 */
#define GROUP_FIXED_BYTES 33

#define FLAG_CONSUME   1u
#define FLAG_FROM_MIN  2u
#define FLAG_BROADCAST 4u
#define FLAG_ORDERLY   8u
#define FLAG_NOTIFY    16u
#define FLAG_TEXTS     32u /* three texts follow, each behind its length, u16 */

static size_t texts_bytes(const struct group_config *group)
{
    return group->attributes.len + group->retry_policy.len + group->subscriptions.len;
}

void groups_init(struct groups *g, struct hash_key key)
{
    g->version = 0;
    g->text_bytes = 0;
    strmap_init(&g->by_name, key);
}

void groups_fini(struct groups *g)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while ((slot = strmap_next(&g->by_name, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(&g->by_name);
}

const struct group_config *groups_find(const struct groups *g, struct slice name)
{
    return strmap_find(&g->by_name, name);
}

struct group_config groups_config(const struct groups *g, struct slice name)
{
    const struct group_config *found = groups_find(g, name);
    struct group_config group;

    if (found != NULL) {
        return *found;
    }
    group_config_init(&group, name);
    return group;
}

static bool is_sane(const struct group_config *group)
{
    return group->name.len > 0 && group->name.len <= GROUP_LEN_MAX &&
           group->retry_queue_count <= QUEUES_PER_TOPIC_MAX &&
           group->attributes.len <= GROUP_TEXT_MAX && group->retry_policy.len <= GROUP_TEXT_MAX &&
           group->subscriptions.len <= GROUP_TEXT_MAX;
}

int groups_check(const struct groups *g, const struct group_config *group, struct err_ctx *err)
{
    const struct group_config *old = groups_find(g, group->name);

    if (!is_sane(group)) {
        return err_set(err, ESCROW_EINVAL,
                       "retryQueueNums above %d, or a text longer than %d bytes",
                       QUEUES_PER_TOPIC_MAX, GROUP_TEXT_MAX);
    }
    if (old == NULL && g->by_name.count >= GROUPS_MAX) {
        return err_set(err, ESCROW_ELIMIT, "there are %d groups already", GROUPS_MAX);
    }
    if (g->text_bytes - (old == NULL ? 0 : texts_bytes(old)) + texts_bytes(group) >
        GROUPS_TEXT_BYTES_MAX) {
        return err_set(err, ESCROW_ELIMIT,
                       "all groups have %zu bytes of attributes, policies and subscriptions",
                       GROUPS_TEXT_BYTES_MAX);
    }
    return 0;
}

static void text_encode(struct buf *out, struct slice text)
{
    buf_append_le16(out, (uint16_t)text.len);
    buf_append_slice(out, text);
}

void group_encode(struct buf *out, const struct group_config *group, enum group_change change)
{
    unsigned flags = (group->is_consume_enabled ? FLAG_CONSUME : 0) |
                     (group->is_consume_from_min_enabled ? FLAG_FROM_MIN : 0) |
                     (group->is_broadcast_enabled ? FLAG_BROADCAST : 0) |
                     (group->is_orderly ? FLAG_ORDERLY : 0) |
                     (group->is_notify_enabled ? FLAG_NOTIFY : 0) |
                     (texts_bytes(group) > 0 ? FLAG_TEXTS : 0);

    buf_append_le16(out, (uint16_t)group->name.len);
    buf_append_slice(out, group->name);
    buf_append_u8(out, (uint8_t)change);
    buf_append_le16(out, (uint16_t)flags);
    buf_append_le32(out, (uint32_t)group->retry_queue_count);
    buf_append_le32(out, (uint32_t)group->retry_max_times);
    buf_append_le32(out, (uint32_t)group->slow_broker_id);
    buf_append_le32(out, (uint32_t)group->consume_timeout_min);
    buf_append_le32(out, (uint32_t)group->sys_flag);
    buf_append_le64(out, (uint64_t)group->broker_id);
    if (texts_bytes(group) > 0) {
        text_encode(out, group->attributes);
        text_encode(out, group->retry_policy);
        text_encode(out, group->subscriptions);
    }
}

/* Decode a text behind *used bytes of `in`, and advance. */
static bool text_decode(struct slice in, size_t *used, struct slice *text)
{
    size_t len;

    if (in.len - *used < 2) {
        return false;
    }
    len = get_le16(in.ptr + *used);
    if (in.len - *used - 2 < len) {
        return false;
    }
    *text = slice_of(in.ptr + *used + 2, len);
    *used += 2 + len;
    return true;
}

/* Decode one group at the start of `in`; *used receives its size. */
static int group_decode(struct slice in, struct group_config *group, enum group_change *change,
                        size_t *used)
{
    const uint8_t *p;
    unsigned flags;
    size_t len;

    if (in.len < GROUP_FIXED_BYTES) {
        return ESCROW_ECORRUPT;
    }
    len = get_le16(in.ptr);
    if (in.len < GROUP_FIXED_BYTES + len || in.ptr[2 + len] > GROUP_DELETE_AND_OFFSETS) {
        return ESCROW_ECORRUPT;
    }
    p = in.ptr + 2 + len;
    *change = (enum group_change)p[0];
    flags = get_le16(p + 1);
    *group = (struct group_config){.name = slice_of(in.ptr + 2, len),
                                   .is_consume_enabled = (flags & FLAG_CONSUME) != 0,
                                   .is_consume_from_min_enabled = (flags & FLAG_FROM_MIN) != 0,
                                   .is_broadcast_enabled = (flags & FLAG_BROADCAST) != 0,
                                   .is_orderly = (flags & FLAG_ORDERLY) != 0,
                                   .is_notify_enabled = (flags & FLAG_NOTIFY) != 0,
                                   .retry_queue_count = (int32_t)get_le32(p + 3),
                                   .retry_max_times = (int32_t)get_le32(p + 7),
                                   .slow_broker_id = (int32_t)get_le32(p + 11),
                                   .consume_timeout_min = (int32_t)get_le32(p + 15),
                                   .sys_flag = (int32_t)get_le32(p + 19),
                                   .broker_id = (int64_t)get_le64(p + 23)};
    *used = GROUP_FIXED_BYTES + len;
    if ((flags & FLAG_TEXTS) != 0 &&
        (!text_decode(in, used, &group->attributes) ||
         !text_decode(in, used, &group->retry_policy) ||
         !text_decode(in, used, &group->subscriptions) || texts_bytes(group) == 0)) {
        return ESCROW_ECORRUPT;
    }
    return is_sane(group) ? 0 : ESCROW_ECORRUPT;
}

static void group_remove(struct groups *g, struct slice name)
{
    struct group_config *found =
        groups_find(g, name) == NULL ? NULL : strmap_take(&g->by_name, name);

    if (found != NULL) {
        g->text_bytes -= texts_bytes(found);
        mem_free(found);
    }
}

/* Copy the bytes to *at and advance it. */
static struct slice copy_bytes(uint8_t **at, struct slice bytes)
{
    struct slice copy = bytes.len == 0 ? SLICE_EMPTY : slice_of(*at, bytes.len);

    if (bytes.len > 0) {
        memcpy(*at, bytes.ptr, bytes.len);
        *at += bytes.len;
    }
    return copy;
}

static int group_put(struct groups *g, const struct group_config *group)
{
    struct group_config *copy = mem_alloc(sizeof *copy + group->name.len + texts_bytes(group));
    uint8_t *at;
    int rc;

    if (copy == NULL) {
        return ESCROW_ENOMEM;
    }
    at = (uint8_t *)(copy + 1);
    *copy = *group;
    copy->name = copy_bytes(&at, group->name);
    copy->attributes = copy_bytes(&at, group->attributes);
    copy->retry_policy = copy_bytes(&at, group->retry_policy);
    copy->subscriptions = copy_bytes(&at, group->subscriptions);
    group_remove(g, copy->name);
    rc = strmap_put(&g->by_name, copy->name, copy);
    if (rc != 0) {
        mem_free(copy);
    } else {
        g->text_bytes += texts_bytes(copy);
    }
    return rc;
}

int groups_add_scratch(struct groups *g, const struct group_config *group)
{
    return group_put(g, group);
}

int groups_apply(struct groups *g, struct slice payload, struct group_applied *applied,
                 struct err_ctx *err)
{
    struct group_config group;
    enum group_change change = GROUP_SET;
    size_t used = 0;
    int rc = group_decode(payload, &group, &change, &used);

    if (rc != 0 || used != payload.len) {
        return err_set(err, ESCROW_ECORRUPT, "malformed GROUP record");
    }
    if (change == GROUP_SET) {
        rc = group_put(g, &group);
        if (rc != 0) {
            return err_set(err, rc, "group %.*s: %s", SLICE_ARGS(group.name), escrow_strerror(rc));
        }
    } else {
        group_remove(g, group.name);
    }
    g->version++;
    *applied = (struct group_applied){.change = change, .name = group.name};
    return 0;
}

void groups_save(const struct groups *g, struct buf *out)
{
    const struct group_config *group;
    size_t cursor = 0;

    buf_append_le64(out, g->version);
    while ((group = groups_next(g, &cursor)) != NULL) {
        group_encode(out, group, GROUP_SET);
    }
}

int groups_load(struct groups *g, struct slice section, struct err_ctx *err)
{
    CHECK(g->by_name.count == 0);
    if (section.len < 8) {
        return err_set(err, ESCROW_ECORRUPT, "checkpoint section groups: too short");
    }
    g->version = get_le64(section.ptr);
    section = slice_of(section.ptr + 8, section.len - 8);
    while (section.len > 0) {
        struct group_config group;
        enum group_change change = GROUP_SET;
        size_t used = 0;
        int rc = group_decode(section, &group, &change, &used);
        if (rc == 0) {
            rc = change == GROUP_SET ? group_put(g, &group) : ESCROW_ECORRUPT;
        }
        if (rc != 0) {
            return err_set(err, rc, "checkpoint section groups: %s", escrow_strerror(rc));
        }
        section = slice_of(section.ptr + used, section.len - used);
    }
    return 0;
}

const struct group_config *groups_next(const struct groups *g, size_t *cursor)
{
    const struct strmap_slot *slot = strmap_next(&g->by_name, cursor);

    return slot == NULL ? NULL : slot->value;
}
