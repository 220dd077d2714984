/*
 * The name server's key-value configuration, as its file has it. Length and checksum are put right
 * first: what they refuse is not interesting. What is accepted is the same entries when written and
 * read again, and an entry more or less is the only difference that a change makes.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "src/namesrv/kv_file.h"

#include <string.h>

#define SEALED_MIN 32u /* head and trailer */
#define AT_TOTAL   8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct hash_key key = {1, 2};

/* The file after `change` of what *r holds, read into *again. */
static void write_and_read(const struct registry *r, const struct kv_change *change,
                           struct registry *again)
{
    struct buf file;

    buf_init(&file, 0);
    kv_file_encode(r, change, &file);
    kv_file_seal(&file);
    CHECK(!buf_failed(&file));
    registry_init(again, key);
    CHECK(kv_file_decode(buf_slice(&file), again, NULL) == 0);
    buf_fini(&file);
}

static size_t count_of(const struct registry *r)
{
    struct registry_kv entry;
    size_t cursor = 0;
    size_t count = 0;

    while (registry_kv_next(r, &cursor, &entry)) {
        count++;
    }
    return count;
}

static void check_accepted(const struct registry *r)
{
    struct kv_change change = {
        .ns = SLICE_LIT("no such"), .key = SLICE_LIT("k"), .is_delete = true};
    struct registry again;
    struct registry_kv entry;
    struct slice value;
    size_t cursor = 0;
    size_t count = count_of(r);
    bool has;

    has = registry_kv_get(r, change.ns, change.key, &value) == 0;
    write_and_read(r, &change, &again);
    CHECK(count_of(&again) == count - has);
    while (registry_kv_next(&again, &cursor, &entry)) {
        CHECK(registry_kv_get(r, entry.ns, entry.key, &value) == 0);
        CHECK(slice_eq(value, entry.value));
    }
    registry_fini(&again);
    cursor = 0;
    if (registry_kv_next(r, &cursor, &entry)) {
        change = (struct kv_change){entry.ns, entry.key, SLICE_LIT("v"), false};
        write_and_read(r, &change, &again);
        CHECK(count_of(&again) == count);
        CHECK(registry_kv_get(&again, entry.ns, entry.key, &value) == 0);
        CHECK(slice_eq(value, change.value));
        registry_fini(&again);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct registry r;
    struct buf file;
    int rc;

    buf_init(&file, 0);
    buf_append(&file, data, size);
    if (size >= SEALED_MIN) {
        put_le64(file.ptr + AT_TOTAL, size);
        put_le32(file.ptr + size - 4, 0);
        kv_file_seal(&file);
    }
    registry_init(&r, key);
    rc = kv_file_decode(buf_slice(&file), &r, NULL);
    CHECK(rc == 0 || rc == ESCROW_ECORRUPT || rc == ESCROW_EVERSION);
    if (rc == 0) {
        check_accepted(&r);
    }
    registry_fini(&r);
    buf_fini(&file);
    return 0;
}
