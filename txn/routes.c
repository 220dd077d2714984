#include "txn/routes.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

#define ROUTES_CAP_MIN 16u

struct route_key {
    uint8_t bytes[4 + RETRY_TOPIC_LEN_MAX];
    size_t len;
};

static struct slice route_key_make(struct route_key *key, uint32_t group_id, struct slice topic)
{
    CHECK(topic.len <= RETRY_TOPIC_LEN_MAX);
    put_le32(key->bytes, group_id);
    if (topic.len > 0) {
        memcpy(key->bytes + 4, topic.ptr, topic.len);
    }
    key->len = 4 + topic.len;
    return slice_of(key->bytes, key->len);
}

void routes_init(struct routes *r, struct hash_key key)
{
    *r = (struct routes){0};
    strmap_init(&r->groups_by_name, key);
    strmap_init(&r->routes_by_key, key);
}

static void group_free(struct routes *r, struct group *group)
{
    r->bytes -= sizeof *group + group->name_len + 1;
    mem_free(group->name);
    mem_free(group);
}

static void route_free(struct routes *r, struct route *route)
{
    r->bytes -= sizeof *route + route->topic_len + 1;
    mem_free(route->topic);
    mem_free(route);
}

void routes_fini(struct routes *r)
{
    for (uint32_t i = 0; i < r->route_cap; i++) {
        if (r->routes[i] != NULL) {
            route_free(r, r->routes[i]);
        }
    }
    for (uint32_t i = 0; i < r->group_cap; i++) {
        if (r->groups[i] != NULL) {
            group_free(r, r->groups[i]);
        }
    }
    CHECK(r->bytes == 0);
    mem_free(r->routes);
    mem_free(r->groups);
    strmap_fini(&r->routes_by_key);
    strmap_fini(&r->groups_by_name);
    *r = (struct routes){0};
}

/* Make room in an array of pointers indexed by id, doubling it. */
static int routes_grow(void **array, uint32_t *cap, uint32_t want)
{
    uint32_t new_cap = *cap == 0 ? ROUTES_CAP_MIN : *cap;
    void **grown;

    while (new_cap <= want) {
        new_cap *= 2;
    }
    if (new_cap == *cap) {
        return 0;
    }
    grown = mem_realloc(*array, new_cap * sizeof *grown);
    if (grown == NULL) {
        return ESCROW_ENOMEM;
    }
    memset(grown + *cap, 0, (new_cap - *cap) * sizeof *grown);
    *array = (void *)grown;
    *cap = new_cap;
    return 0;
}

static char *routes_copy(struct slice text)
{
    char *copy = mem_alloc(text.len + 1);

    return copy == NULL ? NULL : slice_to_cstr(text, copy, text.len + 1);
}

static int group_make(struct routes *r, struct slice name, struct group **out)
{
    uint32_t id = r->group_hint;
    struct group *group;
    int rc;

    while (id < r->group_cap && r->groups[id] != NULL) {
        id++;
    }
    rc = routes_grow((void **)(void *)&r->groups, &r->group_cap, id);
    if (rc != 0) {
        return rc;
    }
    group = mem_calloc(1, sizeof *group);
    if (group == NULL) {
        return ESCROW_ENOMEM;
    }
    group->name = routes_copy(name);
    group->name_len = (uint32_t)name.len;
    group->id = id;
    group->ready_head = WHEEL_NONE;
    group->ready_tail = WHEEL_NONE;
    group->away_head = WHEEL_NONE;
    group->away_tail = WHEEL_NONE;
    if (group->name == NULL || strmap_put(&r->groups_by_name, name, group) != 0) {
        mem_free(group->name);
        mem_free(group);
        return ESCROW_ENOMEM;
    }
    r->bytes += sizeof *group + group->name_len + 1;
    r->groups[id] = group;
    r->group_hint = id + 1;
    r->group_count++;
    *out = group;
    return 0;
}

static void group_drop_unused(struct routes *r, struct group *group)
{
    if (group->refs > 0) {
        return;
    }
    CHECK(!group->is_scheduled);
    CHECK(group->ready_count == 0);
    CHECK(group->asking == 0);
    CHECK(strmap_take(&r->groups_by_name, group_name(group)) == group);
    r->groups[group->id] = NULL;
    r->group_count--;
    if (group->id < r->group_hint) {
        r->group_hint = group->id;
    }
    group_free(r, group);
}

