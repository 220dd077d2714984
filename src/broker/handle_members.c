/*
 * Who is connected and who consumes what, for RocketMQ's tools: GET_CONSUMER_CONNECTION_LIST 203,
 * GET_PRODUCER_CONNECTION_LIST 204, QUERY_TOPIC_CONSUME_BY_WHO 300, QUERY_TOPICS_BY_CONSUMER 343,
 * QUERY_SUBSCRIPTION_BY_CONSUMER 345 (PROTOCOL.md, "Administration").
 */
#include "core/base/mem.h"
#include "core/proto/body_admin.h"
#include "core/proto/body_connections.h"
#include "core/proto/body_lists.h"
#include "core/proto/tags.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"

/* ---- connections of a group ---- */

struct members {
    struct connection_row *rows;
    char (*addrs)[TCP_ADDR_TEXT_MAX];
    struct subscription *subscriptions;
    struct slice *tags; /* of all subscriptions, one behind the other */
    int32_t *codes;
    size_t tag_count;
};

static void members_fini(struct members *m)
{
    mem_free(m->rows);
    mem_free(m->addrs);
    mem_free(m->subscriptions);
    mem_free(m->tags);
    mem_free(m->codes);
}

static struct slice subscription_text(const struct client_subscription *sub)
{
    return sub->filter == NULL ? SLICE_EMPTY : filter_text(sub->filter);
}

static size_t count_tags(const struct client_subscription *sub)
{
    struct slice rest = subscription_text(sub);
    struct slice tag;
    size_t count = 0;

    if (sub->filter == NULL || filter_type_of(sub->filter) != FILTER_TAG) {
        return 0;
    }
    while (tag_expression_next(&rest, &tag)) {
        count++;
    }
    return count;
}

/* As the group's last heartbeat gave it; of an expression that is malformed the last good one. */
static void put_subscription(struct members *m, struct subscription *out,
                             const struct client_subscription *sub)
{
    struct slice rest = subscription_text(sub);
    size_t count = count_tags(sub);

    *out = (struct subscription){.topic = slice_str(sub->topic),
                                 .expression = rest.len == 0 && sub->is_tag ? SLICE_LIT("*") : rest,
                                 .expression_type =
                                     sub->is_tag ? SLICE_LIT("TAG") : SLICE_LIT("SQL92"),
                                 .version = sub->version,
                                 .tags = m->tags + m->tag_count,
                                 .tag_count = count,
                                 .codes = m->codes + m->tag_count,
                                 .code_count = count};
    for (size_t i = 0; i < count; i++) {
        struct slice tag = SLICE_EMPTY;
        (void)tag_expression_next(&rest, &tag); /* there are `count` */
        m->tags[m->tag_count] = tag;
        m->codes[m->tag_count] = java_hash(tag);
        m->tag_count++;
    }
}

static int members_init(struct members *m, const struct client_group *group)
{
    struct list *pos;
    size_t tags = 0;
    size_t count = 0;

    for (pos = group->subscriptions.next; pos != &group->subscriptions; pos = pos->next) {
        tags += count_tags(LIST_ENTRY(pos, struct client_subscription, node));
    }
    *m = (struct members){.rows = mem_calloc(group->role_count + 1, sizeof *m->rows),
                          .addrs = mem_calloc(group->role_count + 1, sizeof *m->addrs),
                          .subscriptions =
                              mem_calloc(group->subscription_count + 1, sizeof *m->subscriptions),
                          .tags = mem_calloc(tags + 1, sizeof *m->tags),
                          .codes = mem_calloc(tags + 1, sizeof *m->codes)};
    if (m->rows == NULL || m->addrs == NULL || m->subscriptions == NULL || m->tags == NULL ||
        m->codes == NULL) {
        members_fini(m);
        return ESCROW_ENOMEM;
    }
    for (pos = group->roles.next; pos != &group->roles; pos = pos->next) {
        const struct client_role *role = LIST_ENTRY(pos, struct client_role, by_group);
        const struct session *s = role->session;
        m->rows[count] = (struct connection_row){
            .client_id = slice_str(role->client_id),
            .client_addr = slice_str(
                tcp_addr_format(tcp_conn_peer(&s->conn), m->addrs[count], sizeof m->addrs[count])),
            .language = language_name(s->language),
            .version = s->version};
        count++;
    }
    count = 0;
    for (pos = group->subscriptions.next; pos != &group->subscriptions; pos = pos->next) {
        put_subscription(m, &m->subscriptions[count++],
                         LIST_ENTRY(pos, struct client_subscription, node));
    }
    return 0;
}

static void answer_members(struct request *req, const struct client_group *group)
{
    struct members m;
    struct header_writer w;

    if (members_init(&m, group) != 0) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        if (group->is_consumer) {
            struct consumer_connections body = {.rows = m.rows,
                                                .row_count = group->role_count,
                                                .subscriptions = m.subscriptions,
                                                .subscription_count = group->subscription_count,
                                                .type = group->type,
                                                .model = group->model,
                                                .from = group->from};
            consumer_connections_encode(w.buf, &body);
        } else {
            producer_connections_encode(w.buf, m.rows, group->role_count);
        }
        request_end(req, &w);
    }
    members_fini(&m);
}

