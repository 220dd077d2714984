/* Shared by the tests of core/filter: property strings from "name=value;..." and main(). */
#ifndef TESTS_UNIT_CORE_FILTER_FILTER_TEST_H
#define TESTS_UNIT_CORE_FILTER_FILTER_TEST_H

#include "core/base/buf.h"
#include "core/base/mem.h"
#include "tests/unit/core/proto/proto_test.h"

/* "a=1;b=x" as a message has it. The caller frees it with free_copy. */
static inline struct slice properties_of(const char *text)
{
    struct slice copy = copy_exact(slice_str(text));
    uint8_t *bytes = (uint8_t *)(uintptr_t)copy.ptr;
    bool is_name = true;

    for (size_t i = 0; i < copy.len; i++) {
        if (bytes[i] == ';') {
            bytes[i] = 0x02;
            is_name = true;
        } else if (bytes[i] == '=' && is_name) {
            bytes[i] = 0x01;
            is_name = false;
        }
    }
    return copy;
}

#endif
