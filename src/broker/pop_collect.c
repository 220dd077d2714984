/*
 * What one pop hands out: from each queue messages that are due again, or else new ones.
 *
 * Happy path: new messages are read where the queue was read last; the table notes them before the
 * answer is written, so that no two pops get the same. A message that is due again is read alone,
 * and gets the number of its retries on the way; one that has had too many goes to the dead-letter
 * topic instead, and is done when its copy there is durable.
 *
 * Failures: what cannot be read blocks its queue (new) or comes again later (due), and nothing
 * else.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/pop_info.h"
#include "core/proto/record.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/offsets_flush.h"
#include "src/broker/pops.h"
#include "src/broker/pull_filter.h"
#include "src/broker/retry_copy.h"

#include <string.h>

#define POP_BYTES_MAX 262144 /* of one answer, but for its first message */
/* offsets of one queue in one answer: what a batch can acknowledge */
#define POP_SPAN_MAX     32768
#define POP_LATER_MS     60000 /* until what could not be read, or is on its way to its end */
#define POP_BEGIN_ROUNDS 2

/* One queue, as one pop finds it. */
struct pop_queue_turn {
    struct pop *pop;
    struct pop_found *found;
    struct pop_key key;
    struct pop_look look;
    int64_t committed;
    bool has_offset; /* the group has an offset for it */
    uint32_t count;  /* handed out by this pop */
    int64_t offsets[POP_MESSAGES_MAX];
};

static uint32_t messages_left(const struct pop_queue_turn *turn)
{
    uint32_t got = turn->found->count + turn->count;

    CHECK(got <= turn->pop->count_max && turn->pop->count_max <= POP_MESSAGES_MAX);
    return turn->pop->broker->pops.body.len >= POP_BYTES_MAX ? 0 : turn->pop->count_max - got;
}

static struct pop_delivery delivery_of(const struct pop_queue_turn *turn)
{
    return (struct pop_delivery){.pop_ms = turn->found->pop_ms,
                                 .due_ms = loop_mono_ms(turn->pop->broker->loop) +
                                           turn->pop->invisible_ms};
}

/* The group's offset is what the table says. When it cannot be kept the table forgets the queue. */
static int note_committed(struct pop_queue_turn *turn)
{
    int rc = offsets_note(&turn->pop->broker->offsets, turn->key.group, turn->key.topic,
                          turn->key.queue, turn->committed);

    turn->has_offset = turn->has_offset || rc == 0;
    return rc;
}

static int read_at(struct pop_queue_turn *turn, struct store_pull_request *req,
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
    int rc = turn->has_offset ? 0 : note_committed(turn);

    if (rc == 0) {
        offsets_read(turn, before);
        taken = (struct pop_taken){turn->offsets, turn->count, res->next_offset};
        rc = pop_table_take(turn->pop->broker->pops.table, &turn->key, &turn->committed, &taken,
                            delivery_of(turn));
    }
    if (rc != 0) {
        turn->count = 0;
        body->len = before;
        found->is_full = true;
        log_debug("pop.full", "topic %s queue %u: nothing handed out: %s", turn->pop->topic,
                  turn->key.queue, escrow_strerror(rc));
        return;
    }
    (void)note_committed(turn);
    found->rest += res->max_offset - res->next_offset;
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
                              delivery_of(turn)) != 0) {
        return false;
    }
    turn->look.next = offset;
    return note_committed(turn) == 0 && is_forwards;
}

