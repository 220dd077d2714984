#include "src/broker/clients.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/topic_create.h"
#include "src/broker/transactions.h"

#include <string.h>

#define CLIENTS_SCAN_MS       10000
#define FILTER_BYTES_PER_BYTE 16 /* of an expression: no compiled one takes more */

void clients_init(struct clients *c, struct hash_key key)
{
    *c = (struct clients){.role_count = 0};
    strmap_init(&c->producers, key);
    strmap_init(&c->consumers, key);
}

/* ---- groups and roles ---- */

static struct strmap *map_of(struct clients *c, bool is_consumer)
{
    return is_consumer ? &c->consumers : &c->producers;
}

static void subscription_free(struct client_group *group, struct client_subscription *sub)
{
    list_remove(&sub->node);
    group->subscription_count--;
    group->owner->bytes -= sub->bytes;
    filter_free(&sub->filter);
    mem_free(sub->filter_error);
    mem_free(sub);
}

static void group_free(struct clients *c, struct client_group *group)
{
    CHECK(group->role_count == 0);
    while (!list_is_empty(&group->subscriptions)) {
        subscription_free(group,
                          LIST_ENTRY(group->subscriptions.next, struct client_subscription, node));
    }
    CHECK(strmap_take(map_of(c, group->is_consumer), slice_str(group->name)) == group);
    c->bytes -= sizeof *group;
    mem_free(group);
}

static int group_get(struct clients *c, struct slice name, bool is_consumer,
                     struct client_group **out)
{
    struct client_group *group = strmap_find(map_of(c, is_consumer), name);
    int rc = name_check_group(name);

    if (rc != 0) {
        return rc;
    }
    if (group == NULL) {
        if (c->bytes >= CLIENT_BYTES_MAX) {
            return ESCROW_ELIMIT;
        }
        group = mem_calloc(1, sizeof *group);
        if (group == NULL) {
            return ESCROW_ENOMEM;
        }
        group->owner = c;
        (void)slice_to_cstr(name, group->name, sizeof group->name);
        group->is_consumer = is_consumer;
        list_init(&group->roles);
        list_init(&group->subscriptions);
        rc = strmap_put(map_of(c, is_consumer), name, group);
        if (rc != 0) {
            mem_free(group);
            return rc;
        }
        c->bytes += sizeof *group;
    }
    *out = group;
    return 0;
}

/*
 * Take a role out; frees the group with its last one. Returns true when the group still has
 * members.
 */
static bool role_free(struct clients *c, struct client_role *role)
{
    struct client_group *group = role->group;

    if (group->next == &role->by_group) {
        group->next = NULL;
    }
    list_remove(&role->by_group);
    list_remove(&role->by_session);
    group->role_count--;
    c->role_count--;
    c->bytes -= sizeof *role;
    mem_free(role);
    if (group->role_count == 0) {
        group_free(c, group);
        return false;
    }
    return true;
}

/* The role of a session in a group; *is_new tells whether it had to be made. */
static int role_get(struct clients *c, struct session *s, struct client_group *group,
                    struct slice client_id, bool *is_new, struct client_role **out)
{
    struct list *pos;
    struct list *tmp;
    struct client_role *role;
    size_t count = 0;

    *is_new = false;
    LIST_FOREACH(pos, tmp, &s->roles) {
        role = LIST_ENTRY(pos, struct client_role, by_session);
        count++;
        if (role->group == group && slice_eq_str(client_id, role->client_id)) {
            *out = role;
            return 0;
        }
    }
    if (c->role_count >= CLIENT_ROLES_MAX || count >= CLIENT_ROLES_OF_ONE_MAX ||
        c->bytes >= CLIENT_BYTES_MAX) {
        return ESCROW_ELIMIT;
    }
    role = mem_calloc(1, sizeof *role);
    if (role == NULL) {
        return ESCROW_ENOMEM;
    }
    (void)slice_to_cstr(client_id, role->client_id, sizeof role->client_id);
    role->group = group;
    role->session = s;
    list_push(&group->roles, &role->by_group);
    list_push(&s->roles, &role->by_session);
    group->role_count++;
    c->role_count++;
    c->bytes += sizeof *role;
    *is_new = true;
    *out = role;
    return 0;
}

/* ---- telling the members ---- */

static int write_ids_changed(struct session *s, struct buf *out, void *arg)
{
    const struct client_group *group = arg;
    struct header_writer w;
    struct header_out head = {.code = REQUEST_NOTIFY_CONSUMER_IDS_CHANGED,
                              .opaque = session_next_opaque(s),
                              .flag = HEADER_FLAG_ONEWAY};

    header_begin(&w, out, (enum header_type)s->push_type, &head);
    header_put_str(&w, "consumerGroup", slice_str(group->name));
    header_end(&w);
    return header_frame_end(&w, 0);
}

