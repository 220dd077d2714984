#include "outbox/position.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/outbox/outbox_main.h"

static void snapshot_text(struct snapshot *s, const char *text)
{
    ck_assert_int_eq(snapshot_parse(s, slice_str(text)), 0);
}

static void sample(struct position *p, bool is_reading)
{
    position_init(p);
    p->db = (struct db_identity){UINT64_C(7312345678901234567), 3, 16384};
    p->reports = 1234567;
    snapshot_text(&p->old, "1000:1050:1000,1007,1049");
    if (is_reading) {
        p->is_reading = true;
        snapshot_text(&p->new, "1007:2000:1007,1999");
        p->last_order_id = 900;
        p->last_id = 898;
    }
}

static void check_round_trip(const struct position *p)
{
    struct position back;
    struct buf out;

    buf_init(&out, 0);
    position_init(&back);
    position_encode(p, &out);
    ck_assert(!buf_failed(&out));
    ck_assert_int_eq(position_decode(&back, buf_slice(&out)), 0);
    ck_assert(db_identity_equal(&back.db, &p->db));
    ck_assert_uint_eq(back.reports, p->reports);
    ck_assert_int_eq(back.is_reading, p->is_reading);
    ck_assert(snapshot_equal(&back.old, &p->old));
    ck_assert(!p->is_reading || snapshot_equal(&back.new, &p->new));
    ck_assert_uint_eq(back.last_order_id, p->last_order_id);
    ck_assert_uint_eq(back.last_id, p->last_id);
    ck_assert_uint_eq(back.replayed, p->replayed);
    position_fini(&back);
    buf_fini(&out);
}

START_TEST(what_was_encoded_is_decoded)
{
    /* Between differences, inside one, and the very first position. */
    struct position p;

    for (int is_reading = 0; is_reading <= 1; is_reading++) {
        sample(&p, is_reading != 0);
        check_round_trip(&p);
        p.replayed = 1; /* parked rows were published since */
        check_round_trip(&p);
        p.replayed = INT64_MAX;
        check_round_trip(&p);
        position_fini(&p);
    }
    position_init(&p);
    check_round_trip(&p);
    position_fini(&p);
}
END_TEST

START_TEST(the_bytes_are_as_documented)
{
    /* The layout in position.h, byte for byte: stored positions outlive programs. */
    static const uint8_t want[] = {1,
                                   3,
                                   0x88,
                                   0x77,
                                   0x66,
                                   0x55,
                                   0x44,
                                   0x33,
                                   0x22,
                                   0x11,
                                   3,
                                   0,
                                   0,
                                   0,
                                   0,
                                   0x40,
                                   0,
                                   0,
                                   /* reports */ 2,
                                   /* old 100:105:100,103 */ 105,
                                   5,
                                   2,
                                   0,
                                   3,
                                   /* new 103:110:103 */ 5,
                                   7,
                                   1,
                                   0,
                                   /* last */ 0xac,
                                   2,
                                   1,
                                   /* replayed */ 7};
    struct position p;
    struct buf out;

    position_init(&p);
    buf_init(&out, 0);
    p.db = (struct db_identity){UINT64_C(0x1122334455667788), 3, 16384};
    p.reports = 2;
    p.is_reading = true;
    snapshot_text(&p.old, "100:105:100,103");
    snapshot_text(&p.new, "103:110:103");
    p.last_order_id = 300;
    p.last_id = 299;
    p.replayed = 7;
    position_encode(&p, &out);
    ck_assert(slice_eq(buf_slice(&out), slice_of(want, sizeof want)));
    buf_fini(&out);
    position_fini(&p);
}
END_TEST

START_TEST(the_longest_lists_fit_into_what_a_broker_stores)
{
    /* SNAPSHOT_XIP_MAX ids in both snapshots, far apart. */
    uint64_t xip[SNAPSHOT_XIP_MAX];
    struct position p;
    struct buf out;

    for (size_t i = 0; i < SNAPSHOT_XIP_MAX; i++) {
        xip[i] = UINT64_C(1000000000000) + i * UINT64_C(1000000);
    }
    position_init(&p);
    p.is_reading = true;
    ck_assert_int_eq(snapshot_set(&p.old, 1, UINT64_C(5000000000000000), xip, SNAPSHOT_XIP_MAX), 0);
    ck_assert_int_eq(snapshot_set(&p.new, 1, UINT64_C(5000000000000001), xip, SNAPSHOT_XIP_MAX), 0);
    buf_init(&out, 0);
    p.replayed = INT64_MAX;
    position_encode(&p, &out);
    ck_assert_uint_le(out.len, POSITION_LEN_MAX);
    buf_fini(&out);
    check_round_trip(&p);
    position_fini(&p);
}
END_TEST

