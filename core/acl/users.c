#include "core/acl/users_private.h"

#include "core/base/mem.h"
#include "core/proto/names.h"

#include <string.h>

static void grants_free(struct acl_grants *g)
{
    for (size_t i = 0; i < g->count; i++) {
        mem_free(g->items[i].name);
    }
    mem_free(g->items);
}

void acl_users_free(struct acl_users **users)
{
    struct acl_users *u = *users;

    if (u == NULL) {
        return;
    }
    for (size_t i = 0; i < u->count; i++) {
        struct acl_user *user = u->list[i];
        signer_free(&user->signer);
        grants_free(&user->topics);
        grants_free(&user->groups);
        mem_free(user->addresses);
        mem_free(user);
    }
    mem_free(u->list);
    strmap_fini(&u->by_key);
    mem_free(u);
    *users = NULL;
}

size_t acl_users_count(const struct acl_users *users)
{
    return users->count;
}

struct acl_user *acl_users_find(const struct acl_users *users, struct slice access_key)
{
    return access_key.len == 0 ? NULL : strmap_find(&users->by_key, access_key);
}

const char *acl_user_name(const struct acl_user *user)
{
    return user->name;
}

bool acl_user_is_admin(const struct acl_user *user)
{
    return user->is_admin;
}

bool acl_user_may_come_from(const struct acl_user *user, const uint8_t *ip, size_t ip_len)
{
    for (size_t i = 0; i < user->address_count; i++) {
        if (address_matches(&user->addresses[i], ip, ip_len)) {
            return true;
        }
    }
    return user->address_count == 0;
}

bool acl_user_signed(struct acl_user *user, struct header *h, struct slice body)
{
    return signer_verify(user->signer, h, body);
}

/* The grant that decides about a name, NULL when none names it. */
static const struct acl_grant *grant_of(const struct acl_grants *g, struct slice name)
{
    const struct acl_grant *best = NULL;

    for (size_t i = 0; i < g->count; i++) {
        const struct acl_grant *grant = &g->items[i];
        if (!slice_has_prefix(name, slice_of(grant->name, grant->len))) {
            continue;
        }
        if (!grant->is_prefix && grant->len == name.len) {
            return grant;
        }
        if (grant->is_prefix && (best == NULL || grant->len >= best->len)) {
            best = grant;
        }
    }
    return best;
}

bool acl_user_may_group(const struct acl_user *user, struct slice group, unsigned perm)
{
    const struct acl_grant *grant = grant_of(&user->groups, group);

    return user->is_admin || ((grant != NULL ? grant->perm : user->groups.fallback) & perm) == perm;
}

/*
 * The grant that decides about a dead-letter topic: one that speaks of such topics. "*" does not:
 * it would show the messages of groups that the user may not be.
 */
static const struct acl_grant *dlq_grant_of(const struct acl_grants *g, struct slice topic)
{
    const struct acl_grant *grant = grant_of(g, topic);

    return grant != NULL &&
                   slice_has_prefix(slice_of(grant->name, grant->len), SLICE_LIT(NAME_DLQ_PREFIX))
               ? grant
               : NULL;
}

/*
 * What a system topic holds comes from other topics, denied ones too: messages that nobody decided,
 * traces of every producer. Whoever is to read it was given exactly this name.
 */
static bool may_read_system_topic(const struct acl_grant *grant)
{
    return grant != NULL && !grant->is_prefix && (grant->perm & ACL_SUB) != 0;
}

bool acl_user_may_topic(const struct acl_user *user, struct slice topic, unsigned perm)
{
    enum topic_class class = name_topic_class(topic);
    const struct acl_grant *grant;

    if (user->is_admin) {
        return true;
    }
    if (class == TOPIC_RETRY) {
        return acl_user_may_group(user, name_group_of_topic(topic), ACL_SUB);
    }
    grant =
        class == TOPIC_DLQ ? dlq_grant_of(&user->topics, topic) : grant_of(&user->topics, topic);
    if (grant == NULL && class == TOPIC_DLQ) {
        return perm == ACL_SUB && acl_user_may_group(user, name_group_of_topic(topic), ACL_SUB);
    }
    if (class == TOPIC_SYSTEM && (perm & ACL_SUB) != 0 && !may_read_system_topic(grant)) {
        return false;
    }
    return ((grant != NULL ? grant->perm : user->topics.fallback) & perm) == perm;
}
