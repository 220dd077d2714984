/*
 * Event loop: the thin owner of a uv_loop_t. Runs timers, deferred calls, signals and the hooks
 * around the kernel's poll.
 *
 * One iteration is: I/O callbacks, AFTER_POLL hooks, WAKE hooks (when loop_wake was called), timers
 * that are due, deferred calls, BEFORE_SLEEP hooks (hand over what the iteration collected), FLUSH
 * hooks (core/io_uv/tcp writes its output), sleep. So whatever any callback produces is flushed
 * before the loop sleeps.
 *
 * Owns:    its uv handles. Timers, deferred calls and hooks are the caller's structs, embedded in
 *          the caller's objects; they hold no uv handle, so a stopped one may be freed at once.
 * Thread:  the thread that called loop_init, from loop_run on the thread that runs it. Only
 *          loop_wake may be called from other threads. Every other entry point of this folder
 *          begins with DCHECK_THREAD(loop).
 * Holds:   callbacks are never called inside the call that asked for them.
 */
#ifndef CORE_IO_UV_LOOP_H
#define CORE_IO_UV_LOOP_H

#include "core/base/attr.h"
#include "core/base/check.h"
#include "core/base/list.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define LOOP_SIGNALS_MAX 4
#define LOOP_SLOW_MS     50 /* a longer iteration is counted: something blocked the loop */

typedef void loop_fn(void *arg);

enum loop_phase {
    LOOP_AFTER_POLL,   /* right after the I/O callbacks */
    LOOP_WAKE,         /* another thread called loop_wake (mailboxes) */
    LOOP_BEFORE_SLEEP, /* the iteration's work is collected: hand it over */
    LOOP_FLUSH,        /* last: write what was produced */
    LOOP_PHASE_COUNT
};

/* Called once per iteration in its phase, in the order they were started. */
struct loop_hook {
    struct list node;
    loop_fn *fn;
    void *arg;
};

/* Called once, soon, without sleeping in between. */
struct loop_deferred {
    struct list node;
    loop_fn *fn;
    void *arg;
};

struct loop_timer {
    struct loop_timer *child; /* pairing heap, see loop_timer.c */
    struct loop_timer *next;
    struct loop_timer *prev;
    int64_t due_ns;
    uint64_t seq; /* timers due at the same time run in the order they were started */
    uint64_t repeat_ms;
    loop_fn *fn;
    void *arg;
    bool is_active;
};

struct loop_stats {
    uint64_t iterations;
    uint64_t slow_iterations; /* longer than LOOP_SLOW_MS, poll not counted */
    uint64_t longest_ms;
};

struct loop_signal {
    uv_signal_t uv;
    loop_fn *fn;
    void *arg;
};

struct loop {
    uv_loop_t uv; /* for modules of core/io_uv, src and outbox/pg that add handles of their own */
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle; /* active while deferred calls wait, so that poll does not sleep */
    uv_timer_t wakeup;
    uv_async_t wake;
    struct loop_signal signals[LOOP_SIGNALS_MAX];
    int signal_count;
    struct list hooks[LOOP_PHASE_COUNT];
    struct list *hook_next; /* the hook that runs after the current one */
    struct list deferred;
    struct loop_timer *timers; /* heap root: the first due */
    uint64_t timer_seq;
    int64_t wakeup_ns; /* when `wakeup` is set to fire; INT64_MAX = not set */
    int64_t mono_ns;   /* cached; valid while has_time */
    int64_t wall_ms;
    bool has_time;
    bool must_wake; /* loop_wake was called */
    int64_t iteration_start_ms;
    _Atomic(const void *) owner; /* identity of the thread */
    struct loop_stats stats;
};

/*
 * ESCROW_ELIMIT or ESCROW_EIO when the kernel gives no descriptors; nothing is left behind then.
 * Blocks SIGPIPE in the calling thread (loop_run does so in its own).
 */
ESCROW_MUST_USE int loop_init(struct loop *l);

/*
 * Close the loop's own handles and wait for handles that are closing and for pool work already
 * running. Every timer, hook and handle of others has been stopped or closed before (CHECK).
 */
void loop_fini(struct loop *l);

/* Until loop_stop. May be called again. */
void loop_run(struct loop *l);

/* One iteration; sleeps for events only when may_wait. For tests and for programs that drive the
 * loop themselves. */
void loop_run_once(struct loop *l, bool may_wait);

/* loop_run returns after this iteration. */
void loop_stop(struct loop *l);

/*
 * Something has arrived that the next poll will report: the loop would not sleep now. One system
 * call.
 */
bool loop_has_events(struct loop *l);

/* Run the WAKE hooks soon. Any thread; calls coalesce; also from a signal handler. */
void loop_wake(struct loop *l);

/* Monotonic and wall-clock time, read once per iteration at first use. For anything that must be
 * exact use core/io/clock.h. */
int64_t loop_mono_ns(struct loop *l);
int64_t loop_mono_ms(struct loop *l);
int64_t loop_wall_ms(struct loop *l);

/* After a callback that computed for long: read the clock again at the next use. */
void loop_time_forget(struct loop *l);

/*
 * Timers. A zeroed struct is a stopped timer. Start (or restart) to call fn(arg) delay_ms after the
 * iteration's time, then every repeat_ms when that is not 0. Never fires early; a timer whose
 * repeats were missed fires once.
 */
void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t delay_ms, uint64_t repeat_ms,
                      loop_fn *fn, void *arg);
void loop_timer_stop(struct loop *l, struct loop_timer *t); /* not active is fine */
static inline bool loop_timer_is_active(const struct loop_timer *t)
{
    return t->is_active;
}

/* Call d->fn(d->arg) once, later in this iteration or in the next. A second defer before it ran
 * does nothing. */
void loop_deferred_init(struct loop_deferred *d, loop_fn *fn, void *arg);
void loop_defer(struct loop *l, struct loop_deferred *d);
void loop_deferred_cancel(struct loop_deferred *d); /* not waiting is fine */

/* Hooks may stop themselves or others while they run. */
void loop_hook_start(struct loop *l, enum loop_phase phase, struct loop_hook *hook, loop_fn *fn,
                     void *arg);
void loop_hook_stop(struct loop *l, struct loop_hook *hook);

/* Call fn(arg) on the loop for each signal; at most LOOP_SIGNALS_MAX, until loop_fini.
 * ESCROW_ELIMIT, ESCROW_EINVAL. */
ESCROW_MUST_USE int loop_on_signal(struct loop *l, int signum, loop_fn *fn, void *arg);

/* Is the caller the thread that owns the loop? Any thread. */
bool loop_is_mine(const struct loop *l);

/* First line of the entry points of everything that belongs to a loop. */
#define DCHECK_THREAD(loop) DCHECK(loop_is_mine(loop))

#endif
