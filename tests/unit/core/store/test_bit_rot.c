/*
 * Every byte of a small store is damaged in turn. What may happen: the start is refused, a read is
 * refused, something is cut or rebuilt and that is said, or nothing depends on the byte. What may
 * not: a message that differs, is missing or is too many without a word.
 */
#include "core/base/mem.h"
#include "core/store/inspect.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define TAG_X 120 /* Java hash of "x" */

static struct test_store ts;

/* Everything a consumer, a look-up or the owner can see, as one text. */
struct picture {
    char text[16384];
    size_t len;
    int rc; /* the first error of a read */
};

static void add(struct picture *p, const char *text)
{
    int n = snprintf(p->text + p->len, sizeof p->text - p->len, "%s;", text);

    ck_assert(n >= 0 && (size_t)n < sizeof p->text - p->len);
    p->len += (size_t)n;
}

static bool only_x(void *arg, int64_t tag)
{
    (void)arg;
    return tag == TAG_X;
}

/* As a consumer that wants only one tag. */
static void add_filtered(struct picture *p, const char *topic)
{
    struct store_pull_request req = {
        .topic = slice_str(topic), .count_max = 32, .bytes_max = 65536, .filter = only_x};
    struct store_pull_result res;
    struct buf body;
    char text[64];
    uint32_t count = 0;
    int rc;

    buf_init(&body, 0);
    do {
        rc = store_pull(ts.st, &req, NULL, &body, &res, &ts.err);
        req.offset = res.next_offset;
        count += res.count;
    } while (rc == 0 && (res.status == STORE_PULL_FOUND || res.status == STORE_PULL_NO_MATCH));
    (void)snprintf(text, sizeof text, "%u tagged", count);
    add(p, text);
    p->rc = p->rc != 0 ? p->rc : rc;
    buf_fini(&body);
}

static int describe(void *arg, const struct record_view *view)
{
    char text[512];

    (void)snprintf(text, sizeof text, "%d %lld %lld %d %.*s %.*s", view->f.queue_id,
                   (long long)view->f.queue_offset, (long long)view->f.physical_offset,
                   view->f.sys_flag, SLICE_ARGS(view->f.body), SLICE_ARGS(view->f.properties));
    add(arg, text);
    return 0;
}

static void add_key(struct picture *p, const char *key)
{
    struct store_key_query q = {
        .topic = SLICE_LIT("A"), .key = slice_str(key), .end_ms = INT64_MAX, .max = 8};
    struct store_fetch *fetch = store_fetch_new(ts.st);
    uint64_t offsets[8];
    uint32_t count = 0;
    char text[64];
    int rc;

    while ((rc = store_query_key(ts.st, &q, fetch, offsets, &count, &ts.err)) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    (void)snprintf(text, sizeof text, "key %s: %u", key, count);
    add(p, text);
    p->rc = p->rc != 0 ? p->rc : rc;
    store_fetch_free(&fetch);
}

static void take_picture(struct picture *p)
{
    static const char *const topics[] = {"A", "B"};
    char text[64];

    *p = (struct picture){.len = 0};
    for (size_t i = 0; i < 2; i++) {
        int rc = test_pull(&ts, topics[i], 0, 0, describe, p);
        p->rc = p->rc != 0 ? p->rc : rc;
        add_filtered(p, topics[i]);
    }
    for (uint32_t i = 0; i < ts.owner.half_count; i++) {
        (void)snprintf(text, sizeof text, "half %llu %d",
                       (unsigned long long)ts.owner.halves[i].offset, ts.owner.halves[i].state);
        add(p, text);
    }
    (void)snprintf(text, sizeof text, "position %llu messages %llu",
                   (unsigned long long)ts.owner.position, (unsigned long long)ts.owner.messages);
    add(p, text);
    add_key(p, "k");
    add_key(p, "H1");
}

/*
 * One of everything, in several batches. With a checkpoint in the middle, and one at the end if it
 * is to be a clean stop.
 */
static struct disk *make_store(bool is_clean, uint64_t *end)
{
    struct disk *disk = sim_disk_new();
    struct test_message m = {.topic = "A", .body = SLICE_LIT("one"), .tag = "x", .keys = "k"};
    struct store_receipt r;
    struct store_receipt half[2];

    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ts.no_prepare = true; /* one segment is enough to be damaged */
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
    m = (struct test_message){.topic = "A", .body = SLICE_LIT("held"), .tag = "x", .uniq = "H1"};
    ck_assert_int_eq(test_half(&ts, &m, &half[0]), 0);
    m.uniq = "H2";
    ck_assert_int_eq(test_half(&ts, &m, &half[1]), 0);
    ck_assert_int_eq(test_store_run(&ts), 0);
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    ck_assert_int_eq(test_position(&ts, 1, &r), 0);
    ck_assert_int_eq(test_store_run(&ts), 0);
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0); /* the quiet queue goes to its file */
    ck_assert_int_eq(test_decide(&ts, true, &half[0].offset, 1, &r), 0);
    store_group_begin(ts.st);
    ck_assert_int_eq(test_send(&ts, "B", 0, "two", &r), 0);
    ck_assert_int_eq(test_position(&ts, 3, &r), 0);
    store_group_end(ts.st);
    ck_assert_int_eq(test_store_run(&ts), 0);
    ck_assert_int_eq(test_send(&ts, "A", 0, "three", &r), 0);
    ck_assert_int_eq(test_store_run(&ts), 0);
    *end = store_watermarks(ts.st).durable;
    ck_assert_int_eq(is_clean ? test_store_stop(&ts) : 0, 0);
    test_store_close(&ts);
    return disk;
}

