/*
 * A PULL body from a server: walked record by record. What is accepted lies within its bytes, says
 * the same through the peek functions, and encodes to the same bytes again.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/record.h"
#include "escrow/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_bounds(const struct record_view *view)
{
    const uint8_t *end = view->record.ptr + view->record.len;

    CHECK(view->record.len >= RECORD_SIZE_MIN);
    CHECK(view->f.body.ptr + view->f.body.len < view->f.topic.ptr);
    CHECK(view->f.topic.ptr + view->f.topic.len + 2 == view->f.properties.ptr);
    CHECK(view->f.properties.ptr + view->f.properties.len == end);
    CHECK(view->f.properties.len <= PROPERTIES_LEN_MAX);
}

static void check_peeks(const struct record_view *view)
{
    const uint8_t *rec = view->record.ptr;

    CHECK(record_peek_size(rec) == view->record.len);
    CHECK(record_peek_queue_offset(rec) == view->f.queue_offset);
    CHECK(record_peek_store_ms(rec) == view->f.store_ms);
    CHECK(record_peek_reconsume_times(rec) == view->f.reconsume_times);
    CHECK(record_peek_prepared_offset(rec) == view->f.prepared_offset);
}

/* Encoded again it is the same record, except for a wrong CRC, a wide port, or a needless V2. */
static void check_again(const struct record_view *view)
{
    struct record_view again;
    uint8_t *rec;
    size_t size;
    int error;

    if (record_check(&view->f) != 0) {
        return;
    }
    size = record_size(&view->f);
    CHECK(size == view->record.len ||
          (view->magic == RECORD_MAGIC_V2 && size + 1 == view->record.len));
    rec = mem_alloc(size);
    if (rec == NULL) {
        return;
    }
    CHECK(record_encode(rec, &view->f) == size);
    record_patch_queue_offset(rec, view->f.queue_offset);
    record_patch_sys_flag(rec, view->f.sys_flag);
    record_patch_store_ms(rec, view->f.store_ms);
    error = record_decode(slice_of(rec, size), &again);
    CHECK(error == 0);
    CHECK(again.body_crc == record_body_crc(view->f.body));
    CHECK(again.f.sys_flag == view->f.sys_flag);
    CHECK(slice_eq(again.f.body, view->f.body));
    CHECK(slice_eq(again.f.topic, view->f.topic));
    CHECK(slice_eq(again.f.properties, view->f.properties));
    mem_free(rec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record_walk walk = {slice_of(data, size)};
    struct record_view view;
    int more;

    while ((more = record_walk_next(&walk, &view)) == 1) {
        check_bounds(&view);
        check_peeks(&view);
        check_again(&view);
    }
    CHECK(more == 0 || more == ESCROW_EPROTO);
    CHECK_IMPLIES(more == 0, walk.rest.len == 0);
    return 0;
}
