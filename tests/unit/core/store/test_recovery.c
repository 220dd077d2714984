/* Damaged, torn, exchanged and foreign data folders: each is told apart, and named in one line. */
#include "core/store/recovery.h"

#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/store/inspect.h"
#include "core/store/store_format.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define SEGMENT_0 "log/00000000000000000000"
#define SEGMENT_1 "log/00000000000001048576"

static struct disk *disk;
static struct test_store ts;

#define RUN() ck_assert_msg(test_store_run(&ts) == 0, "%s", ts.err.text)

static void open_new(void)
{
    disk = sim_disk_new();
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
}

static void shut(void)
{
    test_store_close(&ts);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

/* The open is refused with this code, and the line names the place. */
static void refused(int code, const char *place)
{
    struct disk *before = sim_disk_clone(disk);

    ck_assert_int_eq(test_store_open(&ts, disk, NULL), code);
    ck_assert_msg(strstr(ts.err.text, place) != NULL, "\"%s\" does not name %s", ts.err.text,
                  place);
    ck_assert_msg(sim_disk_equal(disk, before), "a refused open changed something");
    disk_free(&before);
}

/* The offline look finds this too, and nothing else. */
struct finding {
    uint32_t count;
    char text[ERR_TEXT_MAX];
};

static void note_finding(void *arg, int code, const char *text)
{
    struct finding *f = arg;

    ck_assert_int_lt(code, 0);
    f->count++;
    (void)snprintf(f->text, sizeof f->text, "%s", text);
}

static void found(const char *place)
{
    struct finding f = {.count = 0};
    struct inspect_verify how = {.finding = note_finding, .arg = &f};
    struct inspect_report report;
    struct inspect *in;
    struct err_ctx err;

    ck_assert_msg(inspect_open(disk, &in, &err) == 0, "%s", err.text);
    ck_assert_int_eq(inspect_verify(in, &how, &report, &err), 0);
    inspect_close(&in);
    ck_assert_uint_eq(report.findings, f.count);
    ck_assert_msg(f.count == 1 && strstr(f.text, place) != NULL, "%u findings, \"%s\"", f.count,
                  f.text);
}

/* Messages a, b, c in batches of their own; the physical offsets of their records. */
static void three_batches(uint64_t offsets[3])
{
    static const char *const bodies[] = {"a", "b", "c"};

    open_new();
    for (int i = 0; i < 3; i++) {
        struct store_receipt r;
        ck_assert_int_eq(test_send(&ts, "T", 0, bodies[i], &r), 0);
        offsets[i] = r.offset;
        RUN();
    }
}

static void flip(const char *path, uint64_t offset)
{
    uint8_t byte;

    ck_assert(sim_disk_peek(disk, path, offset, &byte, 1));
    byte ^= 0x10;
    ck_assert(sim_disk_poke(disk, path, offset, &byte, 1));
}

START_TEST(bit_rot_in_the_middle_is_corruption)
{
    /* Valid records that were written later say that the bad one had been durable. */
    uint64_t offsets[3];

    three_batches(offsets);
    test_store_close(&ts);
    flip(SEGMENT_0, offsets[1] + 50);
    refused(ESCROW_ECORRUPT, SEGMENT_0 " at offset ");
    shut();
}
END_TEST

START_TEST(a_lost_write_in_the_middle_is_corruption)
{
    /* The device said that it had written the second batch; zeros are there. */
    static const uint8_t zeros[4096];
    uint64_t offsets[3];

    three_batches(offsets);
    test_store_close(&ts);
    ck_assert(sim_disk_poke(disk, SEGMENT_0, offsets[1], zeros, (size_t)(offsets[2] - offsets[1])));
    refused(ESCROW_ECORRUPT, "no record begins here");
    shut();
}
END_TEST

START_TEST(a_misdirected_write_is_corruption)
{
    /* A whole valid record, in the place of another one. */
    uint64_t offsets[3];
    uint8_t record[512];
    size_t len;

    three_batches(offsets);
    test_store_close(&ts);
    len = (size_t)(offsets[2] - offsets[1]);
    ck_assert(sim_disk_peek(disk, SEGMENT_0, offsets[0], record, len));
    ck_assert(sim_disk_poke(disk, SEGMENT_0, offsets[1], record, len));
    refused(ESCROW_ECORRUPT, "record of another place");
    shut();
}
END_TEST

START_TEST(a_torn_tail_is_cut_and_reported)
{
    /*
     * The last batch, half written: cut, with place, size and reason; the rest is there, and the
     * next start is clean.
     */
    uint64_t offsets[3];

    three_batches(offsets);
    test_store_close(&ts);
    flip(SEGMENT_0, offsets[2] + 50);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_eq(ts.recovery.cut_offset, offsets[2]);
    ck_assert_uint_gt(ts.recovery.cut_bytes, 40);
    ck_assert_ptr_nonnull(strstr(ts.recovery.cut_reason, "wrong checksum"));
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b");
    test_store_close(&ts);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_eq(ts.recovery.cut_bytes, 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b");
    shut();
}
END_TEST

START_TEST(damage_in_the_last_batch_of_a_clean_stop_is_not_cut)
{
    /*
     * The checkpoint remembers the last record by its checksum: nothing is taken for a torn tail.
     * Damage to what it is known by is not told from another record.
     */
    uint64_t offsets[3];

    three_batches(offsets);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    flip(SEGMENT_0, offsets[2] + 32);
    refused(ESCROW_ECORRUPT, SEGMENT_0 " at offset ");
    flip(SEGMENT_0, offsets[2] + 32);
    flip(SEGMENT_0, offsets[2] + 50);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_eq(ts.recovery.cut_bytes, 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "ESCROW_ECORRUPT");
    shut();
}
END_TEST

START_TEST(damage_before_a_witness_is_corruption)
{
    /* In the quiet after work one record says that the last batch was durable, and only one. */
    uint64_t offsets[3];
    uint64_t tail;

    three_batches(offsets);
    tail = store_watermarks(ts.st).appended;
    ck_assert_int_eq(store_append_witness(ts.st), 0);
    RUN();
    ck_assert_uint_eq(store_watermarks(ts.st).appended, tail + ENVELOPE_SIZE);
    ck_assert_int_eq(store_append_witness(ts.st), 0);
    ck_assert_uint_eq(store_watermarks(ts.st).appended, tail + ENVELOPE_SIZE);
    test_store_close(&ts);
    flip(SEGMENT_0, offsets[2] + 50);
    refused(ESCROW_ECORRUPT, SEGMENT_0 " at offset ");
    flip(SEGMENT_0, offsets[2] + 50);
    flip(SEGMENT_0, tail + 5); /* damage to the witness itself costs nothing */
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b,c");
    ck_assert_int_eq(store_append_witness(ts.st), 0); /* the start has said it */
    ck_assert_uint_eq(store_watermarks(ts.st).appended, store_watermarks(ts.st).visible);
    shut();
}
END_TEST

START_TEST(garbage_lengths_do_not_lead_astray)
{
    /* Zero, tiny, odd, huge: a torn record whatever its length says. */
    static const uint32_t lengths[] = {0, 1, 39, 41, 4096, 0x7fffffff, 0xffffffff, 0x80000000};

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint64_t offsets[3];
        uint8_t raw[4];

        three_batches(offsets);
        test_store_close(&ts);
        put_le32(raw, lengths[i]);
        ck_assert(sim_disk_poke(disk, SEGMENT_0, offsets[2] + 4, raw, sizeof raw));
        ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
        ck_assert_uint_eq(ts.recovery.cut_offset, offsets[2]);
        ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b");
        shut();
    }
}
END_TEST

START_TEST(a_tail_of_zeros_is_a_torn_tail)
{
    /*
     * The file system had the size, not the data: blocks of the last batch read as zeros, later
     * ones do not.
     */
    uint64_t offsets[3];
    uint8_t zeros[64] = {0};

    three_batches(offsets);
    ck_assert_int_eq(test_send(&ts, "T", 0, "d", NULL), 0);
    ck_assert_int_eq(test_send(&ts, "T", 0, "e", NULL), 0);
    RUN();
    test_store_close(&ts);
    ck_assert(sim_disk_poke(disk, SEGMENT_0, offsets[2] + (offsets[2] - offsets[1]), zeros, 64));
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b,c");
    ck_assert_uint_gt(ts.recovery.cut_bytes, 100); /* "e" was whole and is cut with "d" */
    shut();
}
END_TEST

START_TEST(stale_bytes_of_an_older_epoch_are_not_read)
{
    /*
     * A record behind the end that is valid in all but its epoch, as a segment that was used before
     * would have: cut.
     */
    uint64_t offsets[3];
    uint8_t stale[512];
    uint64_t from;
    uint64_t at;

    three_batches(offsets);
    /* An old history: epoch 1 goes on for a while. Its last record is kept. */
    struct disk *old = sim_disk_clone(disk);
    test_store_close(&ts);
    ck_assert_int_eq(test_store_open(&ts, old, NULL), 0); /* epoch 2 */
    do {
        struct store_receipt r;
        ck_assert_int_eq(test_send(&ts, "T", 0, "stale", &r), 0);
        from = r.offset;
        RUN();
    } while (from < offsets[2] + 1200);
    test_store_close(&ts);
    ck_assert(sim_disk_peek(old, SEGMENT_0, from, stale, sizeof stale));
    disk_free(&old);
    /*
     * The history that counts: epochs 2 and 3, and it ends exactly where the stale record stands.
     */
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    test_store_close(&ts);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    at = store_watermarks(ts.st).durable;
    {
        uint8_t payload[2048] = {0};
        struct store_receipt r;
        size_t fill = (size_t)(from - at) - ENVELOPE_SIZE;
        ck_assert_uint_le(fill, sizeof payload);
        ck_assert_int_eq(store_append_raw(ts.st, STORE_CHECK, slice_of(payload, fill), NULL, &r),
                         0);
        ck_assert_uint_eq(r.wait_for, from);
        RUN();
    }
    test_store_close(&ts);
    ck_assert(sim_disk_poke(disk, SEGMENT_0, from, stale, sizeof stale));
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_eq(ts.recovery.cut_offset, from);
    ck_assert_ptr_nonnull(strstr(ts.recovery.cut_reason, "older epoch"));
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b,c");
    shut();
}
END_TEST

START_TEST(a_forged_record_in_a_body_is_not_believed)
{
    /*
     * A sender knows the physical offset of what it sends, but not the salt: an imitation in a torn
     * tail is no witness.
     */
    uint64_t offsets[3];
    uint8_t body[128] = {0};
    struct test_message m = {.topic = "T", .body = slice_of(body, sizeof body)};
    struct envelope e = {.length = 48, .type = STORE_MESSAGE, .epoch = 1};
    struct store_receipt r;
    uint64_t at;

    three_batches(offsets);
    at = store_watermarks(ts.st).appended + ENVELOPE_SIZE +
         88; /* of the body, in the record to come */
    e.offset = at + (8 - at % 8) % 8;
    e.synced = e.offset;
    envelope_encode(body + (e.offset - at), &e, envelope_seed(0));
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
    RUN();
    test_store_close(&ts);
    flip(SEGMENT_0, r.offset + 8);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_eq(ts.recovery.cut_offset, r.offset);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b,c");
    shut();
}
END_TEST

static void set_file(const char *path, const char *text)
{
    struct disk_file *f;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)};

    ck_assert_int_eq(disk_open(disk, path, DISK_WRITE | DISK_CREATE, &f, NULL), 0);
    ck_assert_int_eq(disk_truncate(f, 0, NULL), 0);
    ck_assert_int_eq(disk_pwritev(f, &iov, 1, 0, NULL), 0);
    disk_close(&f);
}

