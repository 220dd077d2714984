#include "core/store/key_index.h"

#include "tests/unit/core/store/key_index_test.h"

#include <signal.h>

START_TEST(the_hash_is_the_one_of_the_format)
{
    /* FORMAT.md, "Key index": values from an independent SipHash-1-3. On disk for ever. */
    ck_assert_uint_eq(key_index_hash(SLICE_LIT("orders"), SLICE_LIT("7F0000010001")),
                      UINT64_C(0x44bc30566e1981ac));
    ck_assert_uint_eq(key_index_hash(SLICE_EMPTY, SLICE_EMPTY), UINT64_C(0x3d8c551496efafb8));
    ck_assert_uint_eq(key_index_hash(SLICE_LIT("a"), SLICE_LIT("b#c")),
                      UINT64_C(0x0fbbd14c6b64cc49));
    ck_assert_uint_eq(key_index_hash(SLICE_LIT("a#b"), SLICE_LIT("c")),
                      UINT64_C(0x44d28071068862c1));
}
END_TEST

START_TEST(a_key_is_found_newest_first_in_memory_and_in_files)
{
    /* The same answers before, during and after flushes, merges and a restart. */
    struct rand r;

    rand_init(&r, 1);
    put_records(&r, 20);
    check_all();
    ck_assert_int_eq(checkpoint(), 0);
    check_all();
    for (int i = 0; i < 30; i++) {
        put_records(&r, 25);
        check_all();
        ck_assert_int_eq(i % 3 == 0 ? checkpoint() : flush(), 0);
        check_all();
    }
    ck_assert_uint_eq(reopen().gap_count, 0);
    check_all();
    put_records(&r, 25);
    check_all();
}
END_TEST

START_TEST(a_look_up_sees_what_came_since_the_one_before)
{
    /* Entries are put into the chains by look-ups: after each put, and after many; none twice. */
    struct rand r;

    rand_init(&r, 3);
    for (int i = 0; i < 12; i++) {
        put_records(&r, 1);
        check_all();
    }
    put_records(&r, 200); /* seals buffers that nobody has looked into */
    check_all();
    check_all();
    ck_assert_int_eq(flush(), 0); /* a buffer that is used again begins without chains */
    put_records(&r, 20);
    check_all();
}
END_TEST

