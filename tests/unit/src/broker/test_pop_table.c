#include "src/broker/pop_table.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

static struct pop_table *table;
static const struct hash_key hash_key = {1, 2};

static void set_up(uint32_t queue_max, uint32_t total_max)
{
    struct pop_limits limits = {.queue_max = queue_max, .total_max = total_max};

    ck_assert_int_eq(pop_table_new(&limits, hash_key, &table), 0);
}

static void tear_down(void)
{
    pop_table_check(table);
    pop_table_free(table);
    ck_assert_int_eq(mem_live_count(), 0);
}

static struct pop_key key_of(uint32_t queue)
{
    return (struct pop_key){.group = SLICE_LIT("g"), .topic = SLICE_LIT("T"), .queue = queue};
}

/* Hand out [from, from + count) of a queue, and read no further. */
static int take(uint32_t queue, int64_t *committed, int64_t from, uint32_t count, int64_t pop_ms,
                int64_t due_ms)
{
    struct pop_key key = key_of(queue);
    int64_t offsets[64];

    ck_assert_uint_le(count, 64);
    for (uint32_t i = 0; i < count; i++) {
        offsets[i] = from + i;
    }
    return pop_table_take(table, &key, committed, &(struct pop_taken){offsets, count, from + count},
                          (struct pop_delivery){pop_ms, due_ms, 0});
}

static enum pop_outcome ack(uint32_t queue, int64_t *committed, int64_t offset, int64_t pop_ms)
{
    struct pop_key key = key_of(queue);

    return pop_table_ack(table, &key, committed, offset, pop_ms, NULL);
}

static struct pop_look look(uint32_t queue, int64_t committed)
{
    struct pop_key key = key_of(queue);
    struct pop_look out;

    pop_table_look(table, &key, committed, &out);
    return out;
}

static struct pop_gauges gauges(void)
{
    struct pop_gauges g;

    pop_table_gauges(table, &g);
    return g;
}

static void count_due(void *arg, const struct pop_key *key)
{
    ck_assert(slice_eq_str(key->group, "g") && slice_eq_str(key->topic, "T"));
    ++*(int *)arg;
}

static int tick(int64_t now_ms)
{
    int count = 0;

    pop_table_tick(table, now_ms, UINT32_MAX, count_due, &count);
    return count;
}

START_TEST(the_committed_offset_is_the_lowest_that_is_not_done)
{
    /* Acknowledged out of order, the offset waits for the first, then passes all that is done. */
    int64_t committed = 10;

    set_up(100, 1000);
    ck_assert_int_eq(take(0, &committed, 10, 4, 1, 100), 0);
    ck_assert_int_eq(committed, 10);
    ck_assert_int_eq(look(0, committed).next, 14);
    ck_assert_int_eq(ack(0, &committed, 11, 1), POP_DONE);
    ck_assert_int_eq(ack(0, &committed, 12, 1), POP_DONE);
    ck_assert_int_eq(committed, 10);
    pop_table_check(table);
    ck_assert_int_eq(ack(0, &committed, 10, 1), POP_DONE);
    ck_assert_int_eq(committed, 13);
    ck_assert_int_eq(ack(0, &committed, 13, 1), POP_DONE);
    ck_assert_int_eq(committed, 14);
    ck_assert_uint_eq(gauges().queues, 0);
    tear_down();
}
END_TEST

START_TEST(what_a_filter_skips_is_done)
{
    /* Without anything in hand the offset moves with it; else it stays at what is in hand. */
    struct pop_key key = key_of(0);
    int64_t committed = 0;
    int64_t offset = 7;

    set_up(100, 1000);
    ck_assert_int_eq(pop_table_take(table, &key, &committed, &(struct pop_taken){NULL, 0, 5},
                                    (struct pop_delivery){1, 100, 0}),
                     0);
    ck_assert_int_eq(committed, 5);
    ck_assert_int_eq(pop_table_take(table, &key, &committed, &(struct pop_taken){&offset, 1, 20},
                                    (struct pop_delivery){1, 100, 0}),
                     0);
    ck_assert_int_eq(committed, 7);
    ck_assert_int_eq(pop_table_take(table, &key, &committed, &(struct pop_taken){NULL, 0, 30},
                                    (struct pop_delivery){2, 100, 0}),
                     0);
    ck_assert_int_eq(committed, 7);
    ck_assert_int_eq(ack(0, &committed, 15, 1), POP_ALREADY);
    ck_assert_int_eq(ack(0, &committed, 7, 1), POP_DONE);
    ck_assert_int_eq(committed, 30);
    tear_down();
}
END_TEST

