/*
 * Jobs of the commit log; store.h has their life: taken on the loop, run on any one thread, done on
 * the loop.
 *
 * Owns:    a segment job the handle of the segment it created, until the loop takes it.
 * Thread:  the _run functions any one thread, everything else the loop.
 */
#ifndef CORE_STORE_LOG_JOB_H
#define CORE_STORE_LOG_JOB_H

#include "core/store/commit_log.h"

struct segment_job {
    struct disk *disk;
    struct disk_file *file;
    uint64_t first;
    uint64_t segment_bytes;
    int rc;
    struct err_ctx err;
};

/* NULL when out of memory. */
struct segment_job *segment_job_new(struct disk *disk, uint64_t first, uint64_t segment_bytes);
void segment_job_free(struct segment_job **job);

#endif
