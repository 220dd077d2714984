/*
 * What one pop hands out: from each queue messages that are handed out again (pop_again.c), or else
 * new ones.
 *
 * Happy path: new messages are read where the queue was read last; the table notes them before the
 * answer is written, so that no two pops get the same.
 *
 * Failures: what cannot be read blocks its queue, and nothing else.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/proto/pop_info.h"
#include "core/proto/record.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/offsets_flush.h"
#include "src/broker/pop_turn.h"
#include "src/broker/pull_filter.h"

#define POP_BEGIN_ROUNDS 2

uint32_t pop_turn_left(const struct pop_queue_turn *turn)
{
    uint32_t got = turn->found->count + turn->count;

    CHECK(got <= turn->pop->count_max && turn->pop->count_max <= POP_MESSAGES_MAX);
    return turn->pop->broker->pops.body.len >= POP_BYTES_MAX ? 0 : turn->pop->count_max - got;
}

struct pop_delivery pop_turn_delivery(const struct pop_queue_turn *turn)
{
    return (struct pop_delivery){.pop_ms = turn->found->pop_ms,
                                 .due_ms = loop_mono_ms(turn->pop->broker->loop) +
                                           turn->pop->invisible_ms,
                                 .attempt = turn->pop->attempt};
}

int pop_turn_note(struct pop_queue_turn *turn)
{
    int rc = offsets_note(&turn->pop->broker->offsets, turn->key.group, turn->key.topic,
                          turn->key.queue, turn->committed);

    turn->has_offset = turn->has_offset || rc == 0;
    return rc;
}

int pop_turn_read(struct pop_queue_turn *turn, struct store_pull_request *req,
                  struct store_pull_result *res)
{
    struct pop_found *found = turn->found;
    struct broker *b = turn->pop->broker;
    struct err_ctx err = {.code = 0};
    int rc;

    req->topic = turn->key.topic;
    req->queue_id = turn->key.queue;
    req->bytes_max = POP_BYTES_MAX - b->pops.body.len;
    *res = (struct store_pull_result){.status = STORE_PULL_AT_END};
    rc = store_pull(b->store, req, turn->pop->fetch, &b->pops.body, res, &err);
    if (rc == ESCROW_EAGAIN) {
        /*
         * Whoever comes first is worth a read, so that a queue that is on the disk gets its turn.
         */
        found->must_read = found->count == 0 && turn->count == 0;
    } else if (rc != 0) {
        struct store_entry_ref entry = {
            .topic = turn->key.topic, .queue_id = turn->key.queue, .offset = req->offset};
        if (damage_is_error(rc)) {
            damage_advise(&err, &entry);
        } else if (rc != ESCROW_ELIMIT) { /* a damaged entry waits to be rebuilt: ask again */
            log_peer_error("store.read", "topic %s queue %u offset %lld: %s", turn->pop->topic,
                           turn->key.queue, (long long)req->offset, err.text);
        }
        found->error = rc;
        found->err = err;
    }
    return rc;
}

bool pop_turn_count_retries(struct pop_queue_turn *turn, const struct pop_due *due, size_t before,
                            struct record_view *view)
{
    struct buf *body = &turn->pop->broker->pops.body;
    int64_t retries;

    if (record_decode(slice_of(body->ptr + before, body->len - before), view) != 0 ||
        view->f.queue_offset != due->offset) {
        return false;
    }
    retries = (int64_t)view->f.reconsume_times + due->deliveries;
    view->f.reconsume_times = retries > INT32_MAX ? INT32_MAX : (int32_t)retries;
    record_patch_reconsume_times(body->ptr + before, view->f.reconsume_times);
    return true;
}

bool pop_turn_step(struct pop_queue_turn *turn, const struct pop_due *due,
                   const struct pop_due_ops *ops)
{
    struct store_pull_request req = {.offset = due->offset, .count_max = 1};
    struct store_pull_result res;
    size_t before = turn->pop->broker->pops.body.len;
    int rc = pop_turn_read(turn, &req, &res);

    if (rc == 0 && res.status == STORE_PULL_FOUND) {
        ops->found(turn, due, before);
    } else if (rc == 0) {
        ops->gone(turn, due);
    } else if (rc == ESCROW_EAGAIN || rc == ESCROW_ELIMIT || ops->unreadable == NULL) {
        return false;
    } else {
        ops->unreadable(turn, due);
    }
    return true;
}

/* ---- new messages ---------------------------------------------------------------------------- */