START_TEST(a_message_whose_time_is_over_comes_again)
{
    /* Due in the order of their times, with the number of deliveries; then invisible again. */
    struct pop_key key = key_of(0);
    struct pop_due due[4];
    int64_t committed = 0;

    set_up(100, 1000);
    ck_assert_int_eq(take(0, &committed, 0, 1, 1, 300), 0);
    ck_assert_int_eq(take(0, &committed, 1, 2, 1, 200), 0);
    ck_assert_int_eq(pop_table_next_ms(table), 200);
    ck_assert_int_eq(tick(199), 0);
    pop_table_tick(table, 300, 0, count_due, NULL);
    ck_assert_uint_eq(pop_table_due(table, &key, committed, due, 4), 0);
    ck_assert_int_eq(tick(300), 3);
    ck_assert_int_eq(pop_table_next_ms(table), INT64_MAX);
    ck_assert_uint_eq(look(0, committed).due, 3);
    ck_assert_uint_eq(pop_table_due(table, &key, committed, due, 4), 3);
    ck_assert(due[0].offset == 1 && due[1].offset == 2 && due[2].offset == 0);
    ck_assert_uint_eq(due[0].deliveries, 1);
    pop_table_check(table);
    ck_assert_int_eq(
        pop_table_retake(table, &key, committed, 1, (struct pop_delivery){400, 900, 0}), 0);
    ck_assert_int_eq(
        pop_table_retake(table, &key, committed, 1, (struct pop_delivery){401, 900, 0}),
        ESCROW_ENOTFOUND);
    ck_assert_int_eq(
        pop_table_retake(table, &key, committed, 9, (struct pop_delivery){401, 900, 0}),
        ESCROW_ENOTFOUND);
    ck_assert_int_eq(tick(900), 1);
    ck_assert_uint_eq(pop_table_due(table, &key, committed, due, 4), 3);
    ck_assert(due[2].offset == 1 && due[2].deliveries == 2);
    tear_down();
}
END_TEST

START_TEST(only_the_last_delivery_counts)
{
    /* An acknowledgement in time, late but in hand of nobody else, too late, twice, never. */
    struct pop_key key = key_of(0);
    int64_t committed = 0;

    set_up(100, 1000);
    ck_assert_int_eq(take(0, &committed, 0, 3, 1, 100), 0);
    ck_assert_int_eq(ack(0, &committed, 0, 2), POP_STALE);
    ck_assert_int_eq(tick(100), 3);
    ck_assert_int_eq(ack(0, &committed, 1, 1), POP_DONE);
    ck_assert_int_eq(
        pop_table_retake(table, &key, committed, 0, (struct pop_delivery){150, 250, 0}), 0);
    ck_assert_int_eq(ack(0, &committed, 0, 1), POP_STALE);
    ck_assert_int_eq(ack(0, &committed, 0, 150), POP_DONE);
    ck_assert_int_eq(ack(0, &committed, 0, 150), POP_ALREADY);
    ck_assert_int_eq(ack(0, &committed, 3, 1), POP_STALE);
    ck_assert_int_eq(committed, 2);
    tear_down();
}
END_TEST

