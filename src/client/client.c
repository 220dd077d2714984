/*
 * The client's threads. The loop thread initialises what it owns before escrow_client_new returns,
 * and tears it down before escrow_client_free returns; tasks posted after that are refused.
 */
#include "src/client/client_private.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io_uv/clock_system.h"
#include "core/io_uv/tls_files.h"
#include "core/proto/codes.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void task_run(void *arg, struct mail *mail)
{
    struct task *task = (struct task *)(void *)mail;

    (void)arg;
    task->run(task);
}

int client_post(struct escrow_client *c, struct task *task)
{
    return mailbox_post(&c->inbox, &task->mail);
}

int client_work(struct escrow_client *c, struct task *task)
{
    return mailbox_post(&c->jobs, &task->mail);
}

struct call_task {
    struct task task;
    struct waiter waiter;
    void (*fn)(void *arg);
    void *arg;
};

static void call_run(struct task *task)
{
    struct call_task *call = (struct call_task *)(void *)task;

    call->fn(call->arg);
    waiter_signal(&call->waiter);
}

int client_call(struct escrow_client *c, void (*fn)(void *arg), void *arg)
{
    struct call_task call = {.task.run = call_run, .fn = fn, .arg = arg};
    int rc;

    if (loop_is_mine(&c->loop)) {
        fn(arg);
        return 0;
    }
    rc = waiter_init(&call.waiter);
    if (rc != 0) {
        return rc;
    }
    rc = client_post(c, &call.task);
    if (rc == 0) {
        rc = waiter_wait(&call.waiter, -1);
    }
    waiter_fini(&call.waiter);
    return rc;
}

int client_may_block(const struct escrow_client *c)
{
    return loop_is_mine(&c->loop)
               ? last_error_set(ESCROW_EINVAL, "this call blocks: not in a completion callback")
               : 0;
}

/* Whatever was received, half is left for sends: handlers that cannot send would never be done. */
bool client_memory_take(struct escrow_client *c, size_t bytes)
{
    uint64_t received = atomic_load_explicit(&c->memory_received, memory_order_relaxed);
    uint64_t half = c->memory_max / 2;
    uint64_t before = atomic_fetch_add_explicit(&c->memory_used, bytes, memory_order_relaxed);

    if (before + bytes + (received < half ? received : half) > c->memory_max) {
        client_memory_give(c, bytes);
        return false;
    }
    return true;
}

bool client_received_take(struct escrow_client *c, size_t bytes)
{
    uint64_t received = atomic_load_explicit(&c->memory_received, memory_order_relaxed) + bytes;
    uint64_t used = atomic_load_explicit(&c->memory_used, memory_order_relaxed);

    if (received > c->memory_max / 2 || received + used > c->memory_max) {
        return false;
    }
    client_received_force(c, bytes);
    return true;
}

void client_received_force(struct escrow_client *c, size_t bytes)
{
    atomic_fetch_add_explicit(&c->memory_received, bytes, memory_order_relaxed);
}

void client_received_give(struct escrow_client *c, size_t bytes)
{
    atomic_fetch_sub_explicit(&c->memory_received, bytes, memory_order_relaxed);
}

void client_memory_give(struct escrow_client *c, size_t bytes)
{
    atomic_fetch_sub_explicit(&c->memory_used, bytes, memory_order_relaxed);
}

uint64_t client_backoff_ms(struct escrow_client *c, uint32_t tries)
{
    uint64_t ms = CLIENT_BACKOFF_MS;

    while (tries > 1 && ms < CLIENT_BACKOFF_MAX_MS) {
        ms *= 2;
        tries--;
    }
    if (ms > CLIENT_BACKOFF_MAX_MS) {
        ms = CLIENT_BACKOFF_MAX_MS;
    }
    return ms + rand_below(&c->rand, ms / 4 + 1);
}

/* ---- threads ---- */

/*
 * Signals belong to the program's own threads; but for those that a fault raises in the thread
 * itself.
 */
