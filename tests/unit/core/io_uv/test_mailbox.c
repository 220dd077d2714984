#include "core/io_uv/mailbox.h"

#include "escrow/errors.h"
#include "tests/unit/core/io_uv/uv_test.h"

#include <sched.h>

#define SENDERS  4
#define MESSAGES 5000

struct message {
    struct mail mail;
    int sender;
    int number;
};

static struct loop loop;
static struct mailbox box;
static struct message messages[SENDERS][MESSAGES];
static int received[SENDERS];

static void setup(void)
{
    ck_assert_int_eq(loop_init(&loop), 0);
}

static void teardown(void)
{
    loop_fini(&loop);
}

static void receive(struct mail *mail)
{
    struct message *msg = LIST_ENTRY(mail, struct message, mail);

    ck_assert_int_eq(msg->number, received[msg->sender]);
    received[msg->sender]++;
}

static void on_mail(void *arg, struct mail *mail)
{
    ck_assert_ptr_eq(arg, &box);
    ck_assert(loop_is_mine(&loop));
    receive(mail);
}

static void *send_all(void *arg)
{
    int sender = *(int *)arg;

    for (int i = 0; i < MESSAGES; i++) {
        struct message *msg = &messages[sender][i];

        msg->sender = sender;
        msg->number = i;
        for (;;) {
            int rc = mailbox_post(&box, &msg->mail);

            if (rc == 0) {
                break;
            }
            ck_assert_int_eq(rc, ESCROW_ELIMIT); /* full: again, as a sender with back-pressure */
            (void)sched_yield();
        }
    }
    return NULL;
}

static void start_senders(pthread_t *threads, int *ids)
{
    for (int i = 0; i < SENDERS; i++) {
        ids[i] = i;
        ck_assert_int_eq(pthread_create(&threads[i], NULL, send_all, &ids[i]), 0);
    }
}

static void join_senders(const pthread_t *threads)
{
    for (int i = 0; i < SENDERS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
}

static bool all_received(void *arg)
{
    (void)arg;
    for (int i = 0; i < SENDERS; i++) {
        if (received[i] < MESSAGES) {
            return false;
        }
    }
    return true;
}

static size_t received_count;

static void on_count(void *arg, struct mail *mail)
{
    (void)arg;
    (void)mail;
    received_count++;
}

START_TEST(a_loop_receives_everything_once_and_in_order)
{
    /* Four threads through a small mailbox: each one's messages stay in its order. */
    pthread_t threads[SENDERS];
    int ids[SENDERS];

    ck_assert_int_eq(mailbox_init_loop(&box, &loop, 64, on_mail, &box), 0);
    start_senders(threads, ids);
    run_until(&loop, all_received, NULL);
    join_senders(threads);
    mailbox_fini(&box);
}
END_TEST

/* Did the loop receive anything in one turn without sleeping? */
static size_t received_in_one_turn(void)
{
    size_t before = received_count;

    loop_run_once(&loop, false);
    return received_count - before;
}

START_TEST(a_polling_loop_is_not_woken_for_what_can_wait)
{
    /* While it polls, such a message lies until the next poll or wake-up; poll_end sees it. */
    ck_assert_int_eq(mailbox_init_loop(&box, &loop, 10, on_count, &box), 0);
    ck_assert_int_eq(mailbox_post_soon(&box, &messages[0][0].mail), 0);
    ck_assert_uint_eq(received_in_one_turn(), 1); /* it did not poll: woken */
    mailbox_poll(&box);
    ck_assert_int_eq(mailbox_post_soon(&box, &messages[0][1].mail), 0);
    ck_assert_uint_eq(received_in_one_turn(), 0);
    ck_assert(!mailbox_poll_end(&box));
    mailbox_poll(&box);
    ck_assert_uint_eq(received_count, 2);
    ck_assert_int_eq(mailbox_post_soon(&box, &messages[0][2].mail), 0);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][3].mail), 0); /* cannot wait: both arrive */
    ck_assert_uint_eq(received_in_one_turn(), 2);
    ck_assert(mailbox_poll_end(&box));
    ck_assert_int_eq(mailbox_post_soon(&box, &messages[0][4].mail), 0);
    ck_assert_uint_eq(received_in_one_turn(), 1);
    mailbox_fini(&box);
}
END_TEST

START_TEST(a_thread_receives_everything_once_and_in_order)
{
    /* The same with a thread that waits. */
    pthread_t threads[SENDERS];
    int ids[SENDERS];

    ck_assert_int_eq(mailbox_init_thread(&box, 64), 0);
    start_senders(threads, ids);
    while (!all_received(NULL)) {
        receive(mailbox_wait(&box));
    }
    join_senders(threads);
    ck_assert_ptr_null(mailbox_take(&box));
    mailbox_fini(&box);
}
END_TEST

