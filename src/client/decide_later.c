/*
 * Decisions that nobody waits for. The first one after a quiet moment goes out at once; those of
 * the next GATHER_MS go together, one request per producer, broker and state, and do not wake the
 * loop: a service that commits often pays for neither a wake-up nor a request per transaction, and
 * the broker writes one record for all of them.
 *
 * The broker decides the halves of a request all or none, as is right for one transaction and not
 * for strangers who only travel together: when it refuses some, the transactions that were held
 * back go again at once, without those that have a refused half. Such a request is smaller every
 * time, so this ends; no decision that came later joins it, so nobody waits for conflicts without
 * end; and it needs no memory that the first one did not have.
 *
 * A request that got no answer is repeated as a whole until its deadline (decide.c). What is given
 * up, by deadline or by refusal, is left to check-back.
 *
 * While the timer runs the loop polls its inbox. Each of them holds a reference of its producer,
 * so that freeing the producer waits until all have gone their way.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/codes.h"
#include "src/client/client_private.h"

#include <string.h>

#define GATHER_MS 2 /* what a consumer may wait longer for, when many commit */

struct batch;
static void batch_start(struct batch *b);

/* Halves of one transaction at one broker: decided all or none. */
struct later {
    struct task task;
    struct list node; /* gather->waiting, then batch->items */
    struct escrow_producer *producer;
    enum escrow_txn_state state;
    int64_t deadline_ms; /* monotonic, from its arrival on the loop */
    size_t count;
    struct escrow_receipt halves[];
};

/* One request, and what follows from its answer. */
struct batch {
    struct decide decide;
    struct list items; /* struct later, oldest first */
    const struct escrow_receipt *halves[END_TXN_HALVES_MAX];
    uint8_t said[END_TXN_HALVES_MAX];
};

static void later_free(struct later *l)
{
    struct escrow_producer *p = l->producer;

    list_remove(&l->node);
    mem_free(l);
    producer_unref(p);
}

static void batch_free(struct batch *b)
{
    while (!list_is_empty(&b->items)) {
        later_free(LIST_ENTRY(b->items.next, struct later, node));
    }
    mem_free(b);
}

/* Was there nothing against this transaction but the company it was in? */
static bool is_held_back(const struct later *l, const uint8_t *said)
{
    bool some = false;

    for (size_t i = 0; i < l->count; i++) {
        if (said[i] == DECIDE_REFUSED) {
            return false;
        }
        some = some || said[i] == DECIDE_HELD_BACK;
    }
    return some;
}

/* Forget those that the answer was for; true when there was one. */
static bool batch_shrink(struct batch *b)
{
    bool is_smaller = false;
    size_t at = 0;
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &b->items) {
        struct later *l = LIST_ENTRY(pos, struct later, node);
        const uint8_t *said = b->said + at;
        at += l->count;
        if (!is_held_back(l, said)) {
            later_free(l);
            is_smaller = true;
        }
    }
    return is_smaller;
}

static void batch_done(struct decide *d)
{
    struct batch *b = LIST_ENTRY(d, struct batch, decide);
    struct escrow_client *c = d->producer->client; /* the producer may go with its last decision */
    bool is_smaller;

    decide_fini(d);
    is_smaller = batch_shrink(b);
    if (is_smaller && !list_is_empty(&b->items) && loop_mono_ms(&c->loop) < d->deadline_ms) {
        batch_start(b);
    } else {
        batch_free(b);
    }
}

/*
 * Send all of it. The deadline is the oldest one's: those of the others are later by what gathering
 * took.
 */
static void batch_start(struct batch *b)
{
    const struct later *first = LIST_ENTRY(b->items.next, struct later, node);
    struct list *pos;
    struct list *tmp;

    memset(b->said, DECIDE_UNSAID, sizeof b->said);
    b->decide = (struct decide){.producer = first->producer,
                                .halves = b->halves,
                                .said = b->said,
                                .state = first->state,
                                .deadline_ms = first->deadline_ms,
                                .done = batch_done};
    LIST_FOREACH(pos, tmp, &b->items) {
        const struct later *l = LIST_ENTRY(pos, struct later, node);
        for (size_t i = 0; i < l->count; i++) {
            b->halves[b->decide.count++] = &l->halves[i];
        }
    }
    decide_start(&b->decide);
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
    size_t count = 0;
    struct list *pos;
    struct list *tmp;

    if (b == NULL) {
        later_free(first); /* check-back */
        return;
    }
    list_init(&b->items);
    LIST_FOREACH(pos, tmp, &g->waiting) {
        struct later *l = LIST_ENTRY(pos, struct later, node);
        if (!goes_with(l, first) || count + l->count > END_TXN_HALVES_MAX) {
            continue;
        }
        count += l->count;
        list_remove(&l->node);
        list_push(&b->items, &l->node);
    }
    batch_start(b);
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

    l->deadline_ms = loop_mono_ms(&c->loop) + (int64_t)l->producer->timeout_ms;
    list_push(&c->gather.waiting, &l->node);
    if (!loop_timer_is_active(&c->gather.timer)) {
        loop_timer_start(&c->loop, &c->gather.timer, 0, 0, gather_time, c);
    }
}

int decide_later(struct escrow_producer *p, enum escrow_txn_state state,
                 const struct escrow_receipt *const *halves, size_t count)
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
