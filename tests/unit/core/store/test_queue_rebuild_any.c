/*
 * Queue files damaged anywhere, of stores with any history, and logs damaged besides: what the log
 * has is rebuilt, and nothing that it does not have.
 */
#include "core/base/bytes.h"
#include "core/base/rand.h"
#include "tests/unit/core/store/queue_rebuild_test.h"
#include "txn/release.h"

#define SHOWN_MAX 4096

/* A half or held message that waits. */
struct waiting {
    uint64_t id;
    uint64_t place;
    bool is_half;
};

static struct waiting waiting[512];
static uint32_t waiting_count;
static struct rand rng;

static uint32_t below(uint32_t n)
{
    return (uint32_t)rand_below(&rng, n);
}

static void forget(uint64_t id)
{
    for (uint32_t i = 0; i < waiting_count; i++) {
        if (waiting[i].id == id) {
            memmove(&waiting[i], &waiting[i + 1], (waiting_count - i - 1) * sizeof waiting[0]);
            waiting_count--;
            return;
        }
    }
    ck_abort_msg("nobody waits");
}

static const char *const topics[] = {"T", "U", "V"};

static struct test_message random_message(uint32_t number)
{
    static uint8_t body[9000];

    put_le32(body, number);
    return (struct test_message){.topic = topics[below(3)],
                                 .queue_id = below(2),
                                 .body = slice_of(body, 4 + below(sizeof body - 4)),
                                 .tag = below(2) == 0 ? "tag" : NULL};
}

static void wait_for(const struct store_receipt *r, bool is_half)
{
    waiting[waiting_count++] =
        (struct waiting){.id = r->offset, .place = r->offset, .is_half = is_half};
}

static void decide_some(void)
{
    uint64_t ids[4];
    uint32_t count = 0;
    struct store_receipt r;

    for (uint32_t i = 0; i < waiting_count && count < 4; i++) {
        if (waiting[i].is_half && below(3) == 0) {
            ids[count++] = waiting[i].id;
        }
    }
    if (count > 0) {
        ck_assert_int_eq(test_decide(&ts, below(4) != 0, ids, count, &r), 0);
        for (uint32_t i = 0; i < count; i++) {
            forget(ids[i]);
        }
    }
}

static void release_some(void)
{
    static uint64_t ids[RELEASE_COUNT_MAX];
    struct store_receipt r;
    uint32_t count;

    ts.now_ms += 1 + below(2000);
    ck_assert_int_eq(test_release_due(&ts, ids, &count, &r), 0);
    for (uint32_t i = 0; i < count; i++) {
        forget(ids[i]);
    }
}

/* What has to be carried next so that the log may begin at `first`. */
static struct waiting *next_below(uint64_t first)
{
    struct waiting *found = NULL;

    for (uint32_t i = 0; i < waiting_count; i++) {
        if (waiting[i].id < first && waiting[i].place == waiting[i].id) {
            return &waiting[i];
        }
        if (waiting[i].place < first && (found == NULL || waiting[i].place < found->place)) {
            found = &waiting[i];
        }
    }
    return found;
}

static void carry_below(uint64_t first)
{
    struct waiting *w;
    struct store_receipt r;

    while ((w = next_below(first)) != NULL) {
        ck_assert_msg(test_carry(&ts, w->id, &r) == 0, "%s", ts.err.text);
        w->place = r.offset;
        RUN();
    }
}

static void retain_some(bool is_given_up)
{
    struct store_segment rows[2];
    uint32_t count = store_segments(ts.st, rows, 1 + below(2));

    if (count > 0) {
        uint64_t first = rows[count - 1].first + STORE_SEGMENT_BYTES_MIN;
        carry_below(first);
        if (is_given_up) {
            ck_assert_int_eq(test_store_retain(&ts, first), 0);
        }
    }
}

static void drop_topic(void)
{
    struct store_receipt r;

    ck_assert_int_eq(store_append_raw(ts.st, STORE_TOPIC, slice_str(topics[below(3)]), NULL, &r),
                     0);
}

static void random_step(uint32_t number)
{
    struct test_message m = random_message(number);
    struct store_receipt r;
    uint32_t dice = below(100);

    if (dice < 35) {
        ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
    } else if (dice < 55 && ts.owner.half_count < 450) {
        char uniq[16];
        (void)snprintf(uniq, sizeof uniq, "K%u", number);
        m.uniq = uniq;
        ck_assert_int_eq(test_half(&ts, &m, &r), 0);
        wait_for(&r, true);
    } else if (dice < 70) {
        ck_assert_int_eq(test_hold(&ts, &m, 1 + below(5000), &r), 0);
        wait_for(&r, false);
    } else if (dice < 80) {
        decide_some();
    } else if (dice < 95) {
        release_some();
    } else if (dice < 98) {
        retain_some(below(2) == 0);
    } else if (dice < 99) {
        drop_topic();
    }
    RUN();
}

/* What a reader of all queues is shown, in order. */
struct shown {
    uint32_t count;
    uint64_t rows[SHOWN_MAX];
};

static int show(void *arg, const struct record_view *view)
{
    struct shown *shown = arg;

    ck_assert_uint_lt(shown->count, SHOWN_MAX);
    shown->rows[shown->count++] = (uint64_t)view->f.queue_offset << 32 | get_le32(view->f.body.ptr);
    return 0;
}

static void show_all(struct shown *shown, bool is_log_damaged)
{
    shown->count = 0;
    for (uint32_t i = 0; i < 6; i++) {
        int rc = test_pull(&ts, topics[i / 2], i % 2, 0, show, shown);
        ck_assert_msg(rc == 0 || is_log_damaged, "%s/%u: %s", topics[i / 2], i % 2, ts.err.text);
    }
}

