#include "tests/unit/outbox/model_db.h"

#include "core/base/check.h"

#include <stdlib.h>

void model_db_init(struct model_db *db)
{
    *db =
        (struct model_db){.identity = {77, 1, 5}, .first_xid = 100, .next_xid = 100, .next_id = 1};
    for (int i = 0; i < MODEL_KEYS; i++) {
        db->key_holder[i] = -1;
    }
}

void model_db_fini(struct model_db *db)
{
    for (size_t i = 0; i < db->row_count; i++) {
        if (db->rows[i].has_milestone) {
            snapshot_fini(&db->rows[i].milestone);
        }
    }
}

int model_db_begin(struct model_db *db)
{
    int running = 0;

    for (size_t i = 0; i < db->txn_count; i++) {
        running += db->txns[i].fate == MODEL_RUNNING;
    }
    if (running >= MODEL_OPEN_MAX || db->txn_count == MODEL_TXN_MAX) {
        return -1;
    }
    db->txns[db->txn_count] = (struct model_txn){.xid = db->next_xid++, .fate = MODEL_RUNNING};
    return (int)db->txn_count++;
}

bool model_db_publish(struct model_db *db, int txn, int key, bool with_milestone)
{
    struct model_row *row = &db->rows[db->row_count];

    if (db->row_count == MODEL_ROW_MAX ||
        (key >= 0 && db->key_holder[key] >= 0 && db->key_holder[key] != txn)) {
        return false;
    }
    if (key >= 0) {
        db->key_holder[key] = txn;
    }
    *row = (struct model_row){.id = db->next_id++, .txn = (size_t)txn, .key = key};
    if (with_milestone) {
        row->has_milestone = true;
        snapshot_init(&row->milestone);
        model_db_snapshot(db, &row->milestone);
    }
    db->row_count++;
    db->txns[txn].row_count++;
    return true;
}

static void unlock(struct model_db *db, int txn)
{
    for (int i = 0; i < MODEL_KEYS; i++) {
        if (db->key_holder[i] == txn) {
            db->key_holder[i] = -1;
        }
    }
}

void model_db_end(struct model_db *db, int txn, bool is_commit, bool is_synchronous)
{
    struct model_txn *t = &db->txns[txn];

    CHECK(t->fate == MODEL_RUNNING);
    t->wal = ++db->wal_insert;
    t->fate = is_commit ? MODEL_COMMITTED : MODEL_ABORTED;
    if (is_commit && is_synchronous) {
        model_db_flush(db);
    }
    unlock(db, txn);
}

void model_db_flush(struct model_db *db)
{
    db->wal_flushed = db->wal_insert;
}

void model_db_crash(struct model_db *db)
{
    uint64_t last_xid = 99;

    for (size_t i = 0; i < db->txn_count; i++) {
        struct model_txn *t = &db->txns[i];
        if (t->fate == MODEL_LOST) {
            continue;
        }
        if (t->fate == MODEL_RUNNING || t->wal > db->wal_flushed) {
            t->fate = MODEL_LOST;
            unlock(db, (int)i);
        } else if (t->xid > last_xid) {
            last_xid = t->xid;
        }
    }
    db->wal_insert = db->wal_flushed;
    db->next_xid = last_xid + 1;
    db->first_xid = db->next_xid;
}

/* As PostgreSQL does it: xmax is one more than the highest id that has ended. */
void model_db_snapshot(const struct model_db *db, struct snapshot *out)
{
    uint64_t xip[MODEL_OPEN_MAX];
    uint64_t xmax = db->first_xid;
    size_t count = 0;

    for (size_t i = 0; i < db->txn_count; i++) {
        const struct model_txn *t = &db->txns[i];
        if ((t->fate == MODEL_COMMITTED || t->fate == MODEL_ABORTED) && t->xid >= xmax) {
            xmax = t->xid + 1;
        }
    }
    for (size_t i = 0; i < db->txn_count; i++) { /* lost ones apart, ids grow with the index */
        if (db->txns[i].fate == MODEL_RUNNING && db->txns[i].xid < xmax) {
            xip[count++] = db->txns[i].xid;
        }
    }
    CHECK(snapshot_set(out, count > 0 ? xip[0] : xmax, xmax, xip, count) == 0);
}

int model_db_running(const struct model_db *db, uint64_t pick)
{
    int found[MODEL_OPEN_MAX];
    int count = 0;

    for (size_t i = 0; i < db->txn_count; i++) {
        if (db->txns[i].fate == MODEL_RUNNING) {
            found[count++] = (int)i;
        }
    }
    return count == 0 ? -1 : found[pick % (uint64_t)count];
}

uint64_t model_db_order_id(const struct model_db *db, size_t row)
{
    uint64_t highest = 0;

    for (size_t i = 0; i < db->row_count; i++) {
        if (db->rows[i].txn == db->rows[row].txn) {
            highest = db->rows[i].id;
        }
    }
    return highest;
}

static bool is_between(const struct model_db *db, size_t row, const struct snapshot *old,
                       const struct snapshot *new)
{
    const struct model_txn *t = &db->txns[db->rows[row].txn];

    return t->fate == MODEL_COMMITTED && snapshot_sees(new, t->xid) && !snapshot_sees(old, t->xid);
}

static const struct model_db *sort_db;

static int compare_rows(const void *a, const void *b)
{
    size_t x = *(const size_t *)a;
    size_t y = *(const size_t *)b;
    uint64_t order_x = model_db_order_id(sort_db, x);
    uint64_t order_y = model_db_order_id(sort_db, y);

    return order_x != order_y ? (order_x < order_y ? -1 : 1) : x < y ? -1 : x > y;
}

size_t model_db_read(const struct model_db *db, const struct position *at, size_t *out, size_t max)
{
    size_t count = 0;

    for (size_t i = 0; i < db->row_count && count < max; i++) {
        uint64_t order_id;
        if (!is_between(db, i, &at->old, &at->new)) {
            continue;
        }
        order_id = model_db_order_id(db, i);
        if (order_id > at->last_order_id ||
            (order_id == at->last_order_id && db->rows[i].id > at->last_id)) {
            out[count++] = i;
        }
    }
    sort_db = db;
    qsort(out, count, sizeof *out, compare_rows);
    return count;
}

bool model_db_has_rows(const struct model_db *db, const struct snapshot *old,
                       const struct snapshot *present)
{
    for (size_t i = 0; i < db->row_count; i++) {
        if (is_between(db, i, old, present)) {
            return true;
        }
    }
    return false;
}
