#include "core/proto/compress.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/proto/record.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <string.h>

#define BODY_MAX (1u << 20)

static uint8_t body[BODY_MAX];

static struct slice body_of(size_t len, bool is_random)
{
    struct rand r;

    rand_init(&r, 7);
    for (size_t i = 0; i < len; i++) {
        body[i] = is_random ? (uint8_t)rand_u64(&r) : (uint8_t)("escrow "[i % 7]);
    }
    return slice_of(body, len);
}

static void check_round(enum compression how, size_t len, bool is_random, int level)
{
    struct slice in = body_of(len, is_random);
    struct buf packed;
    struct buf out;

    buf_init(&packed, 0);
    buf_init(&out, 0);
    buf_append_str(&out, "before");
    ck_assert_int_eq(compress_as(&packed, how, in, level), 0);
    ck_assert_int_eq(decompress(&out, how, buf_slice(&packed), BODY_MAX), 0);
    ck_assert(is_random || len < 4096 || packed.len < len / 10);
    ck_assert_uint_eq(out.len, 6 + len);
    ck_assert_int_eq(memcmp(out.ptr, "before", 6), 0);
    ck_assert(len == 0 || memcmp(out.ptr + 6, body, len) == 0);
    buf_fini(&out);
    buf_fini(&packed);
}

/*
 * What was compressed comes back, whatever its length and however well it can be compressed; what
 * this was built without says so, and there is no way to be compressed that has no name.
 */
START_TEST(bytes_come_back)
{
    static const enum compression ways[] = {COMPRESSION_ZLIB, COMPRESSION_LZ4, COMPRESSION_ZSTD};
    static const size_t lens[] = {0, 1, 7, 4096, 4097, 100000, BODY_MAX};
    struct buf none;

    buf_init(&none, 0);
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        int rc = compress_as(&none, ways[way], SLICE_EMPTY, 5);
        ck_assert(rc == 0 || (rc == ESCROW_ENOTSUP && way > 0));
        for (size_t i = 0; rc == 0 && i < sizeof lens / sizeof lens[0]; i++) {
            check_round(ways[way], lens[i], false, 5);
            check_round(ways[way], lens[i], true, 1);
            check_round(ways[way], lens[i], false, 9);
        }
    }
    ck_assert_int_eq(compress_as(&none, COMPRESSION_NONE, SLICE_EMPTY, 5), ESCROW_ENOTSUP);
    ck_assert_int_eq(compress_as(&none, COMPRESSION_UNKNOWN, SLICE_EMPTY, 5), ESCROW_ENOTSUP);
    buf_fini(&none);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

/* A little that stands for a lot is refused at the bound, and at one byte less than it needs. */
START_TEST(a_bomb_is_refused)
{
    struct slice in = body_of(BODY_MAX, false);
    struct buf packed;
    struct buf out;

    buf_init(&packed, 0);
    buf_init(&out, 0);
    ck_assert_int_eq(compress_as(&packed, COMPRESSION_ZLIB, in, 9), 0);
    ck_assert_uint_lt(packed.len, BODY_MAX / 100);
    ck_assert_int_eq(decompress(&out, COMPRESSION_ZLIB, buf_slice(&packed), BODY_MAX - 1),
                     ESCROW_ETOOBIG);
    ck_assert_int_eq(decompress(&out, COMPRESSION_ZLIB, buf_slice(&packed), 10), ESCROW_ETOOBIG);
    ck_assert_uint_eq(out.len, 0);
    ck_assert_int_eq(decompress(&out, COMPRESSION_ZLIB, buf_slice(&packed), BODY_MAX), 0);
    buf_fini(&out);
    buf_fini(&packed);
}
END_TEST

/*
 * Cut short, changed anywhere, or of another kind: an error, or (ADLER-32 aside) never other bytes.
 */
START_TEST(damaged_bytes_are_refused)
{
    struct slice in = body_of(3000, false);
    struct buf packed;
    struct buf out;

    buf_init(&packed, 0);
    buf_init(&out, 0);
    ck_assert_int_eq(compress_as(&packed, COMPRESSION_ZLIB, in, 5), 0);
    for (size_t len = 0; len < packed.len; len++) {
        ck_assert_int_ne(decompress(&out, COMPRESSION_ZLIB, slice_of(packed.ptr, len), BODY_MAX),
                         0);
    }
    for (size_t i = 0; i < packed.len; i++) {
        packed.ptr[i] ^= 0x10;
        buf_clear(&out);
        if (decompress(&out, COMPRESSION_ZLIB, buf_slice(&packed), BODY_MAX) == 0) {
            ck_assert_uint_eq(out.len, 3000);
            ck_assert_int_eq(memcmp(out.ptr, body, 3000), 0);
        }
        packed.ptr[i] ^= 0x10;
    }
    ck_assert_int_eq(decompress(&out, COMPRESSION_UNKNOWN, buf_slice(&packed), BODY_MAX),
                     ESCROW_ENOTSUP);
    buf_fini(&out);
    buf_fini(&packed);
}
END_TEST

