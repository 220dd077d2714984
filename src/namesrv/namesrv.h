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
};

void namesrv_start(struct namesrv *n, struct loop *l, struct hash_key key);
void namesrv_stop(struct namesrv *n);

#endif
