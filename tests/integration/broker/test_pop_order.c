/*
 * Ordered pops: a group has one batch of a queue at a time, and nothing overtakes what is not done.
 */
#include "tests/integration/broker/pop_client.h"

#include "core/base/rand.h"
#include "core/proto/pop_info.h"

#include <stdio.h>
#include <string.h>

static int pop_ordered(int32_t queue, int32_t count, int64_t invisible_ms)
{
    return pop(&(struct test_pop){
        .queue = queue, .count = count, .invisible_ms = invisible_ms, .is_ordered = true});
}

/* Waits in the broker for the queue. */
static int await_ordered(int32_t queue)
{
    return pop(&(struct test_pop){.queue = queue,
                                  .count = POP_MAX,
                                  .invisible_ms = LONG_MS,
                                  .poll_ms = POLL_MS,
                                  .is_ordered = true});
}

static int pop_attempt(const char *id, int32_t count)
{
    return pop(&(struct test_pop){
        .attempt_id = id, .count = count, .invisible_ms = LONG_MS, .is_ordered = true});
}

static void check_counts(const char *text)
{
    struct slice counts = header_str(&c.header, "orderCountInfo");

    ck_assert_msg(slice_eq_str(counts, text), "'%.*s'", SLICE_ARGS(counts));
}

START_TEST(an_ordered_pop_has_a_queue_alone)
{
    /* Until the last of its messages is acknowledged, in whichever order. Other groups have it. */
    struct popped first[2];
    struct test_pop other = {
        .group = "g2", .count = POP_MAX, .invisible_ms = LONG_MS, .is_ordered = true};

    set_up(1);
    send_many(0, 6);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 2);
    ck_assert_str_eq(got[0].body, "m0");
    ck_assert_str_eq(got[1].body, "m1");
    check_counts("0 0 0");
    memcpy(first, got, sizeof first);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 0);
    ck_assert_int_eq(pop_ordered(ALL, 2, LONG_MS), 0);
    ck_assert_int_eq(pop(&other), 6);
    ck_assert_int_eq(ack(&first[1]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 0);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 0);
    ck_assert_int_eq(ack(&first[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 2);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 2);
    ck_assert_str_eq(got[0].body, "m2");
    tear_down();
}
END_TEST

START_TEST(queues_are_ordered_each_by_itself)
{
    /* A pop of all queues takes those that nobody has; the answer says which message is whose. */
    int count;
    bool seen[2] = {false};

    set_up(2);
    send_many(0, 3);
    send_many(1, 3);
    ck_assert_int_eq(pop_ordered(1, 1, LONG_MS), 1);
    ck_assert_int_eq(pop_ordered(ALL, POP_MAX, LONG_MS), 3);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(got[i].queue, 0);
        ck_assert_int_eq(got[i].offset, i);
        ck_assert_int_eq(ack(&got[i]), RESPONSE_SUCCESS);
    }
    ck_assert_int_eq(pop_ordered(ALL, POP_MAX, LONG_MS), 0);
    send_one(0, "next");
    ck_assert_int_eq(pop_ordered(ALL, POP_MAX, LONG_MS), 1);
    ck_assert_str_eq(got[0].body, "next");
    tear_down();
    set_up(2);
    send_many(0, 2);
    send_many(1, 2);
    count = pop_ordered(ALL, POP_MAX, LONG_MS);
    ck_assert_int_eq(count, 4);
    for (int i = 0; i < count; i++) {
        seen[got[i].queue] = true;
    }
    ck_assert(seen[0] && seen[1]);
    tear_down();
}
END_TEST

