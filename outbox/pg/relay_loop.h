/*
 * Obeys the relay's step machine: runs its statements on a connection of its own, streams COPY into
 * it, hands its batches to the sink, keeps its time, and logs.
 *
 * Owns:    the relay, the connection. The sink and the configuration's strings are borrowed until
 *          relay_loop_free.
 * Thread:  the loop.
 * Holds:   ended is called exactly once per start, never inside a call.
 */
#ifndef OUTBOX_PG_RELAY_LOOP_H
#define OUTBOX_PG_RELAY_LOOP_H

#include "core/base/attr.h"
#include "core/io_uv/loop.h"
#include "outbox/relay.h"
#include "outbox/sink.h"

#include <stdint.h>

struct relay_loop;

/* final: STOPPED, FENCED or REFUSED; why: the last error, code 0 when stopped without one. */
typedef void relay_ended_fn(void *arg, enum relay_state final, const struct err_ctx *why);

struct relay_loop_config {
    struct relay_config relay;
    const char *conninfo;
    uint64_t switch_bytes; /* a partition of this size is followed by the next */
    relay_ended_fn *ended;
    void *arg;
};

/* Defaults for everything but source, owner, seed, conninfo and ended. */
void relay_loop_config_init(struct relay_loop_config *cfg);

/* NULL: out of memory. */
struct relay_loop *relay_loop_new(struct loop *l, struct sink *sink,
                                  const struct relay_loop_config *cfg) ESCROW_MUST_USE;

void relay_loop_start(struct relay_loop *rl);

/* Stop reading, wait for what the sink has; then ended. Harmless when it has ended. */
void relay_loop_stop(struct relay_loop *rl);

/* Before start, or when the relay is in a final state. NULL is fine. */
void relay_loop_free(struct relay_loop *rl);

const struct relay *relay_loop_relay(const struct relay_loop *rl);

#endif
