/*
 * A random run of a store that touches every kind of work: plain messages, halves, decisions over
 * several topics, groups with a position, groups given up, batches that overlap appends, segment
 * rolls, checkpoints, clean stops and kills. The model is kept in step; the disk's hook may look at
 * it at any operation.
 *
 * Owns:    the store and the model; the disk is borrowed.
 * Thread:  one.
 */
#ifndef TESTS_CRASH_CRASH_SCRIPT_H
#define TESTS_CRASH_CRASH_SCRIPT_H

#include "core/base/rand.h"
#include "tests/crash/crash_model.h"

struct script {
    struct disk *disk;
    struct test_store ts;
    struct model model;
    struct rand rand;
    struct rand skips; /* apart, so that the rest of a run is the same with and without them */
    uint32_t position;
    uint64_t steps;
    uint64_t retained; /* times a part of the log was given up */
    uint64_t carried;  /* held messages that were carried out of the way before */
    uint64_t pieces;   /* of checkpoints, with records applied behind them */
};

/* Opens a new store on the disk. */
void script_begin(struct script *s, struct disk *disk, uint64_t seed);

/* One random step. Aborts on any error: the disk must not fail. */
void script_step(struct script *s);
void script_end(struct script *s);

#endif