struct queue_copy {
    char path[64];
    uint64_t min;
    uint64_t size;
    uint8_t *bytes;
};

static void copy_file(struct queue_copy *c, uint32_t i)
{
    struct store_queue_ref ref = {.topic = slice_str(topics[i / 2]), .queue_id = i % 2};
    int64_t min;
    int64_t max;

    *c = (struct queue_copy){.size = 0};
    (void)snprintf(c->path, sizeof c->path, "queues/%s/%u/00000000000000000000", topics[i / 2],
                   i % 2);
    if (store_queue_range(ts.st, &ref, &min, &max) && min < max &&
        sim_disk_file_size(disk, c->path, &c->size) && c->size > 0) {
        c->min = (uint64_t)min;
        c->bytes = mem_alloc(c->size);
        ck_assert(sim_disk_peek(disk, c->path, 0, c->bytes, c->size));
    }
}

/*
 * The same entries, but for those that lead nowhere: where to, nobody knows any more. Where the log
 * is damaged, some are left as they are, and of a message whose copy is damaged the first record,
 * which is there still, is as good.
 */
static void check_file(const struct queue_copy *c, bool is_log_damaged)
{
    uint64_t low = store_watermarks(ts.st).first;
    uint8_t raw[QUEUE_ENTRY_SIZE];
    struct queue_entry was;
    struct queue_entry now;

    for (uint64_t n = c->min; c->bytes != NULL && n < c->size / QUEUE_ENTRY_SIZE; n++) {
        bool is_read = sim_disk_peek(disk, c->path, n * QUEUE_ENTRY_SIZE, raw, sizeof raw);
        bool is_sound = is_read && queue_entry_decode(raw, n, &now);
        bool is_same;
        ck_assert(queue_entry_decode(c->bytes + n * QUEUE_ENTRY_SIZE, n, &was));
        ck_assert(is_sound || is_log_damaged);
        is_same = is_sound && now.size_bytes == was.size_bytes && now.tag_hash == was.tag_hash &&
                  (is_log_damaged ? now.offset <= was.offset : now.offset == was.offset);
        ck_assert_msg(!is_sound || is_same || (was.offset < low && now.offset < low),
                      "%s: entry %d", c->path, (int)n);
    }
}

/* A part of the entries, or all of them. */
static void damage_file(const struct queue_copy *c)
{
    uint64_t entries = c->size / QUEUE_ENTRY_SIZE;

    if (c->bytes == NULL || entries <= c->min) {
        return;
    }
    switch (below(4)) {
    case 0:
        ck_assert(sim_disk_remove(disk, c->path));
        break;
    case 1:
        ck_assert(sim_disk_cut(disk, c->path, below((uint32_t)c->size)));
        break;
    default:
        for (uint32_t i = 1 + below(5); i > 0; i--) {
            uint64_t n = c->min + below((uint32_t)(entries - c->min));
            flip(c->path, n * QUEUE_ENTRY_SIZE + below(QUEUE_ENTRY_SIZE));
        }
        break;
    }
}

static void damage_log(void)
{
    uint64_t low = store_watermarks(ts.st).first;
    uint64_t end = store_watermarks(ts.st).durable;

    for (uint32_t i = 1 + below(3); i > 0; i--) {
        uint64_t at = low + below((uint32_t)(end - low));
        unsigned long long first = at - at % STORE_SEGMENT_BYTES_MIN;
        char path[64];
        (void)snprintf(path, sizeof path, "log/%020llu", first);
        flip(path, at - first);
    }
}

static void one_history(uint64_t seed, bool is_log_damaged)
{
    static struct shown before;
    static struct shown after;
    struct queue_copy copies[6];

    rand_init(&rng, seed);
    waiting_count = 0;
    begin();
    for (uint32_t i = 0; i < 400 + below(400); i++) {
        random_step(i);
    }
    into_files();
    show_all(&before, false);
    for (int round = 0; round < (is_log_damaged ? 1 : 4); round++) {
        for (uint32_t i = 0; i < 6; i++) {
            copy_file(&copies[i], i);
        }
        test_store_close(&ts);
        for (uint32_t i = 0; i < 6; i++) {
            damage_file(&copies[i]);
        }
        ck_assert_msg(test_store_open_txn(&ts, disk, NULL) == 0, "%s", ts.err.text);
        if (is_log_damaged) {
            damage_log();
        }
        show_all(&after, is_log_damaged);
        ck_assert(is_log_damaged || ts.left_count == 0);
        ck_assert(is_log_damaged || after.count == before.count);
        ck_assert(is_log_damaged ||
                  memcmp(before.rows, after.rows, before.count * sizeof before.rows[0]) == 0);
        for (uint32_t i = 0; i < 6; i++) {
            check_file(&copies[i], is_log_damaged);
            mem_free(copies[i].bytes);
        }
    }
    shut();
}

START_TEST(any_damage_to_queue_files_is_rebuilt_from_any_log)
{
    /*
     * Messages, decisions, releases, carried copies, topics that go and come back, a log that lost
     * its front: what a reader is shown is the same, and so are the files.
     */
    for (uint64_t seed = 1; seed <= 12; seed++) {
        one_history(seed, false);
    }
}
END_TEST

START_TEST(a_damaged_log_never_gives_a_wrong_entry)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        one_history(seed, true);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queue_rebuild_any");
    TCase *tc = tcase_create("queue_rebuild_any");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, any_damage_to_queue_files_is_rebuilt_from_any_log);
    tcase_add_test(tc, a_damaged_log_never_gives_a_wrong_entry);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
