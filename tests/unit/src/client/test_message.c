#include "core/base/mem.h"
#include "core/proto/record.h"
#include "src/client/client_private.h"
#include "tests/unit/src/client/client_main.h"

#include <string.h>

/* Names of the broker's own and bytes that separate are refused; the message stays as it was. */
START_TEST(reserved_names_and_separators_are_refused)
{
    struct escrow_message *m = escrow_message_new("T", "body", 4);

    ck_assert_int_eq(escrow_message_set_property(m, "TRAN_MSG", "true"), ESCROW_EINVAL);
    ck_assert_int_eq(escrow_message_set_property(m, "UNIQ_KEY", "x"), ESCROW_EINVAL);
    ck_assert_int_eq(escrow_message_set_property(m, "a\001b", "x"), ESCROW_EINVAL);
    ck_assert_int_eq(escrow_message_set_property(m, "a", "x\002y"), ESCROW_EINVAL);
    ck_assert_int_eq(escrow_message_set_property(m, "a", ""), ESCROW_EINVAL);
    ck_assert_int_eq(escrow_message_set_tag(m, "\002"), ESCROW_EINVAL);
    ck_assert_uint_eq(m->properties.len, 0);
    ck_assert_ptr_null(m->tag);
    ck_assert_int_eq(escrow_message_set_property(m, "a", "x"), 0);
    ck_assert_uint_eq(m->properties.len, 4);
    escrow_message_free(&m);
    ck_assert_ptr_null(m);
    escrow_message_free(&m);
}
END_TEST

/*
 * The properties have a limit; what exceeds it is refused as a whole and what fits afterwards is
 * taken.
 */
START_TEST(too_many_properties_are_refused)
{
    static char value[20000];
    struct escrow_message *m = escrow_message_new("T", "body", 4);

    memset(value, 'v', sizeof value - 1);
    ck_assert_int_eq(escrow_message_set_property(m, "a", value), 0);
    ck_assert_int_eq(escrow_message_set_property(m, "b", value), ESCROW_ETOOBIG);
    ck_assert_int_eq(escrow_message_set_property(m, "c", "x"), 0);
    ck_assert_uint_eq(m->properties.len, 20002 + 4);
    escrow_message_free(&m);
}
END_TEST

/* What a producer would refuse is refused before anything is sent. */
START_TEST(topic_and_body_are_checked)
{
    struct escrow_producer p = {.body_max = 10};
    struct escrow_message *good = escrow_message_new("T", "0123456789", 10);
    struct escrow_message *big = escrow_message_new("T", "0123456789a", 11);
    struct escrow_message *empty = escrow_message_new("T", NULL, 0);
    struct escrow_message *topic = escrow_message_new("a/b", "x", 1);

    ck_assert_int_eq(message_check(&p, good), 0);
    ck_assert_int_eq(message_check(&p, big), ESCROW_ETOOBIG);
    ck_assert_int_eq(message_check(&p, empty), ESCROW_EINVAL);
    ck_assert_int_eq(message_check(&p, topic), ESCROW_EINVAL);
    escrow_message_free(&good);
    escrow_message_free(&big);
    escrow_message_free(&empty);
    escrow_message_free(&topic);
}
END_TEST

static struct escrow_message *full_message(void)
{
    struct escrow_message *m = escrow_message_new("T", "body", 4);

    ck_assert_ptr_nonnull(m);
    ck_assert_int_eq(escrow_message_set_tag(m, "tag"), 0);
    ck_assert_int_eq(escrow_message_set_keys(m, "k1 k2"), 0);
    ck_assert_int_eq(escrow_message_set_ordering_key(m, "order"), 0);
    ck_assert_int_eq(escrow_message_set_property(m, "name", "value"), 0);
    return m;
}

/* A copy has everything; whichever allocation fails, there is no copy and no leak. */
START_TEST(a_copy_is_complete_or_not_made)
{
    struct escrow_message *m = full_message();
    int64_t before = mem_live_count();
    struct escrow_message *copy = NULL;
    uint64_t n = 0;

    do {
        mem_fault_at(++n);
        copy = message_copy(m);
        ck_assert(copy == NULL || mem_fault_fired() == 0);
        ck_assert(copy != NULL || mem_live_count() == before);
    } while (copy == NULL);
    mem_fault_at(0);
    ck_assert_uint_gt(n, 5);
    ck_assert_str_eq(copy->topic, "T");
    ck_assert_str_eq(copy->tag, "tag");
    ck_assert_str_eq(copy->keys, "k1 k2");
    ck_assert_str_eq(copy->ordering_key, "order");
    ck_assert_uint_eq(copy->properties.len, m->properties.len);
    ck_assert_uint_ge(send_bytes(copy), 4 + 3 + 5 + 5 + m->properties.len);
    escrow_message_free(&copy);
    escrow_message_free(&m);
    ck_assert_int_lt(mem_live_count(), before);
}
END_TEST

/* A record from the network is input: cut anywhere it is an error or a message, never a crash. */
START_TEST(a_cut_record_is_not_a_delivery)
{
    static const uint8_t noise[64] = {0, 0, 0, 64, 0xda, 0xa3, 0x20, 0xa7, 1, 2, 3};

    for (size_t len = 0; len <= sizeof noise; len++) {
        struct escrow_delivery *d = NULL;
        int rc = delivery_new(slice_of(noise, len), "b", &d);
        ck_assert((rc == 0) == (d != NULL));
        delivery_free(&d);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {reserved_names_and_separators_are_refused,
                                  too_many_properties_are_refused, topic_and_body_are_checked,
                                  a_copy_is_complete_or_not_made, a_cut_record_is_not_a_delivery};

    return client_main("client_message", tests, sizeof tests / sizeof tests[0]);
}
