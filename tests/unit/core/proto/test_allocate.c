#include "core/proto/allocate.h"

#include "tests/unit/src/client/client_main.h"

#include <signal.h>
#include <stdbool.h>

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

int main(void)
{
    const TTest *const tests[] = {every_queue_has_one_owner, shares_are_those_of_rocketmq};

    return client_main("client_allocate", tests, sizeof tests / sizeof tests[0]);
}