START_TEST(a_format_version_from_the_future_is_refused)
{
    /* Both versions are in the line. */
    open_new();
    ck_assert_int_eq(test_store_stop(&ts), 0);
    set_file("format", "escrow-store version=2 segments=sparse compression=zstd\n");
    refused(ESCROW_EVERSION,
            "format: the data folder has format version 2, this program knows version 1");
    set_file("format", "escrow-stork version=1\n");
    refused(ESCROW_ECORRUPT, "format: offset 0");
    set_file("format", "");
    refused(ESCROW_ECORRUPT, "format: offset 0");
    ck_assert(sim_disk_remove(disk, "format"));
    refused(ESCROW_ECORRUPT, "format: file is missing");
    shut();
}
END_TEST

/* Put a record of any type at the end of the log, as another version might have. e: its rest. */
static uint64_t add_envelope(struct envelope e, uint8_t *record)
{
    struct store_format format;

    e.offset = store_watermarks(ts.st).durable;
    test_store_close(&ts);
    ck_assert_int_eq(store_format_read(disk, &format, NULL), 0);
    envelope_encode(record, &e, envelope_seed(format.salt));
    ck_assert(sim_disk_poke(disk, SEGMENT_0, e.offset, record, e.length));
    return e.offset;
}

static uint64_t add_bytes(unsigned type, uint32_t epoch, uint8_t *record, uint32_t length)
{
    struct envelope e = {.length = length, .type = (uint8_t)type, .epoch = epoch};

    e.synced = store_watermarks(ts.st).durable;
    return add_envelope(e, record);
}

