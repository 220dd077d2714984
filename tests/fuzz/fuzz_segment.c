/*
 * A hostile data folder: a small store, damaged as the input says, opened, read, written to, opened
 * again, and looked at offline. Anything may be refused; nothing may crash, leak, or hang.
 *
 * Input: first byte bit 0: stopped or killed store; then commands, one byte each with operands
 *        (numbers little-endian):
 *   0  file u8, offset u16, len u8, bytes     overwrite
 *   1  offset u16                             give the record there a checksum that is right
 *   2  type u8, flags u8, len u8, payload     a valid record behind the last one
 *   3  file u8, size u16                      cut or grow a file
 *   4  file u8                                remove a file
 *   5                                         give the checkpoint a checksum that is right
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "core/store/checkpoint.h"
#include "core/store/inspect.h"
#include "core/store/store_format.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define SEGMENT   "log/00000000000000000000"
#define FILES_MAX 32u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct disk *bases[2];
static uint64_t base_ends[2];

struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t take(struct input *in)
{
    if (in->left == 0) {
        return 0;
    }
    in->left--;
    return *in->at++;
}

static uint16_t take16(struct input *in)
{
    uint16_t low = take(in);

    return (uint16_t)(low | take(in) << 8);
}

static struct slice take_bytes(struct input *in, size_t len)
{
    struct slice s = slice_of(in->at, len < in->left ? len : in->left);

    in->at += s.len;
    in->left -= s.len;
    return s;
}

/*
 * ------------------------------------------------------------------ an owner that believes nothing
 */

struct owner {
    struct store *st;
    uint64_t applied;
};

/* DECISION payload: half offset u64, payload size u32, tag i32, queue u8, topic. */
static int apply(void *arg, const struct store_record *rec, struct err_ctx *err)
{
    struct owner *owner = arg;

    owner->applied++;
    if (rec->type == STORE_DECISION && rec->is_replay && rec->payload.len >= 18) {
        const uint8_t *p = rec->payload.ptr;
        struct store_release release = {
            .half_offset = get_le64(p),
            .payload_size = get_le32(p + 8),
            .tag_code = (int32_t)get_le32(p + 12),
            .queue_id = p[16],
            .topic = slice_of(p + 17, rec->payload.len - 17),
        };
        int64_t number;
        return store_release(owner->st, &release, &number, err);
    }
    return 0;
}

static int load(void *arg, struct slice name, struct slice data, struct err_ctx *err)
{
    (void)arg;
    (void)name;
    (void)data;
    (void)err;
    return 0;
}

static int open_store(struct owner *owner, struct disk *disk)
{
    struct store_owner callbacks = {.arg = owner, .apply = apply, .checkpoint_load = load};
    struct store_config cfg;

    test_store_config(&cfg);
    *owner = (struct owner){.applied = 0};
    return store_open(disk, &cfg, &callbacks, &owner->st, NULL, NULL);
}

/* ------------------------------------------------------------------ the store to damage */

static void send(struct test_store *ts, enum store_type type, const char *topic, const char *body,
                 const char *key)
{
    struct test_message m = {
        .topic = topic, .body = slice_str(body), .tag = "x", .uniq = key, .keys = "k"};
    struct store_receipt r;

    CHECK(test_append(ts, type, &m, &r) == 0);
    CHECK(test_store_run(ts) == 0);
}

static void make_bases(void)
{
    for (int stopped = 0; stopped < 2; stopped++) {
        struct test_store ts;
        struct store_receipt r;

        bases[stopped] = sim_disk_new();
        CHECK(test_store_open(&ts, bases[stopped], NULL) == 0);
        send(&ts, STORE_MESSAGE, "A", "one", "U1");
        send(&ts, STORE_HALF, "A", "held", "U2");
        CHECK(test_store_checkpoint(&ts, true) == 0);
        send(&ts, STORE_MESSAGE, "B", "two", "U3");
        CHECK(test_store_checkpoint(&ts, true) == 0);
        store_group_begin(ts.st);
        CHECK(test_send(&ts, "B", 0, "three", NULL) == 0);
        CHECK(test_position(&ts, 3, &r) == 0);
        store_group_end(ts.st);
        CHECK(test_store_run(&ts) == 0);
        base_ends[stopped] = store_watermarks(ts.st).durable;
        if (stopped == 1) {
            CHECK(test_store_stop(&ts) == 0);
        }
        test_store_close(&ts);
    }
}

/* ------------------------------------------------------------------ damage */

struct files {
    char path[FILES_MAX][160];
    uint32_t count;
};

static void note_file(void *arg, const char *path, uint64_t size)
{
    struct files *files = arg;

    (void)size;
    if (files->count < FILES_MAX) {
        (void)snprintf(files->path[files->count++], sizeof files->path[0], "%s", path);
    }
}

static const char *pick_file(struct disk *disk, uint8_t which)
{
    static struct files files;

    files.count = 0;
    sim_disk_visit(disk, note_file, &files);
    return files.count == 0 ? "none" : files.path[which % files.count];
}

static uint32_t salt_of(struct disk *disk)
{
    struct store_format format;

    return store_format_read(disk, &format, NULL) == 0 ? format.salt : 0;
}

static void seal_record(struct disk *disk, uint64_t at)
{
    uint8_t record[4096];
    uint32_t length;

    at -= at % 8;
    if (!sim_disk_peek(disk, SEGMENT, at, record, sizeof record)) {
        return;
    }
    length = get_le32(record + 4);
    if (get_le32(record) == ENVELOPE_MAGIC && length >= ENVELOPE_SIZE && length <= sizeof record) {
        envelope_set_flags(record, record[29], envelope_seed(salt_of(disk)));
        (void)sim_disk_poke(disk, SEGMENT, at, record, length);
    }
}