/* Queue offsets of the records that were appended to the body behind `before`. */
static void offsets_read(struct pop_queue_turn *turn, size_t before)
{
    const struct buf *body = &turn->pop->broker->pops.body;

    while (before < body->len) {
        const uint8_t *record = body->ptr + before;
        CHECK(turn->count < POP_MESSAGES_MAX);
        turn->offsets[turn->count++] = record_peek_queue_offset(record);
        before += record_peek_size(record);
    }
}

static void take_new(struct pop_queue_turn *turn, const struct store_pull_result *res,
                     size_t before)
{
    struct pop_found *found = turn->found;
    struct buf *body = &turn->pop->broker->pops.body;
    struct pop_taken taken;
    int rc = turn->has_offset ? 0 : pop_turn_note(turn);

    if (rc == 0) {
        offsets_read(turn, before);
        taken = (struct pop_taken){turn->offsets, turn->count, res->next_offset};
        rc = pop_table_take(turn->pop->broker->pops.table, &turn->key, &turn->committed, &taken,
                            pop_turn_delivery(turn));
    }
    if (rc != 0) {
        turn->count = 0;
        body->len = before;
        found->is_full = true;
        log_debug("pop.full", "topic %s queue %u: nothing handed out: %s", turn->pop->topic,
                  turn->key.queue, escrow_strerror(rc));
        return;
    }
    (void)pop_turn_note(turn);
    if (!turn->pop->is_ordered || turn->count == 0) { /* it has the queue alone now */
        found->rest += res->max_offset - res->next_offset;
    }
    found->has_skipped =
        found->has_skipped || (res->count == 0 && res->next_offset < res->max_offset);
}

/* The offset is none that the queue has: go on at one that it has. false: nothing is there. */
static bool move_to(struct pop_queue_turn *turn, int64_t offset, bool is_forwards)
{
    const struct pop_taken nothing = {.next_offset = offset};

    log_peer_info("pop.moved",
                  "group %s topic %s queue %u: offset %lld is not in the queue, goes on at %lld",
                  turn->pop->group, turn->pop->topic, turn->key.queue, (long long)turn->look.next,
                  (long long)offset);
    if (!is_forwards) {
        turn->committed = offset; /* the table notices at the next call */
    } else if (pop_table_take(turn->pop->broker->pops.table, &turn->key, &turn->committed, &nothing,
                              pop_turn_delivery(turn)) != 0) {
        return false;
    }
    turn->look.next = offset;
    return pop_turn_note(turn) == 0 && is_forwards;
}

static void collect_new(struct pop_queue_turn *turn)
{
    struct pull_scan scan;
    struct store_pull_result res;
    uint32_t left = pop_turn_left(turn);
    bool again = turn->look.room > 0 && left > 0;

    for (int round = 0; again && round < POP_BEGIN_ROUNDS; round++) {
        struct store_pull_request req = {.offset = turn->look.next,
                                         .count_max =
                                             left < turn->look.room ? left : turn->look.room};
        size_t before = turn->pop->broker->pops.body.len;
        again = false;
        pull_scan_begin(&scan, turn->pop->filter, &req);
        if (pop_turn_read(turn, &req, &res) != 0) {
            return;
        }
        switch (res.status) {
        case STORE_PULL_FOUND:
        case STORE_PULL_NO_MATCH:
            take_new(turn, &res, before);
            break;
        case STORE_PULL_AT_END:
            break;
        case STORE_PULL_NO_QUEUE:
        case STORE_PULL_BEYOND_END:
            again = turn->look.next > res.max_offset && move_to(turn, res.max_offset, false);
            break;
        case STORE_PULL_BEFORE_FIRST:
            again = move_to(turn, res.min_offset, true);
            break;
        }
    }
}

/* ---- all queues ------------------------------------------------------------------------------ */

static struct store_queue_ref ref_of(const struct pop_key *key)
{
    return (struct store_queue_ref){.topic = key->topic, .queue_id = key->queue};
}

bool pop_turn_begin(struct pop_queue_turn *turn, struct pop *pop, uint32_t queue,
                    struct pop_found *found)
{
    struct broker *b = pop->broker;
    struct store_queue_ref ref;
    int64_t max_offset;

    *turn = (struct pop_queue_turn){.pop = pop, .found = found};
    turn->key = (struct pop_key){slice_str(pop->group), slice_str(pop->topic), queue};
    turn->has_offset =
        offsets_find(&b->offsets, turn->key.group, turn->key.topic, queue, &turn->committed);
    if (!turn->has_offset) {
        ref = ref_of(&turn->key);
        if (!store_queue_range(b->store, &ref, &turn->committed, &max_offset)) {
            return false;
        }
    }
    pop_table_look(b->pops.table, &turn->key, turn->committed, &turn->look);
    return true;
}