START_TEST(every_prefix_and_every_changed_byte_is_refused_or_another_position)
{
    /* No input is believed that is not exactly what encode makes. */
    struct position p;
    struct position back;
    struct buf out;

    sample(&p, true);
    buf_init(&out, 0);
    position_encode(&p, &out);
    for (size_t len = 0; len < out.len; len++) {
        position_init(&back);
        ck_assert_int_lt(position_decode(&back, slice_of(out.ptr, len)), 0);
        position_fini(&back);
    }
    for (size_t i = 0; i < out.len; i++) {
        for (int bit = 0; bit < 8; bit++) {
            out.ptr[i] ^= (uint8_t)(1u << bit);
            position_init(&back);
            if (position_decode(&back, buf_slice(&out)) == 0) {
                struct buf again;
                buf_init(&again, 0);
                position_encode(&back, &again);
                ck_assert(slice_eq(buf_slice(&again), buf_slice(&out)));
                buf_fini(&again);
            }
            position_fini(&back);
            out.ptr[i] ^= (uint8_t)(1u << bit);
        }
    }
    buf_append_u8(&out, 0);
    position_init(&back);
    ck_assert_int_eq(position_decode(&back, buf_slice(&out)), ESCROW_EPROTO);
    out.ptr[0] = 2;
    ck_assert_int_eq(position_decode(&back, buf_slice(&out)), ESCROW_EVERSION);
    position_fini(&back);
    buf_fini(&out);
    position_fini(&p);
}
END_TEST

START_TEST(noise_is_survived)
{
    /* Random bytes behind a valid head. */
    struct rand r;
    uint8_t bytes[200];

    rand_init(&r, 1);
    for (int round = 0; round < 20000; round++) {
        struct position p;
        size_t len = 18 + (size_t)rand_below(&r, 100);
        for (size_t i = 0; i < len; i++) {
            bytes[i] = (uint8_t)(rand_below(&r, 3) == 0 ? rand_u64(&r) : rand_below(&r, 4));
        }
        bytes[0] = 1;
        bytes[1] &= 3;
        position_init(&p);
        if (position_decode(&p, slice_of(bytes, len)) == 0) {
            check_round_trip(&p);
        }
        position_fini(&p);
    }
}
END_TEST

START_TEST(failed_allocations_leak_nothing)
{
    /* decode and copy with the n-th allocation failing. */
    struct position p;
    struct buf out;
    int64_t live;

    sample(&p, true);
    buf_init(&out, 0);
    position_encode(&p, &out);
    live = mem_live_count();
    for (uint64_t n = 1;; n++) {
        struct position back;
        struct position copy;
        int rc;
        position_init(&back);
        position_init(&copy);
        mem_fault_at(n);
        rc = position_decode(&back, buf_slice(&out));
        if (rc == 0) {
            rc = position_copy(&copy, &back);
        }
        mem_fault_at(0);
        position_fini(&back);
        position_fini(&copy);
        ck_assert_int_eq(mem_live_count(), live);
        if (rc == 0) {
            ck_assert_uint_gt(n, 4);
            break;
        }
        ck_assert_int_eq(rc, ESCROW_ENOMEM);
    }
    buf_fini(&out);
    position_fini(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/position");
    TCase *tc = tcase_create("position");

    tcase_add_test(tc, what_was_encoded_is_decoded);
    tcase_add_test(tc, the_bytes_are_as_documented);
    tcase_add_test(tc, the_longest_lists_fit_into_what_a_broker_stores);
    tcase_add_test(tc, every_prefix_and_every_changed_byte_is_refused_or_another_position);
    tcase_add_test(tc, noise_is_survived);
    tcase_add_test(tc, failed_allocations_leak_nothing);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