static uint64_t add_record(unsigned type, uint32_t epoch)
{
    uint8_t record[48] = {0};

    return add_bytes(type, epoch, record, sizeof record);
}

START_TEST(an_unknown_record_type_stops_the_start)
{
    /*
     * A valid record that this version cannot apply: neither skipped nor cut.
     */
    static const unsigned types[] = {0, 15, 255};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char want[64];
        uint64_t offsets[3];
        uint64_t at;

        three_batches(offsets);
        at = add_record(types[i], 1);
        (void)snprintf(want, sizeof want, "at offset %llu (log offset %llu): record type %u",
                       (unsigned long long)at, (unsigned long long)at, types[i]);
        refused(ESCROW_EVERSION, want);
        shut();
    }
}
END_TEST

START_TEST(a_start_of_a_later_version_stops_the_start)
{
    /* A later program may have written anything behind it. One of this version is no matter. */
    for (uint32_t version = STORE_FORMAT_VERSION; version <= STORE_FORMAT_VERSION + 1; version++) {
        uint8_t record[ENVELOPE_SIZE + 16] = {0};
        char want[128];
        uint64_t offsets[3];
        uint64_t at;

        three_batches(offsets);
        put_le32(record + ENVELOPE_SIZE + 8, version);
        at = add_bytes(STORE_START, 2, record, sizeof record);
        (void)snprintf(want, sizeof want,
                       "(log offset %llu): from here on the log has format version %u",
                       (unsigned long long)at, version);
        if (version > STORE_FORMAT_VERSION) {
            found(want);
            refused(ESCROW_EVERSION, want);
        } else {
            ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
            ck_assert_uint_eq(ts.recovery.epoch, 3);
        }
        shut();
    }
}
END_TEST