START_TEST(what_is_left_comes_first_and_alone)
{
    /* When all of it is due or done; by offset, with its retries, and no new message with it. */
    struct popped first[3];

    set_up(1);
    send_many(0, 5);
    ck_assert_int_eq(pop_ordered(0, 3, LONG_MS), 3);
    memcpy(first, got, sizeof first);
    ck_assert_int_eq(ack(&first[1]), RESPONSE_SUCCESS);
    ck_assert_int_eq(change(&first[2], 0), RESPONSE_SUCCESS);
    await_metric("popped_due", 1);
    ck_assert_int_eq(pop_ordered(0, POP_MAX, LONG_MS), 0);
    ck_assert_int_eq(change(&first[0], 0), RESPONSE_SUCCESS);
    ck_assert_int_eq(await_ordered(0), 2);
    ck_assert_str_eq(got[0].body, "m0");
    ck_assert_str_eq(got[1].body, "m2");
    ck_assert_int_eq(got[0].retries, 1);
    ck_assert_int_eq(got[1].retries, 1);
    check_counts("0 qo0%0 1;0 qo0%2 1;0 0 1");
    ck_assert_int_eq(ack(&first[0]), RESPONSE_NO_MESSAGE); /* that delivery is over */
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(ack(&got[1]), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_ordered(0, POP_MAX, LONG_MS), 2);
    ck_assert_str_eq(got[0].body, "m3");
    tear_down();
}
END_TEST

START_TEST(a_batch_whose_time_is_over_comes_again)
{
    /* In its order, also when only part of it is asked for: then the rest of it is next. */
    set_up(1);
    send_many(0, 4);
    ck_assert_int_eq(pop_ordered(0, 3, SHORT_MS), 3);
    await_metric("popped_due", 3);
    ck_assert_int_eq(pop_ordered(0, 1, LONG_MS), 1);
    ck_assert_str_eq(got[0].body, "m0");
    ck_assert_int_eq(pop_ordered(0, POP_MAX, LONG_MS), 0);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_ordered(0, POP_MAX, LONG_MS), 2);
    ck_assert_str_eq(got[0].body, "m1");
    ck_assert_str_eq(got[1].body, "m2");
    tear_down();
}
END_TEST

START_TEST(who_asks_again_gets_the_same)
{
    /* By the attempt's id: at once, without a retry counted; another attempt waits. */
    struct popped first[2];

    set_up(1);
    send_many(0, 4);
    ck_assert_int_eq(pop_attempt("one", 2), 2);
    memcpy(first, got, sizeof first);
    ck_assert_int_eq(pop_attempt("two", 2), 0);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 0);
    ck_assert_int_eq(ack(&first[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_attempt("one", 2), 1);
    ck_assert_str_eq(got[0].body, "m1");
    ck_assert_int_eq(got[0].retries, 0);
    check_counts("0 0 0");
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_attempt("two", 2), 2);
    ck_assert_str_eq(got[0].body, "m2");
    tear_down();
}
END_TEST

START_TEST(a_handle_outlives_a_change)
{
    /* Of an ordered pop: its popTime stays, so that a batch has one. */
    struct popped old;
    struct pop_handle before;
    struct pop_handle after;

    set_up(1);
    send_many(0, 2);
    ck_assert_int_eq(pop_ordered(0, 1, LONG_MS), 1);
    old = got[0];
    ck_assert_int_eq(change(&got[0], LONG_MS), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_handle_decode(slice_str(old.handle), &before), 0);
    ck_assert_int_eq(pop_handle_decode(slice_str(got[0].handle), &after), 0);
    ck_assert_int_eq(before.revive_queue, POP_REVIVE_ORDERED);
    ck_assert_int_eq(after.revive_queue, POP_REVIVE_ORDERED);
    ck_assert_int_eq(after.pop_ms, before.pop_ms);
    ck_assert_int_ge(after.invisible_ms, LONG_MS);
    ck_assert_int_eq(ack(&old), RESPONSE_SUCCESS);
    ck_assert_int_eq(committed(0), 1);
    tear_down();
}
END_TEST

