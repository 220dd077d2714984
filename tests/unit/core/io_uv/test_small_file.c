/* Small files: read once, noticed when they change; secrets of one line. */
#include "core/io_uv/small_file.h"

#include "escrow/errors.h"
#include "tests/lib/temp_folder.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[TEMP_FOLDER_MAX];
static char path[TEMP_FOLDER_MAX + 16];
static struct buf text;
static struct file_stamp stamp;
static struct err_ctx err;

static void set_up(void)
{
    ck_assert(temp_folder_make(folder, "small"));
    (void)snprintf(path, sizeof path, "%s/f", folder); /* fits */
    buf_init(&text, 0);
    stamp = (struct file_stamp){.size = 0};
}

static void tear_down(void)
{
    buf_fini(&text);
    (void)unlink(path); /* may be gone */
    ck_assert_int_eq(rmdir(folder), 0);
}

static void put(const char *content, size_t len)
{
    FILE *f = fopen(path, "we");

    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(content, 1, len, f), len);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(a_file_is_read_when_it_changed)
{
    /* Unchanged: not read; another size, another mode, or by force: read. */
    put("one", 3);
    ck_assert_int_eq(small_file_read(path, 10, false, &stamp, &text, &err), 1);
    ck_assert(slice_eq_str(buf_slice(&text), "one"));
    ck_assert_int_eq(small_file_read(path, 10, false, &stamp, &text, &err), 0);
    ck_assert_uint_eq(text.len, 3);
    buf_clear(&text);
    ck_assert_int_eq(small_file_read(path, 10, true, &stamp, &text, &err), 1);
    buf_clear(&text);
    put("three", 5);
    ck_assert_int_eq(small_file_read(path, 10, false, &stamp, &text, &err), 1);
    ck_assert(slice_eq_str(buf_slice(&text), "three"));
    ck_assert_int_eq(chmod(path, 0640), 0);
    ck_assert_int_eq(small_file_read(path, 10, false, &stamp, &text, &err), 1);
    ck_assert_uint_eq(stamp.mode, 0640);
}
END_TEST

START_TEST(what_cannot_be_read_is_named)
{
    /* No file, a folder, too large; the stamp of a missing file differs from any other. */
    ck_assert_int_eq(small_file_read(path, 10, false, &stamp, &text, &err), ESCROW_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert_int_eq(small_file_read(folder, 10, false, &stamp, &text, &err), ESCROW_EINVAL);
    put("0123456789a", 11);
    ck_assert_int_eq(small_file_read(path, 10, false, &stamp, &text, &err), ESCROW_ETOOBIG);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(small_file_read(path, 10, false, &stamp, &text, &err), ESCROW_ENOTFOUND);
    ck_assert_uint_eq(stamp.inode, 0);
}
END_TEST

START_TEST(permissions_are_told)
{
    /* Readable by the group is what a service user may need; anything beyond is told. */
    static const struct {
        uint32_t mode;
        bool is_open;
    } rows[] = {{0600, false}, {0400, false}, {0640, false}, {0644, true},
                {0660, true},  {0602, true},  {0777, true}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        stamp.mode = rows[i].mode;
        ck_assert_int_eq(small_file_is_open_to_others(&stamp), rows[i].is_open);
    }
}
END_TEST

START_TEST(a_secret_is_one_line)
{
    /* With or without an end of line; nothing else. */
    static const struct {
        const char *content;
        size_t len;
        int rc;
    } rows[] = {
        {"secret", 6, 0},
        {"secret\n", 7, 0},
        {"secret\r\n", 8, 0},
        {"", 0, ESCROW_ECONFIG},
        {"\n", 1, ESCROW_ECONFIG},
        {"sec\nret\n", 8, ESCROW_ECONFIG},
        {"sec\0ret", 7, ESCROW_ECONFIG},
        {"secret12", 8, ESCROW_ECONFIG},
        {"secret1234567", 13, ESCROW_ETOOBIG},
    };
    char out[8];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        put(rows[i].content, rows[i].len);
        ck_assert_int_eq(chmod(path, 0600), 0);
        ck_assert_int_eq(secret_file_read(path, out, sizeof out, &err), rows[i].rc);
        if (rows[i].rc == 0) {
            ck_assert_str_eq(out, "secret");
        } else {
            ck_assert_ptr_null(strstr(err.text, "secret1"));
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/small_file");
    TCase *tc = tcase_create("small_file");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_file_is_read_when_it_changed);
    tcase_add_test(tc, what_cannot_be_read_is_named);
    tcase_add_test(tc, permissions_are_told);
    tcase_add_test(tc, a_secret_is_one_line);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