/* As after kill -9. */
static void kill_and_start(void)
{
    test_store_close(&ts);
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
}

/* Write CHECK records until the segment has `rest` bytes left. */
static void fill_but(uint64_t rest)
{
    static const uint8_t zeros[65536];
    uint64_t at = store_watermarks(ts.st).appended;
    uint64_t left = STORE_SEGMENT_BYTES_MIN - at % STORE_SEGMENT_BYTES_MIN;
    struct store_receipt r;

    while (left > rest) {
        uint64_t take = left - rest <= sizeof zeros ? left - rest : sizeof zeros / 2;
        int rc =
            store_append_raw(ts.st, STORE_CHECK, slice_of(zeros, take - ENVELOPE_SIZE), NULL, &r);
        ck_assert(rc == 0 || rc == ESCROW_ELIMIT); /* the next segment is not ready yet */
        left -= rc == 0 ? take : 0;
        RUN();
    }
}

START_TEST(an_epoch_begins_wherever_the_log_ended)
{
    /*
     * Also when the segment has no room for its START: a FILLER ends the segment then, and is still
     * of the epoch before. What follows is found by the starts after that.
     */
    open_new();
    for (uint64_t rest = 0; rest <= 72; rest += 8) {
        uint64_t end;
        fill_but(rest);
        kill_and_start();
        ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
        RUN();
        end = store_watermarks(ts.st).visible;
        kill_and_start();
        ck_assert_uint_eq(ts.recovery.cut_bytes, 0);
        ck_assert_uint_eq(ts.recovery.end, end);
    }
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "x,x,x,x,x,x,x,x,x,x");
    shut();
}
END_TEST

START_TEST(a_record_that_cannot_follow_is_cut)
{
    /* Of a later epoch without its START, or of an older batch than the one before: not ours. */
    for (int i = 0; i < 2; i++) {
        struct envelope old = {.length = 48, .type = STORE_CHECK, .epoch = 1};
        uint8_t record[48] = {0};
        uint64_t offsets[3];
        uint64_t at;
        three_batches(offsets);
        old.synced = offsets[1];
        at = i == 0 ? add_record(STORE_CHECK, 7) : add_envelope(old, record);
        ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
        ck_assert_uint_eq(ts.recovery.cut_offset, at);
        ck_assert_uint_eq(ts.recovery.epoch, 2);
        shut();
    }
}
END_TEST