/* "escrow escrow escrow ..." (70 bytes), as the tools of the two formats write it. */
static const uint8_t lz4_frame[] = {0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7, 0x11, 0x00,
                                    0x00, 0x00, 0x7f, 0x65, 0x73, 0x63, 0x72, 0x6f, 0x77,
                                    0x20, 0x07, 0x00, 0x27, 0x50, 0x63, 0x72, 0x6f, 0x77,
                                    0x20, 0x00, 0x00, 0x00, 0x00, 0xd9, 0x2a, 0xb4, 0x42};
static const uint8_t zstd_frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x24, 0x46, 0x6d, 0x00, 0x00,
                                     0x38, 0x65, 0x73, 0x63, 0x72, 0x6f, 0x77, 0x20, 0x01,
                                     0x00, 0x94, 0x54, 0x8c, 0x71, 0x4b, 0x9a, 0xad};

static void check_other(enum compression how, const uint8_t *bytes, size_t len)
{
    struct slice in = body_of(70, false);
    struct buf out;
    int rc;

    buf_init(&out, 0);
    rc = decompress(&out, how, slice_of(bytes, len), BODY_MAX);
    if (rc == ESCROW_ENOTSUP) { /* built without its library: says so, whatever it is given */
        ck_assert_int_eq(decompress(&out, how, SLICE_EMPTY, BODY_MAX), ESCROW_ENOTSUP);
        buf_fini(&out);
        return;
    }
    ck_assert_int_eq(rc, 0);
    ck_assert(slice_eq(buf_slice(&out), in));
    buf_clear(&out);
    ck_assert_int_eq(decompress(&out, how, slice_of(bytes, len), 70), 0);
    buf_clear(&out);
    ck_assert_int_eq(decompress(&out, how, slice_of(bytes, len), 69), ESCROW_ETOOBIG);
    for (size_t cut = 0; cut < len; cut++) {
        ck_assert_int_eq(decompress(&out, how, slice_of(bytes, cut), BODY_MAX), ESCROW_EPROTO);
    }
    ck_assert_uint_eq(out.len, 0);
    buf_fini(&out);
}

/* Frames of the other two are read, or refused by name; never half. */
START_TEST(frames_of_lz4_and_zstd_are_read_or_refused)
{
    check_other(COMPRESSION_LZ4, lz4_frame, sizeof lz4_frame);
    check_other(COMPRESSION_ZSTD, zstd_frame, sizeof zstd_frame);
}
END_TEST

/* A frame says how much memory its reader needs: 8 MiB are given, 16 MiB are not. */
START_TEST(a_frame_that_wants_much_memory_is_refused)
{
    uint8_t frame[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3, 0x09, 0x00, 0x00, 'x'};
    struct buf out;
    int rc;

    buf_init(&out, 0);
    rc = decompress(&out, COMPRESSION_ZSTD, slice_of(frame, sizeof frame), BODY_MAX);
    ck_assert(rc == 0 || rc == ESCROW_ENOTSUP); /* built without its library */
    ck_assert(rc != 0 || slice_eq_str(buf_slice(&out), "x"));
    buf_clear(&out);
    frame[5] = 14 << 3;
    ck_assert_int_eq(decompress(&out, COMPRESSION_ZSTD, slice_of(frame, sizeof frame), BODY_MAX),
                     rc == 0 ? ESCROW_EPROTO : ESCROW_ENOTSUP);
    buf_fini(&out);
}
END_TEST

/* The bits of SYSFLAG, as RocketMQ has them. */
START_TEST(flags_say_how)
{
    ck_assert_int_eq(compression_of(0), COMPRESSION_NONE);
    ck_assert_int_eq(compression_of(SYSFLAG_COMPRESS_LZ4), COMPRESSION_NONE);
    ck_assert_int_eq(compression_of(SYSFLAG_COMPRESSED), COMPRESSION_ZLIB);
    ck_assert_int_eq(compression_of(SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_ZLIB), COMPRESSION_ZLIB);
    ck_assert_int_eq(compression_of(SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_LZ4), COMPRESSION_LZ4);
    ck_assert_int_eq(compression_of(SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_ZSTD), COMPRESSION_ZSTD);
    ck_assert_int_eq(compression_of(SYSFLAG_COMPRESSED | 0x500), COMPRESSION_UNKNOWN);
    ck_assert_str_eq(compression_name(compression_of(1)), "zlib");
    for (enum compression how = COMPRESSION_NONE; how <= COMPRESSION_UNKNOWN; how++) {
        ck_assert_int_eq(compression_of(compression_flags(how)), how);
    }
    ck_assert_int_eq(compression_flags(COMPRESSION_ZLIB),
                     SYSFLAG_COMPRESSED); /* 4.9 knows no more */
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("compress");

    tcase_add_test(tc, bytes_come_back);
    tcase_add_test(tc, a_bomb_is_refused);
    tcase_add_test(tc, damaged_bytes_are_refused);
    tcase_add_test(tc, frames_of_lz4_and_zstd_are_read_or_refused);
    tcase_add_test(tc, a_frame_that_wants_much_memory_is_refused);
    tcase_add_test(tc, flags_say_how);
    return run_tests(tc, "core/proto/compress");
}
