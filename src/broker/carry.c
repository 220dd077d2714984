/*
 * Happy path: plan (which messages) -> read, append a copy, and so on -> apply puts each into the
 * table -> retention looks again and finds the segments free.
 *
 * Failures: a record that cannot be read, or no room for a copy, ends the plan. What was copied
 * counts; messages are carried in the order of their offsets, so that nothing is passed over.
 */
#include "src/broker/carry.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/store/envelope.h"
#include "src/broker/broker.h"

#include <inttypes.h>
#include <stdlib.h>

#define TURN_RECORDS  256
#define TURN_BYTES    (UINT64_C(1) << 20)
#define TURN_GAP_MS   1
#define BUSY_MS       100 /* the log takes nothing at the moment */
#define BYTES_PER_MIB (1 << 20)

void carry_init(struct broker *b)
{
    b->carry = (struct carry){.count = 0};
    carried_init(&b->carry.table);
    buf_init(&b->carry.record, 0);
}

void carry_fini(struct broker *b)
{
    struct carry *c = &b->carry;

    mem_free(c->ids);
    c->ids = NULL;
    store_fetch_free(&c->fetch);
    buf_fini(&c->record);
    carried_fini(&c->table);
}

uint64_t carry_where(const struct broker *b, uint64_t id)
{
    return carried_where(&b->carry.table, id);
}

static bool is_held(const struct broker *b, uint64_t id)
{
    return txn_holds(b->txn, id) || timers_holds(b->timers, id);
}

/* The first place in the table that still counts. */
static const struct carried_item *first_held(struct broker *b)
{
    const struct carried_item *item;

    while ((item = carried_first(&b->carry.table)) != NULL && !is_held(b, item->id)) {
        carried_drop_first(&b->carry.table);
    }
    return item;
}

uint64_t carry_oldest_needed(struct broker *b, uint64_t enough, uint64_t *id)
{
    uint64_t upto = b->carry.table.upto;
    const struct carried_item *copy = first_held(b);
    uint64_t first = txn_oldest_from(b->txn, upto); /* of those that were never carried */

    if (first >= enough && (copy == NULL || copy->at >= enough)) {
        uint64_t held = timers_oldest_from(b->timers, upto);
        first = held < first ? held : first;
    }
    *id = first;
    if (copy != NULL && copy->at < first) {
        *id = copy->id;
        first = copy->at;
    }
    return first;
}

/* ---- the plan -------------------------------------------------------------------------------- */

struct plan {
    struct buf ids; /* u64 each, of this machine */
    uint64_t bytes;
};