static void collect_new(struct pop_queue_turn *turn)
{
    struct pull_scan scan;
    struct store_pull_result res;
    uint32_t left = messages_left(turn);
    bool again = turn->look.room > 0 && left > 0;

    for (int round = 0; again && round < POP_BEGIN_ROUNDS; round++) {
        struct store_pull_request req = {.offset = turn->look.next,
                                         .count_max =
                                             left < turn->look.room ? left : turn->look.room};
        size_t before = turn->pop->broker->pops.body.len;
        again = false;
        pull_scan_begin(&scan, turn->pop->filter, &req);
        if (read_at(turn, &req, &res) != 0) {
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

/* ---- messages that are due again ------------------------------------------------------------- */

/* A message on its way to the dead-letter topic. */
struct pop_dead {
    char group[GROUP_LEN_MAX + 1];
    char topic[RETRY_TOPIC_LEN_MAX + 1];
    uint32_t queue;
    int64_t offset;
    int64_t pop_ms;
};

static void dead_is_written(struct broker *b, struct pending *p, int error)
{
    struct pop_dead *dead = p->arg.ptr;
    struct pop_key key = {slice_str(dead->group), slice_str(dead->topic), dead->queue};

    if (error == 0) {
        (void)pops_acknowledge(b, &key, dead->offset, dead->pop_ms);
    }
    mem_free(dead);
}

static int dead_append(const struct pop_queue_turn *turn, const struct record_view *view,
                       struct store_receipt *receipt)
{
    struct broker *b = turn->pop->broker;
    struct retry_copy copy = {
        .group = turn->key.group, .offset = (uint64_t)view->f.physical_offset, .is_dead = true};
    struct err_ctx err = {.code = 0};
    int rc = retry_copy_append(b, view, &copy, receipt, &err);

    if (rc != 0) {
        log_peer_warn("pop.dead",
                      "group %s topic %s queue %u: not moved to the dead-letter topic yet: %s",
                      turn->pop->group, turn->pop->topic, turn->key.queue,
                      err.text[0] != '\0' ? err.text : escrow_strerror(rc));
    }
    return rc;
}

/* Its retries are used up. In hand of nobody until the copy is durable; then it is done. */
static void bury(struct pop_queue_turn *turn, struct record_view *view, const struct pop_due *due)
{
    struct broker *b = turn->pop->broker;
    struct pop_delivery later = delivery_of(turn);
    struct pop_dead *dead = mem_calloc(1, sizeof *dead);
    struct store_receipt receipt;

    later.due_ms = loop_mono_ms(b->loop) + POP_LATER_MS;
    CHECK(pop_table_retake(b->pops.table, &turn->key, turn->committed, due->offset, later) == 0);
    view->f.reconsume_times--; /* the copy counts the last one */
    if (dead == NULL || pump_reserve(&b->pump) != 0 || dead_append(turn, view, &receipt) != 0) {
        mem_free(dead);
        return; /* again when it is due */
    }
    memcpy(dead->group, turn->pop->group, sizeof dead->group);
    memcpy(dead->topic, turn->pop->topic, sizeof dead->topic);
    dead->queue = turn->key.queue;
    dead->offset = due->offset;
    dead->pop_ms = later.pop_ms;
    pump_wait(&b->pump, receipt.wait_for, false, dead_is_written,
              (struct deferred){.session = NULL})
        ->arg.ptr = dead;
}

/* Another time, because it cannot be read now. */
static void postpone(struct pop_queue_turn *turn, const struct pop_due *due)
{
    struct pop_delivery later = delivery_of(turn);

    later.due_ms = loop_mono_ms(turn->pop->broker->loop) + POP_LATER_MS;
    CHECK(pop_table_retake(turn->pop->broker->pops.table, &turn->key, turn->committed, due->offset,
                           later) == 0);
}

/* It is not in the queue any more: nobody can have it. */
static void let_go(struct pop_queue_turn *turn, const struct pop_due *due)
{
    struct pop_delivery now = delivery_of(turn);
    struct pop_table *table = turn->pop->broker->pops.table;

    CHECK(pop_table_retake(table, &turn->key, turn->committed, due->offset, now) == 0);
    CHECK(pop_table_ack(table, &turn->key, &turn->committed, due->offset, now.pop_ms, NULL) ==
          POP_DONE);
    (void)note_committed(turn);
}

/* The message of `due` lies in the body behind `before`. */
static void take_due(struct pop_queue_turn *turn, const struct pop_due *due, size_t before)
{
    struct buf *body = &turn->pop->broker->pops.body;
    struct record_view view;
    int64_t retries;

    if (record_decode(slice_of(body->ptr + before, body->len - before), &view) != 0 ||
        view.f.queue_offset != due->offset) {
        body->len = before;
        let_go(turn, due);
        return;
    }
    retries = (int64_t)view.f.reconsume_times + due->deliveries;
    view.f.reconsume_times = retries > INT32_MAX ? INT32_MAX : (int32_t)retries;
    if (retries > groups_config(&turn->pop->broker->groups, turn->key.group).retry_max_times) {
        body->len = before; /* the view stays good until something is appended */
        bury(turn, &view, due);
        return;
    }
    record_patch_reconsume_times(body->ptr + before, view.f.reconsume_times);
    CHECK(pop_table_retake(turn->pop->broker->pops.table, &turn->key, turn->committed, due->offset,
                           delivery_of(turn)) == 0);
    turn->offsets[turn->count++] = due->offset;
}

static bool is_in_span(const struct pop_queue_turn *turn, int64_t offset)
{
    return turn->count == 0 ||
           (offset - turn->offsets[0] < POP_SPAN_MAX && turn->offsets[0] - offset < POP_SPAN_MAX);
}

static void collect_due(struct pop_queue_turn *turn)
{
    struct broker *b = turn->pop->broker;
    struct pop_due due[POP_MESSAGES_MAX];
    uint32_t count =
        pop_table_due(b->pops.table, &turn->key, turn->committed, due, POP_MESSAGES_MAX);

    for (uint32_t i = 0; i < count && messages_left(turn) > 0; i++) {
        struct store_pull_request req = {.offset = due[i].offset, .count_max = 1};
        struct store_pull_result res;
        size_t before = b->pops.body.len;
        int rc;
        if (!is_in_span(turn, due[i].offset)) {
            continue;
        }
        rc = read_at(turn, &req, &res);
        if (rc == ESCROW_EAGAIN) {
            return;
        }
        if (rc != 0) {
            postpone(turn, &due[i]);
        } else if (res.status == STORE_PULL_FOUND) {
            take_due(turn, &due[i], before);
        } else {
            let_go(turn, &due[i]);
        }
    }
}

/* ---- all queues ------------------------------------------------------------------------------ */

static struct store_queue_ref ref_of(const struct pop_key *key)
{
    return (struct store_queue_ref){.topic = key->topic, .queue_id = key->queue};
}

static void collect_queue(struct pop *pop, uint32_t queue, struct pop_found *found)
{
    struct broker *b = pop->broker;
    struct pop_queue_turn turn = {.pop = pop, .found = found};
    struct store_queue_ref ref;
    int64_t max_offset;

    turn.key = (struct pop_key){slice_str(pop->group), slice_str(pop->topic), queue};
    turn.has_offset =
        offsets_find(&b->offsets, turn.key.group, turn.key.topic, queue, &turn.committed);
    if (!turn.has_offset) {
        ref = ref_of(&turn.key);
        if (!store_queue_range(b->store, &ref, &turn.committed, &max_offset)) {
            return; /* nothing was ever in it */
        }
    }
    pop_table_look(b->pops.table, &turn.key, turn.committed, &turn.look);
    if (turn.look.due > 0) {
        collect_due(&turn);
        found->rest += turn.look.due - turn.count;
    }
    if (turn.count == 0 && !found->must_read) {
        pop_table_look(b->pops.table, &turn.key, turn.committed, &turn.look);
        collect_new(&turn);
    }
    if (turn.count > 0) {
        pop_info_add(&b->pops.start_info, &b->pops.offset_info, (int32_t)queue, turn.offsets,
                     turn.count);
        found->count += turn.count;
    }
}

void pop_collect(struct pop *pop, uint32_t queues, struct pop_found *found)
{
    struct pops *p = &pop->broker->pops;

    *found = (struct pop_found){.pop_ms = pops_now(pop->broker)};
    buf_clear(&p->body);
    buf_clear(&p->start_info);
    buf_clear(&p->offset_info);
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
