#include "core/store/checkpoint.h"

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "tests/lib/sim_disk.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>

static const struct checkpoint_head sample_head = {.position = 4096,
                                                   .epoch = 7,
                                                   .salt = 0x01020304,
                                                   .is_clean = true,
                                                   .log_end = 5000,
                                                   .log_first = 1024,
                                                   .index_end = 4000};

/* Three sections: of any length, empty, with the longest name. */
static void write_sample(struct buf *b)
{
    struct checkpoint_writer w;

    buf_init(b, 0);
    checkpoint_begin(&w, b, &sample_head);
    checkpoint_section_begin(&w, "queues");
    buf_append_str(b, "thirteen byte");
    checkpoint_section_end(&w);
    checkpoint_section_begin(&w, "empty");
    checkpoint_section_end(&w);
    checkpoint_section_begin(&w, "a-name-of-thirty-one-characters");
    buf_append_le64(b, 42);
    checkpoint_section_end(&w);
    ck_assert_int_eq(checkpoint_end(&w), 0);
    checkpoint_seal(b);
}

static void check_sample(const struct checkpoint *c)
{
    struct slice bytes;

    ck_assert_uint_eq(c->head.position, sample_head.position);
    ck_assert_uint_eq(c->head.epoch, sample_head.epoch);
    ck_assert_uint_eq(c->head.salt, sample_head.salt);
    ck_assert(c->head.is_clean);
    ck_assert_uint_eq(c->head.log_end, sample_head.log_end);
    ck_assert_uint_eq(c->head.log_first, sample_head.log_first);
    ck_assert_uint_eq(c->head.index_end, sample_head.index_end);
    ck_assert_uint_eq(c->section_count, 3);
    ck_assert(checkpoint_find(c, "queues", &bytes));
    ck_assert(slice_eq_str(bytes, "thirteen byte"));
    ck_assert(checkpoint_find(c, "empty", &bytes));
    ck_assert_uint_eq(bytes.len, 0);
    ck_assert(checkpoint_find(c, "a-name-of-thirty-one-characters", &bytes));
    ck_assert_uint_eq(get_le64(bytes.ptr), 42);
    ck_assert(!checkpoint_find(c, "queue", &bytes));
    ck_assert_uint_eq(bytes.len, 0);
}

/* Change the file and make its checksum fit again: what a bug, not a disk, would do. */
static int decode_changed(const struct buf *b, size_t at, uint8_t value, struct checkpoint *out,
                          struct err_ctx *err)
{
    uint8_t *copy = mem_alloc(b->len);
    int rc;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, b->ptr, b->len);
    copy[at] = value;
    put_le32(copy + b->len - 8, crc32c(0, copy, b->len - 8));
    rc = checkpoint_decode(slice_of(copy, b->len), out, err);
    mem_free(copy);
    return rc;
}

START_TEST(what_was_written_is_read)
{
    /* Head and sections come back, in any number and of any length. */
    struct buf b;
    struct checkpoint c;

    write_sample(&b);
    ck_assert_int_eq(checkpoint_decode(buf_slice(&b), &c, NULL), 0);
    check_sample(&c);
    checkpoint_fini(&c);
    buf_fini(&b);
}
END_TEST

START_TEST(the_bytes_are_those_of_the_format)
{
    /* FORMAT.md, "checkpoint": a head without sections. */
    struct buf b;
    struct checkpoint_writer w;
    struct checkpoint_head head = {.position = 0x1122, .epoch = 3, .salt = 9, .index_end = 5};

    buf_init(&b, 0);
    checkpoint_begin(&w, &b, &head);
    ck_assert_int_eq(checkpoint_end(&w), 0);
    checkpoint_seal(&b);
    ck_assert_uint_eq(b.len, 72);
    ck_assert_mem_eq(b.ptr, "ESCP\1\0\0\0\x48\0\0\0\0\0\0\0\x22\x11\0\0\0\0\0\0", 24);
    ck_assert_uint_eq(get_le64(b.ptr + 24), 0);
    ck_assert_uint_eq(get_le64(b.ptr + 32), 5);
    ck_assert_uint_eq(get_le64(b.ptr + 40), 0);
    ck_assert_uint_eq(get_le32(b.ptr + 48), 3);
    ck_assert_uint_eq(get_le32(b.ptr + 52), 9);
    ck_assert_uint_eq(get_le64(b.ptr + 56), 0);
    ck_assert_uint_eq(get_le32(b.ptr + 64), crc32c(0, b.ptr, 64));
    ck_assert_uint_eq(get_le32(b.ptr + 68), 0);
    buf_fini(&b);
}
END_TEST

START_TEST(any_damage_is_found)
{
    /* Every bit, every cut, and bytes behind the end: ESCROW_ECORRUPT and nothing else. */
    struct buf b;
    struct checkpoint c;

    write_sample(&b);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        b.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_eq(checkpoint_decode(buf_slice(&b), &c, NULL), ESCROW_ECORRUPT);
        ck_assert_uint_eq(c.section_count, 0);
        b.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t len = 0; len < b.len; len++) {
        ck_assert_int_eq(checkpoint_decode(slice_of(b.ptr, len), &c, NULL), ESCROW_ECORRUPT);
    }
    buf_append_u8(&b, 0);
    ck_assert_int_eq(checkpoint_decode(buf_slice(&b), &c, NULL), ESCROW_ECORRUPT);
    buf_fini(&b);
}
END_TEST

