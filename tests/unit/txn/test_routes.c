#include "txn/routes.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <stdio.h>

static const struct hash_key key = {1, 2};

static uint32_t intern(struct routes *r, const char *group, const char *topic)
{
    uint32_t id = UINT32_MAX;

    ck_assert_int_eq(routes_intern(r, slice_str(group), slice_str(topic), &id), 0);
    return id;
}

START_TEST(the_same_names_are_the_same_route)
{
    /* One id for a pair, one group for all its topics. */
    struct routes r;
    uint32_t a;

    routes_init(&r, key);
    a = intern(&r, "orders", "paid");
    ck_assert_uint_eq(intern(&r, "orders", "paid"), a);
    ck_assert_uint_ne(intern(&r, "orders", "sent"), a);
    ck_assert_uint_ne(intern(&r, "bank", "paid"), a);
    ck_assert_uint_eq(r.route_count, 3);
    ck_assert_uint_eq(r.group_count, 2);
    ck_assert(slice_eq_str(route_topic(routes_get(&r, a)), "paid"));
    ck_assert(slice_eq_str(group_name(routes_get(&r, a)->group), "orders"));
    ck_assert_ptr_eq(routes_find_group(&r, SLICE_LIT("orders")), routes_get(&r, a)->group);
    ck_assert_ptr_null(routes_find_group(&r, SLICE_LIT("nobody")));
    routes_check(&r);
    routes_fini(&r);
}
END_TEST

START_TEST(the_last_route_is_found_again_but_not_when_it_is_gone)
{
    /* The route asked for last is remembered, by both of its names, and only while it is there. */
    struct routes r;
    uint32_t a;
    uint32_t b;

    routes_init(&r, key);
    a = intern(&r, "orders", "paid");
    routes_ref(&r, a);
    b = intern(&r, "orders", "sent");
    routes_ref(&r, b);
    ck_assert_uint_eq(intern(&r, "orders", "sent"), b);
    ck_assert_uint_eq(intern(&r, "orders", "paid"), a);
    ck_assert_uint_ne(intern(&r, "bank", "paid"), a);
    ck_assert_uint_eq(intern(&r, "orders", "sent"), b);
    routes_unref(&r, b);
    routes_check(&r);
    b = intern(&r, "bank", "sent"); /* takes the number that became free */
    ck_assert_uint_ne(intern(&r, "orders", "sent"), b);
    routes_check(&r);
    routes_fini(&r);
}
END_TEST

START_TEST(names_that_run_together_are_different_routes)
{
    /* "ab"+"c" is not "a"+"bc". */
    struct routes r;

    routes_init(&r, key);
    ck_assert_uint_ne(intern(&r, "ab", "c"), intern(&r, "a", "bc"));
    routes_fini(&r);
}
END_TEST

START_TEST(the_last_reference_frees_the_route_and_its_group)
{
    /* And their ids are used again, so that names of the past cost nothing. */
    struct routes r;
    uint32_t a;
    uint32_t b;

    routes_init(&r, key);
    a = intern(&r, "g", "t1");
    b = intern(&r, "g", "t2");
    routes_ref(&r, a);
    routes_ref(&r, a);
    routes_ref(&r, b);
    routes_unref(&r, a);
    ck_assert_uint_eq(r.route_count, 2);
    routes_unref(&r, a);
    ck_assert_uint_eq(r.route_count, 1);
    routes_check(&r);
    ck_assert_uint_eq(intern(&r, "g", "t3"), a);
    routes_drop_unused(&r, a);
    routes_drop_unused(&r, b); /* in use: stays */
    ck_assert_uint_eq(r.route_count, 1);
    routes_unref(&r, b);
    ck_assert_uint_eq(r.group_count, 0);
    ck_assert_uint_eq(r.bytes, 0);
    routes_check(&r);
    routes_fini(&r);
}
END_TEST

START_TEST(the_longest_names_fit)
{
    /* A group of 255 bytes and a topic of 127, with bytes of any value. */
    struct routes r;
    uint8_t text[GROUP_LEN_MAX];
    uint32_t id = 0;

    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t)i;
    }
    routes_init(&r, key);
    ck_assert_int_eq(
        routes_intern(&r, slice_of(text, GROUP_LEN_MAX), slice_of(text, TOPIC_LEN_MAX), &id), 0);
    ck_assert(slice_eq(group_name(routes_get(&r, id)->group), slice_of(text, GROUP_LEN_MAX)));
    ck_assert(slice_eq(route_topic(routes_get(&r, id)), slice_of(text, TOPIC_LEN_MAX)));
    routes_fini(&r);
}
END_TEST

START_TEST(too_many_routes_are_refused_and_freed_ones_make_room)
{
    /* The bound on names that hostile producers can make the broker keep. */
    struct routes r;
    char topic[32];
    uint32_t id = 0;

    routes_init(&r, key);
    for (uint32_t i = 0; i < ROUTES_MAX; i++) {
        (void)snprintf(topic, sizeof topic, "t%u", i);
        if (routes_intern(&r, SLICE_LIT("g"), slice_str(topic), &id) != 0 || id != i) {
            ck_abort_msg("route %u", i);
        }
    }
    ck_assert_int_eq(routes_intern(&r, SLICE_LIT("g"), SLICE_LIT("more"), &id), ESCROW_ELIMIT);
    ck_assert_int_eq(routes_intern(&r, SLICE_LIT("new"), SLICE_LIT("more"), &id), ESCROW_ELIMIT);
    ck_assert_uint_eq(r.group_count, 1);
    routes_drop_unused(&r, 4711);
    ck_assert_uint_eq(intern(&r, "g", "more"), 4711);
    routes_fini(&r);
}
END_TEST

START_TEST(every_failed_allocation_leaves_the_names_as_they_were)
{
    /*
     * Fail the 1st, 2nd, ... allocation of an intern until none fires; each time nothing changed.
     */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct routes r;
        uint32_t id = 0;
        int rc;

        routes_init(&r, key);
        (void)intern(&r, "g", "t");
        mem_fault_at(++n);
        rc = routes_intern(&r, SLICE_LIT("h"), SLICE_LIT("u"), &id);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        ck_assert_uint_eq(r.route_count, fired ? 1 : 2);
        ck_assert_uint_eq(r.group_count, fired ? 1 : 2);
        routes_check(&r);
        (void)intern(&r, "h", "u");
        routes_check(&r);
        routes_fini(&r);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 5);
}
END_TEST

START_TEST(an_id_that_is_not_in_use_aborts)
{
    /* A bug in the caller is found at once. */
    struct routes r;

    routes_init(&r, key);
    (void)routes_get(&r, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/routes");
    TCase *tc = tcase_create("routes");

    tcase_add_test(tc, the_same_names_are_the_same_route);
    tcase_add_test(tc, the_last_route_is_found_again_but_not_when_it_is_gone);
    tcase_add_test(tc, names_that_run_together_are_different_routes);
    tcase_add_test(tc, the_last_reference_frees_the_route_and_its_group);
    tcase_add_test(tc, the_longest_names_fit);
    tcase_add_test(tc, too_many_routes_are_refused_and_freed_ones_make_room);
    tcase_add_test(tc, every_failed_allocation_leaves_the_names_as_they_were);
    tcase_add_test_raise_signal(tc, an_id_that_is_not_in_use_aborts, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
