/*
 * Waits: who waits for messages, kept so that a message looks only at those who may want it.
 *
 *     topic -> group -> place (one queue, or any) -> class (lane, filter) -> waiters
 *
 * All waiters of a class want the same messages, so that a message asks a class once, however many
 * wait in it. The first in a class waits longest; between classes the number of each waiter tells.
 * What a lane is, is the owner's business: one of each lane is woken (waits_wake_first).
 *
 * One turn of the loop has WAITS_STEPS_MAX steps for all of that: a group or a class that is looked
 * at is one. What comes when they are used up is *missed*: nobody is asked about it, and in the
 * turns that follow waits_next hands out who waited then, a class at a time, topics in turn: of
 * each class as many as were missed, or, of an owner that wakes all, everyone. Whoever is woken for
 * nothing waits again. So no message costs more than its turn has, and none is forgotten.
 *
 * Owns:    topics, groups, places and classes, which exist while somebody waits in them; a
 *          reference of each class's filter. The waiters are the caller's.
 * Thread:  the owner's.
 * Pure:    no clock, no I/O.
 * Errors:  waits_add alone can fail.
 * Holds:   waits_check(). waits_remove and waits_next take a waiter out in O(1) and a look-up.
 */
#ifndef SRC_BROKER_WAITS_H
#define SRC_BROKER_WAITS_H

#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/base/slice.h"
#include "core/base/strmap.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct filter;
struct wait_class;
struct wait_topic;

#define WAITS_LANES     4
#define WAITS_LANES_ALL ((1U << WAITS_LANES) - 1)
#define WAITS_STEPS_MAX 16384 /* of one turn: about a millisecond */
#define WAITS_NAME_MAX  512   /* of a topic, of a group */

struct wait_item {
    struct list node;         /* of its class; the owner's while it does not wait */
    struct wait_class *class; /* NULL: it does not wait */
    uint64_t number;          /* rising: who began to wait first has the lowest */
};

/* What somebody waits for. */
struct wait_wish {
    struct slice topic;
    struct slice group; /* may be empty */
    int32_t queue;      /* < 0: any */
    uint32_t lane;
    struct filter *filter; /* NULL: every message */
};

struct wait_place {
    struct list by_group; /* group.places, or alone: the one for any queue */
    struct list classes;
    struct wait_group *group;
    int32_t queue;
    uint32_t lanes[WAITS_LANES]; /* how many of each wait */
};

struct wait_group {
    struct list by_topic;
    struct wait_topic *topic;
    struct wait_place any;
    struct list places;          /* for one queue each */
    uint32_t lanes[WAITS_LANES]; /* how many of each wait */
    size_t name_len;
    char name[];
};

struct wait_class {
    struct list by_place;
    struct list by_topic; /* topic.classes, or topic.due */
    struct list waiters;  /* never empty; the one that waits longest first */
    struct wait_place *place;
    struct filter *filter; /* a reference; NULL = every message */
    uint64_t hash;
    uint64_t before; /* due: who has a lower number is woken */
    uint64_t seen;   /* of topic.missed */
    uint32_t lane;
    /* The owner's: of offsets [from, to) it is known that nobody here wants them. */
    int64_t passed_from;
    int64_t passed_to;
};

struct waits {
    struct strmap topics;
    struct strmap parts; /* groups, places, classes by who they belong to */
    struct list due;     /* topics that have somebody to hand out */
    size_t count;        /* who waits */
    size_t lanes[WAITS_LANES];
    uint64_t next_number;
    uint64_t turn;
    uint32_t steps_left; /* of this turn */
    bool wakes_all;
    /* NULL, or called before a waiter leaves its class, for whatever reason. */
    void (*on_leave)(struct wait_item *waiter);
};

/* wakes_all: a message is for all who want it (waits_wake_all), not for one of them. */
void waits_init(struct waits *w, struct hash_key key, bool wakes_all);
void waits_fini(struct waits *w); /* nobody waits any more */

/* ESCROW_ENOMEM; nothing has changed. */
ESCROW_MUST_USE int waits_add(struct waits *w, const struct wait_wish *wish,
                              struct wait_item *waiter);
void waits_remove(struct waits *w, struct wait_item *waiter);

/*
 * The turn of the loop that this is, before anything is looked at. true: a new one, which has all
 * of its steps.
 */
bool waits_turn(struct waits *w, uint64_t turn);

/* ---- one of each lane ------------------------------------------------------------------------ */

/* What wakes. */
struct wait_alarm {
    int32_t queue;           /* < 0: one of each class of the group, whatever its place */
    const int64_t *tag_code; /* NULL: any */
    /* Which lanes of the group, as bits; NULL: all. */
    uint32_t (*lanes)(void *arg, const struct wait_group *group);
    void (*wake)(void *arg, struct wait_item *waiter); /* it was taken out */
    void *arg;
};

/*
 * Of every group of the topic, or of one, who waits longest of those that may want it, in each
 * lane. Who waits for any queue and who waits for this one are alike.
 */
void waits_wake_groups(struct waits *w, struct slice topic, const struct wait_alarm *alarm);
void waits_wake_group(struct waits *w, struct slice topic, struct slice group,
                      const struct wait_alarm *alarm);

/* ---- all ------------------------------------------------------------------------------------- */

/*
 * Everyone in the classes of the topic that `wants` says; they come from waits_next. wants is asked
 * at most once for each class.
 */
typedef bool waits_wants_fn(void *arg, struct wait_class *class);
void waits_wake_all(struct waits *w, struct slice topic, waits_wants_fn *wants, void *arg);

/* ---- in pieces ------------------------------------------------------------------------------- */

/* The next one that is woken, taken out. NULL: none is due, or this turn has no step left. */
struct wait_item *waits_next(struct waits *w);

static inline bool waits_has_due(const struct waits *w)
{
    return !list_is_empty(&w->due);
}

/* ---- looking at it --------------------------------------------------------------------------- */

/* How many wait in this lane for this queue (< 0: for any). */
uint32_t waits_count(const struct waits *w, const struct wait_wish *wish);

/* CHECK everything that must hold; for tests. */
void waits_check(const struct waits *w);

#endif
