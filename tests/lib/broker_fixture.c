#include "tests/lib/broker_fixture.h"

#include "core/base/hash.h"
#include "core/base/mem.h"
#include "tests/lib/temp_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_PIPE_BYTES (1 << 20)

static char root[TEMP_FOLDER_MAX]; /* the temporary folder of this program */

int64_t test_now_ms(void)
{
    struct timespec ts;

    ck_assert_int_eq(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void test_await(int fd, int64_t deadline_ms, const char *what)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    ck_assert_msg(test_now_ms() < deadline_ms, "waited in vain: %s", what);
    (void)poll(&p, 1, 10); /* nothing there yet is fine */
}

void test_folder(char *path, size_t size)
{
    (void)snprintf(path, size, "%s/d-XXXXXX", root); /* fits: root is short */
    ck_assert_ptr_nonnull(mkdtemp(path));
}

void broker_fixture_init(struct broker_fixture *f, const char *const *args)
{
    *f = (struct broker_fixture){.pid = -1, .log_fd = -1};
    for (size_t i = 0; args != NULL && args[i] != NULL; i++) {
        ck_assert_uint_lt(i + 1, BROKER_ARGS_MAX);
        f->args[i] = args[i];
    }
    test_folder(f->folder, sizeof f->folder);
}

_Noreturn static void child(const struct broker_fixture *f, int log_fd)
{
    char port[8];
    char name_port[8];
    const char *argv[BROKER_ARGS_MAX + 16] = {
        ESCROWD, "--data.dir", f->folder, "--broker.port", port, "--broker.vip.port", "0",
        "--namesrv.port", name_port, "--log.segment.bytes", "64m",
        /* How full the disk of the machine is does not decide a test. */
        "--disk.clean.forcibly.ratio", "100", "--disk.warning.ratio", "100"};
    size_t n = 15; /* a small log: dozens of them are made; args may say otherwise */

    (void)snprintf(port, sizeof port, "%u", f->port);                /* fits */
    (void)snprintf(name_port, sizeof name_port, "%u", f->name_port); /* fits */
    for (size_t i = 0; f->args[i] != NULL; i++) {
        argv[n++] = f->args[i];
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (f->without_override) {
        (void)prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE); /* who is not root has none */
        (void)prctl(PR_CAPBSET_DROP, CAP_DAC_READ_SEARCH);
    }
    (void)dup2(log_fd, STDOUT_FILENO);
    (void)dup2(log_fd, STDERR_FILENO);
    (void)execv(ESCROWD, (char *const *)(void *)argv);
    _exit(127);
}

void broker_fixture_spawn(struct broker_fixture *f)
{
    int ends[2];

    ck_assert_int_eq(f->pid, -1);
    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    (void)fcntl(ends[1], F_SETPIPE_SZ, LOG_PIPE_BYTES); /* smaller is slower only */
    ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    if (f->log_fd >= 0) {
        (void)close(f->log_fd);
    }
    f->log_len = 0;
    f->pid = fork();
    ck_assert_int_ge(f->pid, 0);
    if (f->pid == 0) {
        child(f, ends[1]);
    }
    (void)close(ends[1]);
    f->log_fd = ends[0];
}

/* Take what it has logged; false at the end of the log. */
static bool log_read(struct broker_fixture *f)
{
    char chunk[4096];
    ssize_t n;

    while ((n = read(f->log_fd, chunk, sizeof chunk)) > 0) {
        size_t room = sizeof f->log - 1 - f->log_len;
        size_t len = (size_t)n < room ? (size_t)n : room;
        memcpy(f->log + f->log_len, chunk, len);
        f->log_len += len;
    }
    return n != 0;
}

const char *broker_fixture_log(struct broker_fixture *f)
{
    (void)log_read(f);
    f->log[f->log_len] = '\0';
    return f->log;
}

void broker_fixture_await(struct broker_fixture *f, const char *text)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;

    while (strstr(broker_fixture_log(f), text) == NULL) {
        ck_assert_msg(log_read(f), "escrowd ended without saying '%s': %s", text,
                      broker_fixture_log(f));
        test_await(f->log_fd, deadline_ms, text);
    }
}