START_TEST(a_consumer_changes_how_long_a_message_is_invisible)
{
    /* Longer, shorter, when it is due; under a new delivery each time. */
    struct pop_key key = key_of(0);
    int64_t committed = 0;

    set_up(100, 1000);
    ck_assert_int_eq(take(0, &committed, 0, 2, 1, 100), 0);
    ck_assert_int_eq(
        pop_table_change(table, &key, committed, 0, 1, (struct pop_delivery){50, 500, 0}),
        POP_DONE);
    ck_assert_int_eq(
        pop_table_change(table, &key, committed, 0, 1, (struct pop_delivery){51, 500, 0}),
        POP_STALE);
    ck_assert_int_eq(tick(100), 1);
    ck_assert_int_eq(
        pop_table_change(table, &key, committed, 1, 1, (struct pop_delivery){101, 200, 0}),
        POP_DONE);
    ck_assert_uint_eq(look(0, committed).due, 0);
    ck_assert_int_eq(pop_table_next_ms(table), 200);
    ck_assert_int_eq(ack(0, &committed, 1, 101), POP_DONE);
    ck_assert_int_eq(
        pop_table_change(table, &key, committed, 1, 101, (struct pop_delivery){102, 200, 0}),
        POP_ALREADY);
    ck_assert_int_eq(
        pop_table_change(table, &key, committed, 0, 50, (struct pop_delivery){120, 130, 0}),
        POP_DONE);
    ck_assert_int_eq(tick(130), 1);
    tear_down();
}
END_TEST

START_TEST(who_moves_the_offset_decides_where_a_queue_begins)
{
    /* Forwards or backwards: what was in hand is forgotten, and late receipts move nothing. */
    int64_t committed = 0;

    set_up(100, 1000);
    ck_assert_int_eq(take(0, &committed, 0, 10, 1, 100), 0);
    ck_assert_int_eq(look(0, 4).next, 4);
    ck_assert_uint_eq(gauges().in_flight, 0);
    committed = 4;
    ck_assert_int_eq(take(0, &committed, 4, 4, 2, 100), 0);
    committed = 1;
    ck_assert_int_eq(ack(0, &committed, 4, 2), POP_STALE);
    ck_assert_int_eq(ack(0, &committed, 0, 1), POP_ALREADY);
    ck_assert_int_eq(committed, 1);
    ck_assert_int_eq(tick(1000), 0);
    tear_down();
}
END_TEST

START_TEST(a_full_queue_has_no_room)
{
    /* Nothing is taken beyond the limit; an acknowledgement says that it made room. */
    struct pop_key key = key_of(0);
    int64_t committed = 0;
    struct pop_opening opening = {.has_room = false};

    set_up(4, 1000);
    ck_assert_int_eq(take(0, &committed, 0, 5, 1, 100), ESCROW_ELIMIT);
    ck_assert_int_eq(take(0, &committed, 0, 3, 1, 100), 0);
    ck_assert_uint_eq(look(0, committed).room, 1);
    ck_assert_int_eq(take(0, &committed, 3, 2, 1, 100), ESCROW_ELIMIT);
    ck_assert_int_eq(take(0, &committed, 3, 1, 1, 100), 0);
    ck_assert_uint_eq(look(0, committed).room, 0);
    ck_assert_int_eq(pop_table_ack(table, &key, &committed, 2, 1, &opening), POP_DONE);
    ck_assert(opening.has_room);
    ck_assert_int_eq(pop_table_ack(table, &key, &committed, 1, 1, &opening), POP_DONE);
    ck_assert(!opening.has_room);
    tear_down();
}
END_TEST

static enum pop_order order(uint32_t queue, int64_t committed, uint64_t attempt)
{
    struct pop_key key = key_of(queue);

    return pop_table_order(table, &key, committed, attempt);
}

static int retake(int64_t committed, int64_t offset, struct pop_delivery delivery)
{
    struct pop_key key = key_of(0);

    return pop_table_retake(table, &key, committed, offset, delivery);
}

