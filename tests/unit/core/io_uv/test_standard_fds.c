/* What a program finds at 0, 1 and 2, whatever it was started with. */
#include "core/io_uv/standard_fds.h"

#include "tests/unit/core/base/unit_main.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_closed(int fd)
{
    return fcntl(fd, F_GETFD) < 0;
}

/* Bits of `closed` are descriptors. 0, or the number of what is wrong. */
static int look(unsigned closed)
{
    char byte = 'x';
    int next;

    for (int fd = 0; fd < 3; fd++) {
        if ((closed & 1u << fd) != 0) {
            (void)close(fd);
        }
    }
    if (standard_fds_open(NULL) != 0) {
        return 1;
    }
    if (is_closed(0) || is_closed(1) || is_closed(2)) {
        return 2;
    }
    next = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (next < 3) {
        return 3;
    }
    if ((closed & 1u) != 0 && (read(0, &byte, 1) != -1 || errno != EBADF)) {
        return 4;
    }
    for (int fd = 1; fd < 3; fd++) {
        ssize_t wrote = (closed & 1u << fd) != 0 ? write(fd, &byte, 1) : -1;
        if (wrote != -1) {
            return 5;
        }
    }
    return 0;
}

START_TEST(closed_ones_are_opened_and_fail_when_used)
{
    /* Each set of closed descriptors, in a process of its own. */
    for (unsigned closed = 0; closed < 8; closed++) {
        int status = 0;
        pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0) {
            _exit(look(closed));
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(WIFEXITED(status), "closed %u: died of %d", closed, WTERMSIG(status));
        ck_assert_msg(WEXITSTATUS(status) == 0, "closed %u: %d", closed, WEXITSTATUS(status));
    }
}
END_TEST

START_TEST(open_ones_are_left_alone)
{
    /* What was there is still the same file. */
    int ends[2];
    int status = 0;
    char byte = 0;
    pid_t pid;

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        bool is_fine = dup2(ends[1], 1) == 1 && close(0) == 0 && standard_fds_open(NULL) == 0 &&
                       write(1, "y", 1) == 1;
        _exit(is_fine ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 'y');
    (void)close(ends[0]);
    (void)close(ends[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/standard_fds");
    TCase *tc = tcase_create("standard_fds");

    tcase_add_test(tc, closed_ones_are_opened_and_fail_when_used);
    tcase_add_test(tc, open_ones_are_left_alone);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
