/*
 * Installs and upgrades the schema: the numbered files of sql/, each in a transaction of its own.
 *
 * Safe to run twice, and by several at once: an advisory lock lets one work while the others wait
 * (for a minute).
 *
 * Owns:    its connection, for the call. Thread: any; blocks: for commands, never on a loop.
 */
#ifndef OUTBOX_PG_MIGRATE_H
#define OUTBOX_PG_MIGRATE_H

#include "core/base/attr.h"
#include "core/base/err.h"

struct migrate_result {
    int version_before; /* 0: not installed */
    int version_after;
};

/*
 * Bring the schema to `version` (SCHEMA_VERSION; lower ones are for tests). 0, or an error with the
 * file and PostgreSQL's message; files that were applied before it stay. ESCROW_ECONN, ESCROW_EDB,
 * ESCROW_EBUSY (somebody else holds the lock), ESCROW_EVERSION (the database is newer than this
 * program), ESCROW_ECONFLICT (a file was changed after it was applied, or applied without its row
 * of escrow.migration).
 */
ESCROW_MUST_USE int migrate_run(const char *conninfo, int version, struct migrate_result *result,
                                struct err_ctx *err);

#endif
