/*
 * The broker: everything that one escrowd owns, wired together. Start, drain, stop.
 *
 * Owns:    all members. disk, clock, loop and config are borrowed and outlive it.
 * Thread:  loop, except what pump.h says.
 * Holds:   between two loop iterations the in-memory state is what applying the log up to `visible`
 *          makes, plus what was noted for records that are appended but not yet durable.
 */
#ifndef SRC_BROKER_BROKER_H
#define SRC_BROKER_BROKER_H

#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/rand.h"
#include "core/io/clock.h"
#include "core/io/disk.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/tcp.h"
#include "core/proto/header.h"
#include "core/proto/msgid.h"
#include "core/store/store.h"
#include "src/broker/access.h"
#include "src/broker/carry.h"
#include "src/broker/checker.h"
#include "src/broker/clients.h"
#include "src/broker/config.h"
#include "src/broker/groups.h"
#include "src/broker/hold.h"
#include "src/broker/metrics.h"
#include "src/broker/offsets.h"
#include "src/broker/pops.h"
#include "src/broker/pump.h"
#include "src/broker/queue_locks.h"
#include "src/broker/register.h"
#include "src/broker/relays.h"
#include "src/broker/request_modes.h"
#include "src/broker/retention.h"
#include "src/broker/session.h"
#include "src/broker/sources.h"
#include "src/broker/tls.h"
#include "src/broker/topics.h"
#include "src/broker/traffic.h"
#include "src/namesrv/namesrv.h"
#include "txn/timers.h"
#include "txn/txn.h"

#include <stdbool.h>
#include <stdint.h>

#define BROKER_LISTENERS_MAX 3 /* broker, its port minus 2 for old clients, name server */

struct broker {
    struct config *config; /* settings.h changes it */
    struct loop *loop;
    struct clock *clock;
    struct disk *disk; /* NULL when this process is a name server only */
    struct store *store;
    struct txn *txn;
    struct txn_update update; /* scratch, reused */
    struct timers *timers;
    bool is_txn_saved;                  /* in the checkpoint under way: timers are next */
    struct timers_update timers_update; /* scratch, reused */
    struct pump pump;
    struct topics topics;
    struct offsets offsets;
    struct groups groups;
    struct sources sources;
    struct clients clients;
    struct queue_locks queue_locks;
    struct hold hold;
    struct pops pops;
    struct request_modes request_modes;
    struct checker checker;
    struct retention retention;
    struct carry carry;
    struct relays relays;
    struct access access;
    struct broker_tls tls;
    struct registrar registrar;
    struct namesrv namesrv;
    struct metrics metrics;
    struct traffic traffic;
    struct tcp tcp;
    struct tcp_options tcp_options;
    struct tcp_listener *listeners[BROKER_LISTENERS_MAX];
    struct list sessions;
    struct header header; /* scratch of the frame being handled */
    struct buf scratch;   /* scratch of one handler call */
    struct rand rand;
    struct uniq_key_gen ids;       /* for messages whose sender gave none */
    struct record_host store_host; /* what message ids say */
    struct hash_key hash_key;
    struct loop_timer txn_timer;
    /* a half became durable: its first check may be the next event */
    struct loop_deferred txn_soon;
    struct loop_timer delays_timer;
    struct loop_deferred delays_soon; /* a message began to wait: it may be due first */
    int64_t delays_ticked_ms;         /* monotonic; the next tick comes no earlier */
    struct loop_timer offsets_timer;
    uint64_t session_id_last;
    uint64_t settings_version; /* changes by request */
    bool is_draining;
};

/*
 * Open the data folder (recovery included), start everything, listen. Logs what recovery did. On an
 * error everything is undone and *err says which part and why.
 */
ESCROW_MUST_USE int broker_start(struct broker *b, struct config *config, struct loop *l,
                                 struct clock *clock, struct disk *disk, struct err_ctx *err);

/*
 * Stop taking requests, answer what is under way, write everything, take a checkpoint, close.
 * Blocks (runs the loop) for at most config drain.timeout.ms plus the last flush.
 */
void broker_stop(struct broker *b);

/*
 * Something that can never be undone went wrong (a failed sync, corrupt data): log one line and end
 * the process, status 1.
 */
_Noreturn void broker_fatal(struct broker *b, const char *event, const struct err_ctx *err);

/* SIGHUP: read again what can be read again (the users file, certificates and keys). */
void broker_reload(struct broker *b);

/* A session's connection has closed. */
void broker_on_session_close(struct broker *b, struct session *s);

struct txn_now broker_txn_now(struct broker *b);
struct traffic_now broker_traffic_now(struct broker *b);

/*
 * Put a held message into its queue, and wake who waits there: a half that was committed or has
 * expired, a message that is due. Only while a record is applied (apply.c).
 */
ESCROW_MUST_USE int held_enter_queue(struct broker *b, const struct store_release *release,
                                     struct err_ctx *err);

/* The owner callbacks given to store_open; arg is the struct broker (apply.c). */
extern const struct store_owner broker_store_owner;

#endif