static void block_signals(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGPROF};
    sigset_t set;

    CHECK(sigfillset(&set) == 0);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        CHECK(sigdelset(&set, faults[i]) == 0);
    }
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
}

static _Thread_local const struct escrow_client *worker_of;

bool client_is_worker(const struct escrow_client *c)
{
    return worker_of == c;
}

void client_refuse_free(const char *what, const char *why)
{
    (void)last_error_set(ESCROW_EINVAL, "%s is not freed: %s", what, why);
    log_warn("client.free", "%s is not freed: %s", what, why);
}

static void worker_main(void *arg)
{
    struct escrow_client *c = arg;
    struct mail *mail;

    worker_of = c;
    block_signals();
    while ((mail = mailbox_wait(&c->jobs)) != NULL) {
        task_run(c, mail);
    }
}

static void heartbeat_time(void *arg)
{
    struct escrow_client *c = arg;
    struct list *pos;
    struct list *tmp;

    heartbeat_send_all(c);
    LIST_FOREACH(pos, tmp, &c->producers) {
        producer_meet(LIST_ENTRY(pos, struct escrow_producer, node)); /* there may be new brokers */
    }
}

static void on_push(void *arg, const char *addr, struct header *header, struct slice body)
{
    struct escrow_client *c = arg;
    struct slice group = SLICE_EMPTY;

    switch (header->code) {
    case REQUEST_CHECK_TRANSACTION_STATE:
        check_on_push(c, addr, header, body);
        return;
    case REQUEST_NOTIFY_CONSUMER_IDS_CHANGED:
        if (header_get_str(header, "consumerGroup", &group) == 0) {
            consumer_on_ids_changed(c, group);
        }
        return;
    case REQUEST_RESET_CONSUMER_CLIENT_OFFSET:
    case REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT:
    case REQUEST_GET_CONSUMER_RUNNING_INFO:
    case REQUEST_CONSUME_MESSAGE_DIRECTLY:
        asked_on_push(c, addr, header, body);
        return;
    default:
        return; /* what a later version may say */
    }
}

/* A broker is there (again): it does not know us yet. */
static void on_state(void *arg, const char *addr, bool is_open)
{
    (void)addr;
    if (is_open) {
        heartbeat_send_all(arg);
    }
}

static int loop_parts_init(struct escrow_client *c)
{
    struct remote_options options;
    struct hash_key key = {clock_random_seed(c->clock), clock_random_seed(c->clock)};
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    int rc;

    rand_init(&c->rand, clock_random_seed(c->clock));
    uniq_key_init(&c->ids, loopback, 4, (uint16_t)getpid(), (uint32_t)rand_u64(&c->rand));
    remote_options_init(&options);
    options.encoding = c->encoding;
    options.connect_timeout_ms = c->connect_timeout_ms;
    options.access_key = c->access_key;
    options.secret_key = c->secret_key;
    options.tcp.tls = &c->tls;
    options.on_push = on_push;
    options.on_state = on_state;
    options.arg = c;
    rc = remote_init(&c->remote, &c->loop, key, &options);
    sign_wipe(c->secret_key, sizeof c->secret_key);
    if (rc != 0) {
        return rc;
    }
    rc = router_init(&c->router, &c->remote, c->servers, key, &c->start_why);
    if (rc != 0) {
        remote_fini(&c->remote);
        return rc;
    }
    c->router.refresh_ms = (int64_t)c->route_refresh_ms;
    rc = mailbox_init_loop(&c->inbox, &c->loop, CLIENT_TASKS_MAX, task_run, c);
    if (rc != 0) {
        remote_fini(&c->remote);
        router_fini(&c->router);
        return rc;
    }
    gather_init(&c->gather);
    loop_timer_start(&c->loop, &c->heartbeat, c->heartbeat_ms, c->heartbeat_ms, heartbeat_time, c);
    return 0;
}

