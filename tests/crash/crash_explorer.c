/*
 * Power cuts and kills at every operation of a run. For each operation that touches the disk,
 * before it happens:
 *
 *   - for each kind of power cut: take the disk as it would be found, recover, compare with the
 *     model; during that recovery cut the power again at every operation, recover from that,
 *     compare;
 *   - as after kill -9: recover from what the kernel shows, compare, then cut the power: whatever
 *     recovery had shown must still be there;
 *   - and after a recovery go on working: decide the halves that are left, append, restart,
 *     compare.
 *
 * usage: crash_explorer [--seed n] [--runs n] [--steps n] [--depth 1|2]
 */
#include "core/base/check.h"
#include "tests/crash/crash_script.h"
#include "tests/lib/sim_disk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct explorer {
    struct script script;
    uint64_t seed;
    uint64_t steps;
    int depth;
    uint64_t points;   /* operations at which power was cut */
    uint64_t states;   /* disks that were recovered from */
    uint64_t again;    /* of these, after a second cut during recovery */
    uint64_t cuts;     /* recoveries that cut a torn tail */
    uint64_t lost;     /* events that were appended, not acknowledged, and did not survive */
    uint64_t retained; /* times a part of the log was given up */
    uint64_t carried;  /* held messages that were carried out of the way before */
    uint64_t pieces;   /* of checkpoints, with records applied behind them */
    char where[256];
};

struct second_cut {
    struct explorer *x;
    struct disk *disk;
    uint64_t op;
};

static void explain(struct explorer *x, const struct sim_op *op, const char *how, const char *phase)
{
    (void)snprintf(x->where, sizeof x->where,
                   "seed %" PRIu64 " step %" PRIu64 " before %s %s +%" PRIu64 " (operation %" PRIu64
                   "): %s%s",
                   x->seed, x->script.steps, sim_op_name(op->kind), op->path, op->offset,
                   op->number, how, phase);
}

/* Recover and compare; the number of events that are there. The store stays open in *ts. */
static uint32_t recover(struct explorer *x, struct disk *disk, struct test_store *ts)
{
    uint32_t prefix;

    x->states++;
    if (test_store_open_txn(ts, disk, NULL) != 0) {
        (void)fprintf(stderr, "WRONG: %s: does not open: %s\n", x->where, ts->err.text);
        abort();
    }
    prefix = model_compare(&x->script.model, ts, x->where);
    x->cuts += ts->recovery.cut_bytes > 0 ? 1 : 0;
    x->lost += x->script.model.count - prefix;
    return prefix;
}

/* ------------------------------------------------------------------ after a recovery */

/* Decide what is left, send something, restart: the store is as good as any. */
static void go_on(struct explorer *x, struct disk *disk, struct test_store *ts, uint32_t prefix)
{
    struct model *m = &x->script.model;
    struct store_receipt r;
    uint32_t messages = 0;

    for (uint32_t i = 0; i < prefix; i++) {
        if (model_is_undecided(m, i, prefix)) {
            int rc = test_decide(ts, i % 2 == 0, &m->events[i].offset, 1, &r);
            CHECK(rc == 0);
        }
    }
    CHECK(test_send(ts, "after", 0, "one", NULL) == 0);
    CHECK(test_store_run(ts) == 0);
    CHECK(test_store_checkpoint(ts, x->states % 2 == 0) == 0);
    CHECK(test_send(ts, "after", 0, "two", NULL) == 0);
    CHECK(test_store_run(ts) == 0);
    messages = (uint32_t)ts->owner.messages;
    test_store_close(ts);
    if (test_store_open_txn(ts, disk, NULL) != 0) {
        (void)fprintf(stderr, "WRONG: %s: does not open after going on: %s\n", x->where,
                      ts->err.text);
        abort();
    }
    CHECK(ts->owner.messages == messages);
    CHECK(strcmp(test_bodies(ts, "after", 0), "one,two") == 0);
    for (uint32_t i = 0; i < ts->owner.half_count; i++) {
        CHECK(ts->owner.halves[i].state != TEST_HALF_UNDECIDED);
    }
    CHECK(ts->recovery.cut_bytes == 0);
}

/* ------------------------------------------------------------------ a second cut */

static void on_recovery_op(void *arg, const struct sim_op *op)
{
    struct second_cut *cut = arg;
    struct explorer *x = cut->x;
    enum sim_crash how = (enum sim_crash)((x->states + cut->op++) % SIM_CRASH_COUNT);
    struct disk *after = sim_disk_crash(cut->disk, how, x->seed ^ (x->states * 2654435761u));
    struct test_store ts;
    char saved[sizeof x->where];

    memcpy(saved, x->where, sizeof saved);
    (void)snprintf(x->where, sizeof x->where, "%.180s; again before %s %.40s: %s", saved,
                   sim_op_name(op->kind), op->path, sim_crash_name(how));
    x->again++;
    (void)recover(x, after, &ts);
    test_store_close(&ts);
    disk_free(&after);
    memcpy(x->where, saved, sizeof saved);
}

static void try_crash(struct explorer *x, const struct sim_op *op, enum sim_crash how)
{
    uint64_t seed = x->seed * 1000003 + x->states;
    struct disk *after = sim_disk_crash(x->script.disk, how, seed);
    struct second_cut second = {.x = x, .disk = after};
    struct test_store ts;
    uint32_t prefix;

    explain(x, op, sim_crash_name(how), "");
    if (x->depth > 1) {
        sim_disk_set_hook(after, on_recovery_op, &second);
    }
    prefix = recover(x, after, &ts);
    sim_disk_set_hook(after, NULL, NULL);
    if (x->states % 4 == 0) {
        go_on(x, after, &ts, prefix);
    }
    test_store_close(&ts);
    disk_free(&after);
}

