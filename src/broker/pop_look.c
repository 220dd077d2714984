/*
 * What a pop would find, without handing anything out (PEEK_MESSAGE, NOTIFICATION).
 *
 * Happy path: of each queue what is due, then what was never handed out, from where the next pop
 * would begin. Neither the table nor an offset changes. A notification with a filter reads queue
 * entries (SQL92: messages) to know whether something is wanted.
 */
#include "core/proto/record.h"
#include "src/broker/broker.h"
#include "src/broker/pop_turn.h"
#include "src/broker/pull_filter.h"

/* Messages of the queue that were never handed out. */
static int64_t new_messages(const struct pop_queue_turn *turn)
{
    struct store_queue_ref ref = {.topic = turn->key.topic, .queue_id = turn->key.queue};
    int64_t min_offset;
    int64_t max_offset;
    int64_t first = turn->look.next;

    if (!store_queue_range(turn->pop->broker->store, &ref, &min_offset, &max_offset)) {
        return 0;
    }
    first = first < min_offset ? min_offset : first;
    return first < max_offset ? max_offset - first : 0;
}

/*
 * Read what is next, as far as one look goes. What cannot be read is worth a pop: it is told why.
 * So is what lies behind where the look ended: pops move on, those who only look do not.
 */
static bool is_wanted(struct pop_queue_turn *turn)
{
    struct store_pull_request req = {.offset = turn->look.next, .count_max = 1};
    struct store_pull_result res;
    struct pull_scan scan;
    int rc;

    pull_scan_begin(&scan, turn->pop->filter, &req);
    rc = pop_turn_read(turn, &req, &res);
    if (rc == 0 && res.status == STORE_PULL_BEFORE_FIRST) {
        req.offset = res.min_offset;
        rc = pop_turn_read(turn, &req, &res);
    }
    if (rc == ESCROW_EAGAIN) {
        return false;
    }
    return rc != 0 || res.status == STORE_PULL_FOUND ||
           (res.status == STORE_PULL_NO_MATCH && res.next_offset < res.max_offset);
}

static bool has_message(struct pop_queue_turn *turn)
{
    if (turn->pop->is_ordered && !pops_is_open(turn->pop->broker, &turn->key, turn->pop->attempt)) {
        return false;
    }
    if (turn->look.due > 0) {
        return true; /* the filter of who had it wanted it */
    }
    return turn->look.room > 0 && new_messages(turn) > 0 &&
           (turn->pop->filter == NULL || is_wanted(turn));
}

bool pop_has_message(struct pop *pop, uint32_t queues, struct pop_found *found)
{
    struct pop_queue_turn turn;
    uint32_t first = pop->queue_id < 0 ? 0 : (uint32_t)pop->queue_id;
    uint32_t end = pop->queue_id < 0 ? queues : first + 1;

    *found = (struct pop_found){.count = 0};
    for (uint32_t q = first; q < end && !found->must_read; q++) {
        buf_clear(&pop->broker->pops.body);
        if (pop_turn_begin(&turn, pop, q, found) && has_message(&turn)) {
            return true;
        }
    }
    return false;
}

/* ---- peeking --------------------------------------------------------------------------------- */

static void show(struct pop_queue_turn *turn, const struct pop_due *due, size_t before)
{
    struct record_view view;

    if (pop_turn_count_retries(turn, due, before, &view)) {
        turn->count++;
    } else {
        turn->pop->broker->pops.body.len = before;
    }
}

static void pass_over(struct pop_queue_turn *turn, const struct pop_due *due)
{
    (void)turn;
    (void)due;
}

static const struct pop_due_ops peek_ops = {.found = show, .gone = pass_over};

static void peek_due(struct pop_queue_turn *turn)
{
    struct pop_due due[POP_MESSAGES_MAX];
    uint32_t count = pop_table_due(turn->pop->broker->pops.table, &turn->key, turn->committed, due,
                                   POP_MESSAGES_MAX);

    for (uint32_t i = 0;
         i < count && pop_turn_left(turn) > 0 && pop_turn_step(turn, &due[i], &peek_ops); i++) {
    }
}

static void peek_new(struct pop_queue_turn *turn)
{
    struct store_pull_request req = {.offset = turn->look.next, .count_max = pop_turn_left(turn)};
    struct store_pull_result res;

    if (req.count_max == 0 || new_messages(turn) == 0 || pop_turn_read(turn, &req, &res) != 0) {
        return;
    }
    if (res.status == STORE_PULL_BEFORE_FIRST) {
        req.offset = res.min_offset;
        if (pop_turn_read(turn, &req, &res) != 0) {
            return;
        }
    }
    turn->count += res.status == STORE_PULL_FOUND ? res.count : 0;
}

void pop_peek(struct pop *pop, uint32_t queues, struct pop_found *found)
{
    uint32_t count = pop->queue_id < 0 ? queues : 1;
    struct pop_queue_turn turn;

    *found = (struct pop_found){.count = 0};
    buf_clear(&pop->broker->pops.body);
    for (uint32_t i = 0; i < count && !found->must_read; i++) {
        uint32_t queue = pop->queue_id < 0 ? (pop->turn + i) % queues : (uint32_t)pop->queue_id;
        if (pop_turn_begin(&turn, pop, queue, found)) {
            found->rest += turn.look.due + new_messages(&turn);
            peek_due(&turn);
            if (!found->must_read) {
                peek_new(&turn);
            }
            found->count += turn.count;
        }
    }
}
