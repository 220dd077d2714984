#include "txn/decision.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/proto/names.h"
#include "core/store/store.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

static struct decision_entry entry_of(uint64_t n)
{
    return (struct decision_entry){.offset = n * 1000,
                                   .size_bytes = (uint32_t)n + 91,
                                   .tag_hash = -(int32_t)n,
                                   .store_ms = 1700000000000 + (int64_t)n,
                                   .queue = (uint32_t)n % QUEUES_PER_TOPIC_MAX,
                                   .topic = n % 2 == 0 ? SLICE_LIT("TopicA") : SLICE_LIT("b")};
}

static void encode(struct buf *b, enum decision_kind kind, uint32_t count)
{
    struct decision_head head = {
        .kind = kind, .by = DECISION_BY_CHECK, .count = count, .at_ms = 1700000000123};

    decision_encode_head(b, &head);
    for (uint32_t i = 0; i < count; i++) {
        struct decision_entry entry = entry_of(i + 1);
        decision_encode_entry(b, kind, &entry);
    }
    ck_assert(!buf_failed(b));
}

START_TEST(what_is_encoded_is_decoded)
{
    /* Each kind, one half and the most there can be; every field that the kind carries. */
    static const uint32_t counts[] = {1, 2, END_TXN_HALVES_MAX};

    for (int kind = DECISION_COMMIT; kind <= DECISION_EXPIRE; kind++) {
        for (size_t c = 0; c < 3; c++) {
            struct buf b;
            struct decision_head head;
            struct decision_iter iter;
            struct decision_entry got;
            uint32_t n = 0;

            buf_init(&b, 0);
            encode(&b, (enum decision_kind)kind, counts[c]);
            ck_assert_int_eq(decision_decode(buf_slice(&b), &head, &iter), 0);
            ck_assert_int_eq(head.kind, kind);
            ck_assert_int_eq(head.by, DECISION_BY_CHECK);
            ck_assert_uint_eq(head.count, counts[c]);
            ck_assert_int_eq(head.at_ms, 1700000000123);
            while (decision_next(&iter, &got)) {
                struct decision_entry want = entry_of(++n);
                ck_assert_uint_eq(got.offset, want.offset);
                ck_assert_uint_eq(got.size_bytes, kind == DECISION_ROLLBACK ? 0 : want.size_bytes);
                ck_assert_int_eq(got.tag_hash, kind == DECISION_ROLLBACK ? 0 : want.tag_hash);
                ck_assert_int_eq(got.store_ms, kind == DECISION_ROLLBACK ? 0 : want.store_ms);
                ck_assert_uint_eq(got.queue, kind == DECISION_COMMIT ? want.queue : 0);
                ck_assert(slice_eq(got.topic, kind == DECISION_COMMIT ? want.topic : SLICE_EMPTY));
            }
            ck_assert_uint_eq(n, counts[c]);
            buf_fini(&b);
        }
    }
}
END_TEST

START_TEST(the_bytes_are_those_of_the_document)
{
    /* One commit, byte for byte as STATES.md has it. */
    static const uint8_t want[] = {
        2,    1,    2,    0,    1, 0, 0, 0, 0x7b, 0, 0, 0, 0, 0, 0, 0, /* head */
        8,    7,    0,    0,    0, 0, 0, 0, 100,  0, 0, 0,             /* offset, size */
        0xff, 0xff, 0xff, 0xff, 5, 0, 0, 0, 0,    0, 0, 0, 3, 0, 2, 't', 'u'};
    struct decision_head head = {
        .kind = DECISION_COMMIT, .by = DECISION_BY_CHECK, .count = 1, .at_ms = 123};
    struct decision_entry entry = {.offset = 0x708,
                                   .size_bytes = 100,
                                   .tag_hash = -1,
                                   .store_ms = 5,
                                   .queue = 3,
                                   .topic = SLICE_LIT("tu")};
    struct buf b;

    buf_init(&b, 0);
    decision_encode_head(&b, &head);
    decision_encode_entry(&b, DECISION_COMMIT, &entry);
    ck_assert(slice_eq(buf_slice(&b), slice_of(want, sizeof want)));
    ck_assert_uint_eq(b.len, DECISION_HEAD_BYTES + decision_entry_bytes(DECISION_COMMIT, 2));
    buf_fini(&b);
}
END_TEST

