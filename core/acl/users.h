/*
 * Users of access control: who may send to and consume what, as one file says it.
 *
 *   # comment
 *   [user orders]                      a name for logs and remarks: letters, digits, . _ -
 *   access_key = orders-service        what the client calls itself; 7 to 128 characters
 *   secret_key = 8f3b...               what it signs with; 7 to 256 characters
 *   topics = orders=PUB, audit-*=PUB|SUB
 *   groups = orders-producer=PUB, billing=SUB
 *   default.topic = DENY               topics that `topics` does not name (the default)
 *   default.group = DENY               the same for groups
 *   ip = 10.0.0.0/8, 192.168.1.*       only from there (address.h); absent: from anywhere
 *   admin = false                      true: everything, also what changes topics and configuration
 *
 * A permission is DENY, PUB, SUB, or PUB|SUB. On a topic, PUB is sending and SUB reading. On a
 * group, SUB is consuming as this consumer group (its retry topic included, and reading its
 * dead-letter topic), and PUB is acting as this producer group: heartbeats, decisions about its
 * half messages, and as an outbox source of this name. A name that ends in * stands for all that
 * begin so; an exact name goes first, then the longest beginning. An address never replaces a
 * signature.
 *
 * What other topics' messages end up in is not read by the way: a system topic (names.h; the
 * expired half messages, the traces) needs SUB on exactly its name, and neither a beginning nor
 * default.topic gives it; a dead-letter topic goes by its group unless a name that begins with
 * %DLQ% is given.
 *
 * Strict: unknown sections and keys, keys given twice, access keys or names of two users, empty
 * items, lines over 4096 bytes and control characters are errors, with the file and line; nothing
 * is guessed.
 *
 * Owns:    everything it points to; secrets are only in keyed contexts, the text is the caller's
 *          to wipe.
 * Thread:  loop (verifying uses the user's context).
 * Holds:   access keys and user names are unique; every user has a key and a secret.
 */
#ifndef CORE_ACL_USERS_H
#define CORE_ACL_USERS_H

#include "core/acl/sign.h"
#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define USERS_FILE_MAX      (1u << 20)
#define USERS_MAX           4096
#define USER_NAME_MAX       63
#define USER_KEY_MIN        7 /* as RocketMQ: longer than 6 */
#define USER_ACCESS_KEY_MAX 128
#define USER_SECRET_KEY_MAX 256
#define USER_GRANTS_MAX     1024 /* topics, and groups, of one user */
#define USER_ADDRESSES_MAX  256
#define USERS_LINE_MAX      4096

enum acl_perm { ACL_DENY = 0, ACL_PUB = 1, ACL_SUB = 2 }; /* bits */

struct acl_user;
struct acl_users;

/*
 * Read a whole file. `name` is what errors call it. ESCROW_ECONFIG with "name:line: what is wrong",
 * ESCROW_ENOMEM; *out is then NULL.
 */
ESCROW_MUST_USE int acl_users_parse(struct slice text, const char *name, struct hash_key key,
                                    struct acl_users **out, struct err_ctx *err);
void acl_users_free(struct acl_users **users); /* NULL is fine; sets it NULL */
size_t acl_users_count(const struct acl_users *users);

/* By access key; NULL when there is none. */
struct acl_user *acl_users_find(const struct acl_users *users, struct slice access_key);

const char *acl_user_name(const struct acl_user *user);
bool acl_user_is_admin(const struct acl_user *user);

/* May requests of this user come from this address? */
bool acl_user_may_come_from(const struct acl_user *user, const uint8_t *ip, size_t ip_len);

/* Is the request signed with this user's secret? */
bool acl_user_signed(struct acl_user *user, struct header *h, struct slice body);

/*
 * Does the user have all bits of `perm` on a topic, on a group? An admin has. Retry topics go by
 * their group (SUB, whether written or read); dead-letter topics too when they are read, unless the
 * user's topics name them as such; system topics are read only by their exact name.
 */
bool acl_user_may_topic(const struct acl_user *user, struct slice topic, unsigned perm);
bool acl_user_may_group(const struct acl_user *user, struct slice group, unsigned perm);

#endif