START_TEST(an_ordered_pop_has_a_queue_alone)
{
    /* Until all of it is done; the acknowledgement that frees it says so, and no other does. */
    struct pop_key key = key_of(0);
    struct pop_opening opening;
    int64_t committed = 0;

    set_up(100, 1000);
    ck_assert_int_eq(order(0, committed, 0), POP_ORDER_NEW);
    ck_assert_int_eq(take(0, &committed, 0, 3, 1, 100), 0);
    ck_assert_int_eq(order(0, committed, 0), POP_ORDER_BLOCKED);
    ck_assert_int_eq(order(0, committed, 7), POP_ORDER_BLOCKED);
    ck_assert_int_eq(order(1, committed, 0), POP_ORDER_NEW);
    for (int64_t offset = 2; offset >= 0; offset--) {
        ck_assert_int_eq(order(0, committed, 0), POP_ORDER_BLOCKED);
        ck_assert_int_eq(pop_table_ack(table, &key, &committed, offset, 1, &opening), POP_DONE);
        ck_assert_int_eq(opening.is_free, offset == 0);
    }
    ck_assert_int_eq(order(0, committed, 0), POP_ORDER_NEW);
    ck_assert_int_eq(pop_table_ack(table, &key, &committed, 0, 1, &opening), POP_ALREADY);
    ck_assert(!opening.is_free);
    tear_down();
}
END_TEST

START_TEST(what_an_ordered_pop_left_comes_first_by_offset)
{
    /* Only when the last of it is due; by offset, whichever became due first. */
    struct pop_key key = key_of(0);
    struct pop_delivery later = {.pop_ms = 1, .due_ms = 300};
    struct pop_opening opening;
    struct pop_due due[8];
    int64_t committed = 0;

    set_up(100, 1000);
    ck_assert_int_eq(take(0, &committed, 0, 4, 1, 100), 0);
    ck_assert_int_eq(pop_table_change(table, &key, committed, 0, 1, later), POP_DONE);
    ck_assert_int_eq(ack(0, &committed, 2, 1), POP_DONE);
    ck_assert_int_eq(tick(100), 2);
    ck_assert_int_eq(order(0, committed, 0), POP_ORDER_BLOCKED);
    ck_assert_int_eq(pop_table_ack(table, &key, &committed, 3, 1, &opening), POP_DONE);
    ck_assert(!opening.is_free); /* it was due: nobody's */
    ck_assert_int_eq(tick(300), 1);
    ck_assert_int_eq(order(0, committed, 0), POP_ORDER_AGAIN);
    ck_assert_uint_eq(pop_table_first(table, &key, committed, 0, due, 1), 1);
    ck_assert_uint_eq(pop_table_first(table, &key, committed, 0, due, 8), 2);
    ck_assert_int_eq(due[0].offset, 0);
    ck_assert_int_eq(due[1].offset, 1);
    ck_assert_uint_eq(due[0].deliveries, 1);
    ck_assert_int_eq(retake(committed, 0, (struct pop_delivery){2, 500, 0}), 0);
    ck_assert_int_eq(order(0, committed, 0), POP_ORDER_BLOCKED);
    ck_assert_int_eq(tick(500), 1);
    ck_assert_uint_eq(pop_table_first(table, &key, committed, 0, due, 8), 2);
    ck_assert_uint_eq(due[0].deliveries, 2);
    ck_assert_uint_eq(due[1].deliveries, 1);
    ck_assert_int_eq(look(0, committed).next, 4);
    tear_down();
}
END_TEST

START_TEST(an_attempt_gets_its_own_messages_again)
{
    /* In hand or due, and without a delivery more; others do not, nor it what others have. */
    struct pop_key key = key_of(0);
    const struct pop_taken two = {(const int64_t[]){0, 1}, 2, 2};
    struct pop_delivery again = {.pop_ms = 2, .due_ms = 200, .attempt = 7};
    struct pop_due due[8];
    int64_t committed = 0;

    set_up(100, 1000);
    ck_assert_int_eq(
        pop_table_take(table, &key, &committed, &two, (struct pop_delivery){1, 100, 7}), 0);
    ck_assert_int_eq(order(0, committed, 0), POP_ORDER_BLOCKED);
    ck_assert_int_eq(order(0, committed, 8), POP_ORDER_BLOCKED);
    ck_assert_int_eq(order(0, committed, 7), POP_ORDER_AGAIN);
    ck_assert_int_eq(retake(committed, 0, (struct pop_delivery){2, 200, 8}), ESCROW_ENOTFOUND);
    ck_assert_int_eq(retake(committed, 0, (struct pop_delivery){2, 200, 0}), ESCROW_ENOTFOUND);
    ck_assert_uint_eq(pop_table_first(table, &key, committed, 7, due, 8), 2);
    ck_assert_uint_eq(due[0].deliveries, 0);
    ck_assert_int_eq(retake(committed, 0, again), 0);
    ck_assert_int_eq(ack(0, &committed, 0, 1), POP_STALE);
    ck_assert_int_eq(tick(200), 2);
    ck_assert_int_eq(retake(committed, 0, (struct pop_delivery){3, 300, 7}), 0);
    ck_assert_int_eq(retake(committed, 1, (struct pop_delivery){3, 300, 8}), 0);
    ck_assert_int_eq(order(0, committed, 7), POP_ORDER_BLOCKED); /* 1 is another's now */
    ck_assert_int_eq(order(0, committed, 8), POP_ORDER_BLOCKED);
    ck_assert_int_eq(tick(300), 2);
    (void)pop_table_first(table, &key, committed, 0, due, 8);
    ck_assert_uint_eq(due[0].deliveries, 1);
    ck_assert_uint_eq(due[1].deliveries, 2);
    tear_down();
}
END_TEST

