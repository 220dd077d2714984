/*
 * Start order: tables, transactions, store (recovery fills the tables), pump, timers, listeners,
 * registration. Stop is the reverse: nothing new comes in, what is under way is answered, the log
 * is written, a checkpoint is taken.
 */
#include "src/broker/broker.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/io_uv/disk_posix.h"
#include "core/proto/names.h"
#include "src/broker/delays.h"
#include "src/broker/offsets_flush.h"
#include "src/broker/topic_create.h"
#include "src/broker/transactions.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VIP_PORT_DISTANCE 2
#define DRAIN_POLL_MS     10

struct txn_now broker_txn_now(struct broker *b)
{
    return (struct txn_now){.mono_ms = loop_mono_ms(b->loop), .wall_ms = loop_wall_ms(b->loop)};
}

struct traffic_now broker_traffic_now(struct broker *b)
{
    return (struct traffic_now){.mono_ms = loop_mono_ms(b->loop), .wall_ms = loop_wall_ms(b->loop)};
}

_Noreturn void broker_fatal(struct broker *b, const char *event, const struct err_ctx *err)
{
    (void)b;
    log_error(event, "%s; stopping: nothing that was acknowledged is lost", err->text);
    _exit(EXIT_FAILURE); /* no destructors: they would write through the same fault */
}

/* ---- pieces of the start ---- */

static void options_fill(struct broker *b)
{
    const struct config *c = b->config;

    b->tcp_options = tcp_options_default;
    b->tcp_options.frame_size_max = c->frame_max_bytes;
    b->tcp_options.out_max_bytes = c->out_max_bytes;
    if (b->tcp_options.out_high_bytes > c->out_max_bytes) {
        b->tcp_options.out_high_bytes = c->out_max_bytes;
        b->tcp_options.out_low_bytes = c->out_max_bytes / 4;
    }
    b->tcp_options.idle_timeout_ms = c->idle_timeout_ms;
    b->tcp_options.tls = &b->tls.server;
    b->tcp_options.tls_handshake_ms = c->tls_handshake_ms;
}

static int txn_start(struct broker *b, struct err_ctx *err)
{
    const struct config *c = b->config;
    struct txn_config tc;
    int rc;

    txn_config_default(&tc);
    tc.immunity_ms = (int64_t)c->txn_timeout_ms;
    tc.interval_ms = (int64_t)c->txn_interval_ms;
    tc.interval_max_ms = (int64_t)c->txn_interval_max_ms;
    tc.checks_max = (uint32_t)c->txn_checks_max;
    tc.group_rate = (uint32_t)c->txn_group_rate;
    tc.halves_max = (size_t)c->txn_halves_max;
    tc.answer_ms[TXN_WAY_HTTP] = (int64_t)c->callback_timeout_ms + 1000;
    if (c->callback_count == 0) {
        tc.ways = 1u << TXN_WAY_LIVE;
    }
    rc = txn_config_check(&tc, err);
    if (rc == 0) {
        rc = txn_new(&tc, clock_random_seed(b->clock), broker_txn_now(b), &b->txn);
        if (rc != 0) {
            (void)err_set(err, rc, "transactions: %s", escrow_strerror(rc));
        }
    }
    if (rc == 0) {
        struct timers_config timers = {.held_max = (size_t)c->delay_held_max};
        rc = timers_new(&timers, clock_random_seed(b->clock), broker_txn_now(b), &b->timers);
        if (rc != 0) {
            (void)err_set(err, rc, "held messages: %s", escrow_strerror(rc));
        }
    }
    return rc;
}

static void log_recovery(const struct broker *b, const struct store_recovery *r, int64_t took_ms)
{
    if (r->cut_bytes > 0) {
        log_warn("store.recovery.cut", "%s: torn tail cut at %" PRIu64 ": %" PRIu64 " bytes, %s",
                 b->config->data_dir, r->cut_offset, r->cut_bytes, r->cut_reason);
    }
    if (r->is_bare) {
        log_warn("store.recovery.empty",
                 "%s: there is a store, but its log has no file: either its first start was cut "
                 "short, or somebody removed the log, and with it every message",
                 b->config->data_dir);
    }
    if (r->index_lost[0] != '\0') {
        log_warn("store.recovery.index", "%s: %s; this file of the key index was built again",
                 b->config->data_dir, r->index_lost);
    }
    if (r->queue_files_lost > 0) {
        log_warn("store.queue.lost",
                 "%s/%s; %" PRIu64 " such files are rebuilt from the log when they are read",
                 b->config->data_dir, r->queues_lost, r->queue_files_lost);
    }
    log_info("store.open",
             "%s: %s, log end %" PRIu64 ", replayed %" PRIu64 " records (%" PRIu64
             " bytes) in %lld ms, epoch %u",
             b->config->data_dir, r->is_new ? "new" : "recovered", r->end, r->records,
             r->scanned_bytes, (long long)took_ms, r->epoch);
}

