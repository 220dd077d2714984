#include "core/store/key_index_file.h"

#include "core/base/crc32c.h"
#include "tests/unit/core/store/key_index_test.h"

/* A few files, a full folder. */
static void fill_folder(struct rand *r)
{
    rand_init(r, 11);
    put_records(r, 60);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_gt(ix->file_count, 4);
}

static void read_gap(uint64_t begin, uint64_t end)
{
    key_index_fill_start(ix, begin, end);
    for (uint32_t i = 0; i < model_count; i++) {
        if (model[i].at >= begin && model[i].at < end) {
            put_entry(&model[i]);
        }
    }
    key_index_fill_finish(ix);
}

/* After a start: exactly one gap, that of the file; once filled, everything is found again. */
static void check_repair(const struct key_index_meta *lost)
{
    uint64_t begin = 0;
    uint64_t end = 0;

    ck_assert(key_index_gap(ix, 0, &begin, &end));
    ck_assert_uint_eq(begin, lost->begin);
    ck_assert_uint_eq(end, lost->end);
    read_gap(begin, end);
    ck_assert(!key_index_gap(ix, 0, &begin, &end));
    check_all();
    ck_assert_int_eq(checkpoint(), 0);
    check_all();
    ck_assert_uint_eq(reopen().dropped_count, 0);
    check_all();
}

START_TEST(a_header_has_the_bytes_of_the_format)
{
    /* FORMAT.md, "Key index": one entry, by hand. */
    uint8_t page[KEY_INDEX_PAGE_SIZE];
    const char *path = "index/00000000000000000000-00000000000000000072";
    uint64_t size = 0;

    key_index_put(ix, 0, 0, 5, SLICE_LIT("t"), SLICE_LIT("k"));
    for (uint64_t at = 8; at < 72; at += 8) {
        key_index_put(ix, at, at + 1000, (int64_t)at, SLICE_LIT("t"), SLICE_LIT("k"));
    }
    key_index_put(ix, 72, 72, 1, SLICE_LIT("t"), SLICE_LIT("k"));
    log_end = 80;
    /* Eight entries, at 0 to 56, fill the buffer; 64 begins the next one. */
    ck_assert_int_eq(checkpoint(), 0);
    path = "index/00000000000000000000-00000000000000000064";
    ck_assert(sim_disk_file_size(disk, path, &size));
    ck_assert_uint_eq(size, 3 * KEY_INDEX_PAGE_SIZE);
    ck_assert(sim_disk_peek(disk, path, 0, page, sizeof page));
    ck_assert_mem_eq(page, "ESCI\1\0\0\0", 8);
    ck_assert_uint_eq(get_le64(page + 8), 0);
    ck_assert_uint_eq(get_le64(page + 16), 64);
    ck_assert_int_eq((int64_t)get_le64(page + 24), 5);
    ck_assert_int_eq((int64_t)get_le64(page + 32), 56);
    ck_assert_uint_eq(get_le32(page + 40), 8);
    ck_assert_uint_eq(get_le32(page + 44), 0);
    ck_assert_uint_eq(get_le32(page + 48), 0);
    ck_assert_uint_eq(get_le32(page + 4092), crc32c(0, page, 4092));
    ck_assert(sim_disk_peek(disk, path, KEY_INDEX_PAGE_SIZE, page, sizeof page));
    for (uint64_t i = 0; i < 8; i++) { /* equal hashes in the order they were put */
        ck_assert_uint_eq(get_le64(page + i * 24), key_index_hash(SLICE_LIT("t"), SLICE_LIT("k")));
        ck_assert_uint_eq(get_le64(page + i * 24 + 8), i == 0 ? 0 : 1000 + i * 8);
        ck_assert_uint_eq(get_le64(page + i * 24 + 16), i == 0 ? 5 : i * 8);
    }
    ck_assert_uint_eq(get_le32(page + 4088), 1);
    ck_assert(sim_disk_peek(disk, path, 2 * KEY_INDEX_PAGE_SIZE, page, sizeof page));
    ck_assert_uint_eq(get_le32(page), 0);
    ck_assert_uint_eq(get_le32(page + 4), 8);
}
END_TEST