START_TEST(a_full_table_forgets_what_nobody_has_in_hand)
{
    /* The queue that is due longest gives way, never one with a message in hand. */
    int64_t a = 0;
    int64_t b = 0;
    int64_t c = 0;

    set_up(10, 10);
    ck_assert_int_eq(take(0, &a, 0, 4, 1, 100), 0);
    ck_assert_int_eq(take(1, &b, 0, 4, 1, 50), 0);
    ck_assert_int_eq(take(2, &c, 0, 3, 1, 500), ESCROW_ELIMIT);
    ck_assert_int_eq(tick(50), 4);
    ck_assert_int_eq(tick(100), 4);
    ck_assert_int_eq(ack(1, &b, 0, 1), POP_DONE);
    ck_assert_int_eq(ack(1, &b, 2, 1), POP_DONE);
    ck_assert_int_eq(take(2, &c, 0, 6, 1, 500), 0);
    ck_assert_uint_eq(gauges().forgotten, 2);
    ck_assert_int_eq(look(1, b).next, 1); /* 1 and 3 are not done: nothing is lost */
    ck_assert_uint_eq(look(0, a).due, 4);
    ck_assert_int_eq(take(2, &c, 6, 4, 1, 500), 0);
    ck_assert_uint_eq(gauges().forgotten, 6);
    ck_assert_int_eq(take(1, &b, 1, 1, 1, 500), ESCROW_ELIMIT);
    tear_down();
}
END_TEST

START_TEST(a_take_that_makes_no_sense_changes_nothing)
{
    /* Offsets below what was handed out, falling, or beyond what was read. */
    struct pop_key key = key_of(0);
    const struct pop_delivery d = {1, 100, 0};
    const int64_t falling[] = {3, 3};
    int64_t committed = 2;

    set_up(10, 10);
    ck_assert_int_eq(take(0, &committed, 1, 2, 1, 100), ESCROW_EINVAL);
    ck_assert_int_eq(pop_table_take(table, &key, &committed, &(struct pop_taken){falling, 2, 9}, d),
                     ESCROW_EINVAL);
    ck_assert_int_eq(pop_table_take(table, &key, &committed, &(struct pop_taken){falling, 1, 3}, d),
                     ESCROW_EINVAL);
    ck_assert_int_eq(pop_table_take(table, &key, &committed, &(struct pop_taken){NULL, 0, 1}, d),
                     ESCROW_EINVAL);
    ck_assert_int_eq(committed, 2);
    ck_assert_uint_eq(gauges().in_flight, 0);
    tear_down();
}
END_TEST

