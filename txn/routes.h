/*
 * Interned names: producer groups, and routes (producer group, topic), so that a half names both
 * with four bytes.
 *
 * A group also carries what the check-back scanner knows of it: rate, window, pause, and the list
 * of halves that are due. Groups and routes live as long as a half refers to them.
 *
 * Owns:    names, groups and routes.
 * Thread:  loop.
 * Errors:  routes_intern: ESCROW_ENOMEM, ESCROW_ELIMIT (ROUTES_MAX), nothing has changed.
 * Holds:   a route has refs > 0 (or is pinned by a routes_intern just made); a group's refs is the
 *          number of its routes; ids of freed routes and groups are used again.
 */
#ifndef TXN_ROUTES_H
#define TXN_ROUTES_H

#include "core/base/attr.h"
#include "core/base/slice.h"
#include "core/base/strmap.h"
#include "core/base/wheel.h"

#include <stdint.h>

#define ROUTES_MAX                                                                                 \
    65536 /* distinct (group, topic) pairs with undecided halves: about 20 MiB of names at worst */

struct group {
    char *name;
    uint32_t name_len;
    uint32_t id;
    uint32_t refs; /* routes */
    /* Of the check-back scanner (check_back.c). */
    uint32_t ready_head; /* halves that are due, oldest first; WHEEL_NONE */
    uint32_t ready_tail;
    uint32_t away_head; /* due, but whoever was reached can never know them; WHEEL_NONE */
    uint32_t away_tail;
    uint32_t ready_count; /* both lists */
    uint32_t asking;      /* questions out */
    uint32_t pause_step;  /* consecutive rounds in which nobody could be reached */
    uint32_t away_step;   /* consecutive rounds that ended so */
    uint16_t tag;         /* txn_group_tag of the name, once is_named */
    bool is_named;        /* noted in group_names */
    bool is_scheduled;    /* in the scanner's wheel of groups */
    struct wheel_node timer;
    int64_t paused_until_ms; /* monotonic; nothing is asked before */
    int64_t away_until_ms;   /* monotonic; no half of the away list is asked about before */
    int64_t next_free_us;    /* rate: theoretical arrival time of the next question, microseconds */
};

struct route {
    struct group *group;
    char *topic;
    uint32_t topic_len;
    uint32_t id;
    uint32_t refs; /* halves */
};

struct routes {
    struct strmap groups_by_name;
    struct strmap routes_by_key; /* key: group id le32, topic */
    struct group **groups;       /* by id; NULL = free */
    struct route **routes;
    uint32_t group_cap;
    uint32_t route_cap;
    uint32_t route_count;
    uint32_t group_count;
    uint32_t group_hint; /* ids below are in use */
    uint32_t route_hint;
    struct route *last; /* that routes_intern found or made, the next one most often; NULL: none */
    size_t bytes;       /* allocated for groups, routes and names, without the maps */
};

void routes_init(struct routes *r, struct hash_key key);
void routes_fini(struct routes *r);

/* Id of the route, made when new, with refs 0: follow with routes_ref, or routes_drop_unused. */
ESCROW_MUST_USE int routes_intern(struct routes *r, struct slice group, struct slice topic,
                                  uint32_t *id);
void routes_ref(struct routes *r, uint32_t id);

/* Give back one reference; the last one frees the route, and its group with its last route. */
void routes_unref(struct routes *r, uint32_t id);

/* Free a route that nobody refers to; nothing otherwise. */
void routes_drop_unused(struct routes *r, uint32_t id);

struct route *routes_get(const struct routes *r, uint32_t id); /* the id must be in use */
struct group *routes_group(const struct routes *r, uint32_t group_id);
struct group *routes_find_group(const struct routes *r,
                                struct slice name); /* NULL when no half has it */

/* CHECKs what Holds says; for tests (groups x routes). */
void routes_check(const struct routes *r);

static inline struct slice route_topic(const struct route *route)
{
    return slice_of(route->topic, route->topic_len);
}

static inline struct slice group_name(const struct group *group)
{
    return slice_of(group->name, group->name_len);
}

#endif
