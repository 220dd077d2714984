#include "src/broker/topic_create.h"

#include "core/base/limits.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"

#include <stdio.h>

#define TEMPLATE_QUEUES 8

static int append_topic(struct broker *b, const struct topic *topic, bool is_deleted,
                        uint64_t *wait_for)
{
    struct store_receipt receipt;
    int rc;

    buf_clear(&b->scratch);
    topic_encode(&b->scratch, topic, is_deleted);
    if (buf_failed(&b->scratch)) {
        return ESCROW_ENOMEM;
    }
    rc = store_append_raw(b->store, STORE_TOPIC, buf_slice(&b->scratch), NULL, &receipt);
    if (rc == 0) {
        *wait_for = receipt.wait_for;
    }
    return rc;
}

static int topic_create(struct broker *b, const struct topic *topic, struct topic **out,
                        uint64_t *wait_for, struct err_ctx *err)
{
    int rc = topics_add(&b->topics, topic, out);

    if (rc == 0) {
        rc = append_topic(b, *out, false, wait_for);
        if (rc != 0) {
            topics_undo(&b->topics, out);
        }
    }
    return rc == 0 ? 0
                   : err_set(err, rc, "topic[%s] cannot be created: %s", topic->name,
                             escrow_strerror(rc));
}

static int being_deleted(const struct topic *topic, struct err_ctx *err)
{
    return err_set(err, ESCROW_EBUSY, "topic[%s] is being deleted", topic->name);
}

int topic_delete(struct broker *b, struct topic *topic, uint64_t *wait_for, struct err_ctx *err)
{
    int rc = append_topic(b, topic, true, wait_for);

    if (rc != 0) {
        return err_set(err, rc, "topic[%s] cannot be deleted: %s", topic->name,
                       escrow_strerror(rc));
    }
    topic->is_deleting = true;
    return 0;
}

int topic_write(struct broker *b, const struct topic *topic, uint64_t *wait_for,
                struct err_ctx *err)
{
    struct topic *found = topics_find(&b->topics, slice_str(topic->name));
    int rc;

    if (found == NULL) {
        return topic_create(b, topic, &found, wait_for, err);
    }
    if (found->is_deleting) {
        return being_deleted(found, err);
    }
    rc = append_topic(b, topic, false, wait_for);
    return rc == 0 ? 0
                   : err_set(err, rc, "topic[%s] cannot be changed: %s", topic->name,
                             escrow_strerror(rc));
}

/*
 * Queues and permissions that an automatically created topic gets; false when it may not be
 * created.
 */
static bool topic_from_template(struct broker *b, enum topic_class class_,
                                struct slice default_topic, struct topic *topic)
{
    const struct topic *tmpl;

    if (class_ == TOPIC_RETRY || class_ == TOPIC_DLQ) {
        struct slice group = name_group_of_topic(slice_str(topic->name));
        topic->read_queues = topic->write_queues = 1;
        if (class_ == TOPIC_RETRY) {
            int32_t queues = groups_config(&b->groups, group).retry_queue_count;
            topic->read_queues = topic->write_queues = queues < 1 ? 1 : (uint32_t)queues;
        }
        topic->perm = PERM_READ | PERM_WRITE;
        return true;
    }
    if (!b->config->topic_auto_create ||
        (class_ == TOPIC_SYSTEM &&
         !slice_has_prefix(slice_str(topic->name), SLICE_LIT(TOPIC_CLOUD_TRACE)))) {
        return false;
    }
    tmpl = topics_find(&b->topics, default_topic);
    if (tmpl == NULL || (tmpl->perm & PERM_INHERIT) == 0) {
        return false;
    }
    if (topic->write_queues == 0 || topic->write_queues > tmpl->write_queues) {
        topic->write_queues = tmpl->write_queues;
    }
    topic->read_queues = topic->write_queues;
    topic->perm = tmpl->perm & ~(uint32_t)PERM_INHERIT;
    return true;
}

int topic_find_or_create(struct broker *b, struct slice name, struct slice default_topic,
                         uint32_t queues, struct topic **out, struct err_ctx *err)
{
    struct topic topic = {.write_queues = queues};
    uint64_t wait_for;

    *out = topics_find(&b->topics, name);
    if (ESCROW_LIKELY(*out != NULL)) {
        return ESCROW_LIKELY(!(*out)->is_deleting) ? 0 : being_deleted(*out, err);
    }
    if (name_check_topic(name) != 0) {
        return err_set(
            err, ESCROW_EINVAL,
            "the topic '%.*s' is not valid: use letters, digits, '%%', '|', '_' and '-', "
            "at most %d",
            (int)(name.len > 200 ? 200 : name.len), (const char *)name.ptr, TOPIC_LEN_MAX);
    }
    (void)slice_to_cstr(name, topic.name, sizeof topic.name);
    if (!topic_from_template(b, name_topic_class(name), default_topic, &topic)) {
        return err_set(err, ESCROW_ENOROUTE, "topic[%s] not exist, apply first please!",
                       topic.name);
    }
    return topic_create(b, &topic, out, &wait_for, err);
}

int topic_create_system(struct broker *b, struct err_ctx *err)
{
    char reply_topic[RETRY_TOPIC_LEN_MAX + 1];
    const struct {
        const char *name;
        uint32_t queues;
        uint32_t perm;
    } system_topics[] = {
        {TOPIC_TEMPLATE, TEMPLATE_QUEUES, PERM_READ | PERM_WRITE | PERM_INHERIT},
        {TOPIC_SELF_TEST, 1, PERM_READ | PERM_WRITE},
        {TOPIC_EXPIRED, 1, PERM_READ | PERM_WRITE},
        {TOPIC_OFFSET_MOVED, 1, PERM_READ | PERM_WRITE},
        {TOPIC_TRACE, 1, PERM_READ | PERM_WRITE},
        /* replies are pushed, not stored; the topic is there so that repliers find a route */
        {reply_topic, 1, PERM_READ | PERM_WRITE},
    };

    (void)snprintf(reply_topic, sizeof reply_topic, "%.*s_REPLY_TOPIC", TOPIC_LEN_MAX - 12,
                   b->config->cluster_name);
    for (size_t i = 0; i < sizeof system_topics / sizeof system_topics[0]; i++) {
        struct topic topic = {.read_queues = system_topics[i].queues,
                              .write_queues = system_topics[i].queues,
                              .perm = system_topics[i].perm};
        struct topic *made = NULL;
        uint64_t wait_for;
        int rc;
        if (topics_find(&b->topics, slice_str(system_topics[i].name)) != NULL ||
            name_check_topic(slice_str(system_topics[i].name)) != 0) { /* an odd cluster.name */
            continue;
        }
        (void)slice_to_cstr(slice_str(system_topics[i].name), topic.name, sizeof topic.name);
        rc = topic_create(b, &topic, &made, &wait_for, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
