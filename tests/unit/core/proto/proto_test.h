/*
 * Shared by the tests of core/proto: bytes from hex text, copies of exact size, random bytes,
 * main().
 */
#ifndef TESTS_UNIT_CORE_PROTO_PROTO_TEST_H
#define TESTS_UNIT_CORE_PROTO_PROTO_TEST_H

#include "core/base/buf.h"
#include "core/base/mem.h"
#include "core/base/rand.h"

#include <check.h>
#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Append the bytes of "00 0a ff"; blanks are skipped. */
static inline void put_hex(struct buf *out, const char *text)
{
    char pair[3] = {0};

    while (*text != '\0') {
        if (isspace((unsigned char)*text)) {
            text++;
            continue;
        }
        ck_assert(isxdigit((unsigned char)text[0]) && isxdigit((unsigned char)text[1]));
        memcpy(pair, text, 2);
        buf_append_u8(out, (uint8_t)strtoul(pair, NULL, 16));
        text += 2;
    }
}

/* A copy with nothing behind its last byte, so that a read beyond it is seen by the sanitizer. */
static inline struct slice copy_exact(struct slice bytes)
{
    uint8_t *copy = mem_alloc(bytes.len);

    ck_assert_ptr_nonnull(copy);
    if (bytes.len > 0) {
        memcpy(copy, bytes.ptr, bytes.len);
    }
    return slice_of(copy, bytes.len);
}

static inline void free_copy(struct slice copy)
{
    mem_free((void *)(uintptr_t)copy.ptr);
}

static inline void assert_slice(struct slice got, const char *want)
{
    ck_assert_uint_eq(got.len, strlen(want));
    ck_assert_mem_eq(got.ptr, want, got.len);
}

static inline void assert_same(struct slice got, struct slice want)
{
    ck_assert_uint_eq(got.len, want.len);
    if (want.len > 0) {
        ck_assert_mem_eq(got.ptr, want.ptr, want.len);
    }
}

static inline int run_tests(TCase *tests, const char *name)
{
    Suite *suite = suite_create(name);
    SRunner *runner;
    int failed;

    suite_add_tcase(suite, tests);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

#endif