struct rot {
    struct disk *whole;
    struct picture want;
    uint64_t flips;
    uint64_t refused;
    uint64_t unreadable;
    uint64_t reported;
    uint64_t harmless;
    uint64_t end; /* of the log */
    bool is_clean;
};

static void judge(struct rot *rot, const char *path, uint64_t at)
{
    static struct picture got;
    int rc;

    rot->flips++;
    if (ts.st == NULL) {
        rot->refused++;
        ck_assert_msg(ts.err.text[0] != '\0', "%s byte %llu: no line", path,
                      (unsigned long long)at);
        return;
    }
    take_picture(&got);
    rc = got.rc;
    if (rc != 0) {
        ck_assert_msg(rc == ESCROW_ECORRUPT, "%s byte %llu: read says %d %s", path,
                      (unsigned long long)at, rc, ts.err.text);
        rot->unreadable++;
    } else if (ts.recovery.cut_bytes > 0 && !rot->is_clean) {
        rot->reported++; /* the last batch before a kill: cut, and said so */
    } else {
        ck_assert_msg(strcmp(got.text, rot->want.text) == 0,
                      "%s byte %llu: silently different\n%s\n%s", path, (unsigned long long)at,
                      rot->want.text, got.text);
        rot->harmless++;
    }
}

static void rot_byte(struct rot *rot, const char *path, uint64_t at, uint8_t mask)
{
    struct disk *disk = sim_disk_clone(rot->whole);
    uint8_t byte;
    int rc;

    ck_assert(sim_disk_peek(disk, path, at, &byte, 1));
    byte ^= mask;
    ck_assert(sim_disk_poke(disk, path, at, &byte, 1));
    rc = test_store_open(&ts, disk, NULL);
    ck_assert(rc == 0 || rc == ESCROW_ECORRUPT || rc == ESCROW_EVERSION);
    judge(rot, path, at);
    test_store_close(&ts);
    disk_free(&disk);
}

static void rot_file(void *arg, const char *path, uint64_t size)
{
    struct rot *rot = arg;
    /* Of a segment, what is written and a little more; the other zeros are like these. */
    uint64_t end = strncmp(path, "log/", 4) == 0 ? rot->end + 64 : size;

    for (uint64_t at = 0; at < end; at++) {
        /*
         * The zeros of index pages are covered by the checksum of their page: every 16th of them
         * will do.
         */
        if (strncmp(path, "index/", 6) == 0 && at % 4096 > 400 && at % 16 != 0) {
            continue;
        }
        rot_byte(rot, path, at, (uint8_t)(1u << (at % 8)));
    }
}

static void rot_store(bool is_clean)
{
    static struct rot rot;

    rot = (struct rot){.is_clean = is_clean};
    rot.whole = make_store(is_clean, &rot.end);
    struct disk *copy = sim_disk_clone(rot.whole);
    ck_assert_int_eq(test_store_open(&ts, copy, NULL), 0);
    take_picture(&rot.want);
    ck_assert_int_eq(rot.want.rc, 0);
    test_store_close(&ts);
    disk_free(&copy);
    sim_disk_visit(rot.whole, rot_file, &rot);
    disk_free(&rot.whole);
    (void)printf(
        "%llu bytes damaged: %llu starts refused, %llu reads refused, %llu cut and reported, "
        "%llu harmless\n",
        (unsigned long long)rot.flips, (unsigned long long)rot.refused,
        (unsigned long long)rot.unreadable, (unsigned long long)rot.reported,
        (unsigned long long)rot.harmless);
    ck_assert_uint_gt(rot.refused, 400);
    ck_assert_uint_gt(rot.unreadable, 100);
    ck_assert_int_eq(mem_live_count(), 0);
}

START_TEST(every_byte_of_a_stopped_store)
{
    /* After a clean stop nothing may be cut: the log's end is known. */
    rot_store(true);
}
END_TEST

START_TEST(every_byte_of_a_killed_store)
{
    /* After a kill, damage in the last batch looks like a torn write: cut and reported. */
    rot_store(false);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/bit_rot");
    TCase *tc = tcase_create("bit_rot");

    tcase_add_test(tc, every_byte_of_a_stopped_store);
    tcase_add_test(tc, every_byte_of_a_killed_store);
    tcase_set_timeout(tc, 120);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
