/*
 * Removes transaction markers that nobody will ask about any more: asks the sink for the birth of
 * the oldest undecided half message of each broker, and then deletes older ones, with a connection
 * of its own that it opens for the purpose. What it does not know of a broker stays
 * (sql/README.md).
 *
 * Owns:    its connection.
 * Thread:  the loop.
 * Holds:   at most one round is under way.
 */
#ifndef OUTBOX_PG_CLEANER_H
#define OUTBOX_PG_CLEANER_H

#include "core/base/attr.h"
#include "core/io_uv/loop.h"
#include "outbox/sink.h"

#include <stdint.h>

struct cleaner;

struct cleaner_config {
    const char *conninfo; /* borrowed */
    uint64_t interval_ms;
    uint64_t keep_ms;           /* commits stay this much longer: clocks differ */
    uint64_t keep_tombstone_ms; /* they must outlive the slowest local transaction */
};

/* Works every interval until it is freed. sink->horizon is there. NULL: out of memory. */
struct cleaner *cleaner_new(struct loop *l, struct sink *sink,
                            const struct cleaner_config *cfg) ESCROW_MUST_USE;

/* No further round; what the sink still owes is not used. */
void cleaner_stop(struct cleaner *c);

/* After the sink has given everything back. NULL is fine. */
void cleaner_free(struct cleaner *c);

/* Markers removed so far. */
uint64_t cleaner_removed(const struct cleaner *c);

#endif