static int shown_len(struct slice name)
{
    return (int)(name.len > 255 ? 255 : name.len);
}

void handle_consumer_connections(struct request *req)
{
    const struct client_group *group;
    struct slice name = SLICE_EMPTY;

    if (header_get_str(req->header, "consumerGroup", &name) != 0 || name.len == 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field consumerGroup is missing");
        return;
    }
    group = clients_find_consumers(req->broker, name);
    if (group == NULL) {
        request_fail(req, RESPONSE_CONSUMER_NOT_ONLINE, ESCROW_ENOTFOUND,
                     "the consumer group[%.*s] not online", shown_len(name),
                     (const char *)name.ptr);
        return;
    }
    answer_members(req, group);
}

void handle_producer_connections(struct request *req)
{
    const struct client_group *group;
    struct slice name = SLICE_EMPTY;

    if (header_get_str(req->header, "producerGroup", &name) != 0 || name.len == 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field producerGroup is missing");
        return;
    }
    group = clients_find_producers(req->broker, name);
    if (group == NULL) {
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_ENOTFOUND,
                     "the producer group[%.*s] not exist", shown_len(name), (const char *)name.ptr);
        return;
    }
    answer_members(req, group);
}

/* What a group subscribes to in one topic; nothing when it is not there, or does not. */
void handle_group_subscription(struct request *req)
{
    struct slice group = SLICE_EMPTY;
    struct slice topic = SLICE_EMPTY;
    const struct client_group *members;
    const struct subscription *found = NULL;
    struct members m = {.rows = NULL};
    struct header_writer w;

    if (header_get_str(req->header, "group", &group) != 0 ||
        header_get_str(req->header, "topic", &topic) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field group or topic is missing");
        return;
    }
    members = clients_find_consumers(req->broker, group);
    if (members != NULL && members_init(&m, members) != 0) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    for (size_t i = 0; members != NULL && i < members->subscription_count; i++) {
        found = slice_eq(m.subscriptions[i].topic, topic) ? &m.subscriptions[i] : found;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        group_subscription_encode(w.buf, group, topic, found);
        request_end(req, &w);
    }
    members_fini(&m);
}

/* ---- who consumes what ---- */

/* Names found so far: counted first, then noted. */
struct found {
    struct slice want;
    struct slice *names;
    size_t count;
};

static void found_put(struct found *f, struct slice name)
{
    if (f->names != NULL) {
        f->names[f->count] = name;
    }
    f->count++;
}

static void find_stored_group(void *arg, struct slice group, struct slice topic)
{
    struct found *f = arg;

    if (slice_eq(topic, f->want)) {
        found_put(f, group);
    }
}

static void find_stored_topic(void *arg, struct slice group, struct slice topic)
{
    struct found *f = arg;

    if (slice_eq(group, f->want)) {
        found_put(f, topic);
    }
}

/* Groups with an offset in the topic, and those connected that subscribe to it. */
static void find_groups(const struct broker *b, struct found *f)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    f->count = 0;
    offsets_visit_pairs(&b->offsets, find_stored_group, f);
    while ((slot = strmap_next(&b->clients.consumers, &cursor)) != NULL) {
        const struct client_group *group = slot->value;
        if (clients_find_subscription(group, f->want) != NULL &&
            !offsets_has_pair(&b->offsets, slice_str(group->name), f->want)) {
            found_put(f, slice_str(group->name));
        }
    }
}

static void find_topics(const struct broker *b, struct found *f)
{
    const struct client_group *group = clients_find_consumers(b, f->want);
    struct list *pos;

    f->count = 0;
    offsets_visit_pairs(&b->offsets, find_stored_topic, f);
    if (group == NULL) {
        return;
    }
    for (pos = group->subscriptions.next; pos != &group->subscriptions; pos = pos->next) {
        struct slice topic = slice_str(LIST_ENTRY(pos, struct client_subscription, node)->topic);
        if (!offsets_has_pair(&b->offsets, f->want, topic)) {
            found_put(f, topic);
        }
    }
}

static void answer_found(struct request *req, const char *key, struct slice want,
                         void (*find)(const struct broker *b, struct found *f))
{
    struct found f = {.want = want};
    struct header_writer w;

    find(req->broker, &f);
    f.names = mem_calloc(f.count + 1, sizeof *f.names);
    if (f.names == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    find(req->broker, &f);
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        name_list_encode(w.buf, key, f.names, f.count);
        request_end(req, &w);
    }
    mem_free(f.names);
}

void handle_topic_groups(struct request *req)
{
    struct slice topic = SLICE_EMPTY;

    if (header_get_str(req->header, "topic", &topic) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field topic is missing");
        return;
    }
    answer_found(req, LIST_GROUPS, topic, find_groups);
}

void handle_group_topics(struct request *req)
{
    struct slice group = SLICE_EMPTY;

    if (header_get_str(req->header, "group", &group) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field group is missing");
        return;
    }
    answer_found(req, LIST_TOPICS, group, find_topics);
}