START_TEST(a_half_held_for_a_time_is_told_from_one_that_is_shown)
{
    /* Bit 15 of the queue, byte for byte; version 1 had no such bit and refuses it. */
    struct decision_head head = {
        .kind = DECISION_COMMIT, .by = DECISION_BY_CHECK, .count = 2, .at_ms = 123};
    struct decision_entry entry = entry_of(1);
    struct decision_iter iter;
    struct buf b;

    buf_init(&b, 0);
    decision_encode_head(&b, &head);
    decision_encode_entry(&b, DECISION_COMMIT, &entry);
    entry = entry_of(2);
    entry.is_held = true;
    decision_encode_entry(&b, DECISION_COMMIT, &entry);
    ck_assert_uint_eq(b.ptr[16 + 25], 0);
    ck_assert_uint_eq(b.ptr[16 + 28 + 25], 0x80);
    ck_assert_int_eq(decision_decode(buf_slice(&b), &head, &iter), 0);
    ck_assert(decision_next(&iter, &entry) && !entry.is_held && entry.queue == 1);
    ck_assert(decision_next(&iter, &entry) && entry.is_held && entry.queue == 2);
    b.ptr[0] = 1;
    ck_assert_int_eq(decision_decode(buf_slice(&b), &head, &iter), ESCROW_ECORRUPT);
    b.ptr[16 + 28 + 25] = 0;
    ck_assert_int_eq(decision_decode(buf_slice(&b), &head, &iter), 0);
    buf_fini(&b);
}
END_TEST

START_TEST(every_shorter_or_longer_payload_is_corrupt)
{
    /* Cut at each length, and one byte more: never accepted, never read beyond. */
    for (int kind = DECISION_COMMIT; kind <= DECISION_EXPIRE; kind++) {
        struct buf b;
        struct decision_head head;
        struct decision_iter iter;

        buf_init(&b, 0);
        encode(&b, (enum decision_kind)kind, 3);
        for (size_t len = 0; len < b.len; len++) {
            uint8_t *exact = mem_alloc(len); /* so that a sanitizer sees a read behind the end */
            ck_assert_ptr_nonnull(exact);
            memcpy(exact, b.ptr, len);
            ck_assert_int_eq(decision_decode(slice_of(exact, len), &head, &iter), ESCROW_ECORRUPT);
            mem_free(exact);
        }
        buf_append_u8(&b, 0);
        ck_assert_int_eq(decision_decode(buf_slice(&b), &head, &iter), ESCROW_ECORRUPT);
        buf_fini(&b);
    }
}
END_TEST

START_TEST(fields_out_of_bounds_are_corrupt)
{
    /* Version, kind, by, zero, count, time, queue, length of the topic. */
    static const struct {
        size_t at;
        uint8_t value;
    } bad[] = {{0, 0},     {0, 3},       {1, 0},       {1, 4},         {2, 0},
               {2, 5},     {3, 1},       {4, 0},       {5, 1},         {7, 1},
               {15, 0x80}, {16 + 25, 4}, {16 + 26, 0}, {16 + 26, 128}, {16 + 26, 255}};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf b;
        struct decision_head head;
        struct decision_iter iter;

        buf_init(&b, 0);
        encode(&b, DECISION_COMMIT, 1);
        b.ptr[bad[i].at] = bad[i].value;
        ck_assert_int_eq(decision_decode(buf_slice(&b), &head, &iter), ESCROW_ECORRUPT);
        buf_fini(&b);
    }
}
END_TEST

START_TEST(random_bytes_are_refused_or_walked_to_their_end)
{
    /* A valid payload with bytes changed: whatever is accepted has as many entries as it says. */
    struct rand rand;
    struct buf b;

    rand_init(&rand, 5);
    buf_init(&b, 0);
    for (int i = 0; i < 20000; i++) {
        struct decision_head head;
        struct decision_iter iter;
        struct decision_entry entry;
        uint32_t n = 0;

        buf_clear(&b);
        encode(&b, (enum decision_kind)(1 + rand_below(&rand, 3)), 4);
        for (uint64_t k = rand_below(&rand, 3) + 1; k > 0; k--) {
            b.ptr[rand_below(&rand, b.len)] = (uint8_t)rand_u64(&rand);
        }
        if (decision_decode(buf_slice(&b), &head, &iter) == 0) {
            while (decision_next(&iter, &entry)) {
                n++;
            }
            if (n != head.count) {
                ck_abort_msg("run %d: %u entries, head says %u", i, n, head.count);
            }
        }
    }
    buf_fini(&b);
}
END_TEST

struct shown {
    enum decision_kind kind;
    uint32_t count;
};

static void note_shown(void *arg, const struct store_release *release)
{
    struct shown *shown = arg;
    struct decision_entry want = entry_of(++shown->count);
    bool is_parked = shown->kind == DECISION_EXPIRE;

    ck_assert_uint_eq(release->half_offset, want.offset);
    ck_assert_uint_eq(release->payload_size, want.size_bytes);
    ck_assert_int_eq(release->tag_code, want.tag_hash);
    ck_assert_int_eq(release->store_ms, want.store_ms);
    ck_assert_uint_eq(release->queue_id, is_parked ? 0 : want.queue);
    ck_assert(is_parked ? slice_eq_str(release->topic, TOPIC_EXPIRED)
                        : slice_eq(release->topic, want.topic));
}