START_TEST(only_names_of_ranges_are_index_files)
{
    /* Anything else in the folder is somebody else's. */
    uint64_t begin;
    uint64_t end;

    ck_assert(key_index_name_decode("00000000000000000001-18446744073709551615", &begin, &end));
    ck_assert_uint_eq(begin, 1);
    ck_assert_uint_eq(end, UINT64_MAX);
    ck_assert(!key_index_name_decode("00000000000000000001-18446744073709551616", &begin, &end));
    ck_assert(!key_index_name_decode("00000000000000000002-00000000000000000002", &begin, &end));
    ck_assert(!key_index_name_decode("00000000000000000001_00000000000000000002", &begin, &end));
    ck_assert(!key_index_name_decode("1-2", &begin, &end));
    ck_assert(!key_index_name_decode("0000000000000000000a-00000000000000000002", &begin, &end));
}
END_TEST

START_TEST(a_file_with_a_damaged_header_is_set_aside_and_its_gap_filled)
{
    /* H4 for the index: any bit of the header, a wrong size, an empty file. The start goes on. */
    struct rand r;
    struct key_index_meta lost;
    char path[KEY_INDEX_NAME_MAX];

    for (int damage = 0; damage < 12; damage++) {
        struct key_index_report report;
        uint8_t byte = 0;
        uint64_t at = (uint64_t)damage * 5;

        restart_fixture();
        fill_folder(&r);
        lost = ix->files[2]->meta;
        key_index_path(path, lost.begin, lost.end);
        if (damage == 10) {
            ck_assert(sim_disk_cut(disk, path, 100));
        } else if (damage == 11) {
            ck_assert(sim_disk_cut(disk, path, 4 * KEY_INDEX_PAGE_SIZE));
        } else {
            ck_assert(sim_disk_peek(disk, path, at, &byte, 1));
            byte ^= 0x10;
            ck_assert(sim_disk_poke(disk, path, at, &byte, 1));
        }
        report = reopen();
        ck_assert_uint_eq(report.dropped_count, 1);
        ck_assert_uint_eq(report.gap_count, 1);
        ck_assert_ptr_nonnull(strstr(report.dropped, path));
        check_repair(&lost);
    }
}
END_TEST

START_TEST(a_missing_file_is_a_gap)
{
    /* Somebody deleted it. */
    struct rand r;
    struct key_index_meta lost;
    char path[KEY_INDEX_NAME_MAX];
    struct key_index_report report;

    fill_folder(&r);
    lost = ix->files[1]->meta;
    key_index_path(path, lost.begin, lost.end);
    ck_assert(sim_disk_remove(disk, path));
    report = reopen();
    ck_assert_uint_eq(report.dropped_count, 0);
    ck_assert_uint_eq(report.gap_count, 1);
    check_repair(&lost);
}
END_TEST

/* Find every key; what the look-ups say of bad pages. */
static uint32_t look_everywhere(void)
{
    static struct key_index_hit hits[KEY_INDEX_HITS_MAX];
    uint32_t bad = 0;

    for (uint32_t t = 0; t < MODEL_TOPICS; t++) {
        for (uint32_t k = 0; k < MODEL_KEYS; k++) {
            char text[32];
            uint32_t count;
            struct key_index_query q = {.topic = topic_of(t),
                                        .key = key_of(k, text),
                                        .begin_ms = INT64_MIN,
                                        .end_ms = INT64_MAX,
                                        .count_max = KEY_INDEX_HITS_MAX};
            int rc = find(&q, hits, &count);
            if (rc != 0 && rc != ESCROW_ECORRUPT) {
                ck_abort_msg("%d", rc);
            }
            bad += rc != 0 ? 1 : 0;
        }
    }
    return bad;
}

START_TEST(a_page_that_is_bad_is_found_by_the_look_up_that_reads_it)
{
    /* Entries or slots: an error once, hits of other files at the same time, then a gap. */
    struct rand r;

    for (uint64_t page = 1; page <= 2; page++) {
        struct key_index_meta lost;
        char path[KEY_INDEX_NAME_MAX];
        uint8_t byte = 0x55;
        uint64_t begin;
        uint64_t end;

        restart_fixture();
        fill_folder(&r);
        lost = ix->files[2]->meta;
        key_index_path(path, lost.begin, lost.end);
        ck_assert(sim_disk_poke(disk, path, page * KEY_INDEX_PAGE_SIZE + 3000, &byte, 1));
        ck_assert_uint_eq(look_everywhere(), 1);
        ck_assert(key_index_gap(ix, 0, &begin, &end));
        ck_assert_uint_eq(begin, lost.begin);
        ck_assert_uint_eq(look_everywhere(), 0);
        read_gap(lost.begin, lost.end);
        check_all();
        flush_all();
        ck_assert_uint_eq(reopen().gap_count, 0);
        check_all();
    }
}
END_TEST

