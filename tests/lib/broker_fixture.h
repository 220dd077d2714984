/*
 * A real escrowd of the test's own: private folder, ports that the kernel chose, ended by its id.
 *
 *     int main(void) { return broker_fixture_main("limits", add_tests); }
 *     ... in a test:
 *     broker_fixture_start(&f, (const char *const[]){"--connections.max", "3", NULL});
 *
 * Owns:    the process and what it logged. Folders lie in one temporary folder of the test program,
 *          which its main removes, whatever becomes of the tests.
 * Thread:  the test's. The process dies with the test.
 * Errors:  end the test, unless a function says otherwise.
 */
#ifndef TESTS_LIB_BROKER_FIXTURE_H
#define TESTS_LIB_BROKER_FIXTURE_H

#include "core/base/attr.h"

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BROKER_ARGS_MAX 40
#define BROKER_LOG_MAX  65536
#define BROKER_WAIT_MS  60000 /* what has not come true by then never will */

struct broker_fixture {
    char folder[200]; /* data.dir */
    const char *args[BROKER_ARGS_MAX];
    uint16_t port;
    uint16_t name_port;
    bool without_override; /* start without the right to ignore file permissions */
    pid_t pid;             /* -1: not running */
    int log_fd;
    size_t log_len;
    char log[BROKER_LOG_MAX]; /* of the current process; what does not fit is dropped */
};

/* A folder that does not exist yet, for data. */
void broker_fixture_init(struct broker_fixture *f, const char *const *args);

/* Start, and wait for nothing. */
void broker_fixture_spawn(struct broker_fixture *f);

/* Start and wait until it is ready. The first start chooses ports; later ones use them again. */
void broker_fixture_launch(struct broker_fixture *f);

/* init and launch. args: options ended by NULL, borrowed until stop; NULL for none. */
void broker_fixture_start(struct broker_fixture *f, const char *const *args);

/*
 * Start something that is expected to end by itself: returns its exit status, 128 + signal if
 * killed.
 */
int broker_fixture_run(struct broker_fixture *f);

void broker_fixture_kill(struct broker_fixture *f);      /* SIGKILL, and wait for it */
void broker_fixture_terminate(struct broker_fixture *f); /* SIGTERM only */
int broker_fixture_wait(struct broker_fixture *f);       /* until it ends: its exit status */

/* SIGTERM; it must end with status 0. */
void broker_fixture_stop(struct broker_fixture *f);

/* Wait until the log contains the text. */
void broker_fixture_await(struct broker_fixture *f, const char *text);

/* What it has logged so far, as one string. */
const char *broker_fixture_log(struct broker_fixture *f);

/* Resident memory of the process, bytes. */
size_t broker_fixture_rss(const struct broker_fixture *f);

/*
 * The log thread stands still (ptrace), as with a disk that takes for ever, until it is released,
 * which has to be before the process is stopped. With `--flush async` everything goes through it;
 * without, what comes alone is synced on the loop.
 */
pid_t broker_fixture_hold_log(const struct broker_fixture *f);
void broker_fixture_release_log(pid_t thread);

/*
 * The same for what the broker does in the background (reads from disk, rebuilds, flushes): every
 * thread that has no name of its own, but the loop. At least one job has to have been done. Returns
 * how many there are.
 */
#define BROKER_POOL_MAX 16
size_t broker_fixture_hold_pool(const struct broker_fixture *f, pid_t threads[BROKER_POOL_MAX]);
void broker_fixture_release_pool(const pid_t *threads, size_t count);

/* A sum over names, sizes and contents of every file of a folder but `lock`. */
uint64_t folder_sum(const char *folder);

/* "FOLDER/NAME" of the first file of a subfolder, by name. */
void folder_first(const char *folder, char *path, size_t size);

/* A new folder in the temporary folder of this program. */
void test_folder(char *path, size_t size);

int64_t test_now_ms(void); /* monotonic */

/*
 * The test ends when the deadline has passed; otherwise waits a moment for `fd` (-1: for nothing).
 */
void test_await(int fd, int64_t deadline_ms, const char *what);

/* One suite of one case; timeout for each test. Exit status for main. */
int broker_fixture_main(const char *name, int timeout_s, void (*add)(TCase *tc));

#endif
