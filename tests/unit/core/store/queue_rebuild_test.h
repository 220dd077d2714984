/*
 * What the tests of the rebuilding of queue files share: one store on a simulated disk.
 *
 * Owns:    disk and store, from begin to shut.
 * Thread:  one.
 */
#ifndef TESTS_UNIT_CORE_STORE_QUEUE_REBUILD_TEST_H
#define TESTS_UNIT_CORE_STORE_QUEUE_REBUILD_TEST_H

#include "core/base/mem.h"
#include "core/store/queue.h"
#include "core/store/store.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define SEGMENT "log/00000000000000000000"
#define FILE_T  "queues/T/0/00000000000000000000"
#define ALL_TEN "m0,m1,m2,m3,m4,m5,m6,m7,m8,m9"

static struct disk *disk;
static struct test_store ts;

static inline void shut(void)
{
    test_store_close(&ts);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

#define RUN() ck_assert_msg(test_store_run(&ts) == 0, "%s", ts.err.text)

static inline void begin(void)
{
    disk = sim_disk_new();
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
}

static inline void reopen(void)
{
    int64_t now_ms = ts.now_ms;

    test_store_close(&ts);
    ck_assert_msg(test_store_open_txn(&ts, disk, NULL) == 0, "%s", ts.err.text);
    ts.now_ms = now_ms;
}

/* Two checkpoints: a queue that was quiet between them is written to its file. */
static inline void into_files(void)
{
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(test_position(&ts, 1, &(struct store_receipt){0}), 0);
        RUN();
        ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    }
}

/* A half "m<i>" of T/0, committed by a DECISION of its own. */
static inline void send_released(int i)
{
    char body[16];
    struct test_message m = {.topic = "T", .uniq = body};
    struct store_receipt half;
    struct store_receipt r;

    (void)snprintf(body, sizeof body, "m%d", i);
    m.body = slice_str(body);
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    RUN();
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    RUN();
}

static inline void flip(const char *path, uint64_t at)
{
    uint8_t byte;

    ck_assert(sim_disk_peek(disk, path, at, &byte, 1));
    byte ^= 0x10;
    ck_assert(sim_disk_poke(disk, path, at, &byte, 1));
}

#endif
