/*
 * A model of PostgreSQL, as far as the relay can tell: transactions that run side by side,
 * snapshots, rows, commits that are visible before they are durable, and crashes that take those
 * back and give their ids out again.
 *
 * Owns:    everything in it. Aborts the test when out of memory. Thread: the test's.
 */
#ifndef TESTS_UNIT_OUTBOX_MODEL_DB_H
#define TESTS_UNIT_OUTBOX_MODEL_DB_H

#include "outbox/position.h"
#include "outbox/row.h"
#include "outbox/snapshot.h"

#include <stdbool.h>
#include <stdint.h>

#define MODEL_TXN_MAX  4096
#define MODEL_ROW_MAX  16384
#define MODEL_KEYS     6
#define MODEL_OPEN_MAX 8

enum model_fate {
    MODEL_RUNNING,
    MODEL_COMMITTED,
    MODEL_ABORTED,
    MODEL_LOST /* in a crash: it never was */
};

struct model_txn {
    uint64_t xid;
    enum model_fate fate;
    uint64_t wal; /* position of its end record */
    size_t row_count;
};

struct model_row {
    uint64_t id;
    size_t txn; /* index */
    int key;    /* ordering key; -1: none */
    bool has_milestone;
    struct snapshot milestone;
};

struct model_db {
    struct db_identity identity;
    struct model_txn txns[MODEL_TXN_MAX];
    size_t txn_count;
    struct model_row rows[MODEL_ROW_MAX];
    size_t row_count;
    uint64_t first_xid; /* next_xid when the server started */
    uint64_t next_xid;
    uint64_t next_id;
    uint64_t wal_insert;
    uint64_t wal_flushed;
    int key_holder[MODEL_KEYS]; /* index of the running transaction that locked the key; -1: free */
};

void model_db_init(struct model_db *db);
void model_db_fini(struct model_db *db);

/* Index of a new transaction; -1: too many are running or ever were. */
int model_db_begin(struct model_db *db);

/*
 * Publish a row; key -1: no ordering key. false: the key is locked by another transaction, or the
 * model is full.
 */
bool model_db_publish(struct model_db *db, int txn, int key, bool with_milestone);

void model_db_end(struct model_db *db, int txn, bool is_commit, bool is_synchronous);
void model_db_flush(struct model_db *db);

/*
 * Everything not flushed is lost; running transactions never were; their ids are given out again.
 */
void model_db_crash(struct model_db *db);

void model_db_snapshot(const struct model_db *db, struct snapshot *out);

/* A running transaction, chosen by `pick`; -1: none. */
int model_db_running(const struct model_db *db, uint64_t pick);

/* Rows that a COPY of the position's difference returns, in order, as indexes; returns how many. */
size_t model_db_read(const struct model_db *db, const struct position *at, size_t *out, size_t max);

uint64_t model_db_order_id(const struct model_db *db, size_t row);

/* Rows between the snapshots that the relay has not passed. */
bool model_db_has_rows(const struct model_db *db, const struct snapshot *old,
                       const struct snapshot *present);

#endif