static uint16_t port_behind(const char *log, const char *what)
{
    const char *at = strstr(log, what);
    const char *colon = at == NULL ? NULL : strchr(at, ':');

    return colon == NULL ? 0 : (uint16_t)strtoul(colon + 1, NULL, 10);
}

void broker_fixture_launch(struct broker_fixture *f)
{
    const char *log;

    broker_fixture_spawn(f);
    broker_fixture_await(f, "is ready");
    log = broker_fixture_log(f);
    f->port = port_behind(log, "listen broker listens on ");
    f->name_port = port_behind(log, "listen name server listens on ");
}

void broker_fixture_start(struct broker_fixture *f, const char *const *args)
{
    broker_fixture_init(f, args);
    broker_fixture_launch(f);
}

int broker_fixture_wait(struct broker_fixture *f)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    int status = 0;

    while (waitpid(f->pid, &status, WNOHANG) == 0) {
        (void)log_read(f); /* so that it never waits for us */
        test_await(-1, deadline_ms, "escrowd does not end");
    }
    (void)log_read(f);
    f->pid = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int broker_fixture_run(struct broker_fixture *f)
{
    broker_fixture_spawn(f);
    return broker_fixture_wait(f);
}

void broker_fixture_kill(struct broker_fixture *f)
{
    ck_assert_int_eq(kill(f->pid, SIGKILL), 0);
    (void)broker_fixture_wait(f);
}

void broker_fixture_terminate(struct broker_fixture *f)
{
    ck_assert_int_eq(kill(f->pid, SIGTERM), 0);
}

void broker_fixture_stop(struct broker_fixture *f)
{
    int status;

    broker_fixture_terminate(f);
    status = broker_fixture_wait(f);
    if (status != 0) {
        (void)fprintf(stderr, "%s\n", broker_fixture_log(f)); /* too long for Check's messages */
    }
    ck_assert_msg(status == 0, "escrowd ended with %d, its log stands above", status);
    (void)close(f->log_fd);
    f->log_fd = -1;
}

size_t broker_fixture_rss(const struct broker_fixture *f)
{
    char path[64];
    unsigned long pages = 0;
    FILE *in;

    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)f->pid); /* fits */
    in = fopen(path, "re");
    ck_assert_ptr_nonnull(in);
    ck_assert_int_eq(fscanf(in, "%*s %lu", &pages), 1);
    (void)fclose(in);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* A file of /proc/PID/task/THREAD; "" when it has gone. */
static void read_task(pid_t pid, const char *thread, const char *name, char text[256])
{
    char path[400];
    ssize_t got = 0;
    int fd;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%s/%s", (int)pid, thread, name); /* fits */
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        got = read(fd, text, 255);
        (void)close(fd);
    }
    text[got > 0 ? got : 0] = '\0';
}

/* The threads that have this name, but for the first of the process; those that fit. */
static size_t threads_named(pid_t pid, const char *name, pid_t *threads, size_t max)
{
    char path[64];
    DIR *dir;
    const struct dirent *entry;
    size_t count = 0;

    (void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid); /* fits */
    dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    while ((entry = readdir(dir)) != NULL && count < max) {
        char text[256];
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        read_task(pid, entry->d_name, "comm", text);
        text[strcspn(text, "\n")] = '\0';
        if (thread > 0 && thread != pid && strcmp(text, name) == 0) {
            threads[count++] = thread;
        }
    }
    (void)closedir(dir);
    return count;
}

/* It waits for something: holds no lock that others need. */
static bool thread_sleeps(pid_t pid, pid_t thread)
{
    char number[16];
    char text[256];
    const char *state;

    (void)snprintf(number, sizeof number, "%d", (int)thread); /* fits */
    read_task(pid, number, "stat", text);
    state = strrchr(text, ')');
    return state != NULL && state[1] == ' ' && state[2] == 'S';
}

