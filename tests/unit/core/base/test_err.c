#include "core/base/err.h"

#include "tests/unit/core/base/unit_main.h"

#include <errno.h>
#include <string.h>

static const struct {
    int number;
    const char *name;
} rows[] = {
#define X(name_, number_, class_, text_) {(number_), "ESCROW_" #name_},
    ESCROW_ERRORS(X)
#undef X
};

#define ROW_COUNT ((int)(sizeof rows / sizeof rows[0]))

START_TEST(every_code_has_a_name_a_class_and_a_text)
{
    /* The table is complete, and its numbers go down by one: none was reused or left out. */
    for (int i = 0; i < ROW_COUNT; i++) {
        ck_assert_int_eq(rows[i].number, -i);
        ck_assert_str_eq(escrow_error_name(-i), rows[i].name);
        ck_assert_uint_gt(strlen(escrow_strerror(-i)), 1);
        ck_assert_str_ne(escrow_strerror(-i), "unknown error");
        ck_assert_int_eq(escrow_error_class(-i) == ESCROW_CLASS_NONE, i == 0);
    }
}
END_TEST

START_TEST(an_unknown_number_is_an_unknown_outcome)
{
    /* A newer peer may send one: the caller must not take it for "nothing happened". */
    ck_assert_str_eq(escrow_strerror(-ROW_COUNT), "unknown error");
    ck_assert_str_eq(escrow_error_name(-9999), "ESCROW_?");
    ck_assert_int_eq(escrow_error_class(-9999), ESCROW_CLASS_UNKNOWN);
    ck_assert_int_eq(escrow_error_class(7), ESCROW_CLASS_NONE);
}
END_TEST

static const struct {
    int errnum;
    int code;
} errnos[] = {
    {0, ESCROW_OK},
    {ENOMEM, ESCROW_ENOMEM},
    {ENOSPC, ESCROW_ENOSPC},
    {EDQUOT, ESCROW_ENOSPC},
    {EFBIG, ESCROW_ENOSPC},
    {EROFS, ESCROW_EROFS},
    {ENOENT, ESCROW_ENOTFOUND},
    {EEXIST, ESCROW_EEXIST},
    {EACCES, ESCROW_EPERM},
    {EPERM, ESCROW_EPERM},
    {EAGAIN, ESCROW_EAGAIN},
    {EMFILE, ESCROW_ELIMIT},
    {ENFILE, ESCROW_ELIMIT},
    {EIO, ESCROW_EIO},
    {EBADF, ESCROW_EIO},
};

START_TEST(errno_becomes_one_of_ours)
{
    /* What the caller can act on is told apart; everything else is an I/O error. */
    ck_assert_int_eq(err_from_errno(errnos[_i].errnum), errnos[_i].code);
}
END_TEST

START_TEST(words_are_put_in_front)
{
    /* As each layer adds what it knows. */
    struct err_ctx err;

    ck_assert_int_eq(err_set_errno(&err, ENOSPC, "write %s at offset %d", "log/0", 12),
                     ESCROW_ENOSPC);
    ck_assert_str_eq(err.text, "write log/0 at offset 12: No space left on device");
    ck_assert_int_eq(err_prefix(&err, "segment %d", 3), ESCROW_ENOSPC);
    ck_assert_str_eq(err.text, "segment 3: write log/0 at offset 12: No space left on device");
    ck_assert_int_eq(err.code, ESCROW_ENOSPC);
}
END_TEST

START_TEST(a_text_that_is_too_long_is_cut)
{
    /* Always terminated, whatever is put into it. */
    char lots[2 * ERR_TEXT_MAX];
    struct err_ctx err;

    memset(lots, 'a', sizeof lots - 1);
    lots[sizeof lots - 1] = '\0';
    ck_assert_int_eq(err_set(&err, ESCROW_EIO, "%s", lots), ESCROW_EIO);
    ck_assert_uint_eq(strlen(err.text), ERR_TEXT_MAX - 1);
    ck_assert_int_eq(err_set_errno(&err, EIO, "%s", lots), ESCROW_EIO);
    ck_assert_uint_eq(strlen(err.text), ERR_TEXT_MAX - 1);
    ck_assert_int_eq(err_prefix(&err, "b"), ESCROW_EIO);
    ck_assert_uint_eq(strlen(err.text), ERR_TEXT_MAX - 1);
    ck_assert_int_eq(err.text[0], 'b');
}
END_TEST

START_TEST(nobody_has_to_listen)
{
    /* NULL is a valid context everywhere. */
    ck_assert_int_eq(err_set(NULL, ESCROW_EIO, "x"), ESCROW_EIO);
    ck_assert_int_eq(err_set_errno(NULL, ENOSPC, "x"), ESCROW_ENOSPC);
    ck_assert_int_eq(err_prefix(NULL, "x"), ESCROW_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/err");
    TCase *tc = tcase_create("err");

    tcase_add_test(tc, every_code_has_a_name_a_class_and_a_text);
    tcase_add_test(tc, an_unknown_number_is_an_unknown_outcome);
    tcase_add_loop_test(tc, errno_becomes_one_of_ours, 0, (int)(sizeof errnos / sizeof errnos[0]));
    tcase_add_test(tc, words_are_put_in_front);
    tcase_add_test(tc, a_text_that_is_too_long_is_cut);
    tcase_add_test(tc, nobody_has_to_listen);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