static void loop_main(void *arg)
{
    struct escrow_client *c = arg;

    block_signals();
    c->start_error = loop_init(&c->loop);
    if (c->start_error == 0) {
        c->start_error = loop_parts_init(c);
        if (c->start_error != 0) {
            loop_fini(&c->loop);
        }
    }
    if (c->start_error != 0) {
        waiter_signal(&c->started);
        return;
    }
    waiter_signal(&c->started);
    loop_run(&c->loop);
    loop_timer_stop(&c->loop, &c->heartbeat);
    gather_fini(c);
    heartbeat_stop(c);
    remote_fini(&c->remote);
    router_fini(&c->router);
    mailbox_fini(&c->inbox);
    loop_fini(&c->loop);
}

static int start_loop(struct escrow_client *c)
{
    int rc = waiter_init(&c->started);

    if (rc != 0) {
        return last_error_set(rc, "client: no memory for its loop thread");
    }
    if (uv_thread_create(&c->thread, loop_main, c) != 0) {
        rc = last_error_set(ESCROW_ELIMIT, "client: cannot create its loop thread");
    } else {
        rc = waiter_wait(&c->started, -1);
        if (rc == 0 && c->start_error != 0) {
            (void)uv_thread_join(&c->thread); /* it has ended already */
            rc = last_error_set(c->start_error, "client: %s",
                                c->start_why.code != 0 ? c->start_why.text
                                                       : escrow_strerror(c->start_error));
        }
    }
    waiter_fini(&c->started);
    return rc;
}

static void stop_workers(struct escrow_client *c, uint64_t count)
{
    mailbox_close(&c->jobs);
    for (uint64_t i = 0; i < count; i++) {
        (void)uv_thread_join(&c->workers[i]);
    }
    mailbox_fini(&c->jobs);
}

static int start_workers(struct escrow_client *c)
{
    int rc = mailbox_init_thread(&c->jobs, CLIENT_TASKS_MAX);

    for (uint64_t i = 0; rc == 0 && i < c->worker_count; i++) {
        if (uv_thread_create(&c->workers[i], worker_main, c) != 0) {
            stop_workers(c, i);
            rc = last_error_set(ESCROW_ELIMIT, "client: cannot create %llu worker threads",
                                (unsigned long long)c->worker_count);
        }
    }
    return rc;
}

static int parse_encoding(const char *text, enum remote_encoding *encoding)
{
    static const char *const names[] = {"auto", "json", "rocketmq", "msgpack"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(text, names[i]) == 0) {
            *encoding = (enum remote_encoding)i;
            return 0;
        }
    }
    return last_error_set(
        ESCROW_ECONFIG, "option header = '%.20s': expected auto, msgpack, json or rocketmq", text);
}

static int read_options(struct escrow_client *c, const struct escrow_option *options)
{
    char header[16] = "auto";
    const struct option_spec specs[] = {
        {.key = "client.id", .text = c->id, .text_size = sizeof c->id},
        {.key = "access.key", .text = c->access_key, .text_size = sizeof c->access_key},
        {.key = "secret.key", .text = c->secret_key, .text_size = sizeof c->secret_key},
        {.key = "tls", .text = c->tls_word, .text_size = sizeof c->tls_word},
        {.key = "tls.ca.file", .text = c->tls_ca_file, .text_size = sizeof c->tls_ca_file},
        {.key = "tls.cert.file", .text = c->tls_cert_file, .text_size = sizeof c->tls_cert_file},
        {.key = "tls.key.file", .text = c->tls_key_file, .text_size = sizeof c->tls_key_file},
        {.key = "tls.server.name",
         .text = c->tls_server_name,
         .text_size = sizeof c->tls_server_name},
        {.key = "header", .text = header, .text_size = sizeof header},
        {.key = "connect.timeout.ms", .number = &c->connect_timeout_ms, .min = 1, .max = 600000},
        {.key = "route.refresh.ms", .number = &c->route_refresh_ms, .min = 10, .max = 86400000},
        {.key = "heartbeat.ms", .number = &c->heartbeat_ms, .min = 10, .max = 100000},
        {.key = "memory.max.bytes",
         .number = &c->memory_max,
         .min = 65536,
         .max = UINT64_C(1) << 40},
        {.key = "workers", .number = &c->worker_count, .min = 1, .max = CLIENT_WORKERS_MAX},
    };
    int rc = options_read(options, specs, sizeof specs / sizeof specs[0]);

    if (rc == 0 && (c->access_key[0] == '\0') != (c->secret_key[0] == '\0')) {
        rc = last_error_set(ESCROW_ECONFIG, "options access.key and secret.key: only one is given");
    }
    if (rc == 0 && c->id[0] == '\0') {
        (void)snprintf(c->id, sizeof c->id, "127.0.0.1@%ld#%016llx", (long)getpid(),
                       (unsigned long long)clock_random_seed(c->clock)); /* fits */
    }
    return rc == 0 ? parse_encoding(header, &c->encoding) : rc;
}