START_TEST(without_memory_nothing_is_taken)
{
    /* Whichever allocation fails, the table is as before, and the next try works. */
    bool was_done = false;

    for (uint64_t n = 1; !was_done; n++) {
        int64_t committed = 0;
        int rc;
        set_up(100, 1000);
        mem_fault_at(n);
        rc = take(0, &committed, 0, 40, 1, 100);
        was_done = rc == 0;
        mem_fault_at(0);
        if (!was_done) {
            ck_assert_int_eq(rc, ESCROW_ENOMEM);
            ck_assert_uint_eq(gauges().in_flight, 0);
            ck_assert_uint_eq(gauges().queues, 0);
            ck_assert_int_eq(take(0, &committed, 0, 40, 1, 100), 0);
        }
        ck_assert_uint_eq(gauges().in_flight, 40);
        tear_down();
    }
}
END_TEST

/* ---- against a model ------------------------------------------------------------------------- */

#define MODEL_QUEUES   3
#define MODEL_MESSAGES 250
#define MODEL_FLIGHT   40

enum model_state { MODEL_NEW, MODEL_FLYING, MODEL_DUE, MODEL_DONE };

/* One queue as a plain array: what the table must say, and what must never be forgotten. */
struct model {
    enum model_state state[MODEL_MESSAGES];
    bool ever_done[MODEL_MESSAGES]; /* acknowledged, or not wanted: whatever was forgotten since */
    int64_t pop_ms[MODEL_MESSAGES];
    int64_t due_ms[MODEL_MESSAGES];
    uint32_t deliveries[MODEL_MESSAGES];
    uint64_t attempt[MODEL_MESSAGES];
    int64_t next;
    int64_t committed; /* what the caller keeps */
};

static struct model models[MODEL_QUEUES];
static struct rand rnd;
static int64_t now;
static int64_t pops;

static uint32_t model_count(const struct model *m, enum model_state state)
{
    uint32_t count = 0;

    for (int i = 0; i < MODEL_MESSAGES; i++) {
        count += m->state[i] == state ? 1 : 0;
    }
    return count;
}

static int64_t model_committed(const struct model *m)
{
    int64_t at = 0;

    while (at < m->next && m->state[at] == MODEL_DONE) {
        at++;
    }
    return at;
}

/* Begin anew at an offset: what is above it was never handed out, for all that is known. */
static void model_begin(struct model *m, int64_t at)
{
    for (int64_t i = 0; i < MODEL_MESSAGES; i++) {
        m->state[i] = i < at ? MODEL_DONE : MODEL_NEW;
    }
    m->next = m->committed = at;
}

static struct pop_delivery model_delivery(void)
{
    return (struct pop_delivery){++pops, now + 1 + (int64_t)rand_below(&rnd, 50),
                                 rand_below(&rnd, 3)};
}

static void model_set(struct model *m, int64_t i, struct pop_delivery d)
{
    m->state[i] = MODEL_FLYING;
    m->pop_ms[i] = d.pop_ms;
    m->due_ms[i] = d.due_ms;
}

static void model_take(uint32_t queue)
{
    struct model *m = &models[queue];
    struct pop_key key = key_of(queue);
    struct pop_look l = look(queue, m->committed);
    struct pop_delivery d = model_delivery();
    int64_t offsets[8];
    uint32_t count = 0;
    int64_t end = m->next + (int64_t)rand_below(&rnd, 8);

    ck_assert_int_eq(l.next, m->next);
    ck_assert_uint_eq(l.due, model_count(m, MODEL_DUE));
    ck_assert_uint_eq(l.room, MODEL_FLIGHT - model_count(m, MODEL_FLYING) - l.due);
    for (end = end > MODEL_MESSAGES ? MODEL_MESSAGES : end; m->next < end; m->next++) {
        if (count < l.room && rand_below(&rnd, 4) > 0) {
            model_set(m, m->next, d);
            m->deliveries[m->next] = 1;
            m->attempt[m->next] = d.attempt;
            offsets[count++] = m->next;
        } else if (count == l.room) {
            break;
        } else {
            m->state[m->next] = MODEL_DONE;
            m->ever_done[m->next] = true;
        }
    }
    ck_assert_int_eq(
        pop_table_take(table, &key, &m->committed, &(struct pop_taken){offsets, count, m->next}, d),
        0);
}

static bool model_is_of(const struct model *m, int64_t i, uint64_t attempt)
{
    return attempt != 0 && m->attempt[i] == attempt;
}