static int route_make(struct routes *r, struct group *group, struct slice topic, uint32_t *out)
{
    struct route_key key;
    uint32_t id = r->route_hint;
    struct route *route;
    int rc;

    while (id < r->route_cap && r->routes[id] != NULL) {
        id++;
    }
    rc = routes_grow((void **)(void *)&r->routes, &r->route_cap, id);
    if (rc != 0) {
        return rc;
    }
    route = mem_calloc(1, sizeof *route);
    if (route == NULL) {
        return ESCROW_ENOMEM;
    }
    route->topic = routes_copy(topic);
    route->topic_len = (uint32_t)topic.len;
    route->group = group;
    route->id = id;
    if (route->topic == NULL ||
        strmap_put(&r->routes_by_key, route_key_make(&key, group->id, topic), route) != 0) {
        mem_free(route->topic);
        mem_free(route);
        return ESCROW_ENOMEM;
    }
    r->bytes += sizeof *route + route->topic_len + 1;
    r->routes[id] = route;
    r->route_hint = id + 1;
    r->route_count++;
    group->refs++;
    *out = id;
    return 0;
}

int routes_intern(struct routes *r, struct slice group_text, struct slice topic, uint32_t *id)
{
    struct group *group;
    int rc;

    if (r->last != NULL && slice_eq(route_topic(r->last), topic) &&
        slice_eq(group_name(r->last->group), group_text)) {
        *id = r->last->id;
        return 0;
    }
    group = strmap_find(&r->groups_by_name, group_text);
    if (group != NULL) {
        struct route_key key;
        struct route *route =
            strmap_find(&r->routes_by_key, route_key_make(&key, group->id, topic));
        if (route != NULL) {
            r->last = route;
            *id = route->id;
            return 0;
        }
    }
    if (r->route_count >= ROUTES_MAX) {
        return ESCROW_ELIMIT;
    }
    if (group == NULL) {
        rc = group_make(r, group_text, &group);
        if (rc != 0) {
            return rc;
        }
    }
    rc = route_make(r, group, topic, id);
    if (rc != 0) {
        group_drop_unused(r, group);
        return rc;
    }
    r->last = r->routes[*id];
    return 0;
}

void routes_ref(struct routes *r, uint32_t id)
{
    routes_get(r, id)->refs++;
}

void routes_drop_unused(struct routes *r, uint32_t id)
{
    struct route *route = routes_get(r, id);
    struct group *group = route->group;
    struct route_key key;

    if (route->refs > 0) {
        return;
    }
    CHECK(strmap_take(&r->routes_by_key, route_key_make(&key, group->id, route_topic(route))) ==
          route);
    r->routes[id] = NULL;
    r->route_count--;
    if (id < r->route_hint) {
        r->route_hint = id;
    }
    if (r->last == route) {
        r->last = NULL;
    }
    route_free(r, route);
    CHECK(group->refs > 0);
    group->refs--;
    group_drop_unused(r, group);
}

void routes_unref(struct routes *r, uint32_t id)
{
    struct route *route = routes_get(r, id);

    CHECK(route->refs > 0);
    route->refs--;
    routes_drop_unused(r, id);
}

struct route *routes_get(const struct routes *r, uint32_t id)
{
    CHECK(id < r->route_cap);
    CHECK(r->routes[id] != NULL);
    return r->routes[id];
}

struct group *routes_group(const struct routes *r, uint32_t group_id)
{
    CHECK(group_id < r->group_cap);
    CHECK(r->groups[group_id] != NULL);
    return r->groups[group_id];
}

struct group *routes_find_group(const struct routes *r, struct slice name)
{
    return strmap_find(&r->groups_by_name, name);
}

void routes_check(const struct routes *r)
{
    uint32_t routes = 0;
    uint32_t groups = 0;

    for (uint32_t i = 0; i < r->group_cap; i++) {
        const struct group *group = r->groups[i];
        uint32_t refs = 0;

        if (group == NULL) {
            CHECK(i >= r->group_hint);
            continue;
        }
        groups++;
        CHECK(group->id == i);
        CHECK(strmap_find(&r->groups_by_name, group_name(group)) == group);
        for (uint32_t k = 0; k < r->route_cap; k++) {
            refs += r->routes[k] != NULL && r->routes[k]->group == group;
        }
        CHECK(refs == group->refs);
        CHECK(refs > 0);
    }
    for (uint32_t k = 0; k < r->route_cap; k++) {
        CHECK_IMPLIES(r->routes[k] == NULL, k >= r->route_hint);
        routes += r->routes[k] != NULL;
    }
    CHECK(routes == r->route_count);
    CHECK_IMPLIES(r->last != NULL, routes_get(r, r->last->id) == r->last);
    CHECK(groups == r->group_count);
}