static int load_tls(struct escrow_client *c)
{
    const struct tls_files files = {
        .certificate = c->tls_cert_file, .key = c->tls_key_file, .ca = c->tls_ca_file};
    struct err_ctx err = {.code = 0};
    int rc = tls_files_client(c->tls_word, &files, c->tls_server_name, &c->tls, &err);

    return rc == 0 ? 0 : last_error_set(rc, "client: %s", err.text);
}

int escrow_client_new(const char *name_servers, const struct escrow_option *options,
                      struct escrow_client **out)
{
    struct escrow_client *c = mem_calloc(1, sizeof *c);
    int rc;

    *out = NULL;
    if (c == NULL) {
        return last_error_set(ESCROW_ENOMEM, "client: out of memory");
    }
    c->clock = clock_system();
    c->connect_timeout_ms = 3000;
    c->route_refresh_ms = 30000;
    c->heartbeat_ms = 30000;
    c->memory_max = UINT64_C(64) * 1024 * 1024;
    c->worker_count = 4;
    list_init(&c->producers);
    list_init(&c->consumers);
    list_init(&c->heartbeats);
    rc = read_options(c, options);
    if (rc == 0 && strlen(name_servers) >= sizeof c->servers) {
        rc = last_error_set(ESCROW_ECONFIG, "client: the list of name servers is too long");
    }
    if (rc == 0) {
        rc = load_tls(c);
    }
    if (rc == 0) {
        (void)snprintf(c->servers, sizeof c->servers, "%s", name_servers); /* fits */
        rc = start_workers(c);
        if (rc == 0) {
            rc = start_loop(c);
            if (rc != 0) {
                stop_workers(c, c->worker_count);
            }
        }
    }
    if (rc != 0) {
        tls_context_free(&c->tls.context);
        mem_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

static void client_stop(void *arg)
{
    struct escrow_client *c = arg;

    CHECK(list_is_empty(&c->producers)); /* escrow_client_free has looked */
    CHECK(list_is_empty(&c->consumers));
    mailbox_close(&c->inbox);
    loop_stop(&c->loop);
}

void escrow_client_free(struct escrow_client **client)
{
    struct escrow_client *c = *client;

    if (c == NULL) {
        return;
    }
    if (loop_is_mine(&c->loop) || client_is_worker(c)) {
        client_refuse_free("the client", "this is a callback of its own");
        return;
    }
    if (atomic_load(&c->children) > 0) {
        client_refuse_free("the client", "it has producers or consumers: free them first");
        return;
    }
    *client = NULL;
    if (client_call(c, client_stop, c) != 0) {
        UNREACHABLE("the loop runs until this call stops it");
    }
    (void)uv_thread_join(&c->thread);
    stop_workers(c, c->worker_count);
    tls_context_free(&c->tls.context);
    mem_free(c);
}