static void notify_members(const struct broker *b, struct client_group *group)
{
    const struct group_config *config = groups_find(&b->groups, slice_str(group->name));
    struct list *pos;
    struct list *tmp;

    if (group->model == MODEL_BROADCASTING || (config != NULL && !config->is_notify_enabled)) {
        return;
    }
    LIST_FOREACH(pos, tmp, &group->roles) {
        struct session *s = LIST_ENTRY(pos, struct client_role, by_group)->session;
        if (session_push(s, write_ids_changed, group) != 0) {
            log_debug("clients.notify", "group %s: a member could not be told", group->name);
        }
    }
}

/* ---- subscriptions ---- */

/*
 * An expression that cannot be compiled: of tags, the consumer gets everything and filters by text
 * itself; of SQL92, pulls are refused until it is right, as RocketMQ's brokers do it, and what was
 * compiled before stays for those who still ask for it.
 */
static int subscription_refuse(const struct client_group *group, struct client_subscription *sub,
                               const struct subscription *in, const struct err_ctx *err)
{
    bool is_tag = slice_eq_str(in->expression_type, "TAG");
    struct filter *every = NULL;

    if (is_tag && filter_compile(SLICE_EMPTY, SLICE_EMPTY, &every, NULL) != 0) {
        return ESCROW_ENOMEM;
    }
    log_peer_warn("clients.filter", "group %s, topic %s: %s", group->name, sub->topic, err->text);
    if (is_tag || sub->is_tag) {
        filter_free(&sub->filter);
        sub->filter = every;
    }
    sub->is_tag = is_tag;
    mem_free(sub->filter_error);
    sub->filter_error = mem_strdup(err->text);
    return 0;
}

static int subscription_compile(const struct client_group *group, struct client_subscription *sub,
                                const struct subscription *in)
{
    struct err_ctx err = {.code = 0};
    struct filter *filter;
    int rc = filter_compile(in->expression_type, in->expression, &filter, &err);

    if (rc == ESCROW_ENOMEM) {
        return rc;
    }
    if (rc != 0) {
        return subscription_refuse(group, sub, in, &err);
    }
    filter_free(&sub->filter);
    mem_free(sub->filter_error);
    sub->filter_error = NULL;
    sub->filter = filter;
    sub->filter_version = in->version;
    sub->is_tag = filter_type_of(filter) != FILTER_SQL;
    return 0;
}

static struct client_subscription *subscription_find(struct client_group *group, struct slice topic)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &group->subscriptions) {
        struct client_subscription *s = LIST_ENTRY(pos, struct client_subscription, node);
        if (slice_eq_str(topic, s->topic)) {
            return s;
        }
    }
    return NULL;
}

static uint64_t wish_of(const struct broker *b, const struct subscription *s)
{
    struct slice type = s->expression_type.len == 0 ? SLICE_LIT("TAG") : s->expression_type;

    return hash64(&b->hash_key, s->expression) + 31 * hash64(&b->hash_key, type);
}

/* A topic that the heartbeat's member subscribes to otherwise than its group so far; or none. */
static struct slice find_difference(const struct broker *b, struct client_group *group,
                                    const struct heartbeat_consumer *in)
{
    struct list *pos;
    struct list *tmp;

    for (size_t i = 0; i < in->subscription_count; i++) {
        const struct subscription *s = &in->subscriptions[i];
        const struct client_subscription *sub = subscription_find(group, s->topic);
        if (name_check_topic(s->topic) == 0 && (sub == NULL || sub->wish != wish_of(b, s))) {
            return s->topic;
        }
    }
    LIST_FOREACH(pos, tmp, &group->subscriptions) {
        struct client_subscription *sub = LIST_ENTRY(pos, struct client_subscription, node);
        size_t i = 0;
        while (i < in->subscription_count &&
               !slice_eq_str(in->subscriptions[i].topic, sub->topic)) {
            i++;
        }
        if (i == in->subscription_count) {
            return slice_str(sub->topic);
        }
    }
    return SLICE_EMPTY;
}

/*
 * The queues of a group are shared among its members, whatever each of them subscribes to, and the
 * newest subscription is the group's: the messages of others are lost to it.
 */