static void plan_put(void *arg, uint64_t id, uint32_t size_bytes)
{
    struct plan *p = arg;

    buf_append(&p->ids, &id, sizeof id);
    p->bytes += envelope_padded(ENVELOPE_SIZE + size_bytes);
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* Those that were never carried come first, by their offsets; then copies, by their places. */
static void plan_make(struct broker *b, struct plan *p, uint64_t first, uint64_t to)
{
    const struct carried *table = &b->carry.table;
    uint64_t from = table->upto > first ? table->upto : first;
    const struct carried_item *item;

    *p = (struct plan){.bytes = 0};
    buf_init(&p->ids, 0);
    txn_each_between(b->txn, from, to, plan_put, p);
    timers_each_between(b->timers, from, to, plan_put, p);
    if (p->ids.len > 0) {
        qsort(p->ids.ptr, p->ids.len / sizeof(uint64_t), sizeof(uint64_t), compare_ids);
    }
    item = first_held(b);
    while (item != NULL && item->at < to) {
        if (is_held(b, item->id)) {
            plan_put(p, item->id, item->size_bytes);
        }
        item = carried_after(table, item);
    }
}

static void turn(void *arg);

enum carry_begun carry_begin(struct broker *b, uint64_t first, uint64_t to)
{
    struct carry *c = &b->carry;
    struct plan p;

    CHECK(!c->is_busy && c->ids == NULL);
    if (store_watermarks(b->store).visible < c->wait_for) {
        return CARRY_WAIT;
    }
    plan_make(b, &p, first, to);
    if (p.ids.len == 0 || buf_failed(&p.ids) || p.bytes > (to - first) / 2) {
        buf_fini(&p.ids);
        return CARRY_NOT;
    }
    c->ids = (uint64_t *)(void *)p.ids.ptr; /* as mem_alloc gave it */
    c->count = p.ids.len / sizeof(uint64_t);
    c->next = 0;
    c->bytes = p.bytes;
    c->is_busy = true;
    loop_timer_start(b->loop, &c->timer, TURN_GAP_MS, 0, turn, b);
    return CARRY_BEGUN;
}

/* ---- copying --------------------------------------------------------------------------------- */

static void finish(struct broker *b, int rc, const struct err_ctx *err)
{
    struct carry *c = &b->carry;

    if (rc != 0 && !c->is_failing) {
        log_warn("retention.carry",
                 "the message at log offset %" PRIu64 " cannot be copied to the end of the log, "
                 "which keeps %zu held messages where they are: %s",
                 c->ids[c->next], c->count - c->next,
                 err->text[0] != '\0' ? err->text : escrow_strerror(rc));
    } else if (rc == 0) {
        log_info("retention.carry",
                 "%zu held messages (%" PRIu64 " MiB) were copied to the end of the log: what was "
                 "stored with them can go",
                 c->count, (c->bytes + BYTES_PER_MIB - 1) / BYTES_PER_MIB);
    }
    mem_free(c->ids);
    c->ids = NULL;
    store_fetch_free(&c->fetch);
    c->is_busy = false;
    c->is_failing = rc != 0;
    retention_resume(b, rc == 0);
}

static void fetch_run(struct pool_job *job)
{
    store_fetch_run(LIST_ENTRY(job, struct carry, job)->fetch);
}

static void fetch_done(struct pool_job *job)
{
    struct carry *c = LIST_ENTRY(job, struct carry, job);

    turn(LIST_ENTRY(c, struct broker, carry));
}

/* Append a copy of the next message, if it is still held. */
static int copy_next(struct broker *b, struct err_ctx *err)
{
    struct carry *c = &b->carry;
    uint64_t id = c->ids[c->next];
    struct store_receipt receipt;
    struct store_record rec;
    int rc;

    if (!is_held(b, id)) {
        return 0;
    }
    if (c->fetch == NULL) {
        c->fetch = store_fetch_new(b->store);
        if (c->fetch == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    rc = store_read_known(b->store, carry_where(b, id), c->fetch, &c->record, &rec, err);
    if (rc == 0 && !store_type_is_held(rec.type)) {
        rc = err_set(err, ESCROW_ECORRUPT, "a %s record stands there", store_type_name(rec.type));
    }
    if (rc == 0) {
        rc = store_append_copy(b->store, rec.type, rec.payload, id, &receipt);
    }
    if (rc == 0) {
        c->wait_for = receipt.wait_for;
        b->metrics.held_carried++;
    }
    return rc;
}

/* Some messages; then others have their turn. */
static void turn(void *arg)
{
    struct broker *b = arg;
    struct carry *c = &b->carry;
    uint64_t begin = store_watermarks(b->store).appended;
    struct err_ctx err = {.code = 0};
    int rc = c->is_stopping ? ESCROW_ESHUTDOWN : 0;

    for (int i = 0; rc == 0 && i < TURN_RECORDS && c->next < c->count &&
                    store_watermarks(b->store).appended - begin < TURN_BYTES;
         i++) {
        rc = copy_next(b, &err);
        c->next += rc == 0 ? 1 : 0;
    }
    if (rc == ESCROW_EAGAIN) {
        c->job = (struct pool_job){.run = fetch_run, .done = fetch_done};
        pump_job(&b->pump, &c->job);
    } else if (rc == ESCROW_ELIMIT || (rc == 0 && c->next < c->count)) {
        loop_timer_start(b->loop, &c->timer, rc == 0 ? TURN_GAP_MS : BUSY_MS, 0, turn, b);
    } else if (rc == ESCROW_ESHUTDOWN) {
        c->is_busy = false;
    } else {
        finish(b, rc, &err);
    }
}

void carry_stop(struct broker *b)
{
    b->carry.is_stopping = true;
    loop_timer_stop(b->loop, &b->carry.timer);
}

int carry_apply(struct broker *b, const struct store_record *rec, struct err_ctx *err)
{
    int rc = 0;

    if (is_held(b, rec->first)) {
        rc = carried_put(&b->carry.table, rec->first, rec->offset, (uint32_t)rec->payload.len);
    }
    return rc == 0 ? 0
                   : err_set(err, rc, "copy of the held message at %" PRIu64 ": %s", rec->first,
                             escrow_strerror(rc));
}