START_TEST(a_payload_that_makes_no_sense_is_corruption)
{
    /* A valid envelope around bytes that are no message. */
    uint64_t offsets[3];

    three_batches(offsets);
    (void)add_record(STORE_MESSAGE, 1);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), ESCROW_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(ts.err.text, "payload of a MESSAGE record makes no sense"));
    shut();
}
END_TEST

START_TEST(an_owner_that_refuses_a_record_stops_the_start)
{
    /* The line names the record. */
    struct store_receipt r;
    static const uint8_t nonsense[] = {1, 1, 9, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0,
                                       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

    open_new();
    ck_assert_int_eq(
        store_append_decision(ts.st, slice_of(nonsense, sizeof nonsense), NULL, 0, NULL, &r), 0);
    ck_assert_int_eq(test_store_run(&ts), ESCROW_ECORRUPT);
    test_store_close(&ts);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), ESCROW_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(ts.err.text, "DECISION record: decides a half that is not there"));
    shut();
}
END_TEST

/* Fill segments 0 and 1 and a bit of 2. */
static void three_segments(void)
{
    char *body = mem_alloc(100001);

    memset(body, 'x', 100000);
    body[100000] = '\0';
    open_new();
    while (store_watermarks(ts.st).appended < 2 * STORE_SEGMENT_BYTES_MIN + 200000) {
        ck_assert_int_eq(test_send(&ts, "T", 0, body, NULL), 0);
        RUN();
    }
    mem_free(body);
}

START_TEST(a_missing_segment_is_named)
{
    /* In the middle, at the front, and behind the checkpoint. */
    three_segments();
    ck_assert_int_eq(test_store_stop(&ts), 0);
    struct disk *whole = disk;

    disk = sim_disk_clone(whole);
    ck_assert(sim_disk_remove(disk, SEGMENT_1));
    refused(ESCROW_ECORRUPT, SEGMENT_1 ": segment is missing");
    disk_free(&disk);

    disk = sim_disk_clone(whole);
    ck_assert(sim_disk_remove(disk, SEGMENT_0));
    refused(ESCROW_ECORRUPT, "segments are missing");
    disk_free(&disk);

    disk = sim_disk_clone(whole);
    ck_assert(sim_disk_remove(disk, "log/00000000000002097152"));
    (void)sim_disk_remove(disk, "log/00000000000003145728");
    refused(ESCROW_ECORRUPT, "segments are missing");
    disk_free(&disk);

    disk = sim_disk_clone(whole);
    ck_assert(sim_disk_cut(disk, SEGMENT_1, 4096));
    refused(ESCROW_ECORRUPT, SEGMENT_1 ": file has 4096 bytes");
    disk_free(&disk);

    disk = sim_disk_clone(whole);
    set_file("log/notes.txt", "hello");
    refused(ESCROW_ECORRUPT, "log/notes.txt: not a segment");
    disk_free(&disk);

    disk = whole;
    shut();
}
END_TEST

START_TEST(a_missing_last_segment_is_named)
{
    /*
     * Killed, no checkpoint: the FILLER that ends the segment before says that the log goes on.
     * What was prepared ahead may be missing: a crash never leaves that, but nothing was in it.
     */
    three_segments();
    test_store_close(&ts);
    (void)sim_disk_remove(disk, "log/00000000000003145728");
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    test_store_close(&ts);
    (void)sim_disk_remove(disk, "log/00000000000003145728");
    ck_assert(sim_disk_remove(disk, "log/00000000000002097152"));
    found("log/00000000000002097152: segment is missing: a FILLER");
    refused(ESCROW_ECORRUPT, "log/00000000000002097152: segment is missing: a FILLER");
    ck_assert(sim_disk_remove(disk, SEGMENT_1));
    found(SEGMENT_1 ": segment is missing");
    refused(ESCROW_ECORRUPT, SEGMENT_1 ": segment is missing: a FILLER");
    shut();
}
END_TEST

START_TEST(exchanged_segments_are_corruption)
{
    /* Valid records at another place: every offset is wrong. */
    uint8_t *a = mem_alloc(STORE_SEGMENT_BYTES_MIN);

    three_segments();
    test_store_close(&ts);
    ck_assert(sim_disk_peek(disk, SEGMENT_0, 0, a, STORE_SEGMENT_BYTES_MIN));
    ck_assert(sim_disk_poke(disk, SEGMENT_1, 0, a, STORE_SEGMENT_BYTES_MIN));
    refused(ESCROW_ECORRUPT, SEGMENT_1 " at offset 0");
    mem_free(a);
    shut();
}
END_TEST

