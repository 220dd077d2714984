/*
 * Happy path: line by line; a section begins a user, a key fills it; a user is complete when the
 * next one begins or the file ends.
 *
 * Failures: the first fault ends it, with its line; what was built is freed. Secrets go straight
 * from the text into the keyed context; an error never quotes a value of access_key or secret_key.
 */
#include "core/acl/users_private.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"

#include <string.h>

struct parser {
    struct acl_users *users;
    struct acl_user *user; /* being read; in users->list already */
    const char *name;
    unsigned line;
    struct err_ctx *err;
};

#define FAULT(p, ...) fault((p), err_set((p)->err, ESCROW_ECONFIG, __VA_ARGS__))

/* Put file and line in front of what is wrong. */
static int fault(struct parser *p, int code)
{
    (void)err_prefix(p->err, "%s:%u", p->name, p->line);
    return code;
}

static int no_memory(struct parser *p)
{
    return err_set(p->err, ESCROW_ENOMEM, "%s: out of memory", p->name);
}

/* ---- words ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s = slice_of(s.ptr + 1, s.len - 1);
    }
    while (s.len > 0 && is_blank(s.ptr[s.len - 1])) {
        s.len--;
    }
    return s;
}

/* Cut at the first `c`: what is before it; *rest is what is behind, ptr NULL when there is none. */
static struct slice cut(struct slice s, char c, struct slice *rest)
{
    const uint8_t *at = s.len == 0 ? NULL : memchr(s.ptr, c, s.len);

    if (at == NULL) {
        *rest = SLICE_EMPTY;
        return s;
    }
    *rest = slice_of(at + 1, s.len - (size_t)(at - s.ptr) - 1);
    return slice_of(s.ptr, (size_t)(at - s.ptr));
}

/* The next item of a list with commas, which in braces belong to the item. */
static struct slice next_item(struct slice *list)
{
    size_t i = 0;
    bool in_braces = false;
    struct slice item;

    while (i < list->len && (list->ptr[i] != ',' || in_braces)) {
        in_braces = list->ptr[i] == '{' || (in_braces && list->ptr[i] != '}');
        i++;
    }
    item = trim(slice_of(list->ptr, i));
    *list = i == list->len ? SLICE_EMPTY : slice_of(list->ptr + i + 1, list->len - i - 1);
    return item;
}

static bool is_name(struct slice s, const char *others)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c != '\0' && strchr(others, c) != NULL))) {
            return false;
        }
    }
    return s.len > 0;
}

static bool read_perm(struct slice text, uint8_t *out)
{
    static const struct {
        const char *text;
        uint8_t perm;
    } perms[] = {{"DENY", ACL_DENY},
                 {"PUB", ACL_PUB},
                 {"SUB", ACL_SUB},
                 {"PUB|SUB", ACL_PUB | ACL_SUB},
                 {"SUB|PUB", ACL_PUB | ACL_SUB}};

    for (size_t i = 0; i < sizeof perms / sizeof perms[0]; i++) {
        if (slice_eq_str(text, perms[i].text)) {
            *out = perms[i].perm;
            return true;
        }
    }
    return false;
}

/* ---- values ---- */

static int read_access_key(struct parser *p, struct slice value)
{
    if (value.len < USER_KEY_MIN || value.len > USER_ACCESS_KEY_MAX) {
        return FAULT(p, "access_key: expected %d to %d characters", USER_KEY_MIN,
                     USER_ACCESS_KEY_MAX);
    }
    if (strmap_find(&p->users->by_key, value) != NULL) {
        return FAULT(p, "access_key: another user has the same");
    }
    (void)slice_to_cstr(value, p->user->access_key, sizeof p->user->access_key);
    return strmap_put(&p->users->by_key, value, p->user) == 0 ? 0 : no_memory(p);
}

static int read_secret_key(struct parser *p, struct slice value)
{
    if (value.len < USER_KEY_MIN || value.len > USER_SECRET_KEY_MAX) {
        return FAULT(p, "secret_key: expected %d to %d characters", USER_KEY_MIN,
                     USER_SECRET_KEY_MAX);
    }
    return signer_new(value, &p->user->signer) == 0 ? 0 : no_memory(p);
}

static int read_admin(struct parser *p, struct slice value)
{
    p->user->is_admin = slice_eq_str(value, "true");
    return p->user->is_admin || slice_eq_str(value, "false")
               ? 0
               : FAULT(p, "admin: expected true or false");
}

