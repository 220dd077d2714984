/*
 * Shared by the tests of JSON bodies: a decoder under every truncation and under every failing
 * allocation.
 */
#ifndef TESTS_UNIT_CORE_PROTO_BODY_TEST_H
#define TESTS_UNIT_CORE_PROTO_BODY_TEST_H

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <jansson.h>

/* Decodes and finishes; returns what the decoder returned. */
typedef int decode_once_fn(struct slice body);

/* Every prefix is refused, reads nothing beyond its end and leaves nothing behind. */
static inline void ck_every_truncation(decode_once_fn *decode, const char *text)
{
    int64_t live = mem_live_count();

    for (size_t n = 0; n < strlen(text); n++) {
        struct slice part = copy_exact(slice_of(text, n));
        ck_assert_int_eq(decode(part), ESCROW_EPROTO);
        free_copy(part);
    }
    ck_assert_int_eq(decode(slice_str(text)), 0);
    ck_assert_int_eq(mem_live_count(), live);
}

/* Fail the n-th allocation for n = 1, 2, ... until none fires: ENOMEM and no leak, then success. */
static inline void ck_every_failing_allocation(decode_once_fn *decode, const char *text)
{
    int64_t live = mem_live_count();
    int fired;
    uint64_t n = 0;

    do {
        int error;
        mem_fault_at(++n);
        error = decode(slice_str(text));
        fired = mem_fault_fired();
        mem_fault_at(0);
        ck_assert_int_eq(error, fired ? ESCROW_ENOMEM : 0);
        ck_assert_int_eq(mem_live_count(), live);
    } while (fired);
    ck_assert_uint_gt(n, 2); /* the text and the nodes at least */
}

/* The text is JSON for a strict parser, so it has no fastjson peculiarities in it. */
static inline void ck_is_standard(struct slice text)
{
    json_t *value = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);

    ck_assert_ptr_nonnull(value);
    json_decref(value);
}

#endif
