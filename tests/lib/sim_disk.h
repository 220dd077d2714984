/*
 * A disk in memory that can fail and lose power: the other implementation of core/io/disk.h.
 *
 * It keeps apart what the running program sees and what a power cut would leave. Per file: the
 * durable content, and the list of pending changes since the last disk_sync (data and size are
 * separate changes, as they are in a real file system). Per name: the durable tree, and the list of
 * pending creations, renames and unlinks since the last disk_sync_dir of their folder.
 * sim_disk_crash makes a new disk from the durable state and a selection of the pending changes.
 *
 * Every mutating call (write, allocate, zero, truncate, sync, create, rename, unlink, mkdir, rmdir,
 * sync_dir) is one operation, numbered from 1. A hook sees each before it happens, so that a test
 * can branch off a crash at every point of a run. Faults fire at the n-th operation or the n-th
 * read.
 *
 * Owns:    everything. Files must be closed before disk_free, as with any disk.
 * Thread:  one.
 * Holds:   same calls and same seeds give the same bytes.
 */
#ifndef TESTS_LIB_SIM_DISK_H
#define TESTS_LIB_SIM_DISK_H

#include "core/io/disk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * An empty disk without limits. Never NULL: out of memory aborts, here and everywhere below (but
 * mem_fault_at is honoured by nothing in here: the disk's own memory does not count as the
 * program's).
 */
struct disk *sim_disk_new(void);

/*
 * The same disk in another process's eyes after kill -9: same content, same pending changes, no
 * open files, no locks.
 */
struct disk *sim_disk_clone(const struct disk *d);

enum sim_crash {
    SIM_DROP_UNSYNCED, /* nothing pending survives */
    SIM_KEEP_ALL,      /* everything pending survives */
    SIM_KEEP_SOME,     /* each pending change survives or not */
    /* each 512-byte sector of pending data survives or not; so does every other change */
    SIM_TEAR_512,
    SIM_TEAR_4096, /* the same with pages of 4 KiB */
    /* a random number of changes survives, in any order: later ones without earlier ones */
    SIM_REORDER,
    SIM_CRASH_COUNT
};

const char *sim_crash_name(enum sim_crash how);

/* What is found after a power cut now. */
struct disk *sim_disk_crash(const struct disk *d, enum sim_crash how, uint64_t seed);

/* Does anything pending exist? Without, all crashes look the same. */
bool sim_disk_has_pending(const struct disk *d);

enum sim_op_kind {
    SIM_OP_CREATE,
    SIM_OP_WRITE,
    SIM_OP_ALLOCATE,
    SIM_OP_ZERO,
    SIM_OP_TRUNCATE,
    SIM_OP_SYNC,
    SIM_OP_RENAME,
    SIM_OP_UNLINK,
    SIM_OP_MKDIR,
    SIM_OP_RMDIR,
    SIM_OP_SYNC_DIR,
};

struct sim_op {
    uint64_t number; /* from 1 */
    enum sim_op_kind kind;
    const char *path;
    uint64_t offset;
    uint64_t len;
};

const char *sim_op_name(enum sim_op_kind kind);

/* Called before every operation. The hook may clone and crash this disk, but not use it. */
typedef void sim_hook_fn(void *arg, const struct sim_op *op);
void sim_disk_set_hook(struct disk *d, sim_hook_fn *hook, void *arg);
uint64_t sim_disk_op_count(const struct disk *d);

enum sim_fault {
    /* the operation fails; a failed sync loses what was pending for good, as on a real kernel */
    SIM_FAULT_EIO,
    SIM_FAULT_ENOSPC, /* the operation fails for want of space; only where that can be */
    SIM_FAULT_SHORT,  /* a write does half of its work, then fails with EIO */
    SIM_FAULT_DEAD,   /* this operation and every call after it fails with EIO */
};

/* At the n-th operation from now (1 = the next one), once. 0: none. */
void sim_disk_fault_at(struct disk *d, uint64_t n, enum sim_fault fault);

/* The n-th disk_pread from now fails with EIO, once. 0: none. */
void sim_disk_read_fault_at(struct disk *d, uint64_t n);

/* Did a fault fire since it was set? */
bool sim_disk_fault_fired(const struct disk *d);

/* Bytes that files may have in all; UINT64_MAX = no limit. */
void sim_disk_set_capacity(struct disk *d, uint64_t bytes);
uint64_t sim_disk_used(const struct disk *d);

/* Every mutating call answers ESCROW_EROFS. */
void sim_disk_set_read_only(struct disk *d, bool is_read_only);

/* disk_pread_nowait answers ESCROW_EAGAIN always: nothing is in memory. */
void sim_disk_set_cold(struct disk *d, bool is_cold);

/*
 * ---- looking and touching, past all bookkeeping: the bytes are changed on the platter and in
 * memory ----
 */

/* false when there is no such file. */
bool sim_disk_file_size(const struct disk *d, const char *path, uint64_t *size_bytes);
bool sim_disk_peek(const struct disk *d, const char *path, uint64_t offset, void *dst, size_t len);
bool sim_disk_poke(struct disk *d, const char *path, uint64_t offset, const void *src, size_t len);
bool sim_disk_cut(struct disk *d, const char *path, uint64_t size_bytes); /* grows with zeros too */
bool sim_disk_remove(struct disk *d, const char *path);

/* Visit every file, sorted by path. */
typedef void sim_visit_fn(void *arg, const char *path, uint64_t size_bytes);
void sim_disk_visit(const struct disk *d, sim_visit_fn *fn, void *arg);

/* Same files with the same bytes, as the program sees them? */
bool sim_disk_equal(const struct disk *a, const struct disk *b);

#endif