static int store_start(struct broker *b, struct err_ctx *err)
{
    const struct config *c = b->config;
    struct store_owner owner = broker_store_owner;
    struct store_recovery recovery = {.is_new = false};
    struct store_config sc;
    int64_t before_ms = clock_mono_ms(b->clock);
    int rc;

    store_config_init(&sc);
    sc.segment_bytes = c->segment_bytes;
    sc.checkpoint_bytes = c->checkpoint_bytes;
    sc.batch_bytes_max = (size_t)c->batch_bytes;
    sc.random_seed = clock_random_seed(b->clock);
    sc.new_id = (uint32_t)clock_random_seed(b->clock);
    sc.now_ms = clock_wall_ms(b->clock);
    owner.arg = b;
    rc = store_open(b->disk, &sc, &owner, &b->store, &recovery, err);
    if (rc != 0) {
        return err_prefix(err, "data folder %s", c->data_dir);
    }
    loop_time_forget(b->loop);
    log_recovery(b, &recovery, clock_mono_ms(b->clock) - before_ms);
    timers_recovered(b->timers, broker_txn_now(b));
    timers_counters_reset(b->timers);
    txn_counters_reset(b->txn); /* what the replay counted happened before this start */
    transactions_sync_reserve(b);
    traffic_start(&b->traffic, broker_traffic_now(b));
    return topic_create_system(b, err);
}

static void offsets_timer(void *arg)
{
    if (offsets_flush(arg) != 0) {
        log_debug("offsets.flush", "consumer offsets wait for the next try");
    }
}

static int listen_on(struct broker *b, uint64_t port, size_t index, struct err_ctx *err)
{
    struct tcp_listen_config lc = {.host = b->config->listen_host,
                                   .port = (uint16_t)port,
                                   .conn_count_max = (size_t)b->config->connections_max,
                                   .over_count_max = SESSIONS_OVER_MAX,
                                   .on_accept = session_accept,
                                   .arg = b};

    int rc;

    CHECK(index < BROKER_LISTENERS_MAX);
    rc = tcp_listen(&b->tcp, &lc, &b->listeners[index], err);
    return rc == ESCROW_EINVAL ? ESCROW_ECONFIG : rc; /* listen.host is no address of ours */
}

static bool addr_is_any(const struct tcp_addr *addr)
{
    static const uint8_t zero[sizeof addr->ip];

    return memcmp(addr->ip, zero, addr->ip_len) == 0;
}

/*
 * The address that clients are told: broker.ip, or what we listen on when that is one address. Its
 * port is known when we listen.
 */
static int advertised_host(struct broker *b, struct err_ctx *err)
{
    const struct config *c = b->config;
    const char *host = c->broker_ip[0] != '\0' ? c->broker_ip : c->listen_host;
    struct tcp_addr addr;

    if (tcp_addr_parse(host, 0, &addr) != 0) {
        return err_set(err, ESCROW_ECONFIG, "%s = '%s': expected a numeric address",
                       c->broker_ip[0] != '\0' ? "broker.ip" : "listen.host", host);
    }
    if (addr_is_any(&addr)) {
        return err_set(err, ESCROW_ECONFIG,
                       "listen.host = %s needs broker.ip: the address that clients connect to",
                       c->listen_host);
    }
    b->store_host.ip_len = addr.ip_len;
    memcpy(b->store_host.ip, addr.ip, addr.ip_len);
    return 0;
}

