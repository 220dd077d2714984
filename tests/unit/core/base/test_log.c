#include "core/base/log.h"

#include "core/base/log_limit.h"

#include "tests/unit/core/base/unit_main.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int log_read_fd;
static char text[256 * 1024];

/* Send standard error into a pipe that is large enough for everything a test prints. */
static void setup(void)
{
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    (void)fcntl(ends[1], F_SETPIPE_SZ, (int)sizeof text);
    ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_ge(dup2(ends[1], STDERR_FILENO), 0);
    log_read_fd = ends[0];
}

static const char *printed(void)
{
    ssize_t got = read(log_read_fd, text, sizeof text - 1);

    text[got < 0 ? 0 : got] = '\0';
    return text;
}

static size_t lines_in(const char *lines)
{
    size_t count = 0;

    for (; *lines != '\0'; lines++) {
        count += *lines == '\n' ? 1 : 0;
    }
    return count;
}

START_TEST(a_line_has_time_program_level_event_and_text)
{
    /* In this order, one line. */
    const char *line;

    log_set_program("tester");
    log_warn("base.test", "%d of %s", 3, "them");
    line = printed();
    ck_assert_uint_eq(lines_in(line), 1);
    ck_assert_int_eq(line[10], 'T');
    ck_assert_int_eq(line[23], 'Z');
    ck_assert_ptr_nonnull(strstr(line, " tester warn  base.test 3 of them\n"));
}
END_TEST

START_TEST(lines_below_the_level_are_not_printed)
{
    /* The default is info; names of levels are exact. */
    log_debug("base.test", "hidden");
    ck_assert_str_eq(printed(), "");
    log_set_level(LOG_DEBUG);
    log_debug("base.test", "shown");
    ck_assert_ptr_nonnull(strstr(printed(), "shown"));
    log_set_level(LOG_ERROR);
    log_warn("base.test", "hidden");
    ck_assert_str_eq(printed(), "");
    ck_assert_int_eq(log_level_from_name("error"), LOG_ERROR);
    ck_assert_int_eq(log_level_from_name("ERROR"), -1);
    ck_assert_int_eq(log_level_from_name(""), -1);
}
END_TEST

START_TEST(a_line_stays_one_line)
{
    /* Whatever a peer managed to get into it, and however long it is. */
    static char lots[5000];
    const char *line;

    memset(lots, 'x', sizeof lots - 1);
    log_info("base.test", "a\nb\rc\033[2Jd\177\303\244");
    line = printed();
    ck_assert_uint_eq(lines_in(line), 1);
    ck_assert_ptr_nonnull(strstr(line, "a b c [2Jd \303\244\n"));
    log_info("base.test", "%s", lots);
    line = printed();
    ck_assert_uint_eq(lines_in(line), 1);
    ck_assert_uint_lt(strlen(line), 1025);
    ck_assert_int_eq(line[strlen(line) - 1], '\n');
}
END_TEST

START_TEST(a_repeating_line_is_counted_instead_of_printed)
{
    /* At most LOG_BURST_MAX a second; the next other event says how many were left out. */
    const char *lines;
    size_t count;

    for (int i = 0; i < 10000; i++) {
        log_info("base.storm", "again");
    }
    log_info("base.calm", "over");
    lines = printed();
    count = lines_in(lines);
    ck_assert_uint_ge(count, LOG_BURST_MAX + 1);
    ck_assert_uint_le(count, 10 * (LOG_BURST_MAX + 1)); /* the burst may cross seconds */
    ck_assert_ptr_nonnull(strstr(lines, "lines left out) "));
}
END_TEST

START_TEST(lines_that_peers_cause_end_after_a_burst)
{
    /* However long the peer goes on, and whatever other lines it causes in between. */
    const char *lines;

    for (int i = 0; i < 10000; i++) {
        log_peer_warn("base.peer", "again");
        log_peer_error("base.other", "and again");
    }
    log_info("base.calm", "over");
    lines = printed();
    ck_assert_uint_eq(lines_in(lines), 2 * LOG_BURST_MAX + 1);
    ck_assert_ptr_nonnull(strstr(lines, "base.calm (19960 lines left out) over\n"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/log");
    TCase *tc = tcase_create("log");

    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, a_line_has_time_program_level_event_and_text);
    tcase_add_test(tc, lines_below_the_level_are_not_printed);
    tcase_add_test(tc, a_line_stays_one_line);
    tcase_add_test(tc, a_repeating_line_is_counted_instead_of_printed);
    tcase_add_test(tc, lines_that_peers_cause_end_after_a_burst);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
