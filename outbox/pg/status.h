/*
 * What an outbox looks like now: `escrow-relay status`.
 *
 * Owns:    its connection, for the call. Thread: any; blocks: for commands, never on a loop.
 */
#ifndef OUTBOX_PG_STATUS_H
#define OUTBOX_PG_STATUS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"

#include <stdbool.h>

/*
 * Append the report, for people or as one JSON object. Sections: database, readers (in what state,
 * since when, what to do; position and lag in rows, bytes, seconds), partitions, oldest open
 * transactions (which hold a snapshot's horizon back, and delay nobody but themselves), locks that
 * keep partitions from being emptied, markers. ESCROW_ECONN, ESCROW_EDB, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int status_run(const char *conninfo, bool is_json, struct buf *out,
                               struct err_ctx *err);

#endif