START_TEST(a_log_older_than_its_checkpoint_is_corruption)
{
    /*
     * Somebody put back a copy of log/ and left the rest: the record that the checkpoint remembers
     * is not there.
     */
    uint64_t offsets[3];
    uint8_t *old = mem_alloc(STORE_SEGMENT_BYTES_MIN);

    three_batches(offsets);
    ck_assert(sim_disk_peek(disk, SEGMENT_0, 0, old, STORE_SEGMENT_BYTES_MIN));
    ck_assert_int_eq(test_send(&ts, "T", 0, "d", NULL), 0);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    ck_assert(sim_disk_poke(disk, SEGMENT_0, 0, old, STORE_SEGMENT_BYTES_MIN));
    refused(ESCROW_ECORRUPT, "the checkpoint was written with the record that was here");
    mem_free(old);
    shut();
}
END_TEST

START_TEST(a_checkpoint_of_another_store_is_corruption)
{
    /* Same layout, other salt. */
    uint64_t offsets[3];
    struct store_config cfg;
    struct disk *other;
    uint64_t size = 0;
    uint8_t *bytes;

    three_batches(offsets);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    other = disk;
    disk = sim_disk_new();
    test_store_config(&cfg);
    cfg.random_seed = 99;
    ck_assert_int_eq(test_store_open(&ts, disk, &cfg), 0);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    ck_assert(sim_disk_file_size(other, "checkpoint", &size));
    bytes = mem_calloc(1, (size_t)size + 1);
    ck_assert(sim_disk_peek(other, "checkpoint", 0, bytes, (size_t)size));
    ck_assert(sim_disk_cut(disk, "checkpoint", size));
    ck_assert(sim_disk_poke(disk, "checkpoint", 0, bytes, (size_t)size));
    refused(ESCROW_ECORRUPT, "checkpoint: belongs to another store");
    mem_free(bytes);
    disk_free(&other);
    shut();
}
END_TEST

/* Follow the advice of a refusal: nothing is lost by it. */
static void rebuild_without_checkpoint(const char *bodies)
{
    ck_assert(sim_disk_remove(disk, "checkpoint"));
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), bodies);
}

START_TEST(a_refusal_says_what_can_be_built_again)
{
    /* A damaged checkpoint: all of it is in the log. */
    uint64_t offsets[3];

    three_batches(offsets);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    flip("checkpoint", 30);
    found("delete the file checkpoint; the next start builds it and the queues again");
    refused(ESCROW_ECORRUPT, "delete the file checkpoint; the next start builds it");
    rebuild_without_checkpoint("a,b,c");
    shut();
}
END_TEST

START_TEST(a_refusal_says_what_cannot_be_built_again)
{
    /* The front of the log was given up: without its checkpoint nobody knows what was there. */
    three_segments();
    ck_assert_int_eq(test_store_retain(&ts, STORE_SEGMENT_BYTES_MIN), 0);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    flip("checkpoint", 30);
    found("restore the data folder from a backup");
    refused(ESCROW_ECORRUPT, "restore the data folder from a backup");
    ck_assert(sim_disk_remove(disk, "checkpoint"));
    refused(ESCROW_ECORRUPT, "its state cannot be rebuilt");
    shut();
}
END_TEST

START_TEST(derived_files_are_rebuilt)
{
    /* Checkpoint, queues and index deleted: all of it comes back from the log. */
    uint64_t offsets[3];

    three_batches(offsets);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    ck_assert(sim_disk_remove(disk, "checkpoint"));
    (void)sim_disk_remove(disk, "queues/T/0/00000000000000000000");
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_ge(ts.recovery.records, 4);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b,c");
    ck_assert_int_eq(test_store_stop(&ts), 0);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_eq(ts.recovery.records, 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b,c");
    shut();
}
END_TEST

START_TEST(a_read_only_disk_is_refused)
{
    /* One line; nothing is changed. Looking at it offline works. */
    uint64_t offsets[3];
    struct inspect *in;
    struct store_record rec;
    int count = 0;

    three_batches(offsets);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    sim_disk_set_read_only(disk, true);
    refused(ESCROW_EROFS, "lock");
    ck_assert_int_eq(inspect_open(disk, &in, NULL), 0);
    while (inspect_next(in, &rec, NULL) == 1) {
        count++;
    }
    ck_assert_int_eq(count, 4);
    inspect_close(&in);
    shut();
}
END_TEST

START_TEST(a_full_disk_at_the_first_start_is_refused)
{
    /* No room for a segment: one line, and a later start with room succeeds. */
    disk = sim_disk_new();
    sim_disk_set_capacity(disk, 100000);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), ESCROW_ENOSPC);
    sim_disk_set_capacity(disk, UINT64_MAX);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    shut();
}
END_TEST