static int read_ip(struct parser *p, struct slice value)
{
    struct acl_user *u = p->user;
    struct slice rest = value;

    do {
        struct slice item = next_item(&rest);
        struct address_pattern pattern;
        struct address_pattern *grown;
        if (u->address_count == USER_ADDRESSES_MAX) {
            return FAULT(p, "ip: more than %d patterns", USER_ADDRESSES_MAX);
        }
        if (address_parse(item, &pattern) != 0) {
            return FAULT(p, "ip: '%.*s' is no address, network or pattern",
                         (int)(item.len > 80 ? 80 : item.len), (const char *)item.ptr);
        }
        grown = mem_realloc(u->addresses, (u->address_count + 1) * sizeof *grown);
        if (grown == NULL) {
            return no_memory(p);
        }
        u->addresses = grown;
        u->addresses[u->address_count++] = pattern;
    } while (rest.ptr != NULL);
    return 0;
}

static bool has_grant(const struct acl_grants *g, struct slice name, bool is_prefix)
{
    for (size_t i = 0; i < g->count; i++) {
        if (g->items[i].is_prefix == is_prefix &&
            slice_eq(slice_of(g->items[i].name, g->items[i].len), name)) {
            return true;
        }
    }
    return false;
}

/* name=PERM */
static int read_grant(struct parser *p, struct acl_grants *g, struct slice item)
{
    struct slice perm_text;
    struct slice name = trim(cut(item, '=', &perm_text));
    struct acl_grant grant = {.perm = ACL_DENY};
    struct acl_grant *grown;

    grant.is_prefix = name.len > 0 && name.ptr[name.len - 1] == '*';
    name.len -= grant.is_prefix ? 1 : 0;
    if (!read_perm(trim(perm_text), &grant.perm) || name.len > RETRY_TOPIC_LEN_MAX ||
        (!is_name(name, "%|_-") && !(grant.is_prefix && name.len == 0))) {
        return FAULT(p, "'%.*s': expected name=DENY, name=PUB, name=SUB or name=PUB|SUB",
                     (int)(item.len > 80 ? 80 : item.len),
                     item.len == 0 ? "" : (const char *)item.ptr);
    }
    if (g->count == USER_GRANTS_MAX || has_grant(g, name, grant.is_prefix)) {
        return g->count == USER_GRANTS_MAX
                   ? FAULT(p, "more than %d names of one user", USER_GRANTS_MAX)
                   : FAULT(p, "'%.*s' is named twice", (int)name.len, (const char *)name.ptr);
    }
    grown = mem_realloc(g->items, (g->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return no_memory(p);
    }
    g->items = grown;
    grant.name = mem_alloc(name.len + 1);
    if (grant.name == NULL) {
        return no_memory(p);
    }
    (void)slice_to_cstr(name, grant.name, name.len + 1);
    grant.len = name.len;
    g->items[g->count++] = grant;
    return 0;
}

static int read_grants(struct parser *p, struct acl_grants *g, struct slice value)
{
    struct slice rest = value;
    int rc;

    do {
        rc = read_grant(p, g, next_item(&rest));
    } while (rc == 0 && rest.ptr != NULL);
    return rc;
}

static int read_topics(struct parser *p, struct slice value)
{
    return read_grants(p, &p->user->topics, value);
}

static int read_groups(struct parser *p, struct slice value)
{
    return read_grants(p, &p->user->groups, value);
}

static int read_default_topic(struct parser *p, struct slice value)
{
    return read_perm(value, &p->user->topics.fallback)
               ? 0
               : FAULT(p, "default.topic: expected DENY, PUB, SUB or PUB|SUB");
}

static int read_default_group(struct parser *p, struct slice value)
{
    return read_perm(value, &p->user->groups.fallback)
               ? 0
               : FAULT(p, "default.group: expected DENY, PUB, SUB or PUB|SUB");
}

/* ---- lines ---- */

static const struct {
    const char *key;
    int (*read)(struct parser *p, struct slice value);
} keys[] = {{"access_key", read_access_key},
            {"secret_key", read_secret_key},
            {"admin", read_admin},
            {"ip", read_ip},
            {"topics", read_topics},
            {"groups", read_groups},
            {"default.topic", read_default_topic},
            {"default.group", read_default_group}};

static int read_key(struct parser *p, struct slice line)
{
    struct slice value;
    struct slice key = trim(cut(line, '=', &value));

    if (value.ptr == NULL) {
        return FAULT(p, "expected [user NAME] or key = value");
    }
    if (p->user == NULL) {
        return FAULT(p, "a key before the first [user NAME]");
    }
    value = trim(value);
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (slice_eq_str(key, keys[i].key)) {
            if ((p->user->seen & 1u << i) != 0) {
                return FAULT(p, "%s is given twice", keys[i].key);
            }
            p->user->seen |= 1u << i;
            return keys[i].read(p, value);
        }
    }
    return FAULT(p, "unknown key '%.*s'", (int)(key.len > 40 ? 40 : key.len),
                 key.len == 0 ? "" : (const char *)key.ptr);
}

