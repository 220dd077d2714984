#include "core/store/queue_path.h"

#include "core/base/limits.h"
#include "tests/unit/core/base/unit_main.h"

START_TEST(folder_names_are_safe_and_can_be_turned_back)
{
    /* Every byte, the dangerous names, and the longest: below queues/, no dot, no long part. */
    static const char *const names[] = {".", "..", "a/b", "%RETRY%group", "a|b", "+", "a+", "%2E"};
    uint8_t every[RETRY_TOPIC_LEN_MAX];
    struct queue_path path;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint8_t back[RETRY_TOPIC_LEN_MAX];
        size_t len = 0;

        queue_path_topic(&path, slice_str(names[i]));
        ck_assert_int_eq(memcmp(path.text, "queues/", 7), 0);
        ck_assert_ptr_null(strpbrk(path.text + 7, "./+|"));
        ck_assert(queue_path_topic_decode(slice_str(path.text + 7), back, &len));
        ck_assert(slice_eq_str(slice_of(back, len), names[i]));
    }
    for (size_t i = 0; i < sizeof every; i++) {
        every[i] = (uint8_t)(i + 1);
    }
    queue_path_file(&path, slice_of(every, sizeof every), 1023, UINT32_MAX);
    ck_assert_uint_lt(path.len, QUEUE_PATH_MAX);
    for (const char *part = strtok_r(path.text, "/", &(char *){NULL}); part != NULL; part = NULL) {
        ck_assert_uint_le(strlen(part), 255);
    }
    queue_path_file(&path, SLICE_LIT("orders"), 7, 2);
    ck_assert_str_eq(path.text, "queues/orders/7/00000000000012000000");
}
END_TEST

START_TEST(only_canonical_names_are_decoded)
{
    /* A folder that no encoding makes belongs to somebody else. */
    static const char *const bad[] = {"", "a.b", "%", "%4", "%41", "%2e", "%G0", "a b", "a+"};
    uint8_t dst[RETRY_TOPIC_LEN_MAX];
    size_t len;
    uint32_t n;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!queue_path_topic_decode(slice_str(bad[i]), dst, &len), "%s", bad[i]);
    }
    ck_assert(!queue_path_id_decode(SLICE_LIT(""), &n));
    ck_assert(!queue_path_id_decode(SLICE_LIT("01"), &n));
    ck_assert(!queue_path_id_decode(SLICE_LIT("1024"), &n));
    ck_assert(!queue_path_id_decode(SLICE_LIT("-1"), &n));
    ck_assert(queue_path_id_decode(SLICE_LIT("0"), &n));
    ck_assert(queue_path_id_decode(SLICE_LIT("1023"), &n));
    ck_assert(!queue_path_file_decode(SLICE_LIT("6000000"), &n));
    ck_assert(!queue_path_file_decode(SLICE_LIT("00000000000006000001"), &n));
    ck_assert(!queue_path_file_decode(SLICE_LIT("99999999999999999999"), &n));
    ck_assert(queue_path_file_decode(SLICE_LIT("00000000000006000000"), &n));
    ck_assert_uint_eq(n, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queue_path");
    TCase *t = tcase_create("queue_path");

    tcase_set_timeout(t, 60);
    tcase_add_test(t, folder_names_are_safe_and_can_be_turned_back);
    tcase_add_test(t, only_canonical_names_are_decoded);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
