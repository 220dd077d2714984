/*
 * What a start finds or repairs must survive the power cut that comes next. One test for each line
 * that only such a cut can tell from its absence.
 */
#include "core/base/mem.h"
#include "core/store/envelope.h"
#include "core/store/recovery.h"
#include "core/store/store_format.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

#define SEGMENT_0 "log/00000000000000000000"
#define SEGMENT_1 "log/00000000000001048576"
#define GARBAGE   600

static struct disk *disk;
static struct test_store ts;

#define RUN() ck_assert_msg(test_store_run(&ts) == 0, "%s", ts.err.text)

static void open_on(struct disk *d)
{
    disk = d;
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
}

static void shut(void)
{
    test_store_close(&ts);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

static uint32_t seed_of(struct disk *d)
{
    struct store_format format;

    ck_assert_int_eq(store_format_read(d, &format, NULL), 0);
    return envelope_seed(format.salt);
}

START_TEST(what_was_cut_stays_cut)
{
    /*
     * recovery_cut has returned: no later crash brings the garbage back, to be mistaken for what is
     * written there next.
     */
    uint8_t garbage[GARBAGE];
    uint8_t zeros[GARBAGE] = {0};
    uint8_t got[GARBAGE];
    struct recovery_end end;
    struct segments segs;
    uint64_t at;

    open_on(sim_disk_new());
    ck_assert_int_eq(test_send(&ts, "T", 0, "kept", NULL), 0);
    RUN();
    at = store_watermarks(ts.st).durable;
    test_store_close(&ts);
    memset(garbage, 0xAB, sizeof garbage);
    ck_assert(sim_disk_poke(disk, SEGMENT_0, at, garbage, sizeof garbage));
    segments_init(&segs, disk, STORE_SEGMENT_BYTES_MIN);
    ck_assert_int_eq(segments_load(&segs, 0, NULL), 0);
    ck_assert_int_eq(recovery_find_end(&segs, seed_of(disk), 0, 0, &end, NULL), 0);
    ck_assert_uint_eq(end.cut, at);
    ck_assert_uint_ge(end.dirty_end, at + sizeof garbage);
    ck_assert_int_eq(recovery_cut(&segs, &end, NULL), 0);
    segments_fini(&segs);
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        for (uint64_t seed = 1; seed <= 8; seed++) {
            struct disk *after = sim_disk_crash(disk, (enum sim_crash)how, seed);
            ck_assert(sim_disk_peek(after, SEGMENT_0, at, got, sizeof got));
            ck_assert_msg(memcmp(got, zeros, sizeof got) == 0, "%s brought garbage back",
                          sim_crash_name((enum sim_crash)how));
            disk_free(&after);
        }
    }
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

/* The disk as a killed process left it, just before it would have synced the folder log/. */
static struct disk *killed;

static void kill_before_sync_of_log(void *arg, const struct sim_op *op)
{
    (void)arg;
    if (killed == NULL && op->kind == SIM_OP_SYNC_DIR && strcmp(op->path, "log") == 0) {
        killed = sim_disk_clone(disk);
    }
}

/* Append messages of 48 KiB, each acknowledged, until the log reaches `until`. */
static void fill(uint64_t until)
{
    static uint8_t body[48 * 1024];
    struct test_message m = {.topic = "T", .body = slice_of(body, sizeof body)};
    struct store_receipt r;

    do {
        ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
        RUN();
    } while (r.wait_for < until);
}

START_TEST(a_segment_that_a_killed_process_made_is_durable_before_it_is_used)
{
    /*
     * Killed between making segment 1 and syncing its name. The next process uses it; its answers
     * must not be lost with the name.
     */
    struct disk *after;
    uint64_t messages;
    uint64_t size;

    killed = NULL;
    open_on(sim_disk_new());
    sim_disk_set_hook(disk, kill_before_sync_of_log, NULL);
    fill(STORE_SEGMENT_BYTES_MIN * 3 / 4);
    sim_disk_set_hook(disk, NULL, NULL);
    ck_assert_ptr_nonnull(killed);
    ck_assert(sim_disk_file_size(killed, SEGMENT_1, &size));
    test_store_close(&ts);
    disk_free(&disk);

    open_on(killed);
    fill(STORE_SEGMENT_BYTES_MIN + 1);
    messages = ts.owner.messages;
    after = sim_disk_crash(disk, SIM_DROP_UNSYNCED, 1);
    test_store_close(&ts);
    disk_free(&disk);

    open_on(after);
    ck_assert_uint_eq(ts.owner.messages, messages);
    shut();
}
END_TEST

START_TEST(a_replaced_file_is_the_new_one_after_any_crash)
{
    /* disk_replace has returned: neither the old content nor none. */
    struct disk *d = sim_disk_new();

    ck_assert_int_eq(disk_replace(d, "name", "old", 3, NULL), 0);
    ck_assert_int_eq(disk_replace(d, "name", "newer", 5, NULL), 0);
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        for (uint64_t seed = 1; seed <= 8; seed++) {
            struct disk *after = sim_disk_crash(d, (enum sim_crash)how, seed);
            uint8_t *data = NULL;
            size_t len = 0;

            ck_assert_msg(disk_read_all(after, "name", 100, &data, &len, NULL) == 0, "%s: no file",
                          sim_crash_name((enum sim_crash)how));
            ck_assert(slice_eq_str(slice_of(data, len), "newer"));
            mem_free(data);
            disk_free(&after);
        }
    }
    disk_free(&d);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(a_record_of_an_older_epoch_ends_the_log_even_where_it_fits)
{
    /*
     * Left of a batch that was cut, and standing where the log of the new epoch ends, with the same
     * synced: only the epoch tells it from the record that is to come.
     */
    uint8_t record[48] = {0};
    struct envelope e = {.length = 48, .type = STORE_CHECK, .epoch = 1};

    open_on(sim_disk_new());
    ck_assert_int_eq(test_send(&ts, "T", 0, "kept", NULL), 0);
    RUN();
    test_store_close(&ts);
    open_on(disk); /* epoch 2 */
    e.offset = store_watermarks(ts.st).durable;
    e.synced = e.offset - 56; /* the start of the batch with START, the newest there is */
    test_store_close(&ts);
    envelope_encode(record, &e, seed_of(disk));
    ck_assert(sim_disk_poke(disk, SEGMENT_0, e.offset, record, sizeof record));
    open_on(disk);
    ck_assert_uint_eq(ts.recovery.cut_offset, e.offset);
    ck_assert_ptr_nonnull(strstr(ts.recovery.cut_reason, "older epoch"));
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "kept");
    shut();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/power_cut");
    TCase *tc = tcase_create("power_cut");

    tcase_add_test(tc, what_was_cut_stays_cut);
    tcase_add_test(tc, a_segment_that_a_killed_process_made_is_durable_before_it_is_used);
    tcase_add_test(tc, a_replaced_file_is_the_new_one_after_any_crash);
    tcase_add_test(tc, a_record_of_an_older_epoch_ends_the_log_even_where_it_fits);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