START_TEST(a_file_that_lies_under_a_good_checksum_does_no_harm)
{
    /* Every byte with every value, checksum made to fit: refused, or taken within its bounds. */
    struct buf b;

    write_sample(&b);
    for (size_t at = 0; at < b.len - 8; at++) {
        for (unsigned value = 0; value < 256; value += 5) {
            struct checkpoint c;
            struct err_ctx err = {0};
            int rc = decode_changed(&b, at, (uint8_t)value, &c, &err);

            if (rc != 0 && rc != ESCROW_ECORRUPT && rc != ESCROW_EVERSION) {
                ck_abort_msg("byte %zu = %u: %d %s", at, value, rc, err.text);
            }
        }
    }
    buf_fini(&b);
}
END_TEST

START_TEST(a_newer_version_is_named_as_such)
{
    /* Only under a good checksum: damage is not mistaken for it. */
    struct buf b;
    struct checkpoint c;
    struct err_ctx err = {0};

    write_sample(&b);
    ck_assert_int_eq(decode_changed(&b, 4, 2, &c, &err), ESCROW_EVERSION);
    ck_assert_ptr_nonnull(strstr(err.text, "version 2"));
    b.ptr[4] = 2;
    ck_assert_int_eq(checkpoint_decode(buf_slice(&b), &c, &err), ESCROW_ECORRUPT);
    buf_fini(&b);
}
END_TEST

START_TEST(positions_that_contradict_each_other_are_refused)
{
    /* A log that begins behind the position; a clean end before it; an end without a clean stop. */
    static const struct checkpoint_head bad[] = {
        {.position = 100, .log_first = 101},
        {.position = 100, .is_clean = true, .log_end = 99},
        {.position = 100, .log_end = 100},
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct buf b;
        struct checkpoint c;
        struct checkpoint_writer w;

        buf_init(&b, 0);
        checkpoint_begin(&w, &b, &bad[i]);
        ck_assert_int_eq(checkpoint_end(&w), 0);
        checkpoint_seal(&b);
        ck_assert_int_eq(checkpoint_decode(buf_slice(&b), &c, NULL), ESCROW_ECORRUPT);
        buf_fini(&b);
    }
}
END_TEST

START_TEST(a_big_checkpoint_is_written_in_one_pass)
{
    /* 40 MB in small appends: the buffer doubles, so that copies stay below twice the size. */
    struct buf b;
    struct checkpoint c;
    struct checkpoint_writer w;
    struct slice bytes;

    buf_init(&b, 0);
    checkpoint_begin(&w, &b, &sample_head);
    checkpoint_section_begin(&w, "halves");
    for (uint64_t i = 0; i < 5 * 1000 * 1000; i++) {
        buf_append_le64(&b, i);
    }
    checkpoint_section_end(&w);
    ck_assert_int_eq(checkpoint_end(&w), 0);
    checkpoint_seal(&b);
    ck_assert_int_eq(checkpoint_decode(buf_slice(&b), &c, NULL), 0);
    ck_assert(checkpoint_find(&c, "halves", &bytes));
    ck_assert_uint_eq(bytes.len, UINT64_C(40) * 1000 * 1000);
    ck_assert_uint_eq(get_le64(bytes.ptr + bytes.len - 8), 5 * 1000 * 1000 - 1);
    ck_assert_ptr_eq(c.mem, NULL);
    buf_fini(&b);
}
END_TEST

START_TEST(a_buffer_that_cannot_grow_shows_at_the_end)
{
    /* Every place where it may run out of room: ESCROW_ENOMEM, no crash. */
    for (size_t limit = 1; limit < 300; limit++) {
        struct buf b;
        struct checkpoint_writer w;
        int rc;

        buf_init(&b, limit);
        checkpoint_begin(&w, &b, &sample_head);
        checkpoint_section_begin(&w, "one");
        buf_append_str(&b, "0123456789");
        checkpoint_section_end(&w);
        checkpoint_section_begin(&w, "two");
        checkpoint_section_end(&w);
        rc = checkpoint_end(&w);
        ck_assert_int_eq(rc, limit < 168 ? ESCROW_ENOMEM : 0);
        buf_fini(&b);
    }
}
END_TEST

/* A checkpoint without sections at `position`. */
static void write_small(struct buf *b, uint64_t position)
{
    struct checkpoint_head head = {.position = position};
    struct checkpoint_writer w;

    buf_init(b, 0);
    checkpoint_begin(&w, b, &head);
    ck_assert_int_eq(checkpoint_end(&w), 0);
}

