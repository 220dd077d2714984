/* escrow copy: the target, and its topics and groups. */
#include "core/proto/body_route.h"
#include "core/proto/codes.h"
#include "src/tools/copy/copy.h"

#include <inttypes.h>
#include <string.h>

/* ---- which broker ---- */

/* Copying a broker to itself would never end. */
static int check_apart(struct copy *c)
{
    const char *identity = remote_identity(&c->to.remote, c->to_addr);

    for (size_t i = 0; i < c->broker_count; i++) {
        const char *addr = c->brokers[i].addr;
        if (strcmp(addr, c->to_addr) == 0 ||
            (identity[0] != '\0' &&
             strcmp(identity, remote_identity(&c->from.remote, addr)) == 0)) {
            return copy_error(c, ESCROW_EINVAL, "the broker at %s is source and target", addr);
        }
    }
    return 0;
}

int copy_find_target(struct copy *c)
{
    struct cli_brokers found;
    struct cli_request req = {.addr = c->to_addr, .code = REQUEST_ESCROW_TXN_HORIZON};
    int rc;

    c->at = &c->to;
    rc = cli_brokers(&c->to, &found);
    c->err = c->to.err;
    if (rc != 0) {
        return rc;
    }
    if (found.count > 1) {
        return copy_error(c, ESCROW_EINVAL,
                          "the target has %zu brokers, each with queues of its own: say which with "
                          "--addr",
                          found.count);
    }
    memcpy(c->to_addr, found.items[0].addr, sizeof c->to_addr);
    rc = copy_ask(c, &c->to, &req, NULL, NULL);
    if (rc == ESCROW_ENOTSUP) {
        return copy_error(c, rc, "the broker at %s is no escrowd", c->to_addr);
    }
    return rc == 0 ? check_apart(c) : rc;
}

/* ---- what it has ---- */

static int on_topics(void *arg, struct header *header, struct slice body)
{
    struct copy *c = arg;

    (void)header;
    topic_table_fini(&c->to_topics);
    return topic_table_decode(body, &c->to_topics);
}

static int on_groups(void *arg, struct header *header, struct slice body)
{
    struct copy *c = arg;

    (void)header;
    group_table_fini(&c->to_groups);
    return group_table_decode(body, &c->to_groups);
}

int copy_read_target(struct copy *c)
{
    struct cli_request req = {.addr = c->to_addr, .code = REQUEST_GET_ALL_TOPIC_CONFIG};
    int rc = copy_ask(c, &c->to, &req, on_topics, c);

    if (rc == 0) {
        req.code = REQUEST_GET_ALL_SUBSCRIPTIONGROUP_CONFIG;
        rc = copy_ask(c, &c->to, &req, on_groups, c);
    }
    return rc;
}

void copy_free_target(struct copy *c)
{
    topic_table_fini(&c->to_topics);
    group_table_fini(&c->to_groups);
}

const struct topic_config *copy_target_topic(const struct copy *c, const char *name)
{
    for (size_t i = 0; i < c->to_topics.topic_count; i++) {
        if (slice_eq_str(c->to_topics.topics[i].name, name)) {
            return &c->to_topics.topics[i];
        }
    }
    return NULL;
}

/* ---- topics ---- */

static void topic_fields(struct header_writer *w, void *arg)
{
    const struct topic_config *topic = arg;

    header_put_str(w, "topic", topic->name);
    header_put_str(w, "defaultTopic", SLICE_LIT(TOPIC_TEMPLATE));
    header_put_i64(w, "readQueueNums", topic->read_queue_count);
    header_put_i64(w, "writeQueueNums", topic->write_queue_count);
    header_put_i64(w, "perm", topic->perm);
    header_put_str(w, "topicFilterType",
                   topic->is_multi_tag ? SLICE_LIT("MULTI_TAG") : SLICE_LIT("SINGLE_TAG"));
    header_put_i64(w, "topicSysFlag", topic->sys_flag);
    header_put_bool(w, "order", topic->is_ordered);
}

static bool is_same_topic(const struct topic_config *a, const struct topic_config *b)
{
    return a->read_queue_count == b->read_queue_count &&
           a->write_queue_count == b->write_queue_count && a->perm == b->perm &&
           a->sys_flag == b->sys_flag && a->is_ordered == b->is_ordered;
}

