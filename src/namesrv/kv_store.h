/*
 * Key-value configuration that outlives the process: changes are written one after the other, each
 * as the whole file (kv_file.h), and become true, are read by anybody, and are answered when that
 * is durable.
 *
 * Owns:    the changes that wait, and the lock on the folder. Borrows disk and registry.
 * Thread:  loop; the file is written in the pool.
 * Holds:   one write at a time; at most KV_WAITING_MAX changes wait; `done` of each runs exactly
 *          once, never inside kv_store_change.
 */
#ifndef SRC_NAMESRV_KV_STORE_H
#define SRC_NAMESRV_KV_STORE_H

#include "core/base/list.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "src/namesrv/kv_file.h"

#define KV_WAITING_MAX 1024 /* of 64 KiB each, at most */

/* error: 0 or why nothing was changed, with one line of text. */
typedef void kv_done_fn(void *arg, int error, const char *text);

struct kv_store {
    struct loop *loop;
    struct registry *registry;
    struct disk *disk; /* NULL: there is none */
    struct disk_file *lock;
    struct list waiting; /* the first is being written while is_writing */
    size_t waiting_count;
    bool is_writing;
    bool is_closing;
    struct pool pool;
    struct pool_job job;
    struct buf file;
    int error;
    struct err_ctx err;
};

/*
 * Read what there is into the registry. Without a disk there is nothing, and every change fails.
 * Errors of kv_file_open; kv_store_close is then allowed, and needed.
 */
ESCROW_MUST_USE int kv_store_open(struct kv_store *s, struct loop *l, struct registry *registry,
                                  struct disk *disk, struct err_ctx *err);

/*
 * Take a change, copied. ESCROW_EINVAL and ESCROW_ELIMIT (registry_kv_check), ESCROW_EBUSY
 * (KV_WAITING_MAX), ESCROW_ESHUTDOWN, ESCROW_ENOTSUP (there is no disk), ESCROW_ENOMEM: `done` does
 * not run then. Later also what the disk answers; ESCROW_ENOTFOUND: nothing to take away.
 */
ESCROW_MUST_USE int kv_store_change(struct kv_store *s, const struct kv_change *change,
                                    kv_done_fn *done, void *arg);

/* Nothing waits: what the registry says is what is durable, and the last word. */
static inline bool kv_store_is_idle(const struct kv_store *s)
{
    return s->waiting_count == 0;
}

/* Fail what waits, take no more; runs the loop until the write that is under way has ended. */
void kv_store_drain(struct kv_store *s);

/* After kv_store_drain, if it was ever opened; nothing waits. */
void kv_store_close(struct kv_store *s);

#endif
