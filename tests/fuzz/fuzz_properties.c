/*
 * A property string from a client. All readers agree about its pairs, and a rebuilt string has the
 * same ones. The same bytes serve as tag expression, as keys and as message id.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/msgid.h"
#include "core/proto/properties.h"
#include "core/proto/tags.h"
#include "escrow/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_pairs(struct slice props)
{
    struct props_iter iter = props_begin(props);
    struct props_known known;
    struct slice name, value, found;
    size_t count = 0;

    while (props_next(&iter, &name, &value)) {
        CHECK(name.len > 0);
        CHECK(value.len > 0);
        CHECK(props_find(props, name, &found));
        count++;
        if (count > 64) {
            break; /* each look-up walks the string */
        }
    }
    CHECK(props_scan(props, &known) == props_count(props));
    CHECK(props_find(props, prop_name(PROP_TAGS), &found) == (known.tags.len > 0));
    CHECK_IMPLIES(known.tags.len > 0, slice_eq(found, known.tags));
}

static void check_rebuilt(struct slice props)
{
    const struct slice drop[] = {prop_name(PROP_WAIT)};
    uint8_t *raw = mem_alloc(props.len + 1);
    struct props_iter a = props_begin(props);
    struct props_iter b;
    struct props_writer w;
    struct slice name, value, name_b, value_b;

    if (raw == NULL) {
        return;
    }
    props_writer_init(&w, raw, props.len + 1);
    props_put_except(&w, props, drop, 1);
    CHECK(w.error == 0);
    b = props_begin(slice_of(w.ptr, w.len));
    while (props_next(&a, &name, &value)) {
        if (!slice_eq(name, drop[0])) {
            CHECK(props_next(&b, &name_b, &value_b));
            CHECK(slice_eq(name, name_b));
            CHECK(slice_eq(value, value_b));
        }
    }
    CHECK(!props_next(&b, &name_b, &value_b));
    props_writer_init(&w, raw, props.len + 1);
    props_put_all(&w, props);
    CHECK(w.error == 0);
    CHECK(props_count(slice_of(w.ptr, w.len)) == props_count(props));
    mem_free(raw);
}

static void check_tags(struct slice expression)
{
    struct slice rest = expression;
    struct slice tag;
    struct tag_filter filter;
    int error = tag_filter_parse(expression, &filter);

    CHECK(error == 0 || error == ESCROW_EINVAL || error == ESCROW_ELIMIT);
    if (error != 0) {
        CHECK(!tag_filter_match(&filter, 0));
        return;
    }
    for (int i = 0; i < 64 && tag_expression_next(&rest, &tag); i++) {
        CHECK(tag_filter_match(&filter, tag_code(tag)));
        CHECK(tag_expression_match(expression, tag));
    }
}

static void check_id(struct slice text)
{
    char again[MSGID_TEXT_MAX + 1];
    struct record_host host;
    int64_t offset;
    uint32_t ms;

    if (msgid_decode(text, &host, &offset) == 0) {
        CHECK(msgid_encode(&host, offset, again) == text.len);
        CHECK(uniq_key_time(text, &ms) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct slice rest = in;
    struct slice key;

    if (size > PROPERTIES_LEN_MAX) {
        return 0;
    }
    check_pairs(in);
    check_rebuilt(in);
    check_tags(in);
    check_id(in);
    while (props_next_key(&rest, &key)) {
        CHECK(key.len > 0);
    }
    return 0;
}
