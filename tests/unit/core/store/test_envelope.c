#include "core/store/envelope.h"

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

#define SEED_SALT 0x1234abcdu

static uint8_t record[64];

static struct envelope make(uint32_t length)
{
    struct envelope e = {.length = length,
                         .offset = 4096,
                         .synced = 4000,
                         .epoch = 7,
                         .type = STORE_CHECK,
                         .flags = ENVELOPE_MORE};

    for (uint32_t i = ENVELOPE_SIZE; i < length; i++) {
        record[i] = (uint8_t)(i * 3);
    }
    memset(record + length, 0xEE, sizeof record - length);
    envelope_encode(record, &e, envelope_seed(SEED_SALT));
    return e;
}

static enum envelope_verdict verify(size_t have, uint64_t offset, uint64_t room, size_t *need)
{
    struct envelope_source src = {.bytes = record,
                                  .have = have,
                                  .offset = offset,
                                  .room = room,
                                  .seed = envelope_seed(SEED_SALT)};
    struct envelope e;

    return envelope_verify(&src, &e, need);
}

START_TEST(the_bytes_are_those_of_the_table)
{
    /*
     * FORMAT.md, "Record": every field at its place, the checksum over salt, head and payload,
     * zeros behind.
     */
    uint8_t salt[4];
    uint32_t crc;

    (void)make(53);
    ck_assert_uint_eq(get_le32(record), 0x45534331);
    ck_assert_uint_eq(get_le32(record + 4), 53);
    ck_assert_uint_eq(get_le64(record + 8), 4096);
    ck_assert_uint_eq(get_le64(record + 16), 4000);
    ck_assert_uint_eq(get_le32(record + 24), 7);
    ck_assert_uint_eq(record[28], 4);
    ck_assert_uint_eq(record[29], 1);
    ck_assert_uint_eq(get_le16(record + 30), 0);
    ck_assert_uint_eq(get_le32(record + 36), 0);
    put_le32(salt, SEED_SALT);
    crc = crc32c(crc32c(crc32c(0, salt, 4), record, 32), record + 36, 53 - 36);
    ck_assert_uint_eq(get_le32(record + 32), crc);
    for (int i = 53; i < 56; i++) {
        ck_assert_uint_eq(record[i], 0);
    }
    ck_assert_uint_eq(record[56], 0xEE);
}
END_TEST

START_TEST(what_was_written_is_valid)
{
    /* Any length up to the padding; the fields come back. */
    for (uint32_t length = ENVELOPE_SIZE; length <= 56; length++) {
        struct envelope want = make(length);
        struct envelope_source src = {.bytes = record,
                                      .have = sizeof record,
                                      .offset = 4096,
                                      .room = 100,
                                      .seed = envelope_seed(SEED_SALT)};
        struct envelope got;
        size_t need;

        ck_assert_int_eq(envelope_verify(&src, &got, &need), ENVELOPE_VALID);
        ck_assert_uint_eq(got.length, want.length);
        ck_assert_uint_eq(got.offset, want.offset);
        ck_assert_uint_eq(got.synced, want.synced);
        ck_assert_uint_eq(got.epoch, want.epoch);
        ck_assert_uint_eq(got.type, want.type);
        ck_assert_uint_eq(got.flags, want.flags);
        ck_assert_uint_eq(envelope_padded(length) % 8, 0);
    }
}
END_TEST

START_TEST(every_damaged_bit_is_found)
{
    /* Envelope, payload, padding. */
    size_t need = 0;

    (void)make(53);
    for (unsigned bit = 0; bit < 56 * 8; bit++) {
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert_int_ne(verify(56, 4096, 100, &need), ENVELOPE_VALID);
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_int_eq(verify(56, 4096, 100, &need), ENVELOPE_VALID);
}
END_TEST

START_TEST(a_record_is_valid_only_where_it_was_written)
{
    /* Another offset, too little room in the segment, another store's salt. */
    struct envelope_source src = {.bytes = record,
                                  .have = 56,
                                  .offset = 4096,
                                  .room = 100,
                                  .seed = envelope_seed(SEED_SALT + 1)};
    struct envelope e;
    size_t need = 0;

    (void)make(53);
    ck_assert_int_eq(verify(56, 8192, 100, &need), ENVELOPE_OFFSET);
    ck_assert_int_eq(verify(48, 4096, 48, &need), ENVELOPE_LENGTH);
    ck_assert_int_eq(verify(32, 4096, 32, &need), ENVELOPE_LENGTH);
    ck_assert_int_eq(envelope_verify(&src, &e, &need), ENVELOPE_CHECKSUM);
}
END_TEST

START_TEST(a_short_read_says_how_much_is_needed)
{
    /* First the envelope, then all of it; a huge length is refused before anybody reads for it. */
    size_t need = 0;

    (void)make(53);
    ck_assert_int_eq(verify(10, 4096, 100, &need), ENVELOPE_SHORT);
    ck_assert_uint_eq(need, ENVELOPE_SIZE);
    ck_assert_int_eq(verify(40, 4096, 100, &need), ENVELOPE_SHORT);
    ck_assert_uint_eq(need, 56);
    put_le32(record + 4, ENVELOPE_LENGTH_MAX + 1);
    ck_assert_int_eq(verify(40, 4096, UINT64_C(1) << 32, &need), ENVELOPE_LENGTH);
    put_le32(record + 4, UINT32_MAX);
    ck_assert_int_eq(verify(40, 4096, UINT64_MAX, &need), ENVELOPE_LENGTH);
}
END_TEST

START_TEST(flags_can_be_changed)
{
    /* The last record of a group loses MORE, and is valid again. */
    size_t need = 0;

    (void)make(53);
    envelope_set_flags(record, 0, envelope_seed(SEED_SALT));
    ck_assert_uint_eq(record[29], 0);
    ck_assert_int_eq(verify(56, 4096, 100, &need), ENVELOPE_VALID);
}
END_TEST

START_TEST(types_have_names)
{
    /* Known ones, and numbers from elsewhere. */
    ck_assert_str_eq(store_type_name(STORE_MESSAGE), "MESSAGE");
    ck_assert_str_eq(store_type_name(STORE_GROUP), "GROUP");
    ck_assert_str_eq(store_type_name(99), "?");
    ck_assert(store_type_is_known(STORE_START));
    ck_assert(store_type_is_known(STORE_RELEASE));
    ck_assert(store_type_is_known(STORE_HELD));
    ck_assert(!store_type_is_known(0));
    ck_assert(!store_type_is_known(15));
    for (int v = ENVELOPE_VALID; v <= ENVELOPE_CHECKSUM; v++) {
        ck_assert_str_ne(envelope_verdict_text((enum envelope_verdict)v), "?");
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/envelope");
    TCase *tc = tcase_create("envelope");

    tcase_add_test(tc, the_bytes_are_those_of_the_table);
    tcase_add_test(tc, what_was_written_is_valid);
    tcase_add_test(tc, every_damaged_bit_is_found);
    tcase_add_test(tc, a_record_is_valid_only_where_it_was_written);
    tcase_add_test(tc, a_short_read_says_how_much_is_needed);
    tcase_add_test(tc, flags_can_be_changed);
    tcase_add_test(tc, types_have_names);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
