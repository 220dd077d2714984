/*
 * Name server: the registry and the timer that expires what is silent. Requests come in through
 * src/broker/handle_namesrv.c, because broker and name server share sessions and dispatch; one
 * process is both by default.
 *
 * Thread:  loop.
 */
#ifndef SRC_NAMESRV_NAMESRV_H
#define SRC_NAMESRV_NAMESRV_H

#include "core/io_uv/loop.h"
#include "src/namesrv/registry.h"

struct namesrv {
    struct loop *loop;
    struct registry registry;
    struct loop_timer expiry;
    int64_t conflict_due_ms; /* a refused name is logged from then on again; monotonic */
};

void namesrv_start(struct namesrv *n, struct loop *l, struct hash_key key);
/* A registration was refused because of its name: one line a minute says so. */
void namesrv_log_conflict(struct namesrv *n, const char *text);

void namesrv_stop(struct namesrv *n);

#endif