START_TEST(a_page_of_another_file_or_place_is_not_taken)
{
    /* H5: whole, with a right checksum, at the wrong place. */
    struct rand r;
    char from[KEY_INDEX_NAME_MAX];
    char to[KEY_INDEX_NAME_MAX];
    uint8_t page[KEY_INDEX_PAGE_SIZE];

    fill_folder(&r);
    key_index_path(from, ix->files[0]->meta.begin, ix->files[0]->meta.end);
    key_index_path(to, ix->files[1]->meta.begin, ix->files[1]->meta.end);
    ck_assert(sim_disk_peek(disk, from, KEY_INDEX_PAGE_SIZE, page, sizeof page));
    ck_assert(sim_disk_poke(disk, to, KEY_INDEX_PAGE_SIZE, page, sizeof page));
    ck_assert_uint_eq(look_everywhere(), 1);
    ck_assert(sim_disk_poke(disk, from, 2 * KEY_INDEX_PAGE_SIZE, page, sizeof page));
    ck_assert_uint_eq(look_everywhere(), 1);
}
END_TEST

START_TEST(a_bad_page_ends_a_merge_and_not_the_store)
{
    /* The merge is given up, the bad file becomes a gap, the others stay as they are. */
    struct rand r;
    struct key_index_meta lost;
    char path[KEY_INDEX_NAME_MAX];
    uint8_t byte = 0x55;
    uint64_t begin;
    uint64_t end;

    rand_init(&r, 12);
    while (ix->sealed_count < 4) {
        put_record(&r);
    }
    ck_assert_int_eq(flush(), 0);
    lost = ix->files[1]->meta;
    key_index_path(path, lost.begin, lost.end);
    ck_assert(sim_disk_poke(disk, path, KEY_INDEX_PAGE_SIZE, &byte, 1));
    put_records(&r, 30);
    ck_assert_int_eq(flush(), 0); /* five files and more: a merge of the first four is due */
    ck_assert_int_eq(flush(), 0);
    ck_assert_ptr_null(ix->merge);
    ck_assert(key_index_gap(ix, 0, &begin, &end));
    ck_assert_uint_eq(begin, lost.begin);
    ck_assert_uint_eq(end, lost.end);
    read_gap(begin, end);
    check_all();
    for (int i = 0; i < 30; i++) { /* and after a while merges go on */
        put_records(&r, 5);
        ck_assert_int_eq(flush(), 0);
    }
    ck_assert_uint_ge(ix->files[0]->meta.level, 1);
    check_all();
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(reopen().gap_count, 0);
    check_all();
}
END_TEST

START_TEST(a_file_of_a_newer_version_stops_the_start)
{
    /* Under a good checksum only. */
    struct rand r;
    char path[KEY_INDEX_NAME_MAX];
    uint8_t page[KEY_INDEX_PAGE_SIZE];
    struct key_index_options options = small_options;
    struct key_index_report report;
    struct key_index *other = NULL;
    struct err_ctx err = {0};

    fill_folder(&r);
    key_index_path(path, ix->files[0]->meta.begin, ix->files[0]->meta.end);
    ck_assert(sim_disk_peek(disk, path, 0, page, sizeof page));
    put_le32(page + 4, 2);
    key_index_page_seal(page, ix->files[0]->meta.begin, 0);
    ck_assert(sim_disk_poke(disk, path, 0, page, sizeof page));
    options.disk = disk;
    ck_assert_int_eq(key_index_open(&other, &options, SLICE_EMPTY, &report, &err), ESCROW_EVERSION);
    ck_assert_ptr_null(other);
    ck_assert_ptr_nonnull(strstr(err.text, "version 2"));
}
END_TEST

START_TEST(leftovers_are_removed_and_strangers_left_alone)
{
    /* Temporary files, inputs of a finished merge; not a README. */
    static const char *const names[] = {"index/README", "index/1-2", "index/x.tmp.old",
                                        "index/00000000000000000000-00000000000000000064.tmp"};
    struct rand r;
    struct disk_file *f = NULL;

    fill_folder(&r);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ck_assert_int_eq(disk_open(disk, names[i], DISK_WRITE | DISK_CREATE, &f, NULL), 0);
        disk_close(&f);
    }
    ck_assert_uint_eq(reopen().dropped_count, 0);
    ck_assert(key_index_flush_is_due(ix));
    flush_all();
    ck_assert_uint_eq(file_count(), ix->file_count + 3);
    check_all();
}
END_TEST

