/* Orderly consumers: one message of a queue at a time, one member for each queue. */
#include "tests/integration/client/rig.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS   6
#define ROUNDS 20

static struct rig rig;
static struct bag bag;
static struct bag other;

static const char *const args[] = {"--queue.lock.ms", "1500", NULL};

static const struct escrow_option in_order[] = {{"order", "queue"},      {"lock.ms", "100"},
                                                {"concurrency", "4"},    {"commit.ms", "20"},
                                                {"retry.pause.ms", "5"}, {NULL, NULL}};

static void setup(void)
{
    rig_start(&rig, args);
    bag_init(&bag);
    bag_init(&other);
}

static void teardown(void)
{
    bag_fini(&other);
    bag_fini(&bag);
    rig_stop(&rig);
}

/* "KEY ROUND", by key. */
static void send_rounds(struct escrow_producer *p, int first, int count)
{
    for (int round = first; round < first + count; round++) {
        for (int key = 0; key < KEYS; key++) {
            char name[16];
            char text[32];
            struct escrow_message *m;
            (void)snprintf(name, sizeof name, "key%d", key);
            (void)snprintf(text, sizeof text, "%d %d", key, round);
            m = rig_message("Steps", text);
            OK(escrow_message_set_ordering_key(m, name));
            OK(escrow_send(p, m, NULL));
            escrow_message_free(&m);
        }
    }
}

static void read_step(const char *text, int *key, int *round)
{
    char *end = NULL;

    *key = (int)strtol(text, &end, 10);
    *round = (int)strtol(end, NULL, 10);
    ck_assert(*key >= 0 && *key < KEYS);
}

/* Every key's rounds came in order, each once. */
static void check_order(struct bag *b, size_t count)
{
    int next[KEYS] = {0};

    (void)pthread_mutex_lock(&b->lock);
    ck_assert_uint_eq(b->count, count);
    for (size_t i = 0; i < b->count; i++) {
        int key;
        int round;
        read_step(b->items[i], &key, &round);
        ck_assert_int_eq(round, next[key]);
        next[key]++;
    }
    (void)pthread_mutex_unlock(&b->lock);
}

static atomic_int inside[16]; /* handlers at work, by queue */
static atomic_int tries;

/* Every fourth try fails, whatever message it is of. */
static enum escrow_consume_result fails_often(const struct escrow_delivery *message, void *arg)
{
    atomic_int *mine = &inside[escrow_delivery_queue(message) % 16];
    bool fails = atomic_fetch_add(&tries, 1) % 4 == 3;

    ck_assert_int_eq(atomic_fetch_add(mine, 1), 0);
    if (!fails) {
        (void)bag_handler(message, arg);
    }
    ck_assert_int_eq(atomic_fetch_sub(mine, 1), 1);
    return fails ? ESCROW_CONSUME_RETRY : ESCROW_CONSUME_OK;
}

/* Messages with one key come in the order they were sent, also when some fail and are repeated. */
START_TEST(a_key_is_handled_in_order)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_rounds(p, 0, ROUNDS / 2);
    k = rig_consume(c, "readers", "Steps", "*", in_order, fails_often, &bag);
    send_rounds(p, ROUNDS / 2, ROUNDS / 2);
    bag_wait_distinct(&bag, KEYS * ROUNDS);
    escrow_consumer_free(&k);
    check_order(&bag, KEYS * ROUNDS);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static struct bag *volatile both;

static enum escrow_consume_result into_both(const struct escrow_delivery *message, void *arg)
{
    (void)bag_handler(message, both);
    return bag_handler(message, arg);
}

/*
 * A second member comes and goes: queues change hands between two messages, nothing is handled
 * twice or out of order.
 */
START_TEST(queues_change_hands_in_order)
{
    static struct bag all;
    struct escrow_client *c1 = rig_client(&rig);
    struct escrow_client *c2 = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k1;
    struct escrow_consumer *k2;
    int round = 0;

    bag_init(&all);
    both = &all;
    OK(escrow_producer_new(c1, "shop", NULL, &p));
    send_rounds(p, round++, 1);
    k1 = rig_consume(c1, "readers", "Steps", "*", in_order, into_both, &bag);
    bag_wait(&bag, KEYS);
    k2 = rig_consume(c2, "readers", "Steps", "*", in_order, into_both, &other);
    for (; bag_count(&other) == 0 && round < 2000; round++) {
        send_rounds(p, round, 1);
    }
    ck_assert_uint_gt(bag_count(&other), 0);
    escrow_consumer_free(&k1);
    send_rounds(p, round++, 1);
    bag_wait(&all, (size_t)(KEYS * round));
    escrow_consumer_free(&k2);
    check_order(&all, (size_t)(KEYS * round));
    bag_fini(&all);
    escrow_producer_free(&p);
    escrow_client_free(&c1);
    escrow_client_free(&c2);
}
END_TEST

