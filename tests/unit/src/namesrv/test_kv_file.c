#include "src/namesrv/kv_file.h"

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/lib/sim_disk.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

static const struct hash_key key = {9, 10};

static struct kv_change set(const char *name, const char *value)
{
    return (struct kv_change){
        .ns = SLICE_LIT("n"), .key = slice_str(name), .value = slice_str(value)};
}

static void put(struct registry *r, const char *name, const char *value)
{
    ck_assert_int_eq(registry_kv_put(r, SLICE_LIT("n"), slice_str(name), slice_str(value)), 0);
}

/* "a=1,b=2", by key; "" when there is none. */
static const char *entries(const struct registry *r)
{
    static char text[64];
    size_t len = 0;

    text[0] = '\0';
    for (int letter = 'a'; letter <= 'z'; letter++) {
        char name = (char)letter;
        struct slice value;
        if (registry_kv_get(r, SLICE_LIT("n"), slice_of(&name, 1), &value) == 0) {
            len += (size_t)snprintf(text + len, sizeof text - len, "%s%c=%.*s", len == 0 ? "" : ",",
                                    name, SLICE_ARGS(value));
        }
    }
    return text;
}

/* The file of a=1, b=2 and a change. */
static void make(struct buf *out, const struct kv_change *change)
{
    struct registry r;

    registry_init(&r, key);
    put(&r, "a", "1");
    put(&r, "b", "2");
    buf_init(out, 0);
    kv_file_encode(&r, change, out);
    kv_file_seal(out);
    ck_assert(!buf_failed(out));
    registry_fini(&r);
}

static const char *decoded(struct slice file)
{
    struct registry r;
    const char *text;

    registry_init(&r, key);
    ck_assert_int_eq(kv_file_decode(file, &r, NULL), 0);
    text = entries(&r);
    registry_fini(&r);
    return text;
}

/* What decoding answers; an error has a line that names the file. */
static int judged(struct slice file)
{
    struct err_ctx err = {.code = 0};
    struct registry r;
    int rc;

    registry_init(&r, key);
    rc = kv_file_decode(file, &r, &err);
    ck_assert(rc == 0 || strncmp(err.text, KV_FILE_PATH ":", sizeof KV_FILE_PATH) == 0);
    registry_fini(&r);
    return rc;
}

