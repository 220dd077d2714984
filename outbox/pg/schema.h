/* The numbered files of sql/, compiled in. Static storage; any thread. */
#ifndef OUTBOX_PG_SCHEMA_H
#define OUTBOX_PG_SCHEMA_H

#include <stddef.h>

/*
 * The highest number; this program needs at least it. Asserted against the files when they are
 * compiled in.
 */
#define SCHEMA_VERSION 9

/*
 * Said when the tables are there and escrow.migration has no row: which version that is nobody
 * knows. Without quotes.
 */
#define SCHEMA_UNRECORDED                                                                          \
    "escrow.migration has no row: the files of sql/ were run by hand; sql/README.md says which "   \
    "rows are missing"

struct schema_file {
    int version;
    const char *name;
    const char *sql; /* NUL-terminated */
    size_t size_bytes;
};

extern const struct schema_file schema_files[SCHEMA_VERSION];

#endif
