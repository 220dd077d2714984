/* The file "format" (core/store/FORMAT.md): what a store is told from others by. */
#include "core/store/store_format.h"
#include "escrow/errors.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

static const struct store_format sample = {.version = STORE_FORMAT_VERSION,
                                           .salt = 0x01020304,
                                           .id = 0x0badcafe,
                                           .segment_bytes = 1 << 20};

START_TEST(a_store_keeps_the_id_that_it_was_made_with)
{
    /* What a later start draws is not used. */
    struct disk *disk = sim_disk_new();
    struct test_store ts;
    struct store_config cfg;

    test_store_config(&cfg);
    cfg.new_id = sample.id;
    ck_assert_int_eq(test_store_open(&ts, disk, &cfg), 0);
    ck_assert_uint_eq(store_id(ts.st), sample.id);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    cfg.new_id = 7;
    ck_assert_int_eq(test_store_open(&ts, disk, &cfg), 0);
    ck_assert_uint_eq(store_id(ts.st), sample.id);
    test_store_close(&ts);
    disk_free(&disk);
}
END_TEST

START_TEST(every_byte_of_the_line_counts)
{
    /* The line reads back as it was written; with any bit of it changed it is refused. */
    struct disk *disk = sim_disk_new();
    struct store_format back;
    struct err_ctx err;
    uint64_t size = 0;

    ck_assert_int_eq(store_format_create(disk, &sample, &err), 0);
    ck_assert_int_eq(store_format_read(disk, &back, &err), 0);
    ck_assert_uint_eq(back.salt, sample.salt);
    ck_assert_uint_eq(back.id, sample.id);
    ck_assert_uint_eq(back.segment_bytes, sample.segment_bytes);
    ck_assert(sim_disk_file_size(disk, STORE_FORMAT_PATH, &size));
    for (uint64_t at = 0; at < size; at++) {
        uint8_t byte;
        ck_assert(sim_disk_peek(disk, STORE_FORMAT_PATH, at, &byte, 1));
        for (int bit = 0; bit < 8; bit++) {
            uint8_t changed = byte ^ (uint8_t)(1 << bit);
            int rc;
            ck_assert(sim_disk_poke(disk, STORE_FORMAT_PATH, at, &changed, 1));
            rc = store_format_read(disk, &back, &err);
            ck_assert_msg(rc == ESCROW_ECORRUPT || rc == ESCROW_EVERSION, "byte %d bit %d: %d",
                          (int)at, bit, rc);
        }
        ck_assert(sim_disk_poke(disk, STORE_FORMAT_PATH, at, &byte, 1));
    }
    disk_free(&disk);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store_format");
    TCase *tc = tcase_create("store_format");

    tcase_add_test(tc, a_store_keeps_the_id_that_it_was_made_with);
    tcase_add_test(tc, every_byte_of_the_line_counts);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
