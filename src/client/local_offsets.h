/*
 * Offsets of a broadcast consumer: in a file of this host, because every member of the group reads
 * every queue for itself and a broker keeps one offset for all of them.
 *
 * The file is what RocketMQ's clients write, {"offsetTable":{{queue}:offset}}; it is replaced as a
 * whole, and is on the disk when the write has ended. Beside it lies "<file>.lock", held as long as
 * it is open: two consumers with one file would forget each other's offsets.
 *
 * Owns:    the table, the lock, the job that writes.
 * Thread:  open: any that may wait for the disk. Everything else: the loop; the job runs in libuv's
 *          pool.
 * Holds:   at most LOCAL_OFFSETS_MAX rows; one write at a time.
 */
#ifndef SRC_CLIENT_LOCAL_OFFSETS_H
#define SRC_CLIENT_LOCAL_OFFSETS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/strmap.h"
#include "core/io/disk.h"
#include "core/io_uv/pool.h"

#include <stdbool.h>
#include <stdint.h>

#define LOCAL_OFFSETS_MAX       4096 /* eight of the 65,536 elements that a body may have, each */
#define LOCAL_OFFSETS_BYTES_MAX (4u << 20)
#define LOCAL_OFFSETS_PATH_MAX  1024

struct local_offsets {
    struct disk *disk; /* the folder */
    struct disk_file *lock;
    char path[LOCAL_OFFSETS_PATH_MAX]; /* for messages */
    const char *name;                  /* in the folder; points into path */
    struct strmap rows;                /* "broker@queue@topic" -> struct local_row */
    bool is_dirty;                     /* the file is older than the table */
    bool is_writing;
    struct pool pool;
    struct pool_job job;
    struct buf text;    /* the job's while it runs */
    struct err_ctx err; /* likewise */
    int error;          /* of the last write */
    void (*written)(void *arg);
    void *arg;
};

struct local_queue {
    const char *topic;
    const char *broker;
    uint32_t queue_id;
};

/*
 * Where the offsets of a group are when nobody says otherwise:
 * $XDG_STATE_HOME/escrow/offsets/<group>.json, or ~/.local/state/... without XDG_STATE_HOME; its
 * folders are created. ESCROW_ECONFIG: no home either, or too long.
 */
ESCROW_MUST_USE int local_offsets_default(const char *group, char *path, size_t size,
                                          struct err_ctx *err);

/*
 * Read the file (none is an empty table) and take the lock. The last folder of the path is created.
 * ESCROW_ELOCKED: another consumer has it; ESCROW_ECORRUPT: the file is not what this library
 * writes; ESCROW_ECONFIG: no file name; what the disk says. *err names the file.
 */
ESCROW_MUST_USE int local_offsets_open(const char *path, struct hash_key key,
                                       struct local_offsets *o, struct err_ctx *err);

/* Must not be writing. An all-zero struct is fine. */
void local_offsets_close(struct local_offsets *o);

/* false: nothing is known of the queue. */
bool local_offsets_find(const struct local_offsets *o, const struct local_queue *queue,
                        int64_t *offset);

/*
 * Of a queue that is new here: ESCROW_ELIMIT, ESCROW_ENOMEM; ESCROW_EINVAL: a name that is empty,
 * too long or no UTF-8, which a route may tell.
 */
ESCROW_MUST_USE int local_offsets_set(struct local_offsets *o, const struct local_queue *queue,
                                      int64_t offset);

/*
 * Write the file unless it is as the table; written(arg) follows, also after a failure, which is
 * logged and leaves the table dirty. Nothing happens while a write is under way.
 */
void local_offsets_write(struct local_offsets *o, struct loop *l, void (*written)(void *arg),
                         void *arg);

/* The text of the table, and back. Pure. Errors of encoding: buf_failed. */
void local_offsets_encode(const struct local_offsets *o, struct buf *out);
ESCROW_MUST_USE int local_offsets_decode(struct local_offsets *o, struct slice text);

#endif
