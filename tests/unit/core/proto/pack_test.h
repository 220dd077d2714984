/* Shared by the tests of MessagePack bodies: what every decoder has to survive. */
#ifndef TESTS_UNIT_CORE_PROTO_PACK_TEST_H
#define TESTS_UNIT_CORE_PROTO_PACK_TEST_H

#include "core/proto/body_pack.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

typedef int decode_body_fn(struct slice body);

/*
 * No prefix is accepted, nothing may follow, and no changed byte makes the decoder read outside or
 * trip a check.
 */
static inline void ck_hostile(decode_body_fn *decode, const struct buf *body)
{
    struct slice whole = copy_exact(buf_slice(body));
    uint8_t *bytes = (uint8_t *)(uintptr_t)whole.ptr;
    struct buf longer;

    ck_assert_int_eq(decode(whole), 0);
    for (size_t n = 0; n < whole.len; n++) {
        struct slice part = copy_exact(slice_of(whole.ptr, n));
        ck_assert_int_eq(decode(part), ESCROW_EPROTO);
        free_copy(part);
    }
    for (size_t i = 0; i < whole.len; i++) {
        uint8_t old = bytes[i];
        for (size_t value = i % 7; value < 256; value += 7) { /* others at the next bytes */
            int error;
            bytes[i] = (uint8_t)value;
            error = decode(whole);
            ck_assert(error <= 0);
        }
        bytes[i] = old;
    }
    buf_init(&longer, 0);
    buf_append_slice(&longer, whole);
    buf_append_u8(&longer, 0xc0);
    ck_assert_int_eq(decode(buf_slice(&longer)), ESCROW_EPROTO);
    buf_fini(&longer);
    free_copy(whole);
}

#endif