/*
 * Killed, restarted, and then the power goes: what the second process has shown to anybody has to
 * be there.
 */
static void try_kill(struct explorer *x, const struct sim_op *op)
{
    struct disk *killed = sim_disk_clone(x->script.disk);
    struct test_store ts;
    uint32_t prefix;

    explain(x, op, "kill -9", "");
    prefix = recover(x, killed, &ts);
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        struct disk *after = sim_disk_crash(killed, (enum sim_crash)how, x->seed + x->states);
        struct test_store second;
        explain(x, op, "kill -9, then ", sim_crash_name((enum sim_crash)how));
        if (recover(x, after, &second) != prefix) {
            (void)fprintf(stderr, "WRONG: %s: what the restarted process had shown is gone\n",
                          x->where);
            abort();
        }
        test_store_close(&second);
        disk_free(&after);
        if (!sim_disk_has_pending(killed)) {
            break;
        }
    }
    test_store_close(&ts);
    disk_free(&killed);
}

/* Killed, restarted, a segment's worth of work acknowledged, then the power goes. */
static void try_kill_and_work(struct explorer *x, const struct sim_op *op)
{
    static char body[150001];
    struct disk *killed = sim_disk_clone(x->script.disk);
    struct disk *after;
    struct test_store ts;
    uint32_t sent = 0;
    uint64_t messages;

    explain(x, op, "kill -9, work, then drop unsynced", "");
    (void)recover(x, killed, &ts);
    memset(body, 'w', sizeof body - 1);
    while (sent < 8) {
        int rc = test_send(&ts, "after", 0, body, NULL);
        CHECK(rc == 0 || rc == ESCROW_ELIMIT);
        sent += rc == 0 ? 1 : 0;
        CHECK(test_store_run(&ts) == 0);
    }
    CHECK(test_store_checkpoint(&ts, x->points % 2 == 0) == 0);
    messages = ts.owner.messages;
    after = sim_disk_crash(killed, SIM_DROP_UNSYNCED, x->seed);
    test_store_close(&ts);
    if (test_store_open_txn(&ts, after, NULL) != 0 || ts.owner.messages != messages) {
        (void)fprintf(stderr, "WRONG: %s: %" PRIu64 " of %" PRIu64 " messages: %s\n", x->where,
                      ts.owner.messages, messages, ts.err.text);
        abort();
    }
    x->states++;
    test_store_close(&ts);
    disk_free(&after);
    disk_free(&killed);
}

static void on_op(void *arg, const struct sim_op *op)
{
    struct explorer *x = arg;

    x->points++;
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        try_crash(x, op, (enum sim_crash)how);
        if (!sim_disk_has_pending(x->script.disk)) {
            break; /* all kinds of crash look the same */
        }
    }
    try_kill(x, op);
    if (x->points % 3 == 0 || op->kind == SIM_OP_SYNC_DIR) {
        try_kill_and_work(x, op);
    }
}

static void explore(struct explorer *x)
{
    struct disk *disk = sim_disk_new();

    sim_disk_set_hook(disk, on_op, x); /* the creation of the store is explored too */
    script_begin(&x->script, disk, x->seed);
    for (uint64_t i = 0; i < x->steps; i++) {
        script_step(&x->script);
    }
    x->retained += x->script.retained;
    x->carried += x->script.carried;
    x->pieces += x->script.pieces;
    script_end(&x->script);
    disk_free(&disk);
}

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text == '\0' || *end != '\0') {
        (void)fprintf(stderr, "crash_explorer: not a number: %s\n", text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    struct explorer x = {.seed = 1, .steps = 120, .depth = 2};
    uint64_t runs = 1;

    for (int i = 1; i < argc; i++) {
        if (i + 1 < argc && strcmp(argv[i], "--seed") == 0) {
            x.seed = number(argv[++i]);
        } else if (i + 1 < argc && strcmp(argv[i], "--runs") == 0) {
            runs = number(argv[++i]);
        } else if (i + 1 < argc && strcmp(argv[i], "--steps") == 0) {
            x.steps = number(argv[++i]);
        } else if (i + 1 < argc && strcmp(argv[i], "--depth") == 0) {
            x.depth = (int)number(argv[++i]);
        } else {
            (void)fprintf(
                stderr, "usage: crash_explorer [--seed n] [--runs n] [--steps n] [--depth 1|2]\n");
            return 2;
        }
    }
    for (uint64_t i = 0; i < runs; i++, x.seed++) {
        explore(&x);
    }
    (void)printf("%" PRIu64 " crash points, %" PRIu64 " states recovered (%" PRIu64
                 " after a second cut), %" PRIu64 " torn tails cut, %" PRIu64
                 " unacknowledged events lost, log given up %" PRIu64 " times, %" PRIu64
                 " held messages carried, %" PRIu64 " times records between pieces of a checkpoint"
                 ": all sound\n",
                 x.points, x.states, x.again, x.cuts, x.lost, x.retained, x.carried, x.pieces);
    if (x.points == 0 || x.cuts == 0 || x.retained == 0 || x.carried == 0 || x.pieces == 0) {
        (void)fprintf(stderr, "crash_explorer: nothing was explored\n");
        return 1;
    }
    return 0;
}