static int listeners_start(struct broker *b, struct err_ctx *err)
{
    const struct config *c = b->config;
    char text[TCP_ADDR_TEXT_MAX];
    int rc = 0;

    if (c->is_broker) {
        rc = listen_on(b, c->broker_port, 0, err);
        if (rc == 0) {
            b->store_host.port = tcp_listener_addr(b->listeners[0])->port;
        }
        if (rc == 0 && c->vip_port != 0) {
            rc = listen_on(b, c->vip_port, 1, err);
        }
    }
    if (rc == 0 && c->is_namesrv) {
        rc = listen_on(b, c->namesrv_port, 2, err);
    }
    for (size_t i = 0; rc == 0 && i < BROKER_LISTENERS_MAX; i++) {
        static const char *const names[] = {"broker", "broker (second port)", "name server"};
        if (b->listeners[i] != NULL) {
            log_info("listen", "%s listens on %s", names[i],
                     tcp_addr_format(tcp_listener_addr(b->listeners[i]), text, sizeof text));
        }
    }
    return rc;
}

static void ids_start(struct broker *b)
{
    uniq_key_init(&b->ids, b->store_host.ip, b->store_host.ip_len, (uint16_t)getpid(),
                  (uint32_t)rand_u64(&b->rand));
}

static int broker_role_start(struct broker *b, struct err_ctx *err)
{
    char addr[TCP_ADDR_TEXT_MAX];
    struct tcp_addr self = {.ip_len = b->store_host.ip_len, .port = b->store_host.port};
    int rc = checker_start(b);

    if (rc != 0) {
        return err_set(err, rc, "HTTP client: %s", escrow_strerror(rc));
    }
    ids_start(b);
    clients_start(b);
    loop_timer_start(b->loop, &b->offsets_timer, b->config->offsets_flush_ms,
                     b->config->offsets_flush_ms, offsets_timer, b);
    transactions_start(b);
    delays_start(b);
    retention_start(b);
    memcpy(self.ip, b->store_host.ip, self.ip_len);
    register_start(b, tcp_addr_format(&self, addr, sizeof addr));
    return 0;
}

static int broker_start_parts(struct broker *b, struct err_ctx *err)
{
    int rc = tcp_init(&b->tcp, b->loop, b->config->memory_max_bytes);

    if (rc != 0) {
        return err_set(err, rc, "network: %s", escrow_strerror(rc));
    }
    rc = access_start(b, err);
    if (rc == 0) {
        rc = broker_tls_start(b, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (b->config->is_broker) {
        /* What can be wrong in the configuration first, then the disk. */
        rc = advertised_host(b, err);
        if (rc == 0) {
            rc = register_configure(b, err);
        }
        if (rc == 0) {
            rc = txn_start(b, err);
        }
        if (rc == 0) {
            rc = store_start(b, err);
        }
        if (rc == 0) {
            rc = pump_start(&b->pump, b);
            if (rc != 0) {
                return err_set(err, rc, "log thread: %s", escrow_strerror(rc));
            }
            pump_settle(&b->pump); /* the first client of a new broker needs a route: TBW102 */
        }
    }
    if (rc == 0 && b->config->is_namesrv) {
        rc = namesrv_load(&b->namesrv, b->disk, err);
        if (rc != 0) {
            return err_prefix(err, "data folder %s", b->config->data_dir);
        }
    }
    if (rc == 0) {
        rc = listeners_start(b, err);
    }
    if (rc == 0 && b->config->is_broker) {
        rc = broker_role_start(b, err);
    }
    return rc;
}

int broker_start(struct broker *b, struct config *config, struct loop *l, struct clock *clock,
                 struct disk *disk, struct err_ctx *err)
{
    int rc;

    memset(b, 0, sizeof *b);
    b->config = config;
    b->loop = l;
    b->clock = clock;
    b->disk = disk;
    list_init(&b->sessions);
    relays_init(&b->relays);
    rand_init(&b->rand, clock_random_seed(clock));
    b->hash_key = (struct hash_key){clock_random_seed(clock), clock_random_seed(clock)};
    header_init(&b->header);
    buf_init(&b->scratch, FRAME_SIZE_MAX);
    topics_init(&b->topics, b->hash_key);
    offsets_init(&b->offsets, b->hash_key);
    groups_init(&b->groups, b->hash_key);
    sources_init(&b->sources, b->hash_key);
    clients_init(&b->clients, b->hash_key);
    traffic_init(&b->traffic, b->hash_key);
    queue_locks_init(&b->queue_locks, b->hash_key, (int64_t)b->config->queue_lock_ms);
    hold_init(b, b->hash_key);
    carry_init(b);
    request_modes_init(&b->request_modes, b->hash_key);
    txn_update_init(&b->update);
    timers_update_init(&b->timers_update);
    options_fill(b);
    if (config->is_namesrv) {
        namesrv_start(&b->namesrv, l, b->hash_key);
    }
    rc = pops_init(b, b->hash_key);
    if (rc != 0) {
        (void)err_set(err, rc, "popped messages: %s", escrow_strerror(rc));
    } else {
        rc = broker_start_parts(b, err);
    }
    if (rc != 0) {
        broker_stop(b);
    }
    return rc;
}

void broker_reload(struct broker *b)
{
    log_info("reload", "%s",
             access_is_on(&b->access) || broker_tls_is_on(b)
                 ? "reading the users file, certificates and keys again"
                 : "there is no users file and no certificate to read again");
    access_reload(b);
    broker_tls_reload(b);
}

/* ---- the end ---- */

void broker_on_session_close(struct broker *b, struct session *s)
{
    if (b->config->is_namesrv) {
        registry_on_close(&b->namesrv.registry, s->id);
    }
}

static void timer_noop(void *arg)
{
    (void)arg;
}

/* Run the loop until every connection is closed, at most timeout_ms. */
static void run_until_closed(struct broker *b, int64_t timeout_ms)
{
    int64_t end_ms = clock_mono_ms(b->clock) + timeout_ms;
    struct loop_timer tick = {.is_active = false};

    loop_timer_start(b->loop, &tick, DRAIN_POLL_MS, DRAIN_POLL_MS, timer_noop, NULL);
    while (b->tcp.conn_count > 0 && clock_mono_ms(b->clock) < end_ms) {
        loop_run_once(b->loop, true);
    }
    loop_timer_stop(b->loop, &tick);
}

static void sessions_drain(struct broker *b)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &b->sessions) {
        tcp_conn_drain(&LIST_ENTRY(pos, struct session, node)->conn);
    }
}