static void hold(pid_t thread)
{
    ck_assert_msg(ptrace(PTRACE_SEIZE, thread, NULL, NULL) == 0, "ptrace: %s", strerror(errno));
    ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, thread, NULL, NULL), 0);
    ck_assert_int_eq(waitpid(thread, NULL, __WALL), thread);
}

pid_t broker_fixture_hold_log(const struct broker_fixture *f)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    pid_t thread;

    /* Threads name themselves: perhaps it has not yet. */
    while (threads_named(f->pid, "escrow-log", &thread, 1) == 0) {
        test_await(-1, deadline_ms, "the log thread");
    }
    hold(thread);
    return thread;
}

void broker_fixture_release_log(pid_t thread)
{
    ck_assert_int_eq(ptrace(PTRACE_DETACH, thread, NULL, NULL), 0);
}

size_t broker_fixture_hold_pool(const struct broker_fixture *f, pid_t threads[BROKER_POOL_MAX])
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    size_t count = threads_named(f->pid, "escrowd", threads, BROKER_POOL_MAX);

    ck_assert_uint_ge(count, 1);
    ck_assert_uint_lt(count, BROKER_POOL_MAX);
    for (size_t i = 0; i < count; i++) {
        while (!thread_sleeps(f->pid, threads[i])) {
            test_await(-1, deadline_ms, "a thread of the pool to have nothing to do");
        }
        hold(threads[i]);
    }
    return count;
}

void broker_fixture_release_pool(const pid_t *threads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        broker_fixture_release_log(threads[i]);
    }
}

/* ---- folders ---- */

static uint64_t file_sum(const char *path)
{
    static uint8_t chunk[1 << 16];
    struct hash_key key = {1, 2};
    uint64_t sum = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    while ((n = read(fd, chunk, sizeof chunk)) > 0) {
        sum = sum * 31 + hash64(&key, slice_of(chunk, (size_t)n));
    }
    (void)close(fd);
    return sum;
}

uint64_t folder_sum(const char *folder)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, NULL, alphasort);
    uint64_t sum = 17;

    ck_assert_int_ge(count, 0);
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        char path[512];
        struct stat st;
        if (name[0] != '.' && strcmp(name, "lock") != 0) {
            (void)snprintf(path, sizeof path, "%s/%s", folder, name); /* cut: stat fails */
            ck_assert_int_eq(stat(path, &st), 0);
            sum = sum * 1000003 + (S_ISDIR(st.st_mode) ? folder_sum(path) : file_sum(path)) +
                  (uint64_t)name[0];
        }
        free(names[i]);
    }
    free(names);
    return sum;
}

void folder_first(const char *folder, char *path, size_t size)
{
    struct dirent **names = NULL;
    int count = scandir(folder, &names, NULL, alphasort);

    path[0] = '\0';
    for (int i = 0; i < count; i++) {
        if (path[0] == '\0' && names[i]->d_name[0] != '.') {
            (void)snprintf(path, size, "%s/%s", folder, names[i]->d_name); /* fits */
        }
        free(names[i]);
    }
    free(names);
    ck_assert_msg(path[0] != '\0', "%s is empty", folder);
}

int broker_fixture_main(const char *name, int timeout_s, void (*add)(TCase *tc))
{
    Suite *suite = suite_create(name);
    TCase *tc = tcase_create(name);
    SRunner *runner = srunner_create(suite);
    int failed;

    if (!temp_folder_make(root, "broker")) {
        (void)fprintf(stderr, "%s: %s\n", root, strerror(errno));
        return EXIT_FAILURE;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(tc, timeout_s);
    add(tc);
    suite_add_tcase(suite, tc);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    (void)temp_folder_remove(root); /* nothing can be done about a failure */
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
