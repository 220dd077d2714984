#include "core/proto/allocate.h"

#include "escrow/errors.h"
#include "tests/unit/src/client/client_main.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>

/*
 * For every number of queues and members: each queue has exactly one owner, and shares differ by
 * one at most.
 */
START_TEST(every_queue_has_one_owner)
{
    for (size_t queues = 0; queues <= 40; queues++) {
        for (size_t members = 1; members <= 45; members++) {
            size_t next = 0;
            size_t least = queues / members;
            for (size_t i = 0; i < members; i++) {
                struct allocation a = allocate_average(queues, members, i);
                if (a.count > 0) {
                    ck_assert_uint_eq(a.first, next);
                    next += a.count;
                }
                ck_assert(a.count == least || a.count == least + 1);
            }
            ck_assert_uint_eq(next, queues);
        }
    }
}
END_TEST

/* The shares are RocketMQ's, so that its members and ours agree: the first ones get one more. */
START_TEST(shares_are_those_of_rocketmq)
{
    static const struct allocation eight_by_three[] = {{0, 3}, {3, 3}, {6, 2}};

    for (size_t i = 0; i < 3; i++) {
        struct allocation a = allocate_average(8, 3, i);
        ck_assert_uint_eq(a.first, eight_by_three[i].first);
        ck_assert_uint_eq(a.count, eight_by_three[i].count);
    }
}
END_TEST

static const struct slice members[] = {
    {(const uint8_t *)"10.0.0.1@1#a", 12},
    {(const uint8_t *)"10.0.0.2@2#b", 12},
    {(const uint8_t *)"10.0.0.3@3#c", 12},
};

/* Eight queues each of two brokers: which member of the ring has which. */
static void expect_owners(const struct slice *names, size_t count, const char *owners)
{
    struct allocate_ring ring;

    ck_assert_int_eq(allocate_ring_init(&ring, names, count), 0);
    for (uint32_t i = 0; i < 16; i++) {
        size_t owner = SIZE_MAX;
        ck_assert_int_eq(allocate_ring_owner(&ring, SLICE_LIT("Orders"),
                                             slice_str(i < 8 ? "broker-a" : "broker-b"), i % 8,
                                             &owner),
                         0);
        ck_assert_uint_eq(owner, (size_t)(owners[i] - '0'));
    }
    allocate_ring_fini(&ring);
}

/* What AllocateMessageQueueConsistentHash of rocketmq-client 5.5.0 makes of the same lists. */
START_TEST(the_ring_gives_queues_to_whom_rocketmq_gives_them)
{
    const struct slice two[] = {members[0], members[2]};

    expect_owners(members, 3, "1102122102002102");
    expect_owners(two, 2, "0101011001001001");
    expect_owners(members, 1, "0000000000000000");
}
END_TEST

/*
 * Whoever is behind the last place is in front of the first. A queue is only moved from who went.
 */
START_TEST(a_member_that_goes_moves_no_queue_of_the_others)
{
    struct allocate_ring all;
    struct allocate_ring rest;
    size_t kept = 0;

    ck_assert_int_eq(allocate_ring_init(&all, members, 3), 0);
    ck_assert_int_eq(allocate_ring_init(&rest, members, 2), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        size_t before;
        size_t after;
        ck_assert_int_eq(allocate_ring_owner(&all, SLICE_LIT("T"), SLICE_LIT("b"), i, &before), 0);
        ck_assert_int_eq(allocate_ring_owner(&rest, SLICE_LIT("T"), SLICE_LIT("b"), i, &after), 0);
        ck_assert(before == 2 || before == after);
        kept += before != 2;
    }
    ck_assert(kept > 0 && kept < 1000);
    allocate_ring_fini(&rest);
    allocate_ring_fini(&all);
}
END_TEST

/*
 * Names that a broker may send, and that fit nowhere, are refused or cut; nothing is written
 * behind.
 */
START_TEST(long_names_are_refused)
{
    char text[2000];
    struct slice name = {(const uint8_t *)text, sizeof text};
    struct allocate_ring ring;
    size_t owner;

    memset(text, 'x', sizeof text);
    ck_assert_int_eq(allocate_ring_init(&ring, &name, 1), 0);
    ck_assert_int_eq(allocate_ring_owner(&ring, name, SLICE_LIT("b"), 0, &owner), ESCROW_ELIMIT);
    ck_assert_int_eq(allocate_ring_owner(&ring, SLICE_LIT("T"), SLICE_LIT("b"), 0, &owner), 0);
    ck_assert_uint_eq(owner, 0);
    allocate_ring_fini(&ring);
}
END_TEST

/* By circle: AllocateMessageQueueAveragelyByCircle's shares. */
START_TEST(in_a_circle_queues_go_round)
{
    for (size_t i = 0; i < 16; i++) {
        for (size_t member = 0; member < 3; member++) {
            ck_assert_int_eq(allocate_circle(i, 3, member),
                             "0120120120120120"[i] == (char)('0' + member));
        }
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {every_queue_has_one_owner,
                                  shares_are_those_of_rocketmq,
                                  the_ring_gives_queues_to_whom_rocketmq_gives_them,
                                  a_member_that_goes_moves_no_queue_of_the_others,
                                  long_names_are_refused,
                                  in_a_circle_queues_go_round};

    return client_main("client_allocate", tests, sizeof tests / sizeof tests[0]);
}