START_TEST(a_file_says_what_there_is_after_a_change)
{
    /* An entry that is new, one that is another now, one that is gone. */
    const struct kv_change changes[] = {
        set("c", ""), set("a", "10"), {SLICE_LIT("n"), SLICE_LIT("b"), SLICE_EMPTY, true}};
    static const char *const expected[] = {"a=1,b=2,c=", "a=10,b=2", "a=1"};

    for (size_t i = 0; i < 3; i++) {
        struct buf file;
        make(&file, &changes[i]);
        ck_assert_str_eq(decoded(buf_slice(&file)), expected[i]);
        buf_fini(&file);
    }
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(a_damaged_file_is_refused)
{
    /* Every byte that is another, every length that is less, and one more. */
    struct kv_change change = set("c", "3");
    struct buf file;

    make(&file, &change);
    for (size_t i = 0; i < file.len; i++) {
        file.ptr[i] ^= 0x10;
        ck_assert_int_eq(judged(buf_slice(&file)), ESCROW_ECORRUPT);
        file.ptr[i] ^= 0x10;
        ck_assert_int_eq(judged(slice_of(file.ptr, i)), ESCROW_ECORRUPT);
    }
    ck_assert_int_eq(judged(buf_slice(&file)), 0);
    buf_append_u8(&file, 0);
    ck_assert_int_eq(judged(buf_slice(&file)), ESCROW_ECORRUPT);
    buf_fini(&file);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(a_file_that_a_program_wrote_wrong_is_refused)
{
    /* With a good checksum: another version, lengths, count and zero that cannot be, one twice. */
    static const struct {
        size_t at;
        uint8_t value;
        int rc;
    } wrong[] = {{4, 2, ESCROW_EVERSION},  {16, 4, ESCROW_ECORRUPT},  {16, 2, ESCROW_ECORRUPT},
                 {20, 1, ESCROW_ECORRUPT}, {24, 0, ESCROW_ECORRUPT},  {26, 0, ESCROW_ECORRUPT},
                 {28, 9, ESCROW_ECORRUPT}, {31, 80, ESCROW_ECORRUPT}, {25, 80, ESCROW_ECORRUPT}};
    struct kv_change change = set("c", "3");
    struct buf file;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        make(&file, &change);
        file.ptr[wrong[i].at] = wrong[i].value;
        kv_file_seal(&file);
        ck_assert_int_eq(judged(buf_slice(&file)), wrong[i].rc);
        buf_fini(&file);
    }
    make(&file, &change);
    ck_assert_mem_eq(file.ptr + 24 + 2 * 11, "\1\0\1\0\1\0\0\0", 8); /* each has 11 bytes */
    memcpy(file.ptr + 24, file.ptr + 24 + 11, 11);
    kv_file_seal(&file);
    ck_assert_int_eq(judged(buf_slice(&file)), ESCROW_ECORRUPT);
    buf_fini(&file);
}
END_TEST

START_TEST(failing_allocations_are_an_error)
{
    /* Each in turn, until none fails. */
    struct kv_change change = set("c", "3");
    struct buf file;
    bool fired = true;

    make(&file, &change);
    for (uint64_t n = 1; fired; n++) {
        struct registry r;
        int rc;
        registry_init(&r, key);
        mem_fault_at(n);
        rc = kv_file_decode(buf_slice(&file), &r, NULL);
        fired = mem_fault_fired();
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        registry_fini(&r);
    }
    buf_fini(&file);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

/* Write the entries of r and the change; it is then in r, too. */
static int write_change(struct disk *d, struct registry *r, const struct kv_change *change,
                        struct disk_file **lock, struct err_ctx *err)
{
    struct buf file;
    int rc;

    buf_init(&file, 0);
    kv_file_encode(r, change, &file);
    kv_file_seal(&file);
    rc = kv_file_write(d, buf_slice(&file), lock, err);
    if (rc == 0) {
        ck_assert_int_eq(registry_kv_put(r, change->ns, change->key, change->value), 0);
    }
    buf_fini(&file);
    return rc;
}

/* What is found on a disk, as a start finds it. */
static const char *found(struct disk *d)
{
    struct err_ctx err = {.code = 0};
    struct disk_file *lock = NULL;
    struct registry r;
    const char *text;

    registry_init(&r, key);
    if (kv_file_open(d, &r, &lock, &err) != 0) {
        ck_abort_msg("%s", err.text);
    }
    text = entries(&r);
    disk_close(&lock);
    registry_fini(&r);
    return text;
}

struct cuts {
    struct disk *disk;
    const char *before; /* either of them is found */
    const char *after;
    uint64_t count;
};

static void cut_here(void *arg, const struct sim_op *op)
{
    struct cuts *cuts = arg;

    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        struct disk *d = sim_disk_crash(cuts->disk, (enum sim_crash)how, op->number);
        const char *text = found(d);
        if (strcmp(text, cuts->before) != 0 && strcmp(text, cuts->after) != 0) {
            ck_abort_msg("cut before operation %llu, %s, %s: '%s'", (unsigned long long)op->number,
                         sim_op_name(op->kind), sim_crash_name((enum sim_crash)how), text);
        }
        disk_free(&d);
        cuts->count++;
    }
}

START_TEST(what_was_written_outlives_every_power_cut)
{
    /* At every operation the old or the new is found, afterwards the new, whatever is kept. */
    static const char *const steps[] = {"", "a=1", "a=1,b=2", "a=3,b=2"};
    const struct kv_change changes[] = {set("a", "1"), set("b", "2"), set("a", "3")};
    struct disk *disk = sim_disk_new();
    struct disk_file *lock = NULL;
    struct cuts cuts = {.disk = disk};
    struct registry r;

    registry_init(&r, key);
    ck_assert_int_eq(kv_file_open(disk, &r, &lock, NULL), 0);
    ck_assert_ptr_null(lock);
    ck_assert_uint_eq(sim_disk_op_count(disk), 0); /* nothing is made before there is an entry */
    for (size_t i = 0; i < 3; i++) {
        cuts.before = steps[i];
        cuts.after = steps[i + 1];
        sim_disk_set_hook(disk, cut_here, &cuts);
        ck_assert_int_eq(write_change(disk, &r, &changes[i], &lock, NULL), 0);
        sim_disk_set_hook(disk, NULL, NULL);
        for (int how = 0; how < SIM_CRASH_COUNT; how++) {
            struct disk *d = sim_disk_crash(disk, (enum sim_crash)how, 7);
            ck_assert_str_eq(found(d), steps[i + 1]);
            disk_free(&d);
        }
    }
    ck_assert_uint_gt(cuts.count, 50);
    disk_close(&lock);
    disk_free(&disk);
    registry_fini(&r);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(a_write_that_fails_leaves_the_old_file)
{
    /* Each operation in turn; the next write works, and is found. */
    const struct kv_change change = set("b", "2");
    bool fired = true;

    for (uint64_t n = 1; fired; n++) {
        struct disk *disk = sim_disk_new();
        struct disk_file *lock = NULL;
        struct err_ctx err = {.code = 0};
        struct registry r;
        int rc;
        registry_init(&r, key);
        sim_disk_fault_at(disk, n, n % 2 == 0 ? SIM_FAULT_SHORT : SIM_FAULT_EIO);
        rc = write_change(disk, &r, &change, &lock, &err);
        fired = sim_disk_fault_fired(disk);
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
        ck_assert_int_eq(rc != 0, fired);
        ck_assert(rc == 0 || err.text[0] != '\0');
        if (rc != 0) {
            struct disk *d = sim_disk_clone(disk);
            const char *text = found(d); /* the new one, if only the folder was not synced */
            ck_assert(text[0] == '\0' || strcmp(text, "b=2") == 0);
            disk_free(&d);
            ck_assert_int_eq(write_change(disk, &r, &change, &lock, &err), 0);
        }
        disk_close(&lock);
        ck_assert_str_eq(found(disk), "b=2");
        disk_free(&disk);
        registry_fini(&r);
    }
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(two_processes_do_not_share_a_folder)
{
    /* One that holds the lock; one that began when there was nothing; one that is gone. */
    const struct kv_change change = set("a", "1");
    struct disk *disk = sim_disk_new();
    struct disk_file *mine = NULL;
    struct disk_file *other = NULL;
    struct err_ctx err = {.code = 0};
    struct registry r;
    struct registry s;

    registry_init(&r, key);
    registry_init(&s, key);
    ck_assert_int_eq(kv_file_open(disk, &s, &other, &err), 0);
    ck_assert_int_eq(write_change(disk, &r, &change, &mine, &err), 0);
    ck_assert_int_eq(write_change(disk, &s, &change, &other, &err), ESCROW_ELOCKED);
    ck_assert_ptr_null(other);
    ck_assert_int_eq(kv_file_open(disk, &s, &other, &err), ESCROW_ELOCKED);
    ck_assert_ptr_nonnull(strstr(err.text, "another name server"));
    disk_close(&mine);
    ck_assert_int_eq(write_change(disk, &s, &change, &other, &err), ESCROW_ELOCKED);
    ck_assert_ptr_nonnull(strstr(err.text, "since this one was started"));
    ck_assert_ptr_null(other);
    ck_assert_int_eq(kv_file_open(disk, &s, &other, &err), 0);
    ck_assert_str_eq(entries(&s), "a=1");
    disk_close(&other);
    ck_assert(sim_disk_remove(disk, KV_FILE_LOCK)); /* somebody took it away */
    ck_assert_str_eq(found(disk), "a=1");
    disk_free(&disk);
    registry_fini(&r);
    registry_fini(&s);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(the_most_entries_fit_into_the_file)
{
    /* As many as may be, and as many bytes: what may be put can be written and read. */
    static char value[REGISTRY_KV_VALUE_MAX + 1];
    struct disk *disk = sim_disk_new();
    struct disk_file *lock = NULL;
    struct kv_change change = {.ns = SLICE_LIT("n"), .key = SLICE_LIT("none"), .is_delete = true};
    struct registry r;
    struct registry back;
    struct buf file;
    char name[16];
    int rc = 0;

    registry_init(&r, key);
    registry_init(&back, key);
    memset(value, 'x', sizeof value - 1);
    for (int i = 0; rc == 0; i++) {
        (void)snprintf(name, sizeof name, "k%d", i);
        rc = registry_kv_put(&r, SLICE_LIT("n"), slice_str(name), slice_str(i < 200 ? value : ""));
    }
    ck_assert_int_eq(rc, ESCROW_ELIMIT);
    ck_assert_uint_eq(r.kv.count, REGISTRY_KV_MAX);
    buf_init(&file, KV_FILE_BYTES_MAX);
    kv_file_encode(&r, &change, &file);
    kv_file_seal(&file);
    ck_assert(!buf_failed(&file));
    ck_assert_int_eq(kv_file_write(disk, buf_slice(&file), &lock, NULL), 0);
    disk_close(&lock);
    ck_assert_int_eq(kv_file_open(disk, &back, &lock, NULL), 0);
    ck_assert_uint_eq(back.kv.count, REGISTRY_KV_MAX);
    ck_assert_uint_eq(back.kv_bytes, r.kv_bytes);
    ck_assert(sim_disk_cut(disk, KV_FILE_PATH, KV_FILE_BYTES_MAX + 1));
    disk_close(&lock);
    registry_fini(&back);
    registry_init(&back, key);
    ck_assert_int_eq(kv_file_open(disk, &back, &lock, NULL), ESCROW_ECORRUPT);
    disk_close(&lock);
    buf_fini(&file);
    disk_free(&disk);
    registry_fini(&back);
    registry_fini(&r);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/namesrv/kv_file");
    TCase *tc = tcase_create("kv_file");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_file_says_what_there_is_after_a_change);
    tcase_add_test(tc, a_damaged_file_is_refused);
    tcase_add_test(tc, a_file_that_a_program_wrote_wrong_is_refused);
    tcase_add_test(tc, failing_allocations_are_an_error);
    tcase_add_test(tc, what_was_written_outlives_every_power_cut);
    tcase_add_test(tc, a_write_that_fails_leaves_the_old_file);
    tcase_add_test(tc, two_processes_do_not_share_a_folder);
    tcase_add_test(tc, the_most_entries_fit_into_the_file);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