START_TEST(a_failed_write_leaves_the_old_checkpoint)
{
    /* The n-th operation of a write fails, for every n: the old one is there, or the new one. */
    struct disk *d = sim_disk_new();
    struct buf b;
    struct checkpoint c;
    bool fired = true;
    uint64_t old = 0;
    uint64_t n;

    ck_assert_int_eq(checkpoint_read(d, &c, NULL), ESCROW_ENOTFOUND);
    write_sample(&b);
    ck_assert_int_eq(checkpoint_write(d, &b, NULL), 0);
    for (n = 1; fired; n++) {
        struct buf next;
        int rc;

        write_small(&next, 9999 + n);
        sim_disk_fault_at(d, n, SIM_FAULT_SHORT);
        rc = checkpoint_write(d, &next, NULL);
        fired = sim_disk_fault_fired(d);
        sim_disk_fault_at(d, 0, SIM_FAULT_EIO);
        ck_assert_int_eq(rc, fired ? ESCROW_EIO : 0);
        ck_assert_int_eq(checkpoint_read(d, &c, NULL), 0);
        old += c.head.position == sample_head.position ? 1 : 0;
        ck_assert(c.head.position == 9999 + n ||
                  (fired && c.head.position == sample_head.position));
        checkpoint_fini(&c);
        buf_fini(&next);
    }
    ck_assert_uint_ge(old, 4);
    buf_fini(&b);
    disk_free(&d);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

static void cut_here(void *arg, const struct sim_op *op)
{
    (void)op;
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        struct disk *after = sim_disk_crash(arg, (enum sim_crash)how, 3);
        struct checkpoint c;

        ck_assert_int_eq(checkpoint_read(after, &c, NULL), 0);
        ck_assert(c.head.position == sample_head.position || c.head.position == 9999);
        checkpoint_fini(&c);
        disk_free(&after);
    }
}

START_TEST(a_power_cut_leaves_the_old_or_the_new_checkpoint)
{
    /* P4, at every operation of a write, in every way; after it only the new one. */
    struct disk *d = sim_disk_new();
    struct disk *after;
    struct buf b;
    struct buf next;
    struct checkpoint c;

    write_sample(&b);
    ck_assert_int_eq(checkpoint_write(d, &b, NULL), 0);
    ck_assert(!sim_disk_has_pending(d));
    write_small(&next, 9999);
    sim_disk_set_hook(d, cut_here, d);
    ck_assert_int_eq(checkpoint_write(d, &next, NULL), 0);
    sim_disk_set_hook(d, NULL, NULL);
    after = sim_disk_crash(d, SIM_DROP_UNSYNCED, 1);
    ck_assert_int_eq(checkpoint_read(after, &c, NULL), 0);
    ck_assert_uint_eq(c.head.position, 9999);
    checkpoint_fini(&c);
    disk_free(&after);
    buf_fini(&b);
    buf_fini(&next);
    disk_free(&d);
}
END_TEST

START_TEST(every_failure_of_reading_is_an_error_and_no_leak)
{
    /* Disk, memory, a file that is there and empty. */
    struct disk *d = sim_disk_new();
    struct buf b;
    struct checkpoint c;
    int64_t live;

    write_sample(&b);
    ck_assert_int_eq(checkpoint_write(d, &b, NULL), 0);
    live = mem_live_count();
    sim_disk_read_fault_at(d, 1);
    ck_assert_int_eq(checkpoint_read(d, &c, NULL), ESCROW_EIO);
    ck_assert(sim_disk_fault_fired(d));
    mem_fault_at(1);
    ck_assert_int_eq(checkpoint_read(d, &c, NULL), ESCROW_ENOMEM);
    mem_fault_at(0);
    ck_assert(sim_disk_cut(d, CHECKPOINT_PATH, 0));
    ck_assert_int_eq(checkpoint_read(d, &c, NULL), ESCROW_ECORRUPT);
    ck_assert_int_eq(mem_live_count(), live);
    buf_fini(&b);
    disk_free(&d);
}
END_TEST

START_TEST(a_section_left_open_is_a_bug)
{
    /* checkpoint_end inside a section aborts. */
    struct buf b;
    struct checkpoint_writer w;

    buf_init(&b, 0);
    checkpoint_begin(&w, &b, &sample_head);
    checkpoint_section_begin(&w, "open");
    (void)!checkpoint_end(&w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/checkpoint");
    TCase *t = tcase_create("checkpoint");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, what_was_written_is_read);
    tcase_add_test(t, the_bytes_are_those_of_the_format);
    tcase_add_test(t, any_damage_is_found);
    tcase_add_test(t, a_file_that_lies_under_a_good_checksum_does_no_harm);
    tcase_add_test(t, a_newer_version_is_named_as_such);
    tcase_add_test(t, positions_that_contradict_each_other_are_refused);
    tcase_add_test(t, a_big_checkpoint_is_written_in_one_pass);
    tcase_add_test(t, a_buffer_that_cannot_grow_shows_at_the_end);
    tcase_add_test(t, a_failed_write_leaves_the_old_checkpoint);
    tcase_add_test(t, a_power_cut_leaves_the_old_or_the_new_checkpoint);
    tcase_add_test(t, every_failure_of_reading_is_an_error_and_no_leak);
    tcase_add_test_raise_signal(t, a_section_left_open_is_a_bug, SIGABRT);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