static enum escrow_consume_result never_ends(const struct escrow_delivery *message, void *arg)
{
    (void)message;
    if (write(*(int *)arg, "x", 1) != 1) {
        _exit(1);
    }
    for (;;) {
        (void)pause();
    }
}

/* In another process: takes every queue and does nothing with it; writes when it has a message. */
static pid_t member_that_will_die(int *told)
{
    int fds[2];
    pid_t pid;

    ck_assert_int_eq(pipe(fds), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)rig_consume(rig_client(&rig), "readers", "Steps", "*", in_order, never_ends, &fds[1]);
        for (;;) {
            (void)pause();
        }
    }
    (void)close(fds[1]);
    *told = fds[0];
    return pid;
}

/* The queues of a member that was killed are taken over when its locks have run out. */
START_TEST(the_queues_of_a_dead_member_are_taken_over)
{
    int told = -1;
    pid_t dead = member_that_will_die(&told); /* before this process has threads */
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    char byte;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_rounds(p, 0, 5);
    ck_assert_int_eq(read(told, &byte, 1), 1);
    ck_assert_int_eq(kill(dead, SIGKILL), 0);
    ck_assert_int_eq(waitpid(dead, NULL, 0), dead);
    (void)close(told);
    k = rig_consume(c, "readers", "Steps", "*", in_order, bag_handler, &bag);
    bag_wait(&bag, KEYS * 5);
    escrow_consumer_free(&k);
    check_order(&bag, KEYS * 5);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static enum escrow_consume_result fails_on_step_2(const struct escrow_delivery *message, void *arg)
{
    size_t len;
    const char *body = escrow_delivery_body(message, &len);
    char text[64];

    (void)snprintf(text, sizeof text, "%.*s %d", (int)len, body,
                   (int)escrow_delivery_attempt(message));
    bag_add(arg, text, strlen(text));
    return len == 3 && body[2] == '2' ? ESCROW_CONSUME_RETRY : ESCROW_CONSUME_OK;
}

/*
 * With retries.max a message that goes on failing ends in the dead-letter queue, and its queue goes
 * on behind it.
 */
START_TEST(a_message_that_fails_for_ever_makes_way)
{
    const struct escrow_option options[] = {
        {"order", "queue"}, {"retries.max", "2"}, {"retry.pause.ms", "5"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct escrow_consumer *dead;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_rounds(p, 0, 4);
    k = rig_consume(c, "readers", "Steps", "*", options, fails_on_step_2, &bag);
    for (int key = 0; key < KEYS; key++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d 3 0", key);
        bag_wait_for(&bag, text);
        (void)snprintf(text, sizeof text, "%d 2 2", key);
        ck_assert_uint_eq(bag_count_of(&bag, text), 1);
    }
    ck_assert_uint_eq(bag_count(&bag), KEYS * 6);
    dead = rig_consume(c, "undertaker", "%DLQ%readers", "*", NULL, bag_handler, &other);
    bag_wait_distinct(&other, KEYS);
    escrow_consumer_free(&dead);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* A broker that restarts has forgotten its locks; they are taken again, and the order stays. */
START_TEST(order_survives_a_restart_of_the_broker)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_rounds(p, 0, 5);
    k = rig_consume(c, "readers", "Steps", "*", in_order, bag_handler, &bag);
    bag_wait(&bag, KEYS * 5);
    rig_kill(&rig);
    rig_restart(&rig);
    send_rounds(p, 5, 5);
    bag_wait_distinct(&bag, KEYS * 10);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_key_is_handled_in_order);
    tcase_add_test(tc, queues_change_hands_in_order);
    tcase_add_test(tc, the_queues_of_a_dead_member_are_taken_over);
    tcase_add_test(tc, a_message_that_fails_for_ever_makes_way);
    tcase_add_test(tc, order_survives_a_restart_of_the_broker);
}

int main(void)
{
    return rig_main("client_order", add);
}
