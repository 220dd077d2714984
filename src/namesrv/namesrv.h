/*
 * Name server: the registry, the timer that expires what is silent, and the file of its key-value
 * configuration. Requests come in through
 * src/broker/handle_namesrv.c, because broker and name server share sessions and dispatch; one
 * process is both by default.
 *
 * Thread:  loop.
 */
#ifndef SRC_NAMESRV_NAMESRV_H
#define SRC_NAMESRV_NAMESRV_H

#include "core/io_uv/loop.h"
#include "src/namesrv/kv_store.h"
#include "src/namesrv/registry.h"

struct namesrv {
    struct loop *loop;
    struct registry registry;
    struct kv_store kv;
    struct loop_timer expiry;
    int64_t conflict_due_ms; /* a refused name is logged from then on again; monotonic */
};

void namesrv_start(struct namesrv *n, struct loop *l, struct hash_key key);

/* Read the key-value configuration; disk may be NULL: kv_store_open. Before anybody may ask. */
ESCROW_MUST_USE int namesrv_load(struct namesrv *n, struct disk *disk, struct err_ctx *err);

/* A registration was refused because of its name: one line a minute says so. */
void namesrv_log_conflict(struct namesrv *n, const char *text);

/* Finish what is being written; runs the loop. */
void namesrv_drain(struct namesrv *n);

/* After namesrv_drain. */
void namesrv_stop(struct namesrv *n);

#endif
