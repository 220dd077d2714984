/*
 * Decisions that travel in one request because they were made in the same moment: what is refused
 * to one transaction is no other's business. Nobody is ever asked here: the time after which the
 * broker would is longer than any test.
 *
 * The client is told by a name server of the test's own that the broker is where the proxy listens.
 */
#include "src/client/decide.h"
#include "tests/integration/client/end_proxy.h"
#include "tests/integration/client/fake_broker.h"
#include "tests/integration/client/rig.h"

#include <string.h>

#define QUEUES    4
#define MOVES_MAX 8
#define PARTS_MAX 2

/* A transaction: the halves that it has sent. */
struct move {
    struct escrow_receipt *parts[PARTS_MAX];
    size_t count;
};

static const char *const no_checks[] = {"--txn.timeout.ms", "3600000", NULL};
static const struct escrow_option patient[] = {{"send.timeout.ms", "30000"}, {NULL, NULL}};

static struct rig rig;
static struct fake_broker name_server;
static struct end_proxy proxy;
static struct escrow_client *client;
static struct escrow_producer *producer;
static struct move moves[MOVES_MAX];
static size_t move_count;
static struct bag bag;

static void start(enum end_mischief mischief, size_t at)
{
    rig_start(&rig, no_checks);
    end_proxy_start(&proxy, rig.broker, mischief, at);
    fake_start(&name_server, 0, 0, 0);
    fake_set_route(&name_server, proxy.addr);
    client = rig_client_with(name_server.addr, NULL);
    OK(escrow_producer_new(client, "bank", patient, &producer));
}

/* Nothing is under way any more when this returns: proxy and broker can be looked at. */
static void finish(void)
{
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    end_proxy_stop(&proxy);
}

static void end(void)
{
    for (size_t i = 0; i < move_count; i++) {
        for (size_t k = 0; k < moves[i].count; k++) {
            escrow_receipt_free(&moves[i].parts[k]);
        }
    }
    fake_stop(&name_server);
    rig_stop(&rig);
}

/* ---- steps ---- */

static enum escrow_txn_state decides_later(const struct escrow_message *message,
                                           const char *transaction_id, void *arg)
{
    (void)message;
    (void)transaction_id;
    (void)arg;
    return ESCROW_TXN_UNKNOWN;
}

/* One more transaction, of halves with these texts; second may be NULL. */
static const struct move *move_add(struct escrow_producer *p, const char *first, const char *second)
{
    const char *const texts[PARTS_MAX] = {first, second};
    struct move *move = &moves[move_count++];

    ck_assert_uint_le(move_count, MOVES_MAX);
    for (size_t i = 0; i < PARTS_MAX && texts[i] != NULL; i++) {
        struct escrow_message *m = rig_message(FAKE_TOPIC, texts[i]);
        OK(escrow_txn_send(p, m, decides_later, NULL, NULL, &move->parts[i]));
        escrow_message_free(&m);
        move->count++;
    }
    return move;
}

/* An operator was faster. */
static void preempt(const struct move *move, enum txn_decision decision)
{
    rig_decide(&rig, "bank", escrow_receipt_message_id(move->parts[0]), decision);
}

struct gathering {
    struct escrow_producer *producer;
    enum escrow_txn_state state;
};

/* On the loop: nothing of it is sent before all of it is there. */
static void decide_all(int error, const struct escrow_receipt *receipt, void *arg)
{
    const struct gathering *g = arg;

    (void)receipt;
    ck_assert_int_eq(error, 0);
    for (size_t i = 0; i < move_count; i++) {
        const struct escrow_receipt *halves[PARTS_MAX] = {moves[i].parts[0], moves[i].parts[1]};
        ck_assert_int_eq(decide_later(g->producer, g->state, halves, moves[i].count), 0);
    }
}

/* Decide all transactions in one moment, that of the answer to a message "go". */
static void gather(enum escrow_txn_state state)
{
    static struct gathering gathering;
    struct escrow_message *m = rig_message(FAKE_TOPIC, "go");

    gathering = (struct gathering){producer, state};
    OK(escrow_send_async(producer, m, decide_all, &gathering));
    escrow_message_free(&m);
    finish();
}

/* The broker was sent requests of so many halves, and no others. */
static void expect_requests(const uint32_t *halves, size_t count)
{
    ck_assert_uint_eq(proxy.count, count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(proxy.halves[i], halves[i]);
    }
}

static void expect_outcome(int64_t committed, int64_t undecided)
{
    ck_assert_int_eq(rig_stored(&rig, FAKE_TOPIC, QUEUES), 1 + committed);
    ck_assert_int_eq(rig_undecided(&rig), undecided);
    ck_assert_int_eq(rig_counter(&rig, "txn_asks_live"), 0);
    ck_assert_int_eq(rig_counter(&rig, "txn_asks_http"), 0);
}

static void expect_received(const char *const *texts, size_t count)
{
    struct escrow_client *reader = rig_client(&rig);
    struct escrow_consumer *k;

    bag_init(&bag);
    k = rig_consume(reader, "readers", FAKE_TOPIC, "*", NULL, bag_handler, &bag);
    for (size_t i = 0; i < count; i++) {
        bag_wait_for(&bag, texts[i]);
    }
    ck_assert_uint_eq(bag_count(&bag), count);
    escrow_consumer_free(&k);
    escrow_client_free(&reader);
    bag_fini(&bag);
}

