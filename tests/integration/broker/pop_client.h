/*
 * What tests of popping share: one broker, one client, a topic T, a group g, and what was popped.
 *
 * Owns:    the fixture, the client, and `got`.
 * Thread:  the test's.
 * Errors:  end the test.
 */
#ifndef TESTS_INTEGRATION_BROKER_POP_CLIENT_H
#define TESTS_INTEGRATION_BROKER_POP_CLIENT_H

#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include <stdbool.h>
#include <stdint.h>

struct rand;

#define LONG_MS  600000 /* an invisible time that does not end within a test */
#define SHORT_MS 100    /* one that ends at once */
#define POLL_MS  20000  /* what waits for a message that is to come */
#define ALL      (-1)
#define POP_MAX  32

extern struct broker_fixture f;
extern struct client c;

/* With a topic T of so many queues. */
void set_up(int32_t queues);
void tear_down(void);

void send_one(int32_t queue, const char *body);
void send_many(int32_t queue, int count); /* "m0", "m1", ... */

/* Waits until the metric has come to that, from below; from above. */
void await_metric(const char *name, int64_t value);
void await_fewer(const char *name, int64_t value);

/* SIGKILL, and a new start. */
void die_and_start(void);

/* ---- requests ---- */

struct test_pop {
    const char *group; /* NULL: "g" */
    const char *expression;
    const char *attempt_id; /* NULL: none */
    int32_t queue;
    int32_t count;
    int32_t init_mode;
    int64_t invisible_ms;
    int64_t poll_ms;
    bool is_ordered;
};

void put_pop(struct client *to, const struct test_pop *p);

/* A message that was popped, and the handle that a client makes for it. */
struct popped {
    char body[32];
    char handle[200];
    int32_t queue;
    int64_t offset;
    int32_t retries;
};

extern struct popped got[POP_MAX];

/* Reads the answer into `got`; returns how many messages it has. */
int read_popped(struct client *from);

/* Pops what is there; the number of messages, 0 when the answer is "nothing". */
int pop(const struct test_pop *p);
int pop_queue(int32_t queue, int32_t count, int64_t invisible_ms);

/* Waits in the broker until a message comes, or comes again. */
int pop_await(int32_t queue, int64_t invisible_ms);

/* A request with the fields of a receipt. */
struct header_writer *put_receipt(int32_t code, const struct popped *p);

int32_t ack(const struct popped *p);

/* With a new handle in *p. */
int32_t change(struct popped *p, int64_t invisible_ms);

/* What the group has consumed of a queue. -1: it never did. */
int64_t committed(int32_t queue);

/* ---- kills ---- */

#define KILL_ROUNDS   8
#define KILL_MESSAGES 60 /* of each round */

/* What somebody consumes of queue 0, with a SIGKILL after each round. */
struct kill_run {
    void (*consume)(struct rand *rnd);
    void (*check)(void); /* after each start */
    int (*pop)(void);    /* what is left, into `got` */
};

/* Messages that were acknowledged, whether or not the answer came. */
extern bool is_done[KILL_ROUNDS * KILL_MESSAGES];

/* In the end everything is acknowledged, and the group's offset behind it. */
void consume_over_kills(uint64_t seed, const struct kill_run *run);

#endif
