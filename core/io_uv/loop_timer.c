/*
 * Timers of the loop: an intrusive pairing heap (Fredman, Sedgewick, Sleator, Tarjan 1986), so that
 * a timer is three pointers in its owner's struct, starting one is O(1), and stopping one frees it
 * at once (a uv_timer_t would have to be closed, which takes an iteration).
 *
 * A node's `child` is its first child; children are chained by `next`; `prev` is the previous
 * sibling, or the parent for the first child. The root has neither next nor prev.
 */
#include "core/io_uv/loop_private.h"

#include <stddef.h>

static bool timer_before(const struct loop_timer *a, const struct loop_timer *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->seq < b->seq;
}

/* Make one heap of two; either may be NULL. Both are roots. */
static struct loop_timer *timer_meld(struct loop_timer *a, struct loop_timer *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (timer_before(b, a)) {
        struct loop_timer *tmp = a;
        a = b;
        b = tmp;
    }
    b->prev = a;
    b->next = a->child;
    if (a->child != NULL) {
        a->child->prev = b;
    }
    a->child = b;
    return a;
}

/*
 * Make one heap of a chain of siblings: meld in pairs from the left, then the pairs from the right.
 */
static struct loop_timer *timer_meld_chain(struct loop_timer *first)
{
    struct loop_timer *pairs = NULL; /* chained by next, last pair first */
    struct loop_timer *root = NULL;

    while (first != NULL) {
        struct loop_timer *a = first;
        struct loop_timer *b = a->next;
        struct loop_timer *pair;

        first = b == NULL ? NULL : b->next;
        a->next = NULL;
        a->prev = NULL;
        if (b != NULL) {
            b->next = NULL;
            b->prev = NULL;
        }
        pair = timer_meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    while (pairs != NULL) {
        struct loop_timer *pair = pairs;

        pairs = pair->next;
        pair->next = NULL;
        root = timer_meld(root, pair);
    }
    return root;
}

static void timer_remove(struct loop *l, struct loop_timer *t)
{
    struct loop_timer *rest = timer_meld_chain(t->child);

    if (l->timers == t) {
        l->timers = rest;
    } else {
        if (t->prev->child == t) {
            t->prev->child = t->next;
        } else {
            t->prev->next = t->next;
        }
        if (t->next != NULL) {
            t->next->prev = t->prev;
        }
        l->timers = timer_meld(l->timers, rest);
    }
    t->child = NULL;
    t->next = NULL;
    t->prev = NULL;
    t->is_active = false;
}

static void timer_insert(struct loop *l, struct loop_timer *t, int64_t due_ns)
{
    t->child = NULL;
    t->next = NULL;
    t->prev = NULL;
    t->due_ns = due_ns;
    t->seq = l->timer_seq++;
    t->is_active = true;
    l->timers = timer_meld(l->timers, t);
}

/* now + delay, stopping at the end of time. */
static int64_t timer_due(int64_t now_ns, uint64_t delay_ms)
{
    uint64_t room_ms = (uint64_t)(INT64_MAX - now_ns) / 1000000;

    return delay_ms >= room_ms ? INT64_MAX : now_ns + (int64_t)delay_ms * 1000000;
}

void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms,
                      loop_fn *fn, void *arg)
{
    DCHECK_THREAD(l);
    CHECK(fn != NULL);
    loop_timer_stop(l, t);
    t->repeat_ms = repeat_ms;
    t->fn = fn;
    t->arg = arg;
    timer_insert(l, t, timer_due(loop_mono_ns(l), delay_ms));
}

void loop_timer_stop(struct loop *l, struct loop_timer *t)
{
    DCHECK_THREAD(l);
    if (t->is_active) {
        timer_remove(l, t);
    }
}

void loop_timers_run(struct loop *l)
{
    int64_t now_ns;
    uint64_t seq_end = l->timer_seq; /* started by a callback from now on: next iteration */

    if (l->timers == NULL) {
        return;
    }
    now_ns = loop_mono_ns(l);
    while (l->timers != NULL && l->timers->due_ns <= now_ns && l->timers->seq < seq_end) {
        struct loop_timer *t = l->timers;

        timer_remove(l, t);
        if (t->repeat_ms > 0) {
            timer_insert(l, t, timer_due(now_ns, t->repeat_ms));
        }
        t->fn(t->arg); /* may free t */
    }
}