static void model_again(struct model *m, int64_t i, struct pop_delivery d)
{
    m->deliveries[i] += model_is_of(m, i, d.attempt) ? 0 : 1;
    m->attempt[i] = d.attempt;
    model_set(m, i, d);
}

static void model_retake(uint32_t queue)
{
    struct model *m = &models[queue];
    struct pop_key key = key_of(queue);
    struct pop_due due[MODEL_FLIGHT];
    uint32_t count = pop_table_due(table, &key, m->committed, due, MODEL_FLIGHT);

    ck_assert_uint_eq(count, model_count(m, MODEL_DUE));
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_int_eq(m->state[due[i].offset], MODEL_DUE);
        ck_assert_uint_eq(m->deliveries[due[i].offset], due[i].deliveries);
        ck_assert(i == 0 || m->due_ms[due[i - 1].offset] <= m->due_ms[due[i].offset]);
    }
    for (uint32_t i = 0; i < count && i < 3; i++) {
        struct pop_delivery d = model_delivery();
        ck_assert_int_eq(pop_table_retake(table, &key, m->committed, due[i].offset, d), 0);
        model_again(m, due[i].offset, d);
    }
}

/* An ordered pop of what is not done. */
static void model_order(uint32_t queue)
{
    struct model *m = &models[queue];
    struct pop_key key = key_of(queue);
    struct pop_delivery d = model_delivery();
    struct pop_due due[MODEL_FLIGHT];
    enum pop_order expected = POP_ORDER_NEW;
    uint32_t count = 0;

    for (int64_t i = 0; i < m->next; i++) {
        if (m->state[i] == MODEL_FLYING && !model_is_of(m, i, d.attempt)) {
            expected = POP_ORDER_BLOCKED;
        } else if (m->state[i] != MODEL_DONE && expected == POP_ORDER_NEW) {
            expected = POP_ORDER_AGAIN;
        }
    }
    ck_assert_int_eq(order(queue, m->committed, d.attempt), expected);
    if (expected != POP_ORDER_AGAIN) {
        return;
    }
    ck_assert_uint_eq(pop_table_first(table, &key, m->committed, d.attempt, due, MODEL_FLIGHT),
                      model_count(m, MODEL_FLYING) + model_count(m, MODEL_DUE));
    for (int64_t i = 0; i < m->next; i++) {
        if (m->state[i] != MODEL_DONE) {
            ck_assert_int_eq(due[count].offset, i);
            ck_assert_uint_eq(due[count++].deliveries,
                              m->deliveries[i] - (model_is_of(m, i, d.attempt) ? 1 : 0));
            ck_assert_int_eq(pop_table_retake(table, &key, m->committed, i, d), 0);
            model_again(m, i, d);
        }
    }
}

/* An acknowledgement or a change by some receipt, good or bad. */
static void model_answer(uint32_t queue)
{
    struct model *m = &models[queue];
    struct pop_key key = key_of(queue);
    int64_t i = (int64_t)rand_below(
        &rnd, (uint64_t)m->next + 2 > MODEL_MESSAGES ? MODEL_MESSAGES : (uint64_t)m->next + 2);
    bool is_held = m->state[i] == MODEL_FLYING || m->state[i] == MODEL_DUE;
    bool is_good = rand_below(&rnd, 5) > 0;
    int64_t pop_ms = is_good ? m->pop_ms[i] : pops + 1;
    enum pop_outcome expected = is_held && is_good          ? POP_DONE
                                : m->state[i] == MODEL_DONE ? POP_ALREADY
                                                            : POP_STALE;

    if (rand_below(&rnd, 4) == 0) {
        struct pop_delivery d = model_delivery();
        ck_assert_int_eq(pop_table_change(table, &key, m->committed, i, pop_ms, d), expected);
        if (expected == POP_DONE) {
            model_set(m, i, d);
        }
        return;
    }
    ck_assert_int_eq(pop_table_ack(table, &key, &m->committed, i, pop_ms, NULL), expected);
    if (expected == POP_DONE) {
        m->state[i] = MODEL_DONE;
        m->ever_done[i] = true;
    }
}

