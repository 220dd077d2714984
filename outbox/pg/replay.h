/*
 * Has parked rows published again: `escrow-relay replay`.
 *
 * Owns:    its connection, for the call. Thread: any; blocks: for commands, never on a loop.
 */
#ifndef OUTBOX_PG_REPLAY_H
#define OUTBOX_PG_REPLAY_H

#include "core/base/attr.h"
#include "core/base/err.h"

#include <stdint.h>

/*
 * condition: on the columns of escrow.outbox_parked, as a person with that right wrote it; it is
 * one expression, evaluated with that person's rights. *rows: how many will be. The relay at work
 * does it, in their old order. ESCROW_ECONN, ESCROW_EDB (also: the condition is none),
 * ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int replay_run(const char *conninfo, const char *condition, uint64_t *rows,
                               struct err_ctx *err);

#endif
