/*
 * A real escrowd of the test's own, on ports that the kernel chose, and what tests of libescrow
 * share.
 *
 * Owns:    the process and its folder. It dies with the test, whatever becomes of that.
 * Thread:  the test's; the bag is for any thread.
 * Errors:  end the test.
 */
#ifndef TESTS_INTEGRATION_CLIENT_RIG_H
#define TESTS_INTEGRATION_CLIENT_RIG_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/header.h"
#include "escrow/escrow.h"

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RIG_ARGS_MAX 24
#define RIG_WAIT_MS  60000 /* a condition that has not come true by then never will */

#define OK(expr) ck_assert_msg((expr) == 0, "%s: %s", #expr, escrow_last_error())

struct rig {
    char folder[80];      /* TEMP_FOLDER_MAX */
    char name_server[64]; /* "127.0.0.1:port" */
    char broker[64];
    const char *args[RIG_ARGS_MAX]; /* further ones, ended by NULL */
    bool is_broker_only;
    pid_t pid;
    int log_fd;
};

/* args: "--option", "value", ..., NULL; NULL for none. They are borrowed until rig_stop. */
void rig_start(struct rig *r, const char *const *args);

/* The same for a process without a name server (args say so). */
void rig_start_broker(struct rig *r, const char *const *args);

/* SIGKILL; start again with the same ports and folder. */
void rig_kill(struct rig *r);
void rig_restart(struct rig *r);

/* One of the same name, address and options as another that is dead, and with an empty folder. */
void rig_start_twin(struct rig *r, const struct rig *dead);

/* SIGTERM, wait, remove the folder. It must have stopped cleanly. */
void rig_stop(struct rig *r);

struct escrow_client *rig_client(const struct rig *r);
struct escrow_client *rig_client_with(const char *servers, const struct escrow_option *options);

/* A counter of the broker (ESCROW_STATUS). */
int64_t rig_counter(const struct rig *r, const char *name);

/* Which broker it says it is (ESCROW_TXN_HORIZON). */
void rig_identity(const struct rig *r, char *dst, size_t size);

/* A person decides a half of this producer group. */
void rig_decide(const struct rig *r, const char *group, const char *id, enum txn_decision decision);

/* A connection of one's own to "127.0.0.1:port". */
int rig_connect(const char *host_port);

/* One request to the broker, on a connection of its own. */
struct rig_question {
    struct buf frame; /* the question, then the answer */
    struct header header;
    struct slice body;
};

void rig_question_init(struct rig_question *q);
void rig_question_fini(struct rig_question *q);

/* q->frame holds a request; afterwards header and body are those of its answer: a success. */
void rig_ask(const struct rig *r, struct rig_question *q);

/* Halves that the broker has not decided; messages that consumers can see in so many queues. */
int64_t rig_undecided(const struct rig *r);
int64_t rig_stored(const struct rig *r, const char *topic, int32_t queues);

/* ---- what arrived, collected from any thread ---- */

#define BAG_MAX 20000

struct bag {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t count;
    char *items[BAG_MAX]; /* texts, in order of arrival */
};

void bag_init(struct bag *b);
void bag_fini(struct bag *b);
void bag_add(struct bag *b, const void *text, size_t len);
size_t bag_count(struct bag *b);

/* How many are equal to text. */
size_t bag_count_of(struct bag *b, const char *text);

/* How many different ones. */
size_t bag_distinct(struct bag *b);

/* Wait until there are `count` (different, when so wanted); the test fails after RIG_WAIT_MS. */
void bag_wait(struct bag *b, size_t count);
void bag_wait_distinct(struct bag *b, size_t count);
void bag_wait_for(struct bag *b, const char *text);

/* A handler that puts bodies into the bag that is its argument. */
enum escrow_consume_result bag_handler(const struct escrow_delivery *message, void *arg);

/* A new consumer of one topic. */
struct escrow_consumer *rig_consume(struct escrow_client *c, const char *group, const char *topic,
                                    const char *expression, const struct escrow_option *options,
                                    escrow_handler_fn *handler, void *arg);

/* Body is the text; freed by the caller. */
struct escrow_message *rig_message(const char *topic, const char *text);
int rig_send(struct escrow_producer *p, const char *topic, const char *text);

/* ---- a server that accepts and never answers ---- */

struct black_hole {
    char addr[64];
    int fd;
};

void black_hole_open(struct black_hole *h);
void black_hole_close(struct black_hole *h);

/* Run a suite of one case; the timeout is for each test. */
int rig_main(const char *name, void (*add)(TCase *tc));

#endif