static void warn_of_difference(struct broker *b, struct client_group *group, struct slice client_id,
                               const struct heartbeat_consumer *in)
{
    int64_t now_ms = loop_mono_ms(b->loop);
    struct slice topic;

    if (group->role_count < 2 || group->subscription_count == 0 ||
        (group->warned_ms != 0 && now_ms - group->warned_ms < CLIENT_WARN_MS)) {
        return;
    }
    topic = find_difference(b, group, in);
    if (topic.len > 0) {
        group->warned_ms = now_ms;
        log_peer_warn("clients.subscription",
                      "group %s: its members subscribe differently to topic %.*s (told by client "
                      "%.*s): each gets messages that are for another, and not all of its own; "
                      "give all members the same subscriptions",
                      group->name, SLICE_ARGS(topic), SLICE_ARGS(client_id));
    }
}

static int subscription_put(const struct broker *b, struct client_group *group,
                            const struct subscription *in, bool *has_changed)
{
    struct client_subscription *sub = subscription_find(group, in->topic);
    size_t bytes;
    int rc;

    if (sub != NULL && in->version <= sub->version) {
        sub->is_current = true;
        return 0;
    }
    bytes = sizeof *sub + FILTER_BYTES_PER_BYTE * in->expression.len;
    if ((sub == NULL && group->subscription_count >= CLIENT_SUBSCRIPTIONS_MAX) ||
        group->owner->bytes + bytes > CLIENT_BYTES_MAX) {
        return ESCROW_ELIMIT;
    }
    if (sub == NULL) {
        sub = mem_calloc(1, sizeof *sub);
        if (sub == NULL) {
            return ESCROW_ENOMEM;
        }
        (void)slice_to_cstr(in->topic, sub->topic, sizeof sub->topic);
        list_push(&group->subscriptions, &sub->node);
        group->subscription_count++;
        *has_changed = true; /* a newer version alone changes nobody's queues */
    }
    group->owner->bytes += bytes - sub->bytes;
    sub->bytes = bytes;
    rc = subscription_compile(group, sub, in);
    if (rc != 0) {
        return rc; /* as it was: the next heartbeat tries again */
    }
    sub->version = in->version;
    sub->wish = wish_of(b, in);
    sub->is_current = true;
    return 0;
}

static int subscriptions_update(const struct broker *b, struct client_group *group,
                                const struct heartbeat_consumer *in, bool *has_changed)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &group->subscriptions) {
        LIST_ENTRY(pos, struct client_subscription, node)->is_current = false;
    }
    for (size_t i = 0; i < in->subscription_count; i++) {
        int rc = name_check_topic(in->subscriptions[i].topic);
        if (rc == 0) {
            rc = subscription_put(b, group, &in->subscriptions[i], has_changed);
        }
        if (rc != 0) {
            return rc;
        }
    }
    LIST_FOREACH(pos, tmp, &group->subscriptions) {
        struct client_subscription *sub = LIST_ENTRY(pos, struct client_subscription, node);
        if (!sub->is_current) {
            subscription_free(group, sub);
            *has_changed = true;
        }
    }
    return 0;
}

/* ---- heartbeat ---- */

/* A consumer group has a retry topic, so that its clients find a route for it. */
static void create_retry_topic(struct broker *b, const struct client_group *group)
{
    struct name_buf name;
    struct topic *topic;
    struct err_ctx err = {.code = 0};

    if (group->model == MODEL_BROADCASTING ||
        name_retry_topic(slice_str(group->name), &name) != 0) {
        return;
    }
    if (topic_find_or_create(b, slice_str(name.text), SLICE_EMPTY, 1, &topic, &err) != 0) {
        log_peer_warn("clients.retry_topic", "group %s: %s", group->name, err.text);
    }
}

static int heartbeat_producer(struct broker *b, struct session *s, struct slice client_id,
                              struct slice name)
{
    struct client_group *group;
    struct client_role *role;
    bool is_new;
    int rc = group_get(&b->clients, name, false, &group);

    if (rc != 0) {
        return rc;
    }
    rc = role_get(&b->clients, s, group, client_id, &is_new, &role);
    if (rc != 0) {
        if (group->role_count == 0) {
            group_free(&b->clients, group);
        }
        return rc;
    }
    role->seen_ms = loop_mono_ms(b->loop);
    if (is_new && b->txn != NULL) {
        txn_group_reachable(b->txn, name, broker_txn_now(b));
        transactions_reschedule(b);
    }
    return 0;
}

static int heartbeat_consumer(struct broker *b, struct session *s, struct slice client_id,
                              const struct heartbeat_consumer *in)
{
    struct client_group *group;
    struct client_role *role;
    bool is_new;
    bool has_changed = false;
    int rc = group_get(&b->clients, in->group, true, &group);

    if (rc != 0) {
        return rc;
    }
    rc = role_get(&b->clients, s, group, client_id, &is_new, &role);
    if (rc != 0) {
        if (group->role_count == 0) {
            group_free(&b->clients, group);
        }
        return rc;
    }
    role->seen_ms = loop_mono_ms(b->loop);
    group->type = in->type;
    group->model = in->model;
    group->from = in->from;
    warn_of_difference(b, group, client_id, in);
    rc = subscriptions_update(b, group, in, &has_changed);
    create_retry_topic(b, group);
    if (is_new || has_changed) {
        notify_members(b, group);
    }
    return rc;
}