START_TEST(inputs_left_beside_their_merged_file_are_not_counted_twice)
{
    /* A stop after the rename and before the unlink. */
    struct rand r;
    struct disk *before;
    uint32_t hits;

    rand_init(&r, 13);
    while (ix->sealed_count < 5) {
        put_record(&r);
    }
    ck_assert_int_eq(checkpoint(), 0); /* five files */
    ck_assert_int_eq(checkpoint(), 0); /* four of them merged; all six names are there */
    before = sim_disk_clone(disk);
    hits = file_count();
    ck_assert_uint_eq(hits, 6);
    key_index_free(&ix);
    disk_free(&disk);
    disk = before;
    {
        struct key_index_report report;
        ix = open_index(disk, &small_options, buf_slice(&section), &report);
        ck_assert_uint_eq(report.file_count, 2);
        ck_assert_uint_eq(report.dropped_count, 0);
    }
    replay();
    check_all();
    flush_all();
    ck_assert_uint_eq(file_count(), 2);
    check_all();
}
END_TEST

START_TEST(a_header_that_lies_under_a_good_checksum_does_no_harm)
{
    /* Every field with odd values: set aside, or look-ups end without a crash. */
    static const uint64_t odd[] = {0,         1, 7, 255, 65536, UINT32_MAX, (uint64_t)INT64_MAX,
                                   UINT64_MAX};
    struct rand r;
    char path[KEY_INDEX_NAME_MAX];
    uint8_t saved[KEY_INDEX_PAGE_SIZE];

    fill_folder(&r);
    key_index_path(path, ix->files[1]->meta.begin, ix->files[1]->meta.end);
    ck_assert(sim_disk_peek(disk, path, 0, saved, sizeof saved));
    for (size_t at = 8; at < 52; at += 4) {
        for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
            uint8_t page[KEY_INDEX_PAGE_SIZE];

            memcpy(page, saved, sizeof page);
            put_le64(page + at, odd[i]);
            key_index_page_seal(page, get_le64(page + 8), 0);
            ck_assert(sim_disk_poke(disk, path, 0, page, sizeof page));
            (void)reopen();
            (void)look_everywhere();
            key_index_check(ix);
        }
    }
    ck_assert(sim_disk_poke(disk, path, 0, saved, sizeof saved));
    (void)reopen();
    check_all();
}
END_TEST

START_TEST(pages_that_lie_under_a_good_checksum_do_no_harm)
{
    /*
     * Random entries and slots, sealed: look-ups and merges end, and nothing is read out of bounds.
     */
    struct rand r;

    for (uint64_t seed = 1; seed < 40; seed++) {
        char path[KEY_INDEX_NAME_MAX];

        restart_fixture();
        fill_folder(&r);
        rand_init(&r, seed);
        for (uint32_t number = 1; number <= 2; number++) {
            uint8_t page[KEY_INDEX_PAGE_SIZE];
            const struct key_index_file *file = ix->files[rand_below(&r, 3)];

            key_index_path(path, file->meta.begin, file->meta.end);
            ck_assert(sim_disk_peek(disk, path, number * KEY_INDEX_PAGE_SIZE, page, sizeof page));
            for (size_t i = 0; i < 64; i++) {
                page[rand_below(&r, 256)] = (uint8_t)rand_u64(&r);
            }
            key_index_page_seal(page, file->meta.begin, number);
            ck_assert(sim_disk_poke(disk, path, number * KEY_INDEX_PAGE_SIZE, page, sizeof page));
        }
        (void)look_everywhere();
        put_records(&r, 60);
        ck_assert_int_eq(flush(), 0);
        ck_assert_int_eq(flush(), 0);
        (void)look_everywhere();
        key_index_check(ix);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/key_index_file");
    TCase *t = tcase_create("key_index_file");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_header_has_the_bytes_of_the_format);
    tcase_add_test(t, only_names_of_ranges_are_index_files);
    tcase_add_test(t, a_file_with_a_damaged_header_is_set_aside_and_its_gap_filled);
    tcase_add_test(t, a_missing_file_is_a_gap);
    tcase_add_test(t, a_page_that_is_bad_is_found_by_the_look_up_that_reads_it);
    tcase_add_test(t, a_page_of_another_file_or_place_is_not_taken);
    tcase_add_test(t, a_bad_page_ends_a_merge_and_not_the_store);
    tcase_add_test(t, a_file_of_a_newer_version_stops_the_start);
    tcase_add_test(t, leftovers_are_removed_and_strangers_left_alone);
    tcase_add_test(t, inputs_left_beside_their_merged_file_are_not_counted_twice);
    tcase_add_test(t, a_header_that_lies_under_a_good_checksum_does_no_harm);
    tcase_add_test(t, pages_that_lie_under_a_good_checksum_do_no_harm);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
