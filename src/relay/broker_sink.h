/*
 * The relay's sink over the broker's protocol: ESCROW_SOURCE_OPEN, ESCROW_PUBLISH_BATCH to one
 * address, and horizons.h.
 *
 * A message's UNIQ_KEY is made from the source, its database and the row, so that it is the same
 * whenever the row is published.
 *
 * Owns:    what it needs per batch under way. The remote is borrowed.
 * Thread:  the loop of the remote.
 * Holds:   sink.h, with the time-outs below.
 */
#ifndef SRC_RELAY_BROKER_SINK_H
#define SRC_RELAY_BROKER_SINK_H

#include "core/base/attr.h"
#include "outbox/sink.h"
#include "src/client/remote.h"
#include "src/relay/horizons.h"

#include <stdint.h>

struct broker_sink;

/* cfg->broker is borrowed. NULL: out of memory. */
struct broker_sink *broker_sink_new(struct remote *remote,
                                    const struct horizons_config *cfg) ESCROW_MUST_USE;

/* After remote_fini, or when nothing is under way. NULL is fine. */
void broker_sink_free(struct broker_sink *s);

struct sink *broker_sink_sink(struct broker_sink *s);

/* 32 hexadecimal digits and a NUL. */
#define ROW_KEY_LEN 32
void broker_sink_row_key(const struct sink_source *source, uint64_t row_id, int64_t born_ms,
                         char out[ROW_KEY_LEN + 1]);

#endif