/* "4 queues", and what is not as usual. */
static const char *topic_text(const struct topic_config *topic, char *dst, size_t size)
{
    char queues[48];

    if (topic->read_queue_count == topic->write_queue_count) {
        (void)snprintf(queues, sizeof queues, "%" PRId32 " queues", topic->read_queue_count);
    } else {
        (void)snprintf(queues, sizeof queues, "%" PRId32 " queues read, %" PRId32 " written",
                       topic->read_queue_count, topic->write_queue_count);
    }
    (void)snprintf(dst, size, "%s, perm %" PRId32 "%s", queues, topic->perm,
                   topic->is_ordered ? ", ordered" : "");
    return dst;
}

static int set_topic(struct copy *c, const struct copy_topic *topic, const char *how)
{
    struct topic_config config = topic->config;
    struct cli_request req = {.addr = c->to_addr,
                              .code = REQUEST_UPDATE_AND_CREATE_TOPIC,
                              .fields = topic_fields,
                              .fields_arg = &config};
    char text[100];
    int rc = c->is_dry ? 0 : copy_ask(c, &c->to, &req, NULL, NULL);

    if (rc == 0) {
        copy_told(c, "topic", topic->name, "%s%s: %s", c->is_dry ? "would be " : "", how,
                  topic_text(&config, text, sizeof text));
    }
    return rc;
}

static int copy_topic(struct copy *c, const struct copy_topic *topic)
{
    const struct topic_config *there = copy_target_topic(c, topic->name);
    char here[100];
    char has[100];

    if (there == NULL) {
        return set_topic(c, topic, "created");
    }
    if (is_same_topic(there, &topic->config)) {
        copy_told(c, "topic", topic->name, "as it is");
        return 0;
    }
    if (c->is_overwrite) {
        return set_topic(c, topic, "changed");
    }
    copy_told(c, "topic", topic->name, "left alone: has %s; would be %s",
              topic_text(there, has, sizeof has), topic_text(&topic->config, here, sizeof here));
    return 0;
}

int copy_topics(struct copy *c)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->topic_count; i++) {
        rc = copy_settle(c, copy_topic(c, &c->topics[i]), c->topics[i].name);
    }
    return rc;
}

/* ---- groups ---- */

static const struct group_config *target_group(const struct copy *c, struct slice name)
{
    for (size_t i = 0; i < c->to_groups.group_count; i++) {
        if (slice_eq(c->to_groups.groups[i].name, name)) {
            return &c->to_groups.groups[i];
        }
    }
    return NULL;
}

static bool is_same_group(const struct group_config *a, const struct group_config *b)
{
    struct buf x;
    struct buf y;
    bool is_same;

    buf_init(&x, 0);
    buf_init(&y, 0);
    group_config_encode(&x, a);
    group_config_encode(&y, b);
    is_same = !buf_failed(&x) && !buf_failed(&y) && slice_eq(buf_slice(&x), buf_slice(&y));
    buf_fini(&x);
    buf_fini(&y);
    return is_same;
}

static int set_group(struct copy *c, const struct group_config *group, const char *name,
                     const char *how)
{
    struct cli_request req = {.addr = c->to_addr,
                              .code = REQUEST_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP};
    struct buf body;
    int rc = 0;

    if (!c->is_dry) {
        buf_init(&body, 0);
        group_config_encode(&body, group);
        req.body = buf_slice(&body);
        rc = buf_failed(&body) ? copy_error(c, ESCROW_ENOMEM, "out of memory")
                               : copy_ask(c, &c->to, &req, NULL, NULL);
        buf_fini(&body);
    }
    if (rc == 0) {
        copy_told(c, "group", name, "%s%s: %" PRId32 " retries%s", c->is_dry ? "would be " : "",
                  how, group->retry_max_times, group->is_consume_enabled ? "" : ", disabled");
    }
    return rc;
}

static int copy_group(struct copy *c, const struct group_config *group, const char *name)
{
    const struct group_config *there = target_group(c, group->name);

    if (there == NULL) {
        return set_group(c, group, name, "created");
    }
    if (is_same_group(there, group)) {
        copy_told(c, "group", name, "as it is");
        return 0;
    }
    if (c->is_overwrite) {
        return set_group(c, group, name, "changed");
    }
    copy_told(c, "group", name, "left alone: has other settings");
    return 0;
}

int copy_groups(struct copy *c)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->group_count; i++) {
        const struct group_config *group = &c->groups[i].config;
        char name[GROUP_LEN_MAX + 1];
        (void)slice_to_cstr(group->name, name, sizeof name);
        rc = copy_settle(c, copy_group(c, group, name), name);
    }
    return rc;
}