START_TEST(a_commit_and_an_expire_list_their_halves_and_the_queues_they_enter)
{
    /* In order, with all that an entry needs; nothing of a rollback or a torn payload. */
    for (int kind = DECISION_COMMIT; kind <= DECISION_EXPIRE; kind++) {
        struct shown shown = {.kind = (enum decision_kind)kind};
        struct buf b;

        buf_init(&b, 0);
        encode(&b, (enum decision_kind)kind, 3);
        ck_assert_int_eq(decision_each_shown(buf_slice(&b), note_shown, &shown), 0);
        ck_assert_uint_eq(shown.count, kind == DECISION_ROLLBACK ? 0 : 3);
        shown.count = 0;
        ck_assert_int_eq(decision_each_shown(slice_of(b.ptr, b.len - 1), note_shown, &shown),
                         ESCROW_ECORRUPT);
        ck_assert_uint_eq(shown.count, 0);
        buf_fini(&b);
    }
}
END_TEST

START_TEST(check_records_round_trip_and_reject_other_sizes)
{
    /* Absolute counters, one to 1024 of them. */
    struct buf b;
    struct check_iter iter;
    struct check_entry entry;
    uint32_t count = 0;
    int64_t at_ms = 0;

    buf_init(&b, 0);
    check_encode_head(&b, 2, 77);
    check_encode_entry(&b, &(struct check_entry){.offset = 10, .checks = 1});
    check_encode_entry(&b, &(struct check_entry){.offset = 20, .checks = 15});
    ck_assert_int_eq(check_decode(buf_slice(&b), &count, &at_ms, &iter), 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(at_ms, 77);
    ck_assert(check_next(&iter, &entry));
    ck_assert_uint_eq(entry.offset, 10);
    ck_assert(check_next(&iter, &entry));
    ck_assert_uint_eq(entry.checks, 15);
    ck_assert(!check_next(&iter, &entry));
    for (size_t len = 0; len < b.len; len++) {
        ck_assert_int_eq(check_decode(slice_of(b.ptr, len), &count, &at_ms, &iter),
                         ESCROW_ECORRUPT);
    }
    b.ptr[0] = 2;
    ck_assert_int_eq(check_decode(buf_slice(&b), &count, &at_ms, &iter), ESCROW_ECORRUPT);
    buf_fini(&b);
}
END_TEST

START_TEST(kinds_and_deciders_have_names)
{
    /* What people see in lists and errors; anything else is a question mark. */
    ck_assert_str_eq(decision_kind_name(DECISION_COMMIT), "commit");
    ck_assert_str_eq(decision_kind_name(DECISION_ROLLBACK), "rollback");
    ck_assert_str_eq(decision_kind_name(DECISION_EXPIRE), "expire");
    ck_assert_str_eq(decision_kind_name(DECISION_NONE), "?");
    ck_assert_str_eq(decision_by_name(DECISION_BY_PRODUCER), "producer");
    ck_assert_str_eq(decision_by_name(DECISION_BY_CHECK), "check");
    ck_assert_str_eq(decision_by_name(DECISION_BY_OPERATOR), "operator");
    ck_assert_str_eq(decision_by_name(DECISION_BY_BROKER), "broker");
    ck_assert_str_eq(decision_by_name(DECISION_BY_NOBODY), "?");
}
END_TEST

START_TEST(the_reserve_of_a_half_holds_its_expiry_and_its_decision)
{
    /* Whatever the topic's length: both records, with envelope and padding. */
    for (size_t len = 1; len <= TOPIC_LEN_MAX; len++) {
        ck_assert_uint_le(decision_record_bytes(DECISION_EXPIRE, len) +
                              decision_record_bytes(DECISION_COMMIT, len),
                          STORE_DECISION_RESERVE);
    }
}
END_TEST

START_TEST(many_halves_in_one_record_take_no_more_than_their_reserves)
{
    /* So that a request that decides 1024 halves fits whenever each of them would. */
    size_t one = decision_record_bytes(DECISION_COMMIT, TOPIC_LEN_MAX);
    size_t many = ENVELOPE_SIZE + DECISION_HEAD_BYTES +
                  END_TXN_HALVES_MAX * decision_entry_bytes(DECISION_COMMIT, TOPIC_LEN_MAX) + 7;

    ck_assert_uint_le(many, END_TXN_HALVES_MAX * one);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/decision");
    TCase *tc = tcase_create("decision");

    tcase_add_test(tc, what_is_encoded_is_decoded);
    tcase_add_test(tc, the_bytes_are_those_of_the_document);
    tcase_add_test(tc, a_half_held_for_a_time_is_told_from_one_that_is_shown);
    tcase_add_test(tc, every_shorter_or_longer_payload_is_corrupt);
    tcase_add_test(tc, fields_out_of_bounds_are_corrupt);
    tcase_add_test(tc, random_bytes_are_refused_or_walked_to_their_end);
    tcase_add_test(tc, a_commit_and_an_expire_list_their_halves_and_the_queues_they_enter);
    tcase_add_test(tc, check_records_round_trip_and_reject_other_sizes);
    tcase_add_test(tc, kinds_and_deciders_have_names);
    tcase_add_test(tc, the_reserve_of_a_half_holds_its_expiry_and_its_decision);
    tcase_add_test(tc, many_halves_in_one_record_take_no_more_than_their_reserves);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
