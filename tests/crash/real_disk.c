/*
 * The same scripts on the kernel's files, and real kills: a child appends and tells what was
 * acknowledged through shared memory, the parent kills it with SIGKILL at a random moment, opens
 * the store and looks.
 *
 * usage: real_disk [--seed n] [--steps n] [--kills n]
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/io_uv/disk_posix.h"
#include "tests/crash/crash_script.h"
#include "tests/lib/temp_folder.h"

#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    CHECK(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

static struct disk *open_disk(const char *path)
{
    struct err_ctx err;
    struct disk *disk = NULL;

    if (disk_posix_new(path, &disk, &err) != 0) {
        (void)fprintf(stderr, "real_disk: %s\n", err.text);
        exit(1);
    }
    return disk;
}

static void run_script(const char *path, uint64_t seed, uint64_t steps)
{
    struct disk *disk = open_disk(path);
    struct script s;

    script_begin(&s, disk, seed);
    for (uint64_t i = 0; i < steps; i++) {
        script_step(&s);
    }
    script_end(&s);
    disk_free(&disk);
}

/* ------------------------------------------------------------------ kills */

struct shared {
    _Atomic uint64_t acked; /* messages the child was told are durable */
    _Atomic uint64_t opened;
};

static _Noreturn void child(const char *path, struct shared *shared, uint64_t seed)
{
    struct disk *disk = open_disk(path);
    struct test_store ts;
    struct rand rand;
    uint64_t sent;

    rand_init(&rand, seed);
    if (test_store_open(&ts, disk, NULL) != 0) {
        (void)fprintf(stderr, "real_disk: child: %s\n", ts.err.text);
        _exit(3);
    }
    sent = ts.owner.messages;
    shared->acked = sent;
    shared->opened++;
    for (;;) {
        uint64_t count = 1 + rand_below(&rand, 20);
        uint8_t body[1024] = {0};
        struct test_message m = {.topic = "T", .body = slice_of(body, sizeof body), .uniq = "U"};
        struct store_receipt r;

        for (uint64_t i = 0; i < count; i++) {
            put_le64(body, sent);
            if (test_append(&ts, STORE_MESSAGE, &m, &r) != 0) {
                break;
            }
            sent++;
        }
        if (test_store_run(&ts) != 0 ||
            (rand_below(&rand, 50) == 0 && test_store_checkpoint(&ts, true) != 0)) {
            (void)fprintf(stderr, "real_disk: child: %s\n", ts.err.text);
            _exit(3);
        }
        shared->acked = sent;
    }
}

static int check_number(void *arg, const struct record_view *view)
{
    uint64_t *next = arg;

    CHECK(get_le64(view->f.body.ptr) == *next);
    (*next)++;
    return 0;
}

static void kill_once(const char *path, struct shared *shared, struct rand *rand)
{
    struct timespec wait = {.tv_nsec = (long)rand_below(rand, 100000000)};
    struct disk *disk;
    struct test_store ts;
    uint64_t found = 0;
    int status = 0;
    pid_t pid = fork();

    CHECK(pid >= 0);
    if (pid == 0) {
        child(path, shared, rand_u64(rand));
    }
    (void)nanosleep(&wait, NULL); /* allow(sleep): the random moment of the kill itself */
    CHECK(kill(pid, SIGKILL) == 0);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status));
    disk = open_disk(path);
    if (test_store_open(&ts, disk, NULL) != 0) {
        (void)fprintf(stderr, "WRONG: after a kill: %s\n", ts.err.text);
        abort();
    }
    CHECK(test_pull(&ts, "T", 0, 0, check_number, &found) == 0);
    if (found < shared->acked) {
        (void)fprintf(stderr, "WRONG: %" PRIu64 " messages, %" PRIu64 " were acknowledged\n", found,
                      shared->acked);
        abort();
    }
    test_store_close(&ts);
    disk_free(&disk);
}

static void run_kills(const char *path, uint64_t seed, uint64_t kills)
{
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct rand rand;

    CHECK(shared != MAP_FAILED);
    rand_init(&rand, seed);
    for (uint64_t i = 0; i < kills; i++) {
        kill_once(path, shared, &rand);
    }
    (void)printf("%" PRIu64 " kills, %" PRIu64 " of them after the store was open, %" PRIu64
                 " messages acknowledged, none lost\n",
                 kills, shared->opened, shared->acked);
    CHECK(kills < 10 || shared->opened > 0);
    CHECK(munmap(shared, sizeof *shared) == 0);
}

int main(int argc, char **argv)
{
    char folder[TEMP_FOLDER_MAX];
    char path[sizeof folder + 16];
    uint64_t seed = 1;
    uint64_t steps = 150;
    uint64_t kills = 25;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seed") == 0) {
            seed = value;
        } else if (strcmp(argv[i], "--steps") == 0) {
            steps = value;
        } else if (strcmp(argv[i], "--kills") == 0) {
            kills = value;
        } else {
            (void)fprintf(stderr, "usage: real_disk [--seed n] [--steps n] [--kills n]\n");
            return 2;
        }
    }
    CHECK(temp_folder_make(folder, "real-disk"));
    (void)snprintf(path, sizeof path, "%s/script", folder);
    run_script(path, seed, steps);
    (void)snprintf(path, sizeof path, "%s/kills", folder);
    run_kills(path, seed, kills);
    remove_tree(folder);
    return 0;
}
