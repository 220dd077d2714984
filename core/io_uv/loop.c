/*
 * The loop around uv_run. The happy path is one iteration: uv polls and calls the I/O callbacks;
 * `check` runs the hooks of AFTER_POLL and WAKE; `prepare` runs timers, deferred calls and the
 * hooks of BEFORE_SLEEP and FLUSH, then tells uv how long it may sleep (`wakeup` for the first
 * timer, `idle` when deferred calls wait) and measures how long the iteration took.
 *
 * Nothing here can fail after loop_init.
 */
#include "core/io_uv/loop.h"

#include "core/io_uv/loop_private.h"
#include "escrow/errors.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

static _Thread_local char thread_marker; /* its address is the thread's identity */

bool loop_is_mine(const struct loop *l)
{
    return atomic_load_explicit(&l->owner, memory_order_relaxed) == &thread_marker;
}

/*
 * uv writes to sockets without MSG_NOSIGNAL; SIGPIPE goes to the writing thread, so blocking it
 * there is enough and leaves the rest of a process that only uses the client library alone.
 */
static void thread_enter(struct loop *l)
{
    sigset_t set;

    atomic_store_explicit(&l->owner, &thread_marker, memory_order_relaxed);
    CHECK(sigemptyset(&set) == 0);
    CHECK(sigaddset(&set, SIGPIPE) == 0);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

/* ---- time ---- */

static void time_read(struct loop *l)
{
    struct timespec mono;
    struct timespec wall;

    CHECK(clock_gettime(CLOCK_MONOTONIC, &mono) == 0);
    CHECK(clock_gettime(CLOCK_REALTIME, &wall) == 0);
    l->mono_ns = (int64_t)mono.tv_sec * 1000000000 + mono.tv_nsec;
    l->wall_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
    l->has_time = true;
}

int64_t loop_mono_ns(struct loop *l)
{
    DCHECK_THREAD(l);
    if (!l->has_time) {
        time_read(l);
    }
    return l->mono_ns;
}

int64_t loop_mono_ms(struct loop *l)
{
    return loop_mono_ns(l) / 1000000;
}

int64_t loop_wall_ms(struct loop *l)
{
    DCHECK_THREAD(l);
    if (!l->has_time) {
        time_read(l);
    }
    return l->wall_ms;
}

void loop_time_forget(struct loop *l)
{
    DCHECK_THREAD(l);
    l->has_time = false;
}

/* ---- hooks and deferred calls ---- */

void loop_hook_start(struct loop *l, enum loop_phase phase, struct loop_hook *hook, loop_fn *fn,
                     void *arg)
{
    DCHECK_THREAD(l);
    CHECK(fn != NULL);
    hook->fn = fn;
    hook->arg = arg;
    list_push(&l->hooks[phase], &hook->node);
}

void loop_hook_stop(struct loop *l, struct loop_hook *hook)
{
    DCHECK_THREAD(l);
    if (l->hook_next == &hook->node) {
        l->hook_next = hook->node.next;
    }
    list_remove(&hook->node);
}

static void hooks_run(struct loop *l, enum loop_phase phase)
{
    struct list *head = &l->hooks[phase];

    l->hook_next = head->next;
    while (l->hook_next != head) {
        struct loop_hook *hook = LIST_ENTRY(l->hook_next, struct loop_hook, node);

        l->hook_next = hook->node.next;
        hook->fn(hook->arg); /* may free hook */
    }
    l->hook_next = NULL;
}

void loop_deferred_init(struct loop_deferred *d, loop_fn *fn, void *arg)
{
    CHECK(fn != NULL);
    list_init(&d->node);
    d->fn = fn;
    d->arg = arg;
}

void loop_defer(struct loop *l, struct loop_deferred *d)
{
    DCHECK_THREAD(l);
    if (list_is_empty(&d->node)) {
        list_push(&l->deferred, &d->node);
    }
}

void loop_deferred_cancel(struct loop_deferred *d)
{
    list_remove(&d->node);
}

/* Only those that wait now: one that defers itself again must not keep the loop from polling. */
static void deferred_run(struct loop *l)
{
    struct list batch;

    if (list_is_empty(&l->deferred)) {
        return;
    }
    batch = l->deferred;
    batch.next->prev = &batch;
    batch.prev->next = &batch;
    list_init(&l->deferred);
    while (!list_is_empty(&batch)) {
        struct loop_deferred *d = LIST_ENTRY(batch.next, struct loop_deferred, node);

        list_remove(&d->node);
        d->fn(d->arg); /* may free d */
    }
}

/* ---- the iteration ---- */

static void on_check(uv_check_t *handle)
{
    struct loop *l = handle->data;

    l->iteration_start_ms = (int64_t)uv_now(&l->uv); /* when poll returned */
    hooks_run(l, LOOP_AFTER_POLL);
    if (l->must_wake) {
        l->must_wake = false;
        hooks_run(l, LOOP_WAKE);
    }
}

static void on_wakeup(uv_timer_t *handle)
{
    struct loop *l = handle->data;

    l->wakeup_ns = INT64_MAX; /* timers run in on_prepare, later in this iteration */
}

static void on_idle(uv_idle_t *handle)
{
    (void)handle; /* its being active is what counts */
}

static void on_wake(uv_async_t *handle)
{
    struct loop *l = handle->data;

    l->must_wake = true;
}

/* Tell uv how long it may sleep. */
static void sleep_arm(struct loop *l)
{
    if (list_is_empty(&l->deferred)) {
        CHECK(uv_idle_stop(&l->idle) == 0);
    } else {
        CHECK(uv_idle_start(&l->idle, on_idle) == 0);
    }
    if (l->timers == NULL) {
        if (l->wakeup_ns != INT64_MAX) {
            l->wakeup_ns = INT64_MAX;
            CHECK(uv_timer_stop(&l->wakeup) == 0);
        }
    } else if (l->timers->due_ns != l->wakeup_ns) {
        int64_t delay_ns = l->timers->due_ns - l->mono_ns;
        uint64_t delay_ms = delay_ns <= 0 ? 0 : ((uint64_t)delay_ns + 999999) / 1000000;

        uv_update_time(&l->uv);
        CHECK(uv_timer_start(&l->wakeup, on_wakeup, delay_ms, 0) == 0);
        l->wakeup_ns = l->timers->due_ns;
    }
}

static void iteration_measure(struct loop *l)
{
    int64_t took_ms = l->mono_ns / 1000000 - l->iteration_start_ms;

    l->stats.iterations++;
    if (l->iteration_start_ms == 0 || took_ms < 0) {
        return; /* the first, before any poll */
    }
    if ((uint64_t)took_ms > l->stats.longest_ms) {
        l->stats.longest_ms = (uint64_t)took_ms;
    }
    if (took_ms > LOOP_SLOW_MS) {
        l->stats.slow_iterations++;
    }
}

static void on_prepare(uv_prepare_t *handle)
{
    struct loop *l = handle->data;

    loop_timers_run(l);
    deferred_run(l);
    hooks_run(l, LOOP_BEFORE_SLEEP);
    hooks_run(l, LOOP_FLUSH);
    time_read(l);
    iteration_measure(l);
    sleep_arm(l);
    l->has_time = false; /* poll comes next */
}

/* ---- life ---- */

int loop_init(struct loop *l)
{
    *l = (struct loop){.wakeup_ns = INT64_MAX};
    thread_enter(l);
    if (uv_loop_init(&l->uv) != 0) {
        return ESCROW_ELIMIT;
    }
    if (uv_async_init(&l->uv, &l->wake, on_wake) != 0) {
        CHECK(uv_loop_close(&l->uv) == 0);
        return ESCROW_ELIMIT;
    }
    for (int i = 0; i < LOOP_PHASE_COUNT; i++) {
        list_init(&l->hooks[i]);
    }
    list_init(&l->deferred);
    l->uv.data = l;
    l->wake.data = l;
    l->prepare.data = l;
    l->check.data = l;
    l->wakeup.data = l;
    CHECK(uv_prepare_init(&l->uv, &l->prepare) == 0);
    CHECK(uv_prepare_start(&l->prepare, on_prepare) == 0);
    CHECK(uv_check_init(&l->uv, &l->check) == 0);
    CHECK(uv_check_start(&l->check, on_check) == 0);
    CHECK(uv_idle_init(&l->uv, &l->idle) == 0);
    CHECK(uv_timer_init(&l->uv, &l->wakeup) == 0);
    return 0;
}

static void check_is_closing(uv_handle_t *handle, void *arg)
{
    (void)arg;
    CHECK(uv_is_closing(handle)); /* a handle that its owner did not close */
}

void loop_fini(struct loop *l)
{
    DCHECK_THREAD(l);
    CHECK(l->timers == NULL);
    CHECK(list_is_empty(&l->deferred));
    for (int i = 0; i < LOOP_PHASE_COUNT; i++) {
        CHECK(list_is_empty(&l->hooks[i]));
    }
    for (int i = 0; i < l->signal_count; i++) {
        uv_close((uv_handle_t *)&l->signals[i].uv, NULL);
    }
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->check, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_close((uv_handle_t *)&l->wakeup, NULL);
    uv_close((uv_handle_t *)&l->wake, NULL);
    uv_walk(&l->uv, check_is_closing, NULL);
    while (uv_run(&l->uv, UV_RUN_DEFAULT) != 0) {
    }
    CHECK(uv_loop_close(&l->uv) == 0);
}

void loop_run(struct loop *l)
{
    thread_enter(l);
    l->has_time = false;
    (void)uv_run(&l->uv,
                 UV_RUN_DEFAULT); /* its result: are handles left; the loop's own always are */
}

void loop_run_once(struct loop *l, bool may_wait)
{
    thread_enter(l);
    (void)uv_run(&l->uv, may_wait ? UV_RUN_ONCE : UV_RUN_NOWAIT); /* as above */
}

void loop_stop(struct loop *l)
{
    DCHECK_THREAD(l);
    uv_stop(&l->uv);
}

bool loop_has_events(struct loop *l)
{
    struct pollfd queue = {.fd = uv_backend_fd(&l->uv), .events = POLLIN};

    DCHECK_THREAD(l);
    return poll(&queue, 1, 0) != 0; /* an error: let the loop's own poll find it */
}

void loop_wake(struct loop *l)
{
    CHECK(uv_async_send(&l->wake) == 0);
}

static void on_signal(uv_signal_t *handle, int signum)
{
    struct loop_signal *signal = handle->data;

    (void)signum; /* one struct per signal */
    signal->fn(signal->arg);
}

int loop_on_signal(struct loop *l, int signum, loop_fn *fn, void *arg)
{
    struct loop_signal *signal = &l->signals[l->signal_count];

    DCHECK_THREAD(l);
    if (l->signal_count == LOOP_SIGNALS_MAX) {
        return ESCROW_ELIMIT;
    }
    if (uv_signal_init(&l->uv, &signal->uv) != 0) {
        return ESCROW_ELIMIT;
    }
    l->signal_count++; /* from here loop_fini closes it */
    signal->uv.data = signal;
    signal->fn = fn;
    signal->arg = arg;
    return uv_signal_start(&signal->uv, on_signal, signum) == 0 ? 0 : ESCROW_EINVAL;
}
