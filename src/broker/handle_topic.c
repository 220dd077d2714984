/*
 * UPDATE_AND_CREATE_TOPIC 17, GET_ALL_TOPIC_CONFIG 21, DELETE_TOPIC_IN_BROKER 215, GET_TOPIC_CONFIG
 * 351 (PROTOCOL.md, "Topics").
 */
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/body_topic.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/topic_create.h"

static void topic_written(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

/*
 * Names that RocketMQ's brokers have topics of their own by, and its tools take for cluster and
 * broker. One that is there already, from a send, may be changed.
 */
static bool is_reserved(const struct broker *b, struct slice name)
{
    return (slice_eq_str(name, b->config->cluster_name) ||
            slice_eq_str(name, b->config->broker_name)) &&
           topics_find(&b->topics, name) == NULL;
}

/* false when the request was answered with an error. */
static bool create_decode(struct request *req, struct topic *topic)
{
    struct slice name = SLICE_EMPTY;
    int32_t read_queues = 0;
    int32_t write_queues = 0;
    int32_t perm = PERM_READ | PERM_WRITE;
    int32_t sys_flag = 0;

    if (header_get_str(req->header, "topic", &name) != 0 || name_check_topic(name) != 0 ||
        name_topic_class(name) == TOPIC_SYSTEM) {
        request_fail(req, -1, ESCROW_EINVAL, "topic: not a valid name, or a system topic");
        return false;
    }
    if (header_get_i32(req->header, "readQueueNums", &read_queues) != 0 ||
        header_get_i32(req->header, "writeQueueNums", &write_queues) != 0 ||
        header_opt_i32(req->header, "perm", &perm) != 0 ||
        header_opt_i32(req->header, "topicSysFlag", &sys_flag) != 0 ||
        header_opt_bool(req->header, "order", &topic->is_ordered) != 0 || read_queues < 1 ||
        read_queues > QUEUES_PER_TOPIC_MAX || write_queues < 1 ||
        write_queues > QUEUES_PER_TOPIC_MAX || perm < 0 || perm > 15) {
        request_fail(req, -1, ESCROW_EINVAL, "queues must be 1 to %d, perm 0 to 15",
                     QUEUES_PER_TOPIC_MAX);
        return false;
    }
    if (is_reserved(req->broker, name)) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "topic: '%.*s' is the name of the cluster or of the broker", SLICE_ARGS(name));
        return false;
    }
    (void)slice_to_cstr(name, topic->name, sizeof topic->name);
    topic->read_queues = (uint32_t)read_queues;
    topic->write_queues = (uint32_t)write_queues;
    topic->perm = (uint32_t)perm;
    topic->sys_flag = (uint32_t)sys_flag;
    return true;
}

void handle_create_topic(struct request *req)
{
    struct broker *b = req->broker;
    struct topic topic = {.next_queue = 0};
    struct err_ctx err = {.code = 0};
    uint64_t wait_for = 0;
    int rc;

    if (!create_decode(req, &topic)) {
        return;
    }
    rc = pump_reserve(&b->pump);
    if (rc == 0) {
        rc = topic_write(b, &topic, &wait_for, &err);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "%s", err.text[0] != '\0' ? err.text : escrow_strerror(rc));
        return;
    }
    (void)pump_wait(&b->pump, wait_for, false, topic_written, request_defer(req));
}

void handle_delete_topic(struct request *req)
{
    struct broker *b = req->broker;
    struct slice name = SLICE_EMPTY;
    struct err_ctx err = {.code = 0};
    struct topic *topic;
    uint64_t wait_for = 0;
    int rc;

    if (header_get_str(req->header, "topic", &name) != 0 || name_check_topic(name) != 0 ||
        name_topic_class(name) == TOPIC_SYSTEM) {
        request_fail(req, -1, ESCROW_EINVAL, "topic: not a valid name, or a system topic");
        return;
    }
    topic = topics_find(&b->topics, name);
    if (topic == NULL) {
        request_ok(req); /* tools delete topics of groups that have none */
        return;
    }
    rc = pump_reserve(&b->pump);
    if (rc == 0) {
        rc = topic_delete(b, topic, &wait_for, &err);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "%s", err.text[0] != '\0' ? err.text : escrow_strerror(rc));
        return;
    }
    log_info("topic.delete", "topic %s", topic->name);
    (void)pump_wait(&b->pump, wait_for, false, topic_written, request_defer(req));
}

static struct topic_config topic_view(const struct topic *topic)
{
    return (struct topic_config){.name = slice_str(topic->name),
                                 .read_queue_count = (int32_t)topic->read_queues,
                                 .write_queue_count = (int32_t)topic->write_queues,
                                 .perm = (int32_t)topic->perm,
                                 .sys_flag = (int32_t)topic->sys_flag,
                                 .is_ordered = topic->is_ordered};
}

void handle_all_topics(struct request *req)
{
    struct broker *b = req->broker;
    struct topic_table table = {.version = {.timestamp_ms = b->registrar.version_ms,
                                            .counter = (int64_t)b->topics.version}};
    const struct topic *topic;
    struct header_writer w;
    size_t cursor = 0;

    table.topics = mem_calloc(b->topics.by_name.count + 1, sizeof *table.topics);
    if (table.topics == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    while ((topic = topics_next(&b->topics, &cursor)) != NULL) {
        table.topics[table.topic_count++] = topic_view(topic);
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        topic_table_encode(w.buf, &table);
        request_end(req, &w);
    }
    mem_free(table.topics);
}

void handle_topic_config(struct request *req)
{
    struct slice name = SLICE_EMPTY;
    const struct topic *topic;
    struct header_writer w;

    if (header_get_str(req->header, "topic", &name) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field topic is missing");
        return;
    }
    topic = topics_find(&req->broker->topics, name);
    if (topic == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "No topic in this broker");
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        struct topic_config view = topic_view(topic);
        header_end(&w);
        topic_config_encode(w.buf, &view);
        request_end(req, &w);
    }
}
