/*
 * What the header targets have in common: decode one header; what is accepted is looked at with
 * every reader, written again in every encoding, read again, and must be the same.
 */
#ifndef TESTS_FUZZ_FUZZ_HEADER_H
#define TESTS_FUZZ_FUZZ_HEADER_H

#include "core/base/check.h"
#include "core/proto/header.h"
#include "escrow/errors.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_header_look(struct header *h)
{
    uint32_t i;

    CHECK(h->field_count <= HEADER_FIELDS_MAX);
    for (i = 0; i < h->field_count; i++) {
        const struct header_field *field = header_field_at(h, i);
        char key[300];
        struct slice text;
        int64_t i64;
        int32_t i32;
        bool truth;

        CHECK(field != NULL);
        CHECK(header_find(h, field->key) == field); /* keys are unique */
        if (field->key.len >= sizeof key || memchr(field->key.ptr, 0, field->key.len) != NULL) {
            continue;
        }
        (void)slice_to_cstr(field->key, key, sizeof key);
        CHECK(header_get_str(h, key, &text) == 0);
        CHECK(slice_eq(text, field->value));
        CHECK_IMPLIES(header_get_i32(h, key, &i32) == 0,
                      header_get_i64(h, key, &i64) == 0 && i64 == i32);
        CHECK(header_opt_bool(h, key, &truth) != ESCROW_ENOTFOUND);
    }
}

/* Write h in one encoding, read it back into `again`, compare. */
static void fuzz_header_again(struct header *h, enum header_type type, struct header *again)
{
    struct header_writer w;
    struct frame frame;
    struct buf out;
    uint32_t i;
    int rc;

    buf_init(&out, 0);
    header_begin(&w, &out, type, &(struct header_out){h->code, h->opaque, h->flag, h->remark});
    for (i = 0; i < h->field_count; i++) {
        header_put_slice(&w, h->fields[i].key, h->fields[i].value);
    }
    header_end(&w);
    rc = header_frame_end(&w, 0);
    if (rc != 0) { /* escaping may make a header too long, a code may need more than 16 bits */
        CHECK(rc == ESCROW_ETOOBIG || (rc == ESCROW_ENOTSUP && type == HEADER_ROCKETMQ));
        CHECK(out.len == 0);
        buf_fini(&out);
        return;
    }
    CHECK(frame_decode(buf_slice(&out), &frame) == 0);
    CHECK(header_decode(again, frame.type, frame.header) == 0);
    CHECK(again->code == h->code && again->opaque == h->opaque && again->flag == h->flag);
    CHECK(slice_eq(again->remark, h->remark));
    CHECK(again->field_count == h->field_count);
    for (i = 0; i < h->field_count; i++) {
        CHECK(slice_eq(again->fields[i].key, h->fields[i].key));
        CHECK(slice_eq(again->fields[i].value, h->fields[i].value));
    }
    buf_fini(&out);
}

static void fuzz_header(enum header_type type, const uint8_t *data, size_t size)
{
    struct header h;
    struct header again;
    int rc;

    header_init(&h);
    header_init(&again);
    rc = header_decode(&h, type, slice_of(data, size));
    CHECK(rc == 0 || rc == ESCROW_EPROTO || rc == ESCROW_ETOOBIG);
    CHECK_IMPLIES(rc != 0, h.field_count == 0 && h.code == 0);
    if (rc == 0) {
        fuzz_header_look(&h);
        fuzz_header_again(&h, HEADER_JSON, &again);
        fuzz_header_again(&h, HEADER_ROCKETMQ, &again);
        fuzz_header_again(&h, HEADER_MSGPACK, &again);
    }
    header_fini(&again);
    header_fini(&h);
}

#endif
