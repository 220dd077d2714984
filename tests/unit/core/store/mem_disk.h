/*
 * A small disk in memory for the unit tests of core/store: files, folders, and the n-th operation
 * failing. No power loss: that is tests/lib/sim_disk.h.
 *
 * Owns:    all files. Freed by disk_free once every handle is closed.
 * Thread:  one.
 */
#ifndef TESTS_UNIT_CORE_STORE_MEM_DISK_H
#define TESTS_UNIT_CORE_STORE_MEM_DISK_H

#include "core/io/disk.h"

struct disk *mem_disk_new(void);

/* The n-th operation from now (1 = the next) that can fail returns `error`, once. 0 = none. */
void mem_disk_fail_at(struct disk *d, uint64_t n, int error);
bool mem_disk_fault_fired(const struct disk *d);

/* From now on disk_pread_nowait says that the page is cold. */
void mem_disk_set_cold(struct disk *d, bool is_cold);

/* Counts since the disk was made. */
struct mem_disk_counts {
    uint64_t syncs;
    uint64_t dir_syncs;
    uint64_t writes;
    uint64_t opens;
    uint64_t open_files; /* handles now */
    uint64_t files;      /* files now */
    uint64_t unsynced;   /* files with bytes written and not synced now */
};
struct mem_disk_counts mem_disk_counts(const struct disk *d);

/* Bytes of a file, to read or to damage; NULL when it does not exist. */
uint8_t *mem_disk_bytes(struct disk *d, const char *path, size_t *len);

/* Make or replace a file, with its folders. */
void mem_disk_put(struct disk *d, const char *path, const void *bytes, size_t len);

/* A copy of every file and folder, for what happens after a stop at this point. */
struct disk *mem_disk_copy(const struct disk *d);

#endif