static void tables_fini(struct broker *b)
{
    access_stop(b);
    broker_tls_stop(b);
    register_fini(b);
    if (b->store != NULL || b->txn != NULL) {
        transactions_stop(b);
        delays_stop(b);
        loop_timer_stop(b->loop, &b->offsets_timer);
    }
    carry_fini(b);
    store_close(&b->store);
    txn_free(b->txn);
    b->txn = NULL;
    timers_free(b->timers);
    b->timers = NULL;
    timers_update_fini(&b->timers_update);
    txn_update_fini(&b->update);
    hold_fini(b);
    pops_fini(b);
    request_modes_fini(&b->request_modes);
    clients_fini(b);
    queue_locks_fini(&b->queue_locks);
    traffic_fini(&b->traffic);
    sources_fini(&b->sources);
    offsets_fini(&b->offsets);
    groups_fini(&b->groups);
    topics_fini(&b->topics);
    namesrv_stop(&b->namesrv);
    buf_fini(&b->scratch);
    header_fini(&b->header);
}

void broker_stop(struct broker *b)
{
    bool is_pumping = b->pump.broker != NULL;

    b->is_draining = true;
    for (size_t i = 0; i < BROKER_LISTENERS_MAX; i++) {
        tcp_listener_close(&b->listeners[i]);
    }
    register_stop(b);
    hold_release_all(b);
    relays_stop(b);
    pops_release_all(b);
    if (is_pumping) {
        transactions_stop(b); /* no new questions */
        delays_stop(b);
        retention_stop(b);
        loop_timer_stop(b->loop, &b->offsets_timer);
        if (b->checker.questions.next != NULL) {
            checker_stop(b);
        }
        if (offsets_flush(b) != 0) {
            log_warn("stop.offsets", "the newest consumer offsets could not be written: consumers "
                                     "will see their last messages again");
        }
        pump_stop(&b->pump);
        pops_release_all(b); /* what was under way when the pump stopped */
    }
    namesrv_drain(&b->namesrv);
    if (b->tcp.loop != NULL) {
        sessions_drain(b);
        run_until_closed(b, (int64_t)b->config->drain_timeout_ms);
        tcp_close_all(&b->tcp, ESCROW_ESHUTDOWN);
        while (b->tcp.conn_count > 0) {
            loop_run_once(b->loop, true);
        }
        tcp_fini(&b->tcp);
    }
    tables_fini(b);
}