int clients_heartbeat(struct broker *b, struct session *s, const struct heartbeat *hb)
{
    if (hb->client_id.len == 0 || hb->client_id.len > CLIENT_ID_MAX) {
        return ESCROW_EINVAL;
    }
    for (size_t i = 0; i < hb->producer_count; i++) {
        int rc = heartbeat_producer(b, s, hb->client_id, hb->producer_groups[i]);
        if (rc != 0) {
            return rc;
        }
    }
    for (size_t i = 0; i < hb->consumer_count; i++) {
        int rc = heartbeat_consumer(b, s, hb->client_id, &hb->consumers[i]);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- leaving ---- */

static void role_leave(struct broker *b, struct client_role *role)
{
    struct client_group *group = role->group;

    if (role_free(&b->clients, role) && group->is_consumer) {
        notify_members(b, group);
    }
}

void clients_unregister(struct broker *b, struct session *s, struct slice client_id,
                        struct slice producer_group, struct slice consumer_group)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &s->roles) {
        struct client_role *role = LIST_ENTRY(pos, struct client_role, by_session);
        struct slice name = role->group->is_consumer ? consumer_group : producer_group;
        if (slice_eq_str(name, role->group->name) && slice_eq_str(client_id, role->client_id)) {
            role_leave(b, role);
        }
    }
}

void clients_on_close(struct broker *b, struct session *s)
{
    while (!list_is_empty(&s->roles)) {
        role_leave(b, LIST_ENTRY(s->roles.next, struct client_role, by_session));
    }
}

static void clients_expire(void *arg)
{
    struct broker *b = arg;
    int64_t oldest_ms = loop_mono_ms(b->loop) - CLIENT_EXPIRY_MS;
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &b->sessions) {
        struct session *s = LIST_ENTRY(pos, struct session, node);
        struct list *role_pos;
        struct list *role_tmp;
        LIST_FOREACH(role_pos, role_tmp, &s->roles) {
            struct client_role *role = LIST_ENTRY(role_pos, struct client_role, by_session);
            if (role->seen_ms < oldest_ms) {
                role_leave(b, role);
            }
        }
    }
}

void clients_start(struct broker *b)
{
    loop_timer_start(b->loop, &b->clients.expiry, CLIENTS_SCAN_MS, CLIENTS_SCAN_MS, clients_expire,
                     b);
}

void clients_fini(struct broker *b)
{
    loop_timer_stop(b->loop, &b->clients.expiry);
    CHECK(b->clients.role_count == 0);
    strmap_fini(&b->clients.producers);
    strmap_fini(&b->clients.consumers);
}

/* ---- looking up ---- */

struct session *clients_pick_producer(struct broker *b, struct slice name)
{
    struct client_group *group = strmap_find(&b->clients.producers, name);
    struct list *pos;

    if (group == NULL) {
        return NULL;
    }
    pos = group->next != NULL ? group->next : group->roles.next;
    group->next = pos->next == &group->roles ? group->roles.next : pos->next;
    return LIST_ENTRY(pos, struct client_role, by_group)->session;
}

const struct client_group *clients_find_consumers(const struct broker *b, struct slice group)
{
    return strmap_find(&b->clients.consumers, group);
}

const struct client_group *clients_find_producers(const struct broker *b, struct slice group)
{
    return strmap_find(&b->clients.producers, group);
}

const struct client_subscription *clients_find_subscription(const struct client_group *group,
                                                            struct slice topic)
{
    struct list *pos;

    for (pos = group->subscriptions.next; pos != &group->subscriptions; pos = pos->next) {
        const struct client_subscription *sub = LIST_ENTRY(pos, struct client_subscription, node);
        if (slice_eq_str(topic, sub->topic)) {
            return sub;
        }
    }
    return NULL;
}

struct session *clients_find_session(const struct broker *b, struct slice client_id)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while ((slot = strmap_next(&b->clients.producers, &cursor)) != NULL) {
        const struct client_group *group = slot->value;
        struct list *pos;
        for (pos = group->roles.next; pos != &group->roles; pos = pos->next) {
            const struct client_role *role = LIST_ENTRY(pos, struct client_role, by_group);
            if (slice_eq_str(client_id, role->client_id)) {
                return role->session;
            }
        }
    }
    return NULL;
}
