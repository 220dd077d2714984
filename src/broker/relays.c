#include "src/broker/relays.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "src/broker/broker.h"

#include <string.h>

struct relay {
    struct list node;
    struct deferred asker; /* who is answered; or */
    relay_heard_fn *heard; /* who gathers answers */
    void *heard_arg;
    char client_id[CLIENT_ID_MAX + 1];
    struct session *client; /* held */
    int32_t opaque;
    int64_t until_ms; /* monotonic */
};

void relays_init(struct relays *r)
{
    *r = (struct relays){.count = 0};
    list_init(&r->waiting);
}

/* The entry is answered. */
static void relay_end(struct broker *b, struct relay *relay)
{
    list_remove(&relay->node);
    b->relays.count--;
    session_drop(relay->client);
    mem_free(relay);
    if (b->relays.count == 0) {
        loop_timer_stop(b->loop, &b->relays.timer);
    }
}

static void relay_fail(struct broker *b, struct relay *relay, int32_t code, int error,
                       const char *text)
{
    if (relay->heard != NULL) {
        relay->heard(b, relay->heard_arg, relay->client_id, NULL, SLICE_EMPTY);
    } else {
        deferred_fail(&relay->asker, code, error, text);
    }
    relay_end(b, relay);
}

static void on_tick(void *arg)
{
    struct broker *b = arg;
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &b->relays.waiting) {
        struct relay *relay = LIST_ENTRY(pos, struct relay, node);
        if (relay->until_ms <= loop_mono_ms(b->loop)) {
            relay_fail(b, relay, RESPONSE_CONSUME_MSG_TIMEOUT, ESCROW_ETIMEOUT,
                       "the client did not answer in time");
        }
    }
}

/* ---- asking ---- */

struct question {
    const struct relay_ask *ask;
    int32_t opaque;
};

static int write_question(struct session *s, struct buf *out, void *arg)
{
    const struct question *q = arg;
    struct header_writer w;
    struct header_out head = {.code = q->ask->code, .opaque = q->opaque};

    header_begin(&w, out, (enum header_type)s->push_type, &head);
    header_put_str(&w, "consumerGroup", q->ask->group);
    header_put_str(&w, "clientId", q->ask->client_id);
    if (q->ask->put_fields != NULL) {
        q->ask->put_fields(&w, q->ask->arg);
    }
    header_end(&w);
    buf_append_slice(w.buf, q->ask->body);
    return header_frame_end(&w, 0);
}

static struct session *find_member(const struct broker *b, const struct relay_ask *ask)
{
    const struct client_group *group = clients_find_consumers(b, ask->group);

    if (group == NULL) {
        return NULL;
    }
    for (struct list *pos = group->roles.next; pos != &group->roles; pos = pos->next) {
        const struct client_role *role = LIST_ENTRY(pos, struct client_role, by_group);
        if (slice_eq_str(ask->client_id, role->client_id)) {
            return role->session;
        }
    }
    return NULL;
}

/* An entry for what is asked of this client. NULL: too many wait, or no memory. */
static struct relay *relay_new(struct broker *b, struct session *client)
{
    struct relay *relay = b->relays.count >= RELAYS_MAX ? NULL : mem_calloc(1, sizeof *relay);

    if (relay == NULL) {
        return NULL;
    }
    session_hold(client);
    relay->client = client;
    relay->opaque = session_next_opaque(client);
    relay->until_ms = loop_mono_ms(b->loop) + RELAY_WAIT_MS;
    list_push(&b->relays.waiting, &relay->node);
    if (b->relays.count++ == 0) {
        loop_timer_start(b->loop, &b->relays.timer, RELAY_WAIT_MS / 10, RELAY_WAIT_MS / 10, on_tick,
                         b);
    }
    return relay;
}

static void relay_send(struct broker *b, struct relay *relay, const struct relay_ask *ask)
{
    struct question q = {.ask = ask, .opaque = relay->opaque};

    if (session_push(relay->client, write_question, &q) != 0) {
        relay_fail(b, relay, RESPONSE_SYSTEM_ERROR, ESCROW_ECLOSED, "the client cannot be asked");
    }
}

void relay_start(struct broker *b, struct deferred *deferred, const struct relay_ask *ask)
{
    struct session *client = find_member(b, ask);
    struct relay *relay;

    if (client == NULL) {
        deferred_fail(deferred, RESPONSE_SYSTEM_ERROR, ESCROW_ENOTFOUND,
                      "the consumer is not online");
        return;
    }
    relay = relay_new(b, client);
    if (relay == NULL) {
        deferred_fail(deferred, -1, ESCROW_ELIMIT, "too many questions to clients under way");
        return;
    }
    relay->asker = *deferred;
    relay_send(b, relay, ask);
}

int relay_ask_member(struct broker *b, const struct client_role *member,
                     const struct relay_ask *ask, relay_heard_fn *fn, void *arg)
{
    struct relay *relay = relay_new(b, member->session);

    if (relay == NULL) {
        return ESCROW_ELIMIT;
    }
    relay->heard = fn;
    relay->heard_arg = arg;
    memcpy(relay->client_id, member->client_id, sizeof relay->client_id);
    relay_send(b, relay, ask);
    return 0;
}

/* ---- answers ---- */

void relay_on_answer(struct session *s, const struct header *h, struct slice body)
{
    struct list *pos;
    struct list *tmp;
    struct header_writer w;

    LIST_FOREACH(pos, tmp, &s->broker->relays.waiting) {
        struct relay *relay = LIST_ENTRY(pos, struct relay, node);
        if (relay->client != s || relay->opaque != h->opaque) {
            continue;
        }
        if (relay->heard != NULL) {
            relay->heard(s->broker, relay->heard_arg, relay->client_id, h, body);
        } else if (deferred_begin(&relay->asker, &w, h->code, h->remark)) {
            header_end(&w);
            buf_append_slice(w.buf, body);
            deferred_end(&relay->asker, &w);
        }
        relay_end(s->broker, relay);
        return;
    }
}

void relay_on_close(struct session *s)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &s->broker->relays.waiting) {
        struct relay *relay = LIST_ENTRY(pos, struct relay, node);
        if (relay->client == s) {
            relay_fail(s->broker, relay, RESPONSE_SYSTEM_ERROR, ESCROW_ECLOSED,
                       "the client has gone");
        }
    }
}

void relays_stop(struct broker *b)
{
    while (!list_is_empty(&b->relays.waiting)) {
        relay_fail(b, LIST_ENTRY(b->relays.waiting.next, struct relay, node), -1, ESCROW_ESHUTDOWN,
                   NULL);
    }
}