START_TEST(a_look_up_after_a_rush_takes_several_calls_and_finds_everything)
{
    /* Each call puts its share in order, and no more; what comes in between is found too. */
    struct key_index_options options = {.file_entries = 0};
    struct key_index_query q = {
        .topic = SLICE_LIT("t"), .key = SLICE_LIT("rare"), .end_ms = INT64_MAX, .count_max = 100};
    struct key_index_report report;
    struct key_index_find *job = NULL;
    const struct key_index_hit *hits;
    uint64_t at = 0;
    uint32_t rare = 0;
    uint32_t calls = 1;
    uint32_t count;
    int rc;

    key_index_free(&ix);
    ix = open_index(disk, &options, SLICE_EMPTY, &report);
    for (uint32_t i = 0; i < 5 * KEY_INDEX_LINK_MAX + 7; i++) {
        bool is_rare = i % 10000 == 0;
        at += 8;
        key_index_put(ix, at, at, 1, q.topic, is_rare ? q.key : slice_of(&i, sizeof i));
        rare += is_rare;
    }
    ck_assert_uint_eq(ix->sealed_count, 2);
    while ((rc = key_index_find_take(ix, &q, &job)) == ESCROW_EAGAIN) {
        uint32_t linked = ix->active->linked;
        for (uint32_t s = 0; s < ix->sealed_count; s++) {
            linked += ix->sealed[s]->linked;
        }
        ck_assert_uint_eq(linked, calls * KEY_INDEX_LINK_MAX);
        ck_assert_ptr_null(job);
        at += 8;
        key_index_put(ix, at, at, 1, q.topic, q.key);
        rare++;
        calls++;
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(calls, 6);
    ck_assert_int_eq(key_index_find_run(job, NULL), 0);
    hits = key_index_find_hits(job, &count);
    ck_assert_uint_eq(count, rare);
    ck_assert_uint_eq(hits[0].offset, at);
    ck_assert_uint_eq(hits[count - 1].offset, 8);
    key_index_find_done(&job);
}
END_TEST

START_TEST(time_and_number_of_results_are_limits)
{
    /* Every window of time and small numbers of results, over memory and files. */
    struct rand r;

    rand_init(&r, 2);
    put_records(&r, 300);
    ck_assert_int_eq(flush(), 0);
    put_records(&r, 30);
    for (int i = 0; i < 300; i++) {
        char text[32];
        int64_t begin = (int64_t)rand_below(&r, log_end / 10);
        struct key_index_query q = {.topic = topic_of((uint32_t)i),
                                    .key = key_of((uint32_t)i % MODEL_KEYS, text),
                                    .begin_ms = begin,
                                    .end_ms = begin + (int64_t)rand_below(&r, 300),
                                    .log_min = rand_below(&r, log_end),
                                    .count_max = 1 + (uint32_t)rand_below(&r, 5)};
        check_query(&q);
    }
}
END_TEST

START_TEST(a_number_of_results_outside_the_limits_is_refused)
{
    /* It comes from clients. */
    struct key_index_query q = {.count_max = 0};
    struct key_index_find *job;

    ck_assert_int_eq(key_index_find_take(ix, &q, &job), ESCROW_EINVAL);
    q.count_max = KEY_INDEX_HITS_MAX + 1;
    ck_assert_int_eq(key_index_find_take(ix, &q, &job), ESCROW_EINVAL);
    ck_assert_ptr_null(job);
}
END_TEST

START_TEST(any_topic_and_key_can_be_put)
{
    /* Empty ones, and longer than what the cache of topics holds. */
    char big[2000];
    uint32_t count;
    struct key_index_hit hits[4];
    struct key_index_query q = {.end_ms = 10, .count_max = 4};

    memset(big, 'k', sizeof big);
    key_index_put(ix, 0, 0, 1, SLICE_EMPTY, SLICE_EMPTY);
    key_index_put(ix, 8, 8, 1, slice_of(big, sizeof big), slice_of(big, sizeof big));
    key_index_put(ix, 16, 16, 1, slice_of(big, 255), SLICE_EMPTY);
    key_index_put(ix, 24, 24, 1, slice_of(big, 255), slice_of(big, 3));
    ck_assert_int_eq(find(&q, hits, &count), 0);
    ck_assert_uint_eq(count, 1);
    q.topic = q.key = slice_of(big, sizeof big);
    ck_assert_int_eq(find(&q, hits, &count), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(hits[0].offset, 8);
    q.topic = slice_of(big, 255);
    q.key = slice_of(big, 3);
    ck_assert_int_eq(find(&q, hits, &count), 0);
    ck_assert_uint_eq(hits[0].offset, 24);
    log_end = 32;
    ck_assert_int_eq(checkpoint(), 0);
}
END_TEST

START_TEST(the_keys_of_one_record_are_never_split)
{
    /* A buffer that is full goes on to the end of the record; ranges tile the log. */
    for (uint64_t at = 0; at < 100; at++) {
        for (uint32_t k = 0; k < 7; k++) {
            struct model_entry *e = &model[model_count++];
            *e = (struct model_entry){.at = at * 8, .offset = at * 8, .key = k};
            put_entry(e);
        }
    }
    log_end = 800;
    ck_assert_int_eq(flush(), 0);
    ck_assert_uint_eq(ix->file_count, 49); /* two records each: 7, then 14 >= 8 */
    for (uint32_t i = 0; i < ix->file_count; i++) {
        ck_assert_uint_eq(ix->files[i]->meta.begin, i * 16);
        ck_assert_uint_eq(ix->files[i]->meta.end, i * 16 + 16);
        ck_assert_uint_eq(ix->files[i]->meta.entry_count, 14);
    }
    check_all();
}
END_TEST

START_TEST(many_files_become_few)
{
    /* Merging: the number of files grows with the logarithm of the log; nothing is lost. */
    struct rand r;
    uint32_t most = 0;
    bool has_top = false;

    rand_init(&r, 3);
    for (int i = 0; i < 800; i++) {
        put_records(&r, 8);
        ck_assert_int_eq(flush(), 0);
        most = ix->file_count > most ? ix->file_count : most;
    }
    for (uint32_t i = 0; i < ix->file_count; i++) {
        has_top = has_top || ix->files[i]->meta.level == KEY_INDEX_LEVEL_MAX;
    }
    ck_assert(has_top);
    ck_assert_uint_gt(model_count, 8000);
    ck_assert_uint_lt(most, 80); /* 1200 / 16 of the top level at most, and a few */
    check_all();
    ck_assert_int_eq(checkpoint(), 0);
    flush_all();
    ck_assert_uint_eq(file_count(), ix->file_count); /* inputs are gone */
    ck_assert_uint_eq(reopen().dropped_count, 0);
    check_all();
}
END_TEST

START_TEST(a_look_up_under_way_survives_a_merge_and_a_trim)
{
    /* Its files are replaced and unlinked only when it is done. */
    struct rand r;
    char text[32];
    struct key_index_query q = {.topic = topic_of(0),
                                .key = key_of(1, text),
                                .begin_ms = 0,
                                .end_ms = INT64_MAX,
                                .count_max = KEY_INDEX_HITS_MAX};
    struct key_index_find *job = NULL;
    uint32_t before;
    uint32_t after;

    rand_init(&r, 4);
    put_records(&r, 100);
    ck_assert_int_eq(flush(), 0);
    ck_assert_int_eq(key_index_find_take(ix, &q, &job), 0);
    for (int i = 0; i < 8; i++) {
        put_records(&r, 8);
        ck_assert_int_eq(flush(), 0);
    }
    key_index_trim(ix, log_end);
    ck_assert_int_eq(flush(), 0);
    ck_assert_int_eq(key_index_find_run(job, NULL), 0);
    (void)key_index_find_hits(job, &after);
    key_index_find_done(&job);
    before = 0;
    for (uint32_t i = 0; i < model_count; i++) {
        before += model[i].at < 100 * 8 && model[i].topic == 0 && model[i].key == 1 ? 1 : 0;
    }
    ck_assert_uint_ge(after, before);
    flush_all();
    ck_assert_uint_eq(file_count(), ix->file_count);
}
END_TEST

START_TEST(one_key_for_every_message_is_no_burden)
{
    /* A hot key and one that shares nothing: all of one hash, in many pages, newest first. */
    static const struct key_index_options big = {.file_entries = 3000, .merge_files = 4};
    struct key_index_report report;
    struct key_index_hit hits[KEY_INDEX_HITS_MAX];
    uint32_t count;
    struct key_index_query q = {.topic = SLICE_LIT("orders"),
                                .key = SLICE_LIT("hot"),
                                .end_ms = INT64_MAX,
                                .count_max = KEY_INDEX_HITS_MAX};

    key_index_free(&ix);
    ix = open_index(disk, &big, SLICE_EMPTY, &report);
    for (uint64_t i = 0; i < 16000; i++) {
        key_index_put(ix, i * 8, i * 8, (int64_t)i, q.topic, i == 77 ? SLICE_LIT("cold") : q.key);
    }
    log_end = 16000 * 8;
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(find(&q, hits, &count), 0);
        ck_assert_uint_eq(count, KEY_INDEX_HITS_MAX);
        for (uint32_t i = 0; i < count; i++) {
            ck_assert(hits[i].offset == (15999 - i) * UINT64_C(8));
        }
        q.key = SLICE_LIT("cold");
        ck_assert_int_eq(find(&q, hits, &count), 0);
        ck_assert_uint_eq(count, 1);
        ck_assert_uint_eq(hits[0].offset, 77 * 8);
        q.key = SLICE_LIT("hot");
        ck_assert_int_eq(flush(), 0); /* the second one merges */
    }
    ck_assert_uint_eq(ix->files[0]->meta.level, 1);
}
END_TEST

START_TEST(files_of_many_pages_are_searched_right)
{
    /* More entries than one write of pages, more slots than one page of slots. */
    static const struct key_index_options big = {.file_entries = 30000, .merge_files = 4};
    struct key_index_report report;
    uint32_t wrong = 0;

    key_index_free(&ix);
    ix = open_index(disk, &big, SLICE_EMPTY, &report);
    for (uint64_t i = 0; i < 30001; i++) {
        uint8_t key[8];
        put_le64(key, i);
        key_index_put(ix, i * 8, i * 8, (int64_t)i, SLICE_LIT("t"), slice_of(key, sizeof key));
    }
    log_end = 30001 * 8;
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(ix->file_count, 1);
    ck_assert_uint_gt(key_index_slot_bits(30000), 10);
    for (uint64_t i = 0; i < 30011; i += 7) {
        uint8_t key[8];
        struct key_index_hit hit = {0};
        uint32_t count;
        struct key_index_query q = {.topic = SLICE_LIT("t"), .end_ms = INT64_MAX, .count_max = 1};

        put_le64(key, i);
        q.key = slice_of(key, sizeof key);
        wrong += find(&q, &hit, &count) != 0 || count != (i < 30001 ? 1 : 0) ||
                         (count == 1 && hit.offset != i * 8)
                     ? 1
                     : 0;
    }
    ck_assert_uint_eq(wrong, 0);
}
END_TEST

START_TEST(files_below_the_logs_first_offset_go)
{
    /* Retention: now, at the next start, and not before they are wholly below. */
    struct rand r;
    uint32_t before;

    rand_init(&r, 5);
    put_records(&r, 100);
    ck_assert_int_eq(checkpoint(), 0);
    before = ix->file_count;
    ck_assert_uint_gt(before, 6);
    log_min = ix->files[3]->meta.begin + 1;
    key_index_trim(ix, log_min);
    ck_assert(key_index_flush_is_due(ix));
    ck_assert_uint_eq(ix->file_count, before - 3);
    check_all();
    flush_all();
    ck_assert_uint_eq(file_count(), ix->file_count);
    log_min = ix->files[2]->meta.begin;
    ck_assert_uint_eq(reopen().gap_count, 0);
    ck_assert_uint_eq(ix->files[0]->meta.begin, log_min);
    check_all();
}
END_TEST

START_TEST(without_memory_an_entry_is_lost_and_the_range_is_a_gap)
{
    /* H17: puts never fail; the gap is told now and after a restart, and can be filled. */
    struct rand r;
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t lost;

    rand_init(&r, 6);
    while (ix->active == NULL || ix->active->count < 8) {
        put_record(&r);
    }
    mem_fault_at(1);
    lost = log_end;
    while (!mem_fault_fired()) {
        lost = log_end;
        put_record(&r);
    }
    mem_fault_at(0);
    put_records(&r, 30);
    ck_assert_uint_ge(key_index_lost_count(ix), 1);
    ck_assert(key_index_gap(ix, 0, &begin, &end));
    ck_assert_uint_le(begin, lost);
    ck_assert_uint_gt(end, lost);
    ck_assert(!key_index_gap(ix, end, &(uint64_t){0}, &(uint64_t){0}));
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(reopen().gap_count, 1);
    ck_assert(key_index_gap(ix, 0, &begin, &end));
    key_index_fill_start(ix, begin, end);
    for (uint32_t i = 0; i < model_count; i++) {
        if (model[i].at >= begin && model[i].at < end) {
            put_entry(&model[i]);
        }
    }
    key_index_fill_finish(ix);
    ck_assert(!key_index_gap(ix, 0, &begin, &end));
    check_all();
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(reopen().gap_count, 0);
    check_all();
}
END_TEST

START_TEST(buffers_that_nobody_flushes_are_bounded)
{
    /*
     * Beyond KEY_INDEX_SEALED_MAX puts are dropped; after a flush the gap is filled from the log.
     */
    struct rand r;
    uint64_t begin = 0;
    uint64_t end = 0;

    rand_init(&r, 9);
    put_records(&r, 600);
    ck_assert_uint_eq(ix->sealed_count, KEY_INDEX_SEALED_MAX);
    ck_assert_uint_gt(key_index_lost_count(ix), 0);
    flush_all();
    put_records(&r, 1);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(reopen().gap_count, 1);
    for (int rounds = 0; key_index_gap(ix, 0, &begin, &end); rounds++) {
        ck_assert_int_lt(rounds, 10); /* a big gap is filled part by part */
        key_index_fill_start(ix, begin, end);
        for (uint32_t i = 0; i < model_count; i++) {
            if (model[i].at >= begin && model[i].at < end) {
                put_entry(&model[i]);
            }
        }
        key_index_fill_finish(ix);
        ck_assert_uint_le(ix->sealed_count, KEY_INDEX_SEALED_MAX / 2);
        flush_all();
    }
    check_all();
}
END_TEST

START_TEST(memory_that_stays_short_loses_no_more_than_it_must)
{
    /* Every allocation of a run fails once: afterwards all but the gaps is found. */
    int fired = 1;
    int n;

    for (n = 1; fired; n++) {
        struct rand r;
        uint64_t begin;
        uint64_t end = 0;

        restart_fixture();
        rand_init(&r, 7);
        mem_fault_at((uint64_t)n);
        put_records(&r, 60);
        fired = mem_fault_fired();
        mem_fault_at(0);
        put_records(&r, 20);
        while (key_index_gap(ix, end, &begin, &end)) {
            key_index_fill_start(ix, begin, end);
            for (uint32_t i = 0; i < model_count; i++) {
                if (model[i].at >= begin && model[i].at < end) {
                    put_entry(&model[i]);
                }
            }
            key_index_fill_finish(ix);
        }
        check_all();
    }
    ck_assert_int_gt(n, 20);
}
END_TEST

START_TEST(every_failing_allocation_of_a_look_up_is_an_error_and_no_leak)
{
    /* Nothing stays pinned, and the next one works. */
    struct rand r;
    int fired = 1;
    int64_t live;

    rand_init(&r, 8);
    put_records(&r, 60);
    ck_assert_int_eq(flush(), 0);
    live = mem_live_count();
    for (uint64_t n = 1; fired; n++) {
        char text[32];
        struct key_index_hit hits[8];
        uint32_t count;
        struct key_index_query q = {
            .topic = topic_of(0), .key = key_of(3, text), .end_ms = INT64_MAX, .count_max = 8};
        int rc;

        mem_fault_at(n);
        rc = find(&q, hits, &count);
        fired = mem_fault_fired();
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        ck_assert_int_eq(mem_live_count(), live);
    }
    check_all();
}
END_TEST

START_TEST(memory_of_a_buffer_is_used_again_and_can_be_given_back)
{
    /* After a flush the next buffer costs no allocation; shrink frees it. */
    struct rand r;
    int64_t live;

    rand_init(&r, 10);
    while (ix->sealed_count < 1) {
        put_record(&r);
    }
    ck_assert_int_eq(flush(), 0);
    live = mem_live_count();
    mem_fault_at(1);
    while (ix->sealed_count < 1) {
        put_record(&r);
    }
    mem_fault_at(0);
    ck_assert_uint_eq(key_index_lost_count(ix), 0);
    ck_assert_int_eq(mem_live_count(), live);
    ck_assert_int_eq(flush(), 0);
    live = mem_live_count();
    key_index_shrink(ix);
    ck_assert_int_eq(mem_live_count(), live - 4);
    key_index_shrink(ix);
    check_all();
}
END_TEST

START_TEST(records_in_a_wrong_order_are_a_bug)
{
    /* The log is applied forwards. */
    key_index_put(ix, 16, 16, 0, SLICE_LIT("t"), SLICE_LIT("k"));
    key_index_put(ix, 8, 8, 0, SLICE_LIT("t"), SLICE_LIT("k"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/key_index");
    TCase *t = tcase_create("key_index");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_hash_is_the_one_of_the_format);
    tcase_add_test(t, a_key_is_found_newest_first_in_memory_and_in_files);
    tcase_add_test(t, a_look_up_sees_what_came_since_the_one_before);
    tcase_add_test(t, a_look_up_after_a_rush_takes_several_calls_and_finds_everything);
    tcase_add_test(t, time_and_number_of_results_are_limits);
    tcase_add_test(t, a_number_of_results_outside_the_limits_is_refused);
    tcase_add_test(t, any_topic_and_key_can_be_put);
    tcase_add_test(t, the_keys_of_one_record_are_never_split);
    tcase_add_test(t, many_files_become_few);
    tcase_add_test(t, a_look_up_under_way_survives_a_merge_and_a_trim);
    tcase_add_test(t, one_key_for_every_message_is_no_burden);
    tcase_add_test(t, files_of_many_pages_are_searched_right);
    tcase_add_test(t, files_below_the_logs_first_offset_go);
    tcase_add_test(t, without_memory_an_entry_is_lost_and_the_range_is_a_gap);
    tcase_add_test(t, buffers_that_nobody_flushes_are_bounded);
    tcase_add_test(t, memory_that_stays_short_loses_no_more_than_it_must);
    tcase_add_test(t, every_failing_allocation_of_a_look_up_is_an_error_and_no_leak);
    tcase_add_test(t, memory_of_a_buffer_is_used_again_and_can_be_given_back);
    tcase_add_test_raise_signal(t, records_in_a_wrong_order_are_a_bug, SIGABRT);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