static int finish_user(struct parser *p)
{
    if (p->user != NULL && (p->user->access_key[0] == '\0' || p->user->signer == NULL)) {
        p->line = p->user->line;
        return FAULT(p, "user %s has no %s", p->user->name,
                     p->user->signer == NULL ? "secret_key" : "access_key");
    }
    return 0;
}

static int add_user(struct parser *p, struct slice name)
{
    struct acl_users *u = p->users;
    struct acl_user **grown;
    struct acl_user *user;

    for (size_t i = 0; i < u->count; i++) {
        if (slice_eq_str(name, u->list[i]->name)) {
            return FAULT(p, "user %s is there twice, first in line %u", u->list[i]->name,
                         u->list[i]->line);
        }
    }
    if (u->count == USERS_MAX) {
        return FAULT(p, "more than %d users", USERS_MAX);
    }
    grown = mem_realloc(u->list, (u->count + 1) * sizeof *grown);
    if (grown == NULL) {
        return no_memory(p);
    }
    u->list = grown;
    user = mem_calloc(1, sizeof *user);
    if (user == NULL) {
        return no_memory(p);
    }
    (void)slice_to_cstr(name, user->name, sizeof user->name);
    user->line = p->line;
    u->list[u->count++] = user;
    p->user = user;
    return 0;
}

/* [user NAME] */
static int read_section(struct parser *p, struct slice line)
{
    static const struct slice word = {(const uint8_t *)"user", 4};
    struct slice inner;
    unsigned line_number = p->line;
    int rc = finish_user(p);

    if (rc != 0) {
        return rc;
    }
    p->line = line_number;
    inner =
        line.ptr[line.len - 1] == ']' ? trim(slice_of(line.ptr + 1, line.len - 2)) : SLICE_EMPTY;
    if (!slice_has_prefix(inner, word) || inner.len == word.len || !is_blank(inner.ptr[word.len])) {
        return FAULT(p, "expected [user NAME]");
    }
    inner = trim(slice_of(inner.ptr + word.len, inner.len - word.len));
    if (!is_name(inner, "._-") || inner.len > USER_NAME_MAX) {
        return FAULT(p, "a user's name has 1 to %d letters, digits, '.', '_' or '-'",
                     USER_NAME_MAX);
    }
    return add_user(p, inner);
}

static int read_line(struct parser *p, struct slice line)
{
    if (line.len > 0 && line.ptr[line.len - 1] == '\r') {
        line.len--;
    }
    if (line.len > USERS_LINE_MAX) {
        return FAULT(p, "line longer than %d bytes", USERS_LINE_MAX);
    }
    for (size_t i = 0; i < line.len; i++) {
        if ((line.ptr[i] < ' ' && line.ptr[i] != '\t') || line.ptr[i] == 127) {
            return FAULT(p, "control character at column %zu", i + 1);
        }
    }
    line = trim(line);
    if (line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == ';') {
        return 0;
    }
    return line.ptr[0] == '[' ? read_section(p, line) : read_key(p, line);
}

int acl_users_parse(struct slice text, const char *name, struct hash_key key,
                    struct acl_users **out, struct err_ctx *err)
{
    struct parser p = {.name = name, .err = err};
    struct slice rest = text;
    int rc = 0;

    *out = NULL;
    if (text.len > USERS_FILE_MAX) {
        return err_set(err, ESCROW_ECONFIG, "%s: larger than %u bytes", name, USERS_FILE_MAX);
    }
    p.users = mem_calloc(1, sizeof *p.users);
    if (p.users == NULL) {
        return no_memory(&p);
    }
    strmap_init(&p.users->by_key, key);
    while (rc == 0 && rest.len > 0) {
        struct slice line = cut(rest, '\n', &rest);
        p.line++;
        rc = read_line(&p, line);
    }
    if (rc == 0) {
        rc = finish_user(&p);
    }
    if (rc == 0 && p.users->count == 0) {
        rc = err_set(err, ESCROW_ECONFIG, "%s: no user in it: nobody could do anything", name);
    }
    if (rc != 0) {
        acl_users_free(&p.users);
        return rc;
    }
    *out = p.users;
    return 0;
}