START_TEST(a_full_mailbox_refuses_and_the_message_stays_the_senders)
{
    /* Exactly `limit` fit; after one was taken, one more does. */
    ck_assert_int_eq(mailbox_init_thread(&box, 2), 0);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][0].mail), 0);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][1].mail), 0);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][2].mail), ESCROW_ELIMIT);
    ck_assert_ptr_eq(mailbox_take(&box), &messages[0][0].mail);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][2].mail), 0);
    ck_assert_ptr_eq(mailbox_take(&box), &messages[0][1].mail);
    ck_assert_ptr_eq(mailbox_take(&box), &messages[0][2].mail);
    ck_assert_ptr_null(mailbox_take(&box));
    mailbox_fini(&box);
}
END_TEST

START_TEST(a_closed_mailbox_gives_out_what_it_has)
{
    /* No new messages; wait returns the rest, then NULL. */
    ck_assert_int_eq(mailbox_init_thread(&box, 10), 0);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][0].mail), 0);
    mailbox_close(&box);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][1].mail), ESCROW_ESHUTDOWN);
    ck_assert_ptr_eq(mailbox_wait(&box), &messages[0][0].mail);
    ck_assert_ptr_null(mailbox_wait(&box));
    mailbox_fini(&box);
}
END_TEST

static void *close_box(void *arg)
{
    mailbox_close(&box);
    return arg;
}

START_TEST(closing_wakes_the_receiver_that_waits)
{
    /* From another thread. */
    pthread_t thread;

    ck_assert_int_eq(mailbox_init_thread(&box, 10), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, close_box, NULL), 0);
    ck_assert_ptr_null(mailbox_wait(&box));
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    mailbox_fini(&box);
}
END_TEST

static void repost(void *arg, struct mail *mail)
{
    struct message *msg = LIST_ENTRY(mail, struct message, mail);

    (void)arg;
    received[0]++;
    if (msg->number > 0) {
        msg->number--;
        ck_assert_int_eq(mailbox_post(&box, mail), 0);
    }
}

static bool has_ten(void *arg)
{
    (void)arg;
    return received[0] == 11;
}

START_TEST(a_receiver_may_post_to_itself)
{
    /* A message that goes round ten times; each time counts as a new one. */
    messages[0][0].number = 10;
    ck_assert_int_eq(mailbox_init_loop(&box, &loop, 1, repost, NULL), 0);
    ck_assert_int_eq(mailbox_post(&box, &messages[0][0].mail), 0);
    run_until(&loop, has_ten, NULL);
    mailbox_fini(&box);
}
END_TEST

/* ---- waiter ---- */

static struct waiter waiter;

static void *signal_waiter(void *arg)
{
    waiter_signal(&waiter);
    return arg;
}

START_TEST(a_waiter_hears_a_signal_from_another_thread)
{
    /* Before or after it began to wait. */
    pthread_t thread;

    ck_assert_int_eq(waiter_init(&waiter), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, signal_waiter, NULL), 0);
    ck_assert_int_eq(waiter_wait(&waiter, -1), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    waiter_fini(&waiter);
}
END_TEST

START_TEST(a_waiter_gives_up_in_time)
{
    /* Not before it, and at once when there is no time. */
    int64_t start_ms = clock_mono_ms(clock_system());

    ck_assert_int_eq(waiter_init(&waiter), 0);
    ck_assert_int_eq(waiter_wait(&waiter, 0), ESCROW_ETIMEOUT);
    ck_assert_int_eq(waiter_wait(&waiter, 20), ESCROW_ETIMEOUT);
    ck_assert_int_ge(clock_mono_ms(clock_system()) - start_ms, 20);
    waiter_fini(&waiter);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/mailbox");
    TCase *tc = tcase_create("mailbox");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_loop_receives_everything_once_and_in_order);
    tcase_add_test(tc, a_polling_loop_is_not_woken_for_what_can_wait);
    tcase_add_test(tc, a_thread_receives_everything_once_and_in_order);
    tcase_add_test(tc, a_full_mailbox_refuses_and_the_message_stays_the_senders);
    tcase_add_test(tc, a_closed_mailbox_gives_out_what_it_has);
    tcase_add_test(tc, closing_wakes_the_receiver_that_waits);
    tcase_add_test(tc, a_receiver_may_post_to_itself);
    tcase_add_test(tc, a_waiter_hears_a_signal_from_another_thread);
    tcase_add_test(tc, a_waiter_gives_up_in_time);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