START_TEST(any_operation_of_a_start_may_fail)
{
    /*
     * EIO and ENOSPC at the n-th operation, and EIO at the n-th read: an error, no leak, and the
     * next start has everything.
     */
    for (int kind = 0; kind < 4; kind++) {
        for (uint64_t n = 1;; n++) {
            uint64_t offsets[3];
            bool fired;
            int rc;

            three_batches(offsets);
            if (kind == 0) {
                ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
            }
            test_store_close(&ts);
            flip(SEGMENT_0, offsets[2] + 3); /* something to cut */
            if (kind == 0) {
                flip(SEGMENT_0, offsets[2] + 3);
            }
            if (kind < 3) {
                sim_disk_fault_at(disk, n,
                                  kind == 1 ? SIM_FAULT_ENOSPC
                                            : (kind == 2 ? SIM_FAULT_SHORT : SIM_FAULT_EIO));
            } else {
                sim_disk_read_fault_at(disk, n);
            }
            rc = test_store_open(&ts, disk, NULL);
            fired = sim_disk_fault_fired(disk);
            ck_assert(rc == 0 || ts.err.text[0] != '\0');
            sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
            sim_disk_read_fault_at(disk, 0);
            test_store_close(&ts);
            ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "kind %d n %u: %s", kind,
                          (unsigned)n, ts.err.text);
            ck_assert_str_eq(test_bodies(&ts, "T", 0), kind == 0 ? "a,b,c" : "a,b");
            shut();
            if (!fired) {
                ck_assert_uint_gt(n, 3);
                break;
            }
        }
    }
}
END_TEST

/* Messages until something fails; what was acknowledged, in *acked. The result of what failed. */
static int work(int *acked)
{
    static char big[300001];
    int rc = 0;

    memset(big, 'b', sizeof big - 1);
    *acked = 0;
    for (int i = 0; i < 6 && rc == 0; i++) {
        store_group_begin(ts.st);
        rc = test_send(&ts, "T", 0, i % 2 == 0 ? big : "small", NULL);
        if (rc != 0) {
            store_group_abort(ts.st);
            return rc;
        }
        store_group_end(ts.st);
        rc = test_store_run(&ts);
        *acked += rc == 0 ? 1 : 0;
        if (rc == 0 && i % 2 == 1) {
            rc = test_store_checkpoint(&ts, true);
        }
    }
    return rc;
}

static int count_one(void *arg, const struct record_view *view)
{
    (void)view;
    ++*(int *)arg;
    return 0;
}

START_TEST(what_a_failed_sync_left_is_written_again)
{
    /*
     * The kernel takes the pages of a failed sync for clean. The next start shows the record, works
     * behind it, and no power cut may take it away then.
     */
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        struct disk *after;

        open_new();
        ck_assert_int_eq(test_send(&ts, "T", 0, "first", NULL), 0);
        ck_assert_int_eq(test_store_run(&ts), 0);
        ck_assert_int_eq(test_send(&ts, "T", 0, "doubtful", NULL), 0);
        sim_disk_fault_at(disk, 2, SIM_FAULT_EIO); /* the write, then the sync */
        ck_assert_int_eq(test_store_run(&ts), ESCROW_EIO);
        ck_assert(sim_disk_fault_fired(disk));
        sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
        test_store_close(&ts);
        ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
        ck_assert_str_eq(test_bodies(&ts, "T", 0), "first,doubtful");
        ck_assert_int_eq(test_send(&ts, "T", 0, "acked", NULL), 0);
        ck_assert_int_eq(test_store_run(&ts), 0);
        after = sim_disk_crash(disk, (enum sim_crash)how, 7);
        test_store_close(&ts);
        ck_assert_msg(test_store_open(&ts, after, NULL) == 0, "%s: %s",
                      sim_crash_name((enum sim_crash)how), ts.err.text);
        ck_assert_str_eq(test_bodies(&ts, "T", 0), "first,doubtful,acked");
        test_store_close(&ts);
        disk_free(&after);
        shut();
    }
}
END_TEST