/* ---- refusals ---- */

/*
 * Five transactions commit in one moment; of two an operator has rolled back a half. The three
 * others are committed, with all their halves, and received at once; what else belongs to a refused
 * one is not.
 */
START_TEST(the_others_commit_all_the_same)
{
    static const char *const texts[] = {"a", "c1", "c2", "e", "go"};

    start(END_NONE, 0);
    (void)move_add(producer, "a", NULL);
    preempt(move_add(producer, "b", NULL), TXN_ROLLBACK);
    (void)move_add(producer, "c1", "c2");
    preempt(move_add(producer, "d1", "d2"), TXN_ROLLBACK);
    (void)move_add(producer, "e", NULL);
    gather(ESCROW_TXN_COMMIT);
    expect_requests((const uint32_t[]){7, 4}, 2);
    expect_outcome(4, 1);
    expect_received(texts, 5);
    end();
}
END_TEST

/* The other way round: what an operator has committed does not keep the others from rollback. */
START_TEST(the_others_roll_back_all_the_same)
{
    start(END_NONE, 0);
    (void)move_add(producer, "a", NULL);
    (void)move_add(producer, "b1", "b2");
    preempt(move_add(producer, "c", NULL), TXN_COMMIT);
    gather(ESCROW_TXN_ROLLBACK);
    expect_requests((const uint32_t[]){4, 3}, 2);
    expect_outcome(1, 0);
    end();
}
END_TEST

/* What is no half, and what is another group's: nobody else's fault. */
START_TEST(what_cannot_be_found_or_touched_holds_nobody_back)
{
    struct escrow_producer *other = NULL;
    struct escrow_message *m;

    start(END_NONE, 0);
    OK(escrow_producer_new(client, "shop", patient, &other));
    (void)move_add(producer, "a", NULL);
    m = rig_message(FAKE_TOPIC, "no half");
    OK(escrow_send(producer, m, &moves[move_count].parts[0]));
    escrow_message_free(&m);
    moves[move_count++].count = 1;
    (void)move_add(other, "c", NULL);
    (void)move_add(producer, "d", NULL);
    escrow_producer_free(&other);
    gather(ESCROW_TXN_COMMIT);
    expect_requests((const uint32_t[]){4, 2}, 2);
    expect_outcome(3, 1);
    end();
}
END_TEST

/* Only what is undecided is held back: what was committed before does not go again. */
START_TEST(what_was_decided_so_before_goes_once)
{
    start(END_NONE, 0);
    preempt(move_add(producer, "a", NULL), TXN_COMMIT);
    preempt(move_add(producer, "b", NULL), TXN_ROLLBACK);
    (void)move_add(producer, "c", NULL);
    gather(ESCROW_TXN_COMMIT);
    expect_requests((const uint32_t[]){3, 1}, 2);
    expect_outcome(2, 0);
    end();
}
END_TEST

/* ---- mischief ---- */

/*
 * The connection is lost: with the first request, with its answer, with the second request, with
 * its answer. Each is repeated as it was, and all come to the same.
 */
START_TEST(a_lost_connection_changes_nothing)
{
    static const uint32_t halves[2][3] = {{5, 5, 4}, {5, 4, 4}};

    start(_i % 2 == 0 ? END_CUT_REQUEST : END_CUT_ANSWER, 1 + (size_t)_i / 2);
    (void)move_add(producer, "a", NULL);
    preempt(move_add(producer, "b", NULL), TXN_ROLLBACK);
    (void)move_add(producer, "c1", "c2");
    (void)move_add(producer, "d", NULL);
    gather(ESCROW_TXN_COMMIT);
    ck_assert(proxy.is_done);
    expect_requests(halves[_i / 2], 3);
    expect_outcome(4, 0);
    end();
}
END_TEST

/* Everything is held back and nothing refused: sending the same again might never end. */
START_TEST(a_request_that_cannot_get_smaller_is_left_to_check_back)
{
    start(END_SAY_HELD_BACK, 1);
    (void)move_add(producer, "a", NULL);
    (void)move_add(producer, "b", NULL);
    gather(ESCROW_TXN_COMMIT);
    ck_assert(proxy.is_done);
    expect_requests((const uint32_t[]){2}, 1);
    expect_outcome(0, 2);
    end();
}
END_TEST

/* An answer that says nothing of a half confirms nothing: the request is repeated. */
START_TEST(an_answer_with_too_few_results_is_none)
{
    start(END_SAY_TOO_LITTLE, 1);
    (void)move_add(producer, "a", NULL);
    (void)move_add(producer, "b", NULL);
    gather(ESCROW_TXN_COMMIT);
    ck_assert(proxy.is_done);
    expect_requests((const uint32_t[]){2, 2}, 2);
    expect_outcome(2, 0);
    end();
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, the_others_commit_all_the_same);
    tcase_add_test(tc, the_others_roll_back_all_the_same);
    tcase_add_test(tc, what_cannot_be_found_or_touched_holds_nobody_back);
    tcase_add_test(tc, what_was_decided_so_before_goes_once);
    tcase_add_loop_test(tc, a_lost_connection_changes_nothing, 0, 4);
    tcase_add_test(tc, a_request_that_cannot_get_smaller_is_left_to_check_back);
    tcase_add_test(tc, an_answer_with_too_few_results_is_none);
}

int main(void)
{
    return rig_main("client_gather", add);
}
