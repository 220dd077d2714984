/*
 * Decisions that nobody waits for. The first one after a quiet moment goes out at once; those of
 * the next GATHER_MS go together, one request per producer, broker and state, and do not wake the
 * loop: a service that commits often pays for neither a wake-up nor a request per transaction, and
 * the broker writes one record for all of them.
 *
 * While the timer runs the loop polls its inbox. Each of them holds a reference of its producer.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/codes.h"
#include "src/client/client_private.h"

#include <string.h>

#define GATHER_MS 2 /* what a consumer may wait longer for, when many commit */

/* Halves of one transaction at one broker. */
struct later {
    struct task task;
    struct list node; /* gather->waiting, then batch->items */
    struct escrow_producer *producer;
    enum escrow_txn_state state;
    uint64_t timeout_ms;
    size_t count;
    struct escrow_receipt halves[];
};

/* One request. */
struct batch {
    struct decide decide;
    struct list items;
    const struct escrow_receipt *halves[END_TXN_HALVES_MAX];
};

static void later_free(struct later *l)
{
    struct escrow_producer *p = l->producer;

    list_remove(&l->node);
    mem_free(l);
    producer_unref(p);
}

static void batch_done(struct decide *d)
{
    struct batch *b = LIST_ENTRY(d, struct batch, decide);

    decide_fini(d);
    while (!list_is_empty(&b->items)) {
        later_free(LIST_ENTRY(b->items.next, struct later, node));
    }
    mem_free(b);
}

static bool goes_with(const struct later *l, const struct later *first)
{
    return l->producer == first->producer && l->state == first->state &&
           strcmp(l->halves[0].addr, first->halves[0].addr) == 0;
}

/* The oldest one, and all that can go with it. */
static void batch_send(struct gather *g)
{
    struct later *first = LIST_ENTRY(g->waiting.next, struct later, node);
    struct batch *b = mem_calloc(1, sizeof *b);
    struct list *pos;
    struct list *tmp;

    if (b == NULL) {
        later_free(first); /* check-back */
        return;
    }
    list_init(&b->items);
    b->decide.producer = first->producer;
    b->decide.state = first->state;
    b->decide.timeout_ms = first->timeout_ms;
    b->decide.halves = b->halves;
    b->decide.done = batch_done;
    LIST_FOREACH(pos, tmp, &g->waiting) {
        struct later *l = LIST_ENTRY(pos, struct later, node);
        if (!goes_with(l, first) || b->decide.count + l->count > END_TXN_HALVES_MAX) {
            continue;
        }
        for (size_t i = 0; i < l->count; i++) {
            b->halves[b->decide.count++] = &l->halves[i];
        }
        list_remove(&l->node);
        list_push(&b->items, &l->node);
    }
    decide_start(&b->decide);
}

static void gather_time(void *arg)
{
    struct escrow_client *c = arg;
    struct gather *g = &c->gather;

    mailbox_poll(&c->inbox);
    if (list_is_empty(&g->waiting) && mailbox_poll_end(&c->inbox)) {
        return; /* a quiet moment */
    }
    while (!list_is_empty(&g->waiting)) {
        batch_send(g);
    }
    loop_timer_start(&c->loop, &g->timer, GATHER_MS, 0, gather_time, c);
}

static void later_arrived(struct task *task)
{
    struct later *l = LIST_ENTRY(task, struct later, task);
    struct escrow_client *c = l->producer->client;

    list_push(&c->gather.waiting, &l->node);
    if (!loop_timer_is_active(&c->gather.timer)) {
        loop_timer_start(&c->loop, &c->gather.timer, 0, 0, gather_time, c);
    }
}

int decide_later(struct escrow_producer *p, enum escrow_txn_state state,
                 const struct escrow_receipt *const *halves, size_t count, uint64_t timeout_ms)
{
    struct later *l;
    int rc;

    CHECK(count > 0 && count <= END_TXN_HALVES_MAX);
    l = mem_calloc(1, sizeof *l + count * sizeof l->halves[0]);
    if (l == NULL) {
        return ESCROW_ENOMEM;
    }
    list_init(&l->node);
    l->task.run = later_arrived;
    l->producer = p;
    l->state = state;
    l->timeout_ms = timeout_ms;
    l->count = count;
    for (size_t i = 0; i < count; i++) {
        l->halves[i] = *halves[i];
    }
    producer_ref(p);
    rc = mailbox_post_soon(&p->client->inbox, &l->task.mail);
    if (rc != 0) {
        later_free(l);
    }
    return rc;
}

void gather_init(struct gather *g)
{
    list_init(&g->waiting);
}

void gather_fini(struct escrow_client *c)
{
    CHECK(list_is_empty(&c->gather.waiting));
    loop_timer_stop(&c->loop, &c->gather.timer);
}