static void add_record(struct disk *disk, struct input *in, uint64_t *end)
{
    uint8_t record[ENVELOPE_SIZE + 264];
    struct envelope e = {.type = take(in), .flags = take(in) & ENVELOPE_MORE, .epoch = 1};
    struct slice payload = take_bytes(in, take(in));

    e.length = (uint32_t)(ENVELOPE_SIZE + payload.len);
    e.offset = *end;
    e.synced = *end;
    if (payload.len > 0) {
        memcpy(record + ENVELOPE_SIZE, payload.ptr, payload.len);
    }
    envelope_encode(record, &e, envelope_seed(salt_of(disk)));
    if (sim_disk_poke(disk, SEGMENT, *end, record, (size_t)envelope_padded(e.length))) {
        *end += envelope_padded(e.length);
    }
}

static void seal_checkpoint(struct disk *disk)
{
    static uint8_t file[65536];
    uint64_t size = 0;

    if (!sim_disk_file_size(disk, CHECKPOINT_PATH, &size) || size < 8 || size > sizeof file ||
        !sim_disk_peek(disk, CHECKPOINT_PATH, 0, file, (size_t)size)) {
        return;
    }
    put_le32(file + size - 8, crc32c(0, file, (size_t)size - 8));
    (void)sim_disk_poke(disk, CHECKPOINT_PATH, 0, file, (size_t)size);
}

static void damage(struct disk *disk, struct input *in, uint64_t *end)
{
    switch (take(in) % 6) {
    case 0: {
        const char *path = pick_file(disk, take(in));
        uint16_t offset = take16(in);
        struct slice bytes = take_bytes(in, take(in));
        (void)sim_disk_poke(disk, path, offset, bytes.ptr, bytes.len);
        break;
    }
    case 1:
        seal_record(disk, take16(in));
        break;
    case 2:
        add_record(disk, in, end);
        break;
    case 3: {
        const char *path = pick_file(disk, take(in));
        (void)sim_disk_cut(disk, path, take16(in));
        break;
    }
    case 4:
        (void)sim_disk_remove(disk, pick_file(disk, take(in)));
        break;
    default:
        seal_checkpoint(disk);
        break;
    }
}

/* ------------------------------------------------------------------ use */

static void pull(struct store *st, const char *topic)
{
    struct store_pull_request req = {.topic = slice_str(topic), .count_max = 4, .bytes_max = 65536};
    struct store_pull_result res;
    struct buf body;
    int rc;

    buf_init(&body, 0);
    do {
        buf_clear(&body);
        rc = store_pull(st, &req, NULL, &body, &res, NULL);
        CHECK(rc != 0 || res.next_offset >= req.offset);
        req.offset = res.next_offset;
    } while (rc == 0 && (res.status == STORE_PULL_FOUND || res.status == STORE_PULL_NO_MATCH));
    buf_fini(&body);
}

static void look_up(struct store *st)
{
    struct store_key_query q = {
        .topic = SLICE_LIT("A"), .key = SLICE_LIT("k"), .end_ms = INT64_MAX, .max = 8};
    struct store_queue_ref queue = {SLICE_LIT("B"), 0};
    struct store_fetch *fetch = store_fetch_new(st);
    struct store_record rec;
    struct buf scratch;
    uint64_t offsets[8];
    uint32_t count;
    int64_t offset;
    int rc;

    CHECK(fetch != NULL);
    buf_init(&scratch, 0);
    while (store_query_key(st, &q, fetch, offsets, &count, NULL) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    while (store_offset_by_time(st, &queue, 1000, fetch, &offset, NULL) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    for (uint64_t at = 0; at < 1024; at += 8) {
        rc = store_read_record(st, at, NULL, &scratch, &rec, NULL);
        (void)rc; /* found, not found, damaged: all fine */
    }
    buf_fini(&scratch);
    store_fetch_free(&fetch);
}

static void use(struct disk *disk)
{
    for (int round = 0; round < 2; round++) {
        struct owner owner;
        struct flush_job *job;
        struct log_batch *batch;
        struct store_receipt r;
        int rc;

        if (open_store(&owner, disk) != 0) {
            return;
        }
        store_check(owner.st);
        pull(owner.st, "A");
        pull(owner.st, "B");
        look_up(owner.st);
        if (store_append_raw(owner.st, STORE_CHECK, SLICE_LIT("more"), NULL, &r) == 0) {
            batch = store_batch_take(owner.st);
            CHECK(log_batch_run(batch, NULL) == 0);
            CHECK(store_batch_done(owner.st, &batch, NULL) == 0);
        }
        job = store_flush_take(owner.st, true);
        if (job != NULL) {
            flush_job_run(job);
            rc = store_flush_done(owner.st, &job, NULL);
            (void)rc;
        }
        store_check(owner.st);
        store_close(&owner.st);
    }
}

static void inspect(struct disk *disk)
{
    struct inspect_verify how = {.arg = NULL};
    struct inspect_report report;
    struct inspect *in;

    if (inspect_open(disk, &in, NULL) == 0) {
        int rc = inspect_verify(in, &how, &report, NULL);
        (void)rc;
        inspect_close(&in);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {.at = data, .left = size};
    struct disk *disk;
    uint64_t end;
    int which;

    if (bases[0] == NULL) {
        make_bases();
    }
    which = take(&in) & 1;
    disk = sim_disk_clone(bases[which]);
    end = base_ends[which];
    for (int n = 0; in.left > 0 && n < 64; n++) {
        damage(disk, &in, &end);
    }
    inspect(disk);
    use(disk);
    disk_free(&disk);
    CHECK(mem_live_count() == 0);
    return 0;
}
