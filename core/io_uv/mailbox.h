/*
 * Bounded mailbox between threads: many senders, one receiver, messages in the order they were
 * posted.
 *
 * The receiver is either a loop (a function is called on it for each message; wake-ups coalesce) or
 * a thread that waits. This is the only module with a mutex.
 *
 * Owns:    nothing but its lock: a message is the sender's struct mail, embedded in the sender's
 * object; posting hands the object to the receiver. After a failed post it still is the sender's.
 * Thread:  mailbox_post, mailbox_post_soon, waiter_signal: any. Everything else: the receiver.
 * Holds:   count <= limit; every message posted successfully is received exactly once.
 */
#ifndef CORE_IO_UV_MAILBOX_H
#define CORE_IO_UV_MAILBOX_H

#include "core/base/attr.h"
#include "core/io_uv/loop.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mail {
    struct mail *next;
};

typedef void mailbox_fn(void *arg, struct mail *mail);

struct mailbox {
    pthread_mutex_t lock;
    /* Under the lock, by any thread. */
    pthread_cond_t not_empty; /* thread receivers only */
    struct mail *head;
    struct mail *tail;
    size_t count;
    bool is_closed;
    bool is_woken;  /* loop receivers only: it has been told, and has not looked yet */
    bool is_polled; /* loop receivers only: it looks by itself, soon */
    /* Set by init, then only read. */
    size_t limit;
    struct loop *loop; /* NULL: the receiver is a thread */
    /* Receiver's. */
    struct loop_hook hook;
    mailbox_fn *fn;
    void *arg;
};

/*
 * Messages go to fn(arg, mail) on the loop. fn may post here and elsewhere; it may not fini this
 * mailbox. ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int mailbox_init_loop(struct mailbox *m, struct loop *l, size_t limit,
                                      mailbox_fn *fn, void *arg);

/*
 * Messages are fetched with mailbox_wait, by one thread or by several: each message by one of them.
 */
ESCROW_MUST_USE int mailbox_init_thread(struct mailbox *m, size_t limit);

/* The caller knows that no thread will post any more. Messages still inside are dropped: take them
 * out before. */
void mailbox_fini(struct mailbox *m);

/* ESCROW_ELIMIT when `limit` messages wait, ESCROW_ESHUTDOWN after mailbox_close; the message still
 * is the caller's then. */
ESCROW_MUST_USE int mailbox_post(struct mailbox *m, struct mail *mail);

/*
 * The same for messages that can wait a little: a loop that polls its mailbox is not woken for
 * them.
 */
ESCROW_MUST_USE int mailbox_post_soon(struct mailbox *m, struct mail *mail);

/*
 * Loop receivers. mailbox_poll receives what is there and promises to be called again soon;
 * mailbox_poll_end takes the promise back, or answers false when something has arrived since: then
 * poll again.
 */
void mailbox_poll(struct mailbox *m);
ESCROW_MUST_USE bool mailbox_poll_end(struct mailbox *m);

/* No more posts. What is inside can still be received. Any thread. */
void mailbox_close(struct mailbox *m);

/* Oldest message; waits for one. NULL when the mailbox is closed and empty. Thread receivers. */
struct mail *mailbox_wait(struct mailbox *m);

/* Oldest message, NULL when there is none. */
struct mail *mailbox_take(struct mailbox *m);

/*
 * One event that a thread waits for: the synchronous calls of the client library. Caller-owned;
 * signal it once, wait for it once. After a time-out the caller makes sure that nobody
 * signals any more before waiter_fini.
 */
struct waiter {
    sem_t sem;
};

ESCROW_MUST_USE int waiter_init(struct waiter *w);
void waiter_fini(struct waiter *w);
void waiter_signal(struct waiter *w); /* any thread; signalling twice is harmless */

/* 0, or ESCROW_ETIMEOUT after timeout_ms (negative: wait for ever). Monotonic time. */
ESCROW_MUST_USE int waiter_wait(struct waiter *w, int64_t timeout_ms);

#endif
