#include "src/broker/broker.h"
#include "tests/unit/core/base/unit_main.h"
#include "txn/decision.h"

struct listed {
    uint64_t offsets[4];
    int64_t store_ms[4];
    uint32_t count;
};

static void note(void *arg, const struct store_release *release)
{
    struct listed *listed = arg;

    ck_assert_uint_lt(listed->count, 4);
    listed->offsets[listed->count] = release->half_offset;
    listed->store_ms[listed->count++] = release->store_ms;
}

START_TEST(the_store_can_ask_which_halves_a_decision_made_visible)
{
    /*
     * For a lost file of the key index: without this, released halves are no longer found by key.
     */
    for (int kind = DECISION_COMMIT; kind <= DECISION_ROLLBACK; kind++) {
        struct decision_head head = {
            .kind = (enum decision_kind)kind, .by = DECISION_BY_PRODUCER, .count = 2, .at_ms = 7};
        struct decision_entry entry = {.offset = 56, .store_ms = 5, .topic = SLICE_LIT("T")};
        struct listed listed = {.count = 0};
        struct buf b;

        buf_init(&b, 0);
        decision_encode_head(&b, &head);
        decision_encode_entry(&b, head.kind, &entry);
        entry.offset = 4096;
        entry.store_ms = 6;
        decision_encode_entry(&b, head.kind, &entry);
        ck_assert(broker_store_owner.list_releases != NULL);
        ck_assert_int_eq(
            broker_store_owner.list_releases(NULL, STORE_DECISION, buf_slice(&b), note, &listed),
            0);
        buf_fini(&b);
        if (kind == DECISION_ROLLBACK) {
            ck_assert_uint_eq(listed.count, 0);
            continue;
        }
        ck_assert_uint_eq(listed.count, 2);
        ck_assert_uint_eq(listed.offsets[0], 56);
        ck_assert_int_eq(listed.store_ms[0], 5);
        ck_assert_uint_eq(listed.offsets[1], 4096);
        ck_assert_int_eq(listed.store_ms[1], 6);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/apply");
    TCase *tc = tcase_create("apply");

    tcase_add_test(tc, the_store_can_ask_which_halves_a_decision_made_visible);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
