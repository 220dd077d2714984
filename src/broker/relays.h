/*
 * Requests that are passed on to a client, and its answers back: an administrator asks the broker,
 * the broker asks a consumer down its connection, and what it answers is the answer. Or it asks
 * several, and what they answer is gathered.
 *
 * Owns:    what waits: the request of the one who asks (deferred) and a hold on the other session.
 *          At most RELAYS_MAX, each RELAY_WAIT_MS long.
 * Thread:  loop.
 * Holds:   an entry's client session is open; the timer runs while there is an entry.
 */
#ifndef SRC_BROKER_RELAYS_H
#define SRC_BROKER_RELAYS_H

#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/io_uv/loop.h"
#include "src/broker/session.h"

struct broker;
struct client_role;

#define RELAYS_MAX    64
#define RELAY_WAIT_MS 10000

struct relays {
    struct list waiting;
    size_t count;
    struct loop_timer timer;
};

/* What is asked of the client. */
struct relay_ask {
    int32_t code;
    struct slice group;
    struct slice client_id;
    /* NULL, or what else stands in the header */
    void (*put_fields)(struct header_writer *w, void *arg);
    void *arg;
    struct slice body;
};

void relays_init(struct relays *r);

/*
 * Ask the client, and answer `deferred` with what it says; with an error when it cannot be asked.
 */
void relay_start(struct broker *b, struct deferred *deferred, const struct relay_ask *ask);

/*
 * One of several that are asked: fn hears its answer once (h NULL: there is none), perhaps before
 * this returns. ESCROW_ELIMIT, ESCROW_ENOMEM: it was not asked.
 */
typedef void relay_heard_fn(struct broker *b, void *arg, const char *client_id,
                            const struct header *h, struct slice body);
ESCROW_MUST_USE int relay_ask_member(struct broker *b, const struct client_role *member,
                                     const struct relay_ask *ask, relay_heard_fn *fn, void *arg);

/* A client answers; nobody waits for it: ignored. */
void relay_on_answer(struct session *s, const struct header *h, struct slice body);

/* The session's connection has closed: nothing more comes from it. */
void relay_on_close(struct session *s);

/* Answer everybody who waits: the broker stops. */
void relays_stop(struct broker *b);

#endif
