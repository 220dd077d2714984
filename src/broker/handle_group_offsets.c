/*
 * Offsets of whole groups: GET_ALL_CONSUMER_OFFSET 43, CLONE_GROUP_OFFSET 314 (PROTOCOL.md,
 * "Administration").
 */
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/json_write.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/offsets_flush.h"

#include <stdio.h>

#define ALL_OFFSETS_BYTES_MAX (FRAME_SIZE_MAX - (64u << 10)) /* of a body; the rest of the frame */
#define CLONE_QUEUES_MAX      65536 /* of one request: they are copied in one turn of the loop */

/* ---- all offsets ---- */

struct all_offsets {
    struct json_writer w;
    struct slice group; /* of the pair that is being written */
    struct slice topic;
};

/* Visited pair by pair. */
static void put_offset(void *arg, struct slice group, struct slice topic, uint32_t queue,
                       int64_t offset)
{
    struct all_offsets *all = arg;
    char text[GROUP_LEN_MAX + RETRY_TOPIC_LEN_MAX + 2];

    if (!slice_eq(all->group, group) || !slice_eq(all->topic, topic)) {
        if (all->group.len > 0) {
            json_write_object_end(&all->w);
        }
        all->group = group;
        all->topic = topic;
        (void)snprintf(text, sizeof text, "%.*s@%.*s", SLICE_ARGS(topic), SLICE_ARGS(group));
        json_write_key_slice(&all->w, slice_str(text));
        json_write_object_begin(&all->w);
    }
    (void)snprintf(text, sizeof text, "%u", queue);
    json_put_i64(&all->w, text, offset);
}

void handle_all_offsets(struct request *req)
{
    struct all_offsets all = {.group = SLICE_EMPTY};
    struct header_writer w;
    struct buf body;

    buf_init(&body, ALL_OFFSETS_BYTES_MAX);
    all.w = json_writer_to(&body);
    json_write_object_begin(&all.w);
    json_write_key(&all.w, "offsetTable");
    json_write_object_begin(&all.w);
    offsets_visit(&req->broker->offsets, put_offset, &all);
    if (all.group.len > 0) {
        json_write_object_end(&all.w);
    }
    json_write_object_end(&all.w);
    json_write_object_end(&all.w);
    if (buf_failed(&body)) {
        request_fail(req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_ETOOBIG,
                     "more offsets than fit into a frame: ask group by group");
    } else if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        buf_append_slice(w.buf, buf_slice(&body));
        request_end(req, &w);
    }
    buf_fini(&body);
}

/* ---- one group's offsets for another ---- */

/* What is copied: counted in a first pass, noted in a second. */
struct clone {
    struct broker *broker;
    struct slice from;
    struct slice to;
    struct slice want_topic; /* empty: all */
    bool is_offline;
    size_t queues;
    struct slice *topics; /* borrowed from the table of offsets, in which nothing is removed */
    size_t topic_count;
};

static bool is_cloned(const struct clone *c, struct slice group, struct slice topic)
{
    const struct client_group *members = clients_find_consumers(c->broker, c->from);

    return slice_eq(group, c->from) && name_topic_class(topic) != TOPIC_RETRY &&
           (c->want_topic.len == 0 || slice_eq(topic, c->want_topic)) &&
           topics_find(&c->broker->topics, topic) != NULL &&
           (c->is_offline || members == NULL || clients_find_subscription(members, topic) != NULL);
}

static void find_topic(void *arg, struct slice group, struct slice topic)
{
    struct clone *c = arg;

    if (is_cloned(c, group, topic)) {
        if (c->topics != NULL) {
            c->topics[c->topic_count] = topic;
        }
        c->topic_count++;
        c->queues += topics_find(&c->broker->topics, topic)->read_queues;
    }
}

static int clone_find(struct clone *c)
{
    const struct offsets *o = &c->broker->offsets;

    offsets_visit_pairs(o, find_topic, c);
    if (c->queues > CLONE_QUEUES_MAX) {
        return ESCROW_ETOOBIG;
    }
    c->topics = mem_calloc(c->topic_count + 1, sizeof *c->topics);
    if (c->topics == NULL) {
        return ESCROW_ENOMEM;
    }
    c->topic_count = 0;
    offsets_visit_pairs(o, find_topic, c);
    return 0;
}

static int clone_note(const struct clone *c)
{
    struct offsets *o = &c->broker->offsets;
    int rc = 0;

    for (size_t i = 0; i < c->topic_count; i++) {
        uint32_t queues = topics_find(&c->broker->topics, c->topics[i])->read_queues;
        for (uint32_t q = 0; rc == 0 && q < queues; q++) {
            int64_t offset;
            if (offsets_find(o, c->from, c->topics[i], q, &offset)) {
                rc = offsets_note(o, c->to, c->topics[i], q, offset);
            }
        }
    }
    return rc == 0 ? offsets_flush(c->broker) : rc;
}

static void cloned(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

void handle_clone_offsets(struct request *req)
{
    struct clone c = {.broker = req->broker};
    struct header *h = req->header;
    int rc;

    if (header_get_str(h, "srcGroup", &c.from) != 0 || name_check_group(c.from) != 0 ||
        header_get_str(h, "destGroup", &c.to) != 0 || name_check_group(c.to) != 0 ||
        header_opt_str(h, "topic", &c.want_topic) != 0 ||
        header_opt_bool(h, "offline", &c.is_offline) != 0) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "field srcGroup, destGroup, topic or offline is missing or malformed");
        return;
    }
    rc = pump_reserve(&req->broker->pump);
    if (rc == 0) {
        rc = clone_find(&c);
    }
    if (rc == 0) {
        rc = clone_note(&c);
    }
    mem_free(c.topics);
    if (rc != 0) {
        request_fail(req, -1, rc, "offsets not cloned, or not all of them: %s",
                     escrow_strerror(rc));
    } else {
        (void)pump_wait(&req->broker->pump, pump_tail(&req->broker->pump), false, cloned,
                        request_defer(req));
    }
}