static void model_tick(void)
{
    int expected = 0;
    int64_t first = INT64_MAX;

    now += (int64_t)rand_below(&rnd, 20);
    for (uint32_t q = 0; q < MODEL_QUEUES; q++) {
        for (int i = 0; i < MODEL_MESSAGES; i++) {
            struct model *m = &models[q];
            if (m->state[i] == MODEL_FLYING && m->due_ms[i] <= now) {
                m->state[i] = MODEL_DUE;
                expected++;
            } else if (m->state[i] == MODEL_FLYING && m->due_ms[i] < first) {
                first = m->due_ms[i];
            }
        }
    }
    ck_assert_int_eq(tick(now), expected);
    ck_assert_int_eq(pop_table_next_ms(table), first);
}

/* A crash: the table is gone, the committed offsets are what was noted of them. */
static void model_crash(void)
{
    pop_table_free(table);
    set_up(MODEL_FLIGHT, 1000);
    for (uint32_t q = 0; q < MODEL_QUEUES; q++) {
        model_begin(&models[q], models[q].committed);
    }
}

static void model_step(void)
{
    uint32_t queue = (uint32_t)rand_below(&rnd, MODEL_QUEUES);
    uint64_t what = rand_below(&rnd, 100);

    if (what < 30) {
        model_take(queue);
    } else if (what < 36) {
        model_retake(queue);
    } else if (what < 42) {
        model_order(queue);
    } else if (what < 85) {
        model_answer(queue);
    } else if (what < 99) {
        model_tick();
    } else if (rand_below(&rnd, 3) == 0) {
        model_crash();
    } else if (models[queue].committed > 0) {
        model_begin(&models[queue], (int64_t)rand_below(&rnd, (uint64_t)models[queue].committed));
        (void)look(queue, models[queue].committed); /* the next call of it notices */
    }
}

START_TEST(any_use_keeps_what_is_not_done)
{
    /*
     * Random pops, receipts, times, crashes and operators on three queues: the table says what a
     * plain array says, and the committed offset never passes a message that was not done.
     */
    for (uint64_t seed = 1; seed <= 12; seed++) {
        rand_init(&rnd, seed);
        memset(models, 0, sizeof models);
        now = 1000;
        pops = 0;
        set_up(MODEL_FLIGHT, 1000);
        for (int step = 0; step < 1500; step++) {
            model_step();
            for (uint32_t q = 0; q < MODEL_QUEUES; q++) {
                const struct model *m = &models[q];
                ck_assert_int_eq(m->committed, model_committed(m));
                ck_assert(m->committed == 0 || m->ever_done[m->committed - 1]);
            }
            if (step % 100 == 0) {
                pop_table_check(table);
            }
        }
        for (uint32_t q = 0; q < MODEL_QUEUES; q++) {
            for (int64_t i = 0; i < models[q].committed; i++) {
                ck_assert(models[q].ever_done[i]);
            }
        }
        tear_down();
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/pop_table");
    TCase *tc = tcase_create("table");

    tcase_add_test(tc, the_committed_offset_is_the_lowest_that_is_not_done);
    tcase_add_test(tc, what_a_filter_skips_is_done);
    tcase_add_test(tc, a_message_whose_time_is_over_comes_again);
    tcase_add_test(tc, only_the_last_delivery_counts);
    tcase_add_test(tc, a_consumer_changes_how_long_a_message_is_invisible);
    tcase_add_test(tc, who_moves_the_offset_decides_where_a_queue_begins);
    tcase_add_test(tc, a_full_queue_has_no_room);
    tcase_add_test(tc, an_ordered_pop_has_a_queue_alone);
    tcase_add_test(tc, what_an_ordered_pop_left_comes_first_by_offset);
    tcase_add_test(tc, an_attempt_gets_its_own_messages_again);
    tcase_add_test(tc, a_full_table_forgets_what_nobody_has_in_hand);
    tcase_add_test(tc, a_take_that_makes_no_sense_changes_nothing);
    tcase_add_test(tc, without_memory_nothing_is_taken);
    tcase_add_test(tc, any_use_keeps_what_is_not_done);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