/*
 * Restart on the same disk, with or without a power cut: all of *acked is there, and it works on.
 */
static void expect_acked(struct disk *d, int acked, const char *what)
{
    int found = 0;

    ck_assert_msg(test_store_open(&ts, d, NULL) == 0, "%s: %s", what, ts.err.text);
    ck_assert_int_eq(test_pull(&ts, "T", 0, 0, count_one, &found), 0);
    ck_assert_int_ge(found, acked);
    ck_assert_int_eq(test_send(&ts, "T", 0, "on", NULL), 0);
    ck_assert_int_eq(test_store_run(&ts), 0);
    test_store_close(&ts);
}

START_TEST(any_operation_of_a_run_may_fail)
{
    /*
     * EIO, no space, half a write, at the n-th operation: the error is told, a full disk does not
     * stop the store for good, and whatever was acknowledged is there, after a kill and after a
     * power cut.
     */
    static const enum sim_fault faults[] = {SIM_FAULT_EIO, SIM_FAULT_ENOSPC, SIM_FAULT_SHORT,
                                            SIM_FAULT_DEAD};

    for (size_t kind = 0; kind < sizeof faults / sizeof faults[0]; kind++) {
        bool fired = true;
        for (uint64_t n = 1; fired; n++) {
            struct disk *after;
            int acked;
            int rc;

            open_new();
            sim_disk_fault_at(disk, n, faults[kind]);
            rc = work(&acked);
            fired = sim_disk_fault_fired(disk);
            ck_assert(fired || rc == 0);
            ck_assert(rc != 0 || acked == 6);
            test_store_close(&ts);
            sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
            if (n % 2 == 0) { /* first a start without a power cut */
                expect_acked(disk, acked, "killed");
                acked++;
            }
            after = sim_disk_crash(disk, (enum sim_crash)(n % SIM_CRASH_COUNT), n);
            expect_acked(after, acked, "power cut");
            disk_free(&after);
            shut();
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/recovery");
    TCase *tc = tcase_create("recovery");

    tcase_add_test(tc, bit_rot_in_the_middle_is_corruption);
    tcase_add_test(tc, a_lost_write_in_the_middle_is_corruption);
    tcase_add_test(tc, a_misdirected_write_is_corruption);
    tcase_add_test(tc, what_a_failed_sync_left_is_written_again);
    tcase_add_test(tc, any_operation_of_a_run_may_fail);
    tcase_add_test(tc, a_torn_tail_is_cut_and_reported);
    tcase_add_test(tc, damage_in_the_last_batch_of_a_clean_stop_is_not_cut);
    tcase_add_test(tc, damage_before_a_witness_is_corruption);
    tcase_add_test(tc, garbage_lengths_do_not_lead_astray);
    tcase_add_test(tc, a_tail_of_zeros_is_a_torn_tail);
    tcase_add_test(tc, stale_bytes_of_an_older_epoch_are_not_read);
    tcase_add_test(tc, a_forged_record_in_a_body_is_not_believed);
    tcase_add_test(tc, a_format_version_from_the_future_is_refused);
    tcase_add_test(tc, an_unknown_record_type_stops_the_start);
    tcase_add_test(tc, a_start_of_a_later_version_stops_the_start);
    tcase_add_test(tc, an_epoch_begins_wherever_the_log_ended);
    tcase_add_test(tc, a_record_that_cannot_follow_is_cut);
    tcase_add_test(tc, a_payload_that_makes_no_sense_is_corruption);
    tcase_add_test(tc, an_owner_that_refuses_a_record_stops_the_start);
    tcase_add_test(tc, a_missing_segment_is_named);
    tcase_add_test(tc, a_missing_last_segment_is_named);
    tcase_add_test(tc, exchanged_segments_are_corruption);
    tcase_add_test(tc, a_log_older_than_its_checkpoint_is_corruption);
    tcase_add_test(tc, a_checkpoint_of_another_store_is_corruption);
    tcase_add_test(tc, a_refusal_says_what_can_be_built_again);
    tcase_add_test(tc, a_refusal_says_what_cannot_be_built_again);
    tcase_add_test(tc, derived_files_are_rebuilt);
    tcase_add_test(tc, a_read_only_disk_is_refused);
    tcase_add_test(tc, a_full_disk_at_the_first_start_is_refused);
    tcase_add_test(tc, any_operation_of_a_start_may_fail);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
