/*
 * Access control of the broker and the name server: who sent this request, and may they?
 *
 * Off without acl.file. With it, every request that arrives on any port is signed by a user of that
 * file, and access.c has one table that says what each request code needs; a code that is not in it
 * needs an admin. The file is read again when it changes and at SIGHUP; a file that cannot be used
 * changes nothing.
 *
 * Owns:    the users, and the timer and the job that read the file.
 * Thread:  loop; the file is read in the pool.
 * Holds:   once users were read there always are some.
 */
#ifndef SRC_BROKER_ACCESS_H
#define SRC_BROKER_ACCESS_H

#include "core/acl/users.h"
#include "core/base/err.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "core/io_uv/small_file.h"

#include <stdbool.h>

struct broker;
struct request;

/* What a plain client of a server that takes nothing but TLS hears (tcp_conn_is_refused). */
#define ACCESS_PLAIN_TEXT "this server takes TLS connections only: turn TLS on in the client"

struct access {
    struct broker *broker;
    struct acl_users *users; /* NULL: access control is off */
    struct loop_timer timer;
    struct pool pool;
    struct pool_job job; /* one at a time */
    bool is_reading;
    bool must_read;       /* asked for by name: read it although it looks unchanged */
    bool must_read_again; /* asked for while it was being read */
    bool is_stopping;
    /* Of the read under way: the pool's until it is done. */
    struct file_stamp stamp;
    struct buf text;
    struct err_ctx err;
    int result;
    char complaint[ERR_TEXT_MAX]; /* what was last said to be wrong; not said twice */
};

/*
 * Read acl.file, if there is one, and begin to watch it. Before the loop runs: waits for the disk.
 * ESCROW_ECONFIG and the line of the file, or why it cannot be read; ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int access_start(struct broker *b, struct err_ctx *err);

/* Runs the loop until a read under way has ended. */
void access_stop(struct broker *b);

/* Read the file now (SIGHUP). The log says what came of it. */
void access_reload(struct broker *b);

/* May this request go on? false: it was answered with NO_PERMISSION. */
bool access_check(struct request *req);

/*
 * For what only shows after the request was let in: may the user who signed it with this key (as
 * users are now) read the topic? Without access control: yes.
 */
bool access_may_read(const struct broker *b, struct slice access_key, struct slice topic);

static inline bool access_is_on(const struct access *a)
{
    return a->users != NULL;
}

#endif
