/*
 * A checkpoint file as a start finds it: first as it is, then with its length and checksum made to
 * fit, so that the fields behind them are reached. What is accepted goes on to the owners of the
 * sections in core/store, which must take or refuse it without harm.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/checkpoint.h"
#include "core/store/key_index.h"
#include "core/store/queues.h"
#include "tests/lib/sim_disk.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_queues(struct disk *d, struct slice section)
{
    struct queues_options options = {.disk = d};
    struct queues_open_report report;
    struct queues *qs = NULL;
    struct err_ctx err = {0};
    int rc;

    CHECK(queues_new(&qs, &options) == 0);
    rc = queues_decode(qs, section, &err);
    CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    CHECK_IMPLIES(rc != 0, err.code == rc);
    queues_check(qs);
    if (rc == 0) {
        rc = queues_verify(qs, &report, &err); /* files that an empty disk does not have */
        CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    }
    if (rc == 0) {
        CHECK(queues_cut(qs, &report, &err) == 0);
    }
    queues_free(&qs);
}

static void try_index(struct disk *d, struct slice section)
{
    struct key_index_options options = {.disk = d};
    struct key_index_report report;
    struct key_index *ix = NULL;
    int rc = key_index_open(&ix, &options, section, &report, NULL);

    CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    if (rc == 0) {
        key_index_check(ix);
    }
    key_index_free(&ix);
}

static void try_file(struct disk *d, struct slice file)
{
    struct checkpoint ckpt;
    struct err_ctx err = {0};
    int rc = checkpoint_decode(file, &ckpt, &err);

    CHECK(rc == 0 || rc == ESCROW_ECORRUPT || rc == ESCROW_EVERSION);
    CHECK_IMPLIES(rc != 0, err.code == rc);
    for (uint32_t i = 0; i < ckpt.section_count; i++) {
        const struct checkpoint_section *section = &ckpt.sections[i];
        CHECK(section->bytes.ptr >= file.ptr);
        CHECK(section->bytes.len <= file.len);
        CHECK(section->bytes.ptr + section->bytes.len <= file.ptr + file.len);
        if (slice_eq_str(section->name, KEY_INDEX_SECTION)) {
            try_index(d, section->bytes);
        } else {
            try_queues(d, section->bytes);
        }
    }
    checkpoint_fini(&ckpt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk *d = sim_disk_new();

    try_file(d, slice_of(data, size));
    try_queues(d, slice_of(data, size));
    try_index(d, slice_of(data, size));
    if (size >= 72) {
        struct buf b;
        buf_init(&b, 0);
        buf_append(&b, data, size);
        CHECK(!buf_failed(&b));
        put_le32(b.ptr, get_le32((const uint8_t *)"ESCP"));
        put_le64(b.ptr + 8, size);
        put_le32(b.ptr + size - 4, 0);
        checkpoint_seal(&b);
        try_file(d, buf_slice(&b));
        buf_fini(&b);
    }
    disk_free(&d);
    return 0;
}