static void collect_any(struct pop_queue_turn *turn)
{
    if (turn->look.due > 0) {
        pop_again_due(turn);
        turn->found->rest += turn->look.due - turn->count;
    }
    if (turn->count == 0 && !turn->found->must_read) {
        pop_table_look(turn->pop->broker->pops.table, &turn->key, turn->committed, &turn->look);
        collect_new(turn);
    }
}

static void collect_in_order(struct pop_queue_turn *turn)
{
    struct pop_table *table = turn->pop->broker->pops.table;
    uint64_t attempt = turn->pop->attempt;

    if (pop_table_order(table, &turn->key, turn->committed, attempt) == POP_ORDER_AGAIN) {
        pop_again_in_order(turn);
    }
    /* Also when all that was not done is not in the queue any more. */
    if (turn->count == 0 &&
        pop_table_order(table, &turn->key, turn->committed, attempt) == POP_ORDER_NEW) {
        pop_table_look(table, &turn->key, turn->committed, &turn->look);
        collect_new(turn);
    }
}

static void collect_queue(struct pop *pop, uint32_t queue, struct pop_found *found)
{
    struct pops *p = &pop->broker->pops;
    struct pop_queue_turn turn;

    if (!pop_turn_begin(&turn, pop, queue, found)) {
        return;
    }
    if (pop->is_ordered) {
        collect_in_order(&turn);
    } else {
        collect_any(&turn);
    }
    if (turn.count > 0) {
        pop_info_add(&p->start_info, &p->offset_info, (int32_t)queue, turn.offsets, turn.count);
        found->count += turn.count;
    }
    if (turn.count > 0 && pop->is_ordered) {
        pop_info_add_counts(&p->count_info, (int32_t)queue, turn.offsets, turn.retries, turn.count);
    }
}

void pop_collect(struct pop *pop, uint32_t queues, struct pop_found *found)
{
    struct pops *p = &pop->broker->pops;

    *found = (struct pop_found){.pop_ms = pops_now(pop->broker)};
    buf_clear(&p->body);
    buf_clear(&p->start_info);
    buf_clear(&p->offset_info);
    buf_clear(&p->count_info);
    if (pop->queue_id >= 0) {
        collect_queue(pop, (uint32_t)pop->queue_id, found);
    }
    for (uint32_t i = 0; pop->queue_id < 0 && i < queues && !found->must_read &&
                         found->count < pop->count_max && p->body.len < POP_BYTES_MAX;
         i++) {
        collect_queue(pop, (pop->turn + i) % queues, found);
    }
    pops_arm(pop->broker);
}

/*
 * A group without an offset begins with the first message of a queue, or, if it asks for that and
 * messages of the queue are gone already, with the next one. That has to be remembered before
 * anything else happens; the first message needs no memory.
 */
int pop_begin_queues(struct pop *pop, uint32_t queues)
{
    struct broker *b = pop->broker;
    uint32_t first = pop->queue_id < 0 ? 0 : (uint32_t)pop->queue_id;
    uint32_t end = pop->queue_id < 0 ? queues : first + 1;
    int rc = 0;

    for (uint32_t q = first; pop->begins_at_end && q < end && rc == 0; q++) {
        struct pop_key key = {slice_str(pop->group), slice_str(pop->topic), q};
        struct store_queue_ref ref = ref_of(&key);
        int64_t min_offset;
        int64_t max_offset;
        int64_t known;
        if (!offsets_find(&b->offsets, key.group, key.topic, q, &known) &&
            store_queue_range(b->store, &ref, &min_offset, &max_offset) && min_offset > 0) {
            rc = offsets_note(&b->offsets, key.group, key.topic, q, max_offset);
            b->pops.has_unwritten = b->pops.has_unwritten || rc == 0;
        }
    }
    if (rc == 0 && b->pops.has_unwritten) {
        rc = offsets_flush(b); /* if it fails, whoever pops next tries again */
        if (rc == 0) {
            b->pops.has_unwritten = false;
            b->pops.written_to = pump_tail(&b->pump);
        }
    }
    if (rc != 0 || store_watermarks(b->store).visible >= b->pops.written_to) {
        return rc;
    }
    rc = pump_reserve(&b->pump);
    return rc != 0 ? rc : 1;
}
