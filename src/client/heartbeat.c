/*
 * Heartbeats: every broker of every known route hears which groups live here: consumers, and
 * producers that answer check-backs. A broker that does not answer hears it again.
 */
#include "src/client/client_private.h"

#include "core/base/mem.h"
#include "core/proto/codes.h"

#include <string.h>

#define HEARTBEAT_TIMEOUT_MS  3000
#define HEARTBEAT_BROKERS_MAX 64
#define HEARTBEAT_GROUPS_MAX  256

struct heartbeat_call {
    struct list node; /* client->heartbeats */
    struct remote_call call;
};

static void heartbeat_answered(struct remote_call *call, int error, struct header *header,
                               struct slice body)
{
    struct heartbeat_call *hb = LIST_ENTRY(call, struct heartbeat_call, call);

    (void)error; /* the next one comes by its timer, or when the connection is back */
    (void)header;
    (void)body;
    list_remove(&hb->node);
    mem_free(hb);
}

static void heartbeat_send(struct escrow_client *c, const char *addr, struct slice body)
{
    struct heartbeat_call *hb = mem_calloc(1, sizeof *hb);
    struct remote_request req = {
        .addr = addr, .code = REQUEST_HEART_BEAT, .body = body, .timeout_ms = HEARTBEAT_TIMEOUT_MS};

    if (hb != NULL) {
        list_push(&c->heartbeats, &hb->node);
        remote_call(&c->remote, &hb->call, &req, heartbeat_answered);
    }
}

/* Addresses of all brokers of all known routes, each once. */
static size_t broker_addrs(struct escrow_client *c, const char **addrs, size_t max)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;
    size_t count = 0;

    while ((slot = strmap_next(&c->router.routes, &cursor)) != NULL) {
        const struct topic_route *route = slot->value;
        for (size_t i = 0; i < route->target_count; i++) {
            const char *addr = route->targets[i].addr;
            size_t k = 0;
            while (k < count && strcmp(addrs[k], addr) != 0) {
                k++;
            }
            if (k == count && count < max && addr[0] != '\0') {
                addrs[count++] = addr;
            }
        }
    }
    return count;
}

/* Send it to `only`, or to every broker. */
static void heartbeat_broadcast(struct escrow_client *c, const char *only)
{
    struct slice producers[HEARTBEAT_GROUPS_MAX];
    struct heartbeat_consumer consumers[HEARTBEAT_GROUPS_MAX];
    const char *addrs[HEARTBEAT_BROKERS_MAX] = {only};
    struct heartbeat hb = {
        .client_id = slice_str(c->id), .producer_groups = producers, .consumers = consumers};
    struct list *pos;
    struct list *tmp;
    struct buf body;
    size_t count;

    /*
     * The broker asks who is named here: a group without a check callback would only keep it
     * waiting.
     */
    LIST_FOREACH(pos, tmp, &c->producers) {
        const struct escrow_producer *p = LIST_ENTRY(pos, struct escrow_producer, node);
        if (p->check != NULL && hb.producer_count < HEARTBEAT_GROUPS_MAX) {
            producers[hb.producer_count++] = slice_str(p->group);
        }
    }
    consumer_fill_heartbeat(c, consumers, HEARTBEAT_GROUPS_MAX, &hb.consumer_count);
    if (list_is_empty(&c->producers) && hb.consumer_count == 0) {
        return; /* with producers it goes out without a group, too: a silent connection is closed */
    }
    buf_init(&body, 0);
    heartbeat_encode(&body, &hb);
    count = only != NULL ? 1 : broker_addrs(c, addrs, HEARTBEAT_BROKERS_MAX);
    for (size_t i = 0; i < count && !buf_failed(&body); i++) {
        heartbeat_send(c, addrs[i], buf_slice(&body));
    }
    buf_fini(&body);
}

void heartbeat_send_all(struct escrow_client *c)
{
    heartbeat_broadcast(c, NULL);
}

void heartbeat_send_to(struct escrow_client *c, const char *addr)
{
    heartbeat_broadcast(c, addr);
}

struct goodbye {
    struct slice client_id;
    const char *field;
    struct slice group;
};

static void goodbye_fields(struct header_writer *w, void *arg)
{
    const struct goodbye *g = arg;

    header_put_str(w, "clientID", g->client_id);
    header_put_str(w, g->field, g->group);
}

void heartbeat_goodbye(struct escrow_client *c, const char *field, const char *group)
{
    struct goodbye g = {slice_str(c->id), field, slice_str(group)};
    const char *addrs[HEARTBEAT_BROKERS_MAX];
    size_t count = broker_addrs(c, addrs, HEARTBEAT_BROKERS_MAX);

    for (size_t i = 0; i < count; i++) {
        struct remote_request req = {.addr = addrs[i],
                                     .code = REQUEST_UNREGISTER_CLIENT,
                                     .fields = goodbye_fields,
                                     .fields_arg = &g};
        if (remote_is_open(&c->remote, addrs[i]) && remote_oneway(&c->remote, &req) != 0) {
            /* the broker sees the connection close instead */
        }
    }
}

void heartbeat_stop(struct escrow_client *c)
{
    while (!list_is_empty(&c->heartbeats)) {
        struct heartbeat_call *hb = LIST_ENTRY(c->heartbeats.next, struct heartbeat_call, node);
        remote_cancel(&hb->call);
        list_remove(&hb->node);
        mem_free(hb);
    }
}