START_TEST(an_acknowledgement_wakes_who_waits_for_the_queue)
{
    /* A message that comes meanwhile does not: somebody else has the queue. */
    struct client waiting;
    struct test_pop waits = {
        .count = POP_MAX, .invisible_ms = LONG_MS, .poll_ms = POLL_MS, .is_ordered = true};
    struct popped first;

    set_up(1);
    send_many(0, 2);
    ck_assert_int_eq(pop_ordered(0, 1, LONG_MS), 1);
    first = got[0];
    client_open(&waiting, f.port, HEADER_JSON);
    put_pop(&waiting, &waits);
    client_submit(&waiting, SLICE_EMPTY);
    await_metric("pops_held", 1);
    send_one(0, "m2");
    ck_assert_int_eq(client_metric(&c, "pops_held"), 1);
    ck_assert_int_eq(ack(&first), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_receive(&waiting, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(read_popped(&waiting), 2);
    ck_assert_str_eq(got[0].body, "m1");
    ck_assert_str_eq(got[1].body, "m2");
    client_close(&waiting);
    tear_down();
}
END_TEST

START_TEST(time_wakes_who_waits_for_the_queue)
{
    /* The consumer that had it is gone: its batch is the next one's. */
    set_up(1);
    send_many(0, 3);
    ck_assert_int_eq(pop_ordered(0, 2, SHORT_MS), 2);
    ck_assert_int_eq(await_ordered(0), 2);
    ck_assert_str_eq(got[0].body, "m0");
    ck_assert_int_eq(got[0].retries, 1);
    tear_down();
}
END_TEST

START_TEST(one_that_is_ordered_does_not_keep_a_message_from_one_that_is_not)
{
    /* Both wait, the queue is in hand: the message that comes is for the one that may have it. */
    struct client ordered;
    struct client any;
    struct test_pop waits = {.count = 1, .invisible_ms = LONG_MS, .poll_ms = POLL_MS};

    set_up(1);
    send_many(0, 1);
    ck_assert_int_eq(pop_ordered(0, 1, LONG_MS), 1);
    client_open(&ordered, f.port, HEADER_JSON);
    client_open(&any, f.port, HEADER_JSON);
    waits.is_ordered = true;
    put_pop(&ordered, &waits);
    client_submit(&ordered, SLICE_EMPTY);
    await_metric("pops_held", 1);
    waits.is_ordered = false;
    put_pop(&any, &waits);
    client_submit(&any, SLICE_EMPTY);
    await_metric("pops_held", 2);
    send_one(0, "hello");
    ck_assert_int_eq(client_receive(&any, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(read_popped(&any), 1);
    ck_assert_str_eq(got[0].body, "hello");
    client_close(&ordered);
    client_close(&any);
    tear_down();
}
END_TEST

START_TEST(a_message_is_not_given_up_in_its_order)
{
    /* More retries than the group has: it stays the first, and nothing lies in the dead letters. */
    set_up(1);
    send_many(0, 2);
    ck_assert_int_eq(pop_ordered(0, 1, LONG_MS), 1);
    for (int i = 1; i <= 18; i++) {
        ck_assert_int_eq(change(&got[0], 0), RESPONSE_SUCCESS);
        ck_assert_int_eq(await_ordered(0), 1);
        ck_assert_str_eq(got[0].body, "m0");
        ck_assert_int_eq(got[0].retries, i);
    }
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_ordered(0, POP_MAX, LONG_MS), 1);
    ck_assert_str_eq(got[0].body, "m1");
    tear_down();
}
END_TEST

START_TEST(an_operator_who_moves_the_offset_frees_the_queue)
{
    /* The batch in hand is over, whoever has it. */
    struct header_writer *w;
    struct popped first;

    set_up(1);
    send_many(0, 5);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 2);
    first = got[0];
    w = client_begin(&c, REQUEST_UPDATE_CONSUMER_OFFSET, 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", 3);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_ordered(0, POP_MAX, LONG_MS), 2);
    ck_assert_str_eq(got[0].body, "m3");
    ck_assert_int_eq(ack(&first), RESPONSE_SUCCESS); /* below the offset: done */
    ck_assert_int_eq(committed(0), 3);
    tear_down();
}
END_TEST

START_TEST(after_a_crash_the_first_that_is_not_done_is_first)
{
    /* Nobody has the queue then; what was acknowledged and written does not come again. */
    struct popped left;

    broker_fixture_start(&f, (const char *const[]){"--offsets.flush.ms", "10", NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    send_many(0, 6);
    ck_assert_int_eq(pop_ordered(0, 4, LONG_MS), 4);
    ck_assert_int_eq(ack(&got[0]), RESPONSE_SUCCESS);
    ck_assert_int_eq(ack(&got[2]), RESPONSE_SUCCESS);
    left = got[1];
    client_close(&c);
    broker_fixture_stop(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 2);
    ck_assert_str_eq(got[0].body, "m1");
    ck_assert_str_eq(got[1].body, "m2"); /* behind one that was not done: again */
    ck_assert_int_eq(ack(&left), RESPONSE_NO_MESSAGE);
    ck_assert_int_eq(pop_ordered(0, 2, LONG_MS), 0);
    die_and_start();
    ck_assert_int_eq(pop_ordered(0, POP_MAX, LONG_MS), 5);
    ck_assert_str_eq(got[0].body, "m1");
    ck_assert_str_eq(got[4].body, "m5");
    tear_down();
}
END_TEST

/* No message may be handed out before all that are before it are done, or are in this answer. */
static void check_order(int count)
{
    for (int i = 0; i < count; i++) {
        int64_t before = i == 0 ? 0 : got[i - 1].offset + 1;
        ck_assert_int_ge(got[i].offset, before);
        for (int64_t offset = before; offset < got[i].offset; offset++) {
            ck_assert_msg(is_done[offset], "%lld came before %lld", (long long)got[i].offset,
                          (long long)offset);
        }
    }
}

static int pop_checked(void)
{
    int count = pop_ordered(0, POP_MAX, LONG_MS);

    check_order(count);
    return count;
}

/* Batches, acknowledged in another order or left alone. */
static void consume_in_order(struct rand *rnd)
{
    for (int i = 0; i < 6; i++) {
        int count = pop_ordered(0, 1 + (int)rand_below(rnd, 8), LONG_MS);
        check_order(count);
        for (int k = count - 1; k >= 0; k--) {
            if (rand_below(rnd, 12) == 0) {
                ck_assert_int_eq(change(&got[k], 0), RESPONSE_SUCCESS);
                continue;
            }
            is_done[got[k].offset] = true;
            ck_assert_int_eq(ack(&got[k]), RESPONSE_SUCCESS);
        }
        await_metric("popped_due", client_metric(&c, "popped_now"));
    }
}

static void check_nothing(void)
{
}

START_TEST(no_kill_lets_a_message_overtake_another)
{
    /*
     * Eight SIGKILLs between pops, acknowledgements in any order, and batches that are left alone:
     * whatever is handed out, everything before it is done or in the same answer.
     */
    consume_over_kills(7, &(struct kill_run){.consume = consume_in_order,
                                             .check = check_nothing,
                                             .pop = pop_checked});
}
END_TEST

/* ---- many consumers ---- */

#define CROWD          5
#define CROWD_QUEUES   2
#define CROWD_MESSAGES 200

/* Who has which queue, as the consumers see it, and how far each queue is done. */
static struct {
    struct client clients[CROWD];
    int holder[CROWD_QUEUES]; /* -1: nobody */
    int64_t done[CROWD_QUEUES];
    int64_t sent[CROWD_QUEUES];
    bool is_away[CROWD]; /* does not ask at the moment: somebody else has to be woken */
} crowd;

static void crowd_ask(int who)
{
    struct test_pop waits = {
        .queue = ALL, .count = 4, .invisible_ms = LONG_MS, .poll_ms = 60000, .is_ordered = true};

    put_pop(&crowd.clients[who], &waits);
    client_submit(&crowd.clients[who], SLICE_EMPTY);
}

/* Messages came: of queues that nobody has, and from the first that is not done. */
static void crowd_take(struct rand *rnd, int who)
{
    int count = read_popped(&crowd.clients[who]);

    for (int i = 0; i < count; i++) {
        int32_t q = got[i].queue;
        ck_assert_msg(crowd.holder[q] == -1 || crowd.holder[q] == who, "%d and %d have queue %d",
                      crowd.holder[q], who, q);
        crowd.holder[q] = who;
        ck_assert_int_eq(got[i].offset,
                         i > 0 && got[i - 1].queue == q ? got[i - 1].offset + 1 : crowd.done[q]);
    }
    /* All of it is acknowledged up to some message; from there on it is given back. */
    for (int i = 0; i < count; i++) {
        int32_t q = got[i].queue;
        if (crowd.holder[q] == who && rand_below(rnd, 8) > 0) {
            ck_assert_int_eq(ack(&got[i]), RESPONSE_SUCCESS);
            crowd.done[q] = got[i].offset + 1;
        } else {
            crowd.holder[q] = -1;
            ck_assert_int_eq(change(&got[i], 0), RESPONSE_SUCCESS);
        }
    }
    for (int q = 0; q < CROWD_QUEUES; q++) {
        crowd.holder[q] = crowd.holder[q] == who ? -1 : crowd.holder[q];
    }
}

static int64_t crowd_left(void)
{
    return crowd.sent[0] + crowd.sent[1] - crowd.done[0] - crowd.done[1];
}

/* Who had its turn does not ask again before all had theirs: those that wait have to be woken. */
static void crowd_rest(int who)
{
    int waiting = 0;

    crowd.is_away[who] = true;
    for (int i = 0; i < CROWD; i++) {
        waiting += crowd.is_away[i] ? 0 : 1;
    }
    for (int i = 0; waiting == 0 && i < CROWD; i++) {
        crowd.is_away[i] = false;
        crowd_ask(i);
    }
}

START_TEST(many_share_the_queues_and_none_is_forgotten)
{
    /*
     * Five wait for two queues, messages come in bursts, batches are done or given back:
     * no queue has two at a time, nothing overtakes, and whenever there is something for somebody,
     * somebody is woken (a wait ends by itself only after a minute).
     */
    struct rand rnd;
    int64_t deadline_ms;

    rand_init(&rnd, 3);
    memset(&crowd, 0, sizeof crowd);
    set_up(CROWD_QUEUES);
    for (int q = 0; q < CROWD_QUEUES; q++) {
        crowd.holder[q] = -1;
    }
    for (int who = 0; who < CROWD; who++) {
        client_open(&crowd.clients[who], f.port, HEADER_JSON);
        crowd_ask(who);
    }
    deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    while (crowd_left() > 0 || crowd.sent[0] + crowd.sent[1] < CROWD_MESSAGES) {
        ck_assert_msg(test_now_ms() < deadline_ms, "nobody gets what is left: %lld",
                      (long long)crowd_left());
        for (uint64_t burst = crowd_left() > 0 ? 0 : rand_below(&rnd, 20); burst > 0; burst--) {
            int q = (int)rand_below(&rnd, CROWD_QUEUES);
            send_one(q, "x");
            crowd.sent[q]++;
        }
        for (int who = 0; who < CROWD; who++) {
            if (crowd.is_away[who] || client_receive(&crowd.clients[who], 1) != 0) {
                continue;
            }
            if (crowd.clients[who].header.code == RESPONSE_SUCCESS) {
                crowd_take(&rnd, who);
                deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
            }
            crowd_rest(who);
        }
    }
    ck_assert_int_eq(client_metric(&c, "popped_now"), 0);
    for (int who = 0; who < CROWD; who++) {
        client_close(&crowd.clients[who]);
    }
    tear_down();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, an_ordered_pop_has_a_queue_alone);
    tcase_add_test(tc, queues_are_ordered_each_by_itself);
    tcase_add_test(tc, what_is_left_comes_first_and_alone);
    tcase_add_test(tc, a_batch_whose_time_is_over_comes_again);
    tcase_add_test(tc, who_asks_again_gets_the_same);
    tcase_add_test(tc, a_handle_outlives_a_change);
    tcase_add_test(tc, an_acknowledgement_wakes_who_waits_for_the_queue);
    tcase_add_test(tc, time_wakes_who_waits_for_the_queue);
    tcase_add_test(tc, one_that_is_ordered_does_not_keep_a_message_from_one_that_is_not);
    tcase_add_test(tc, a_message_is_not_given_up_in_its_order);
    tcase_add_test(tc, an_operator_who_moves_the_offset_frees_the_queue);
    tcase_add_test(tc, after_a_crash_the_first_that_is_not_done_is_first);
    tcase_add_test(tc, no_kill_lets_a_message_overtake_another);
    tcase_add_test(tc, many_share_the_queues_and_none_is_forgotten);
}

int main(void)
{
    return broker_fixture_main("pop_order", 120, add_tests);
}
