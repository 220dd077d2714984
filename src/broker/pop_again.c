/*
 * What one pop hands out again.
 *
 * Happy path: each message is read alone, and gets the number of its retries on the way. Without
 * order it is what is due, and one that has had too many retries goes to the dead-letter topic
 * instead, and is done when its copy there is durable. An ordered pop gets what is not done, and
 * nothing is passed over.
 *
 * Failures: what cannot be read comes again later; an ordered pop's queue stops there.
 */
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/record.h"
#include "src/broker/broker.h"
#include "src/broker/pop_turn.h"
#include "src/broker/retry_copy.h"

#include <string.h>

#define POP_LATER_MS 60000 /* until what could not be read, or is on its way to its end */

/* ---- too many retries ------------------------------------------------------------------------ */

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
    struct pop_delivery later = pop_turn_delivery(turn);
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

/* ---- again ---------------------------------------------------------------------------------- */

/* Another time, because it cannot be read now. */
static void postpone(struct pop_queue_turn *turn, const struct pop_due *due)
{
    struct pop_delivery later = pop_turn_delivery(turn);

    later.due_ms = loop_mono_ms(turn->pop->broker->loop) + POP_LATER_MS;
    CHECK(pop_table_retake(turn->pop->broker->pops.table, &turn->key, turn->committed, due->offset,
                           later) == 0);
}

/* It is not in the queue any more: nobody can have it. */
static void let_go(struct pop_queue_turn *turn, const struct pop_due *due)
{
    struct pop_delivery now = pop_turn_delivery(turn);
    struct pop_table *table = turn->pop->broker->pops.table;

    CHECK(pop_table_retake(table, &turn->key, turn->committed, due->offset, now) == 0);
    CHECK(pop_table_ack(table, &turn->key, &turn->committed, due->offset, now.pop_ms, NULL) ==
          POP_DONE);
    (void)pop_turn_note(turn);
}

/* It lies in the body behind `before`. */
static void take_again(struct pop_queue_turn *turn, const struct pop_due *due, size_t before)
{
    struct buf *body = &turn->pop->broker->pops.body;
    struct record_view view;

    if (!pop_turn_count_retries(turn, due, before, &view)) {
        body->len = before;
        let_go(turn, due);
        return;
    }
    if (!turn->pop->is_ordered &&
        view.f.reconsume_times >
            groups_config(&turn->pop->broker->groups, turn->key.group).retry_max_times) {
        body->len = before; /* the view stays good until something is appended */
        bury(turn, &view, due);
        return;
    }
    CHECK(pop_table_retake(turn->pop->broker->pops.table, &turn->key, turn->committed, due->offset,
                           pop_turn_delivery(turn)) == 0);
    turn->retries[turn->count] = view.f.reconsume_times;
    turn->offsets[turn->count++] = due->offset;
}

static bool is_in_span(const struct pop_queue_turn *turn, int64_t offset)
{
    return turn->count == 0 ||
           (offset - turn->offsets[0] < POP_SPAN_MAX && turn->offsets[0] - offset < POP_SPAN_MAX);
}

static const struct pop_due_ops again_any = {
    .found = take_again, .gone = let_go, .unreadable = postpone};
static const struct pop_due_ops again_in_order = {.found = take_again, .gone = let_go};

void pop_again_due(struct pop_queue_turn *turn)
{
    struct pop_due due[POP_MESSAGES_MAX];
    uint32_t count = pop_table_due(turn->pop->broker->pops.table, &turn->key, turn->committed, due,
                                   POP_MESSAGES_MAX);

    for (uint32_t i = 0; i < count && pop_turn_left(turn) > 0; i++) {
        if (is_in_span(turn, due[i].offset) && !pop_turn_step(turn, &due[i], &again_any)) {
            return; /* of the disk, or of a rebuild: soon */
        }
    }
}

void pop_again_in_order(struct pop_queue_turn *turn)
{
    struct pop_due due[POP_MESSAGES_MAX];
    uint32_t count = pop_table_first(turn->pop->broker->pops.table, &turn->key, turn->committed,
                                     turn->pop->attempt, due, POP_MESSAGES_MAX);

    for (uint32_t i = 0; i < count && pop_turn_left(turn) > 0 && is_in_span(turn, due[i].offset) &&
                         pop_turn_step(turn, &due[i], &again_in_order);
         i++) {
    }
}
