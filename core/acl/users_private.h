/* What users_parse.c (reading the file) and users.c (asking) share. */
#ifndef CORE_ACL_USERS_PRIVATE_H
#define CORE_ACL_USERS_PRIVATE_H

#include "core/acl/address.h"
#include "core/acl/users.h"
#include "core/base/strmap.h"

struct acl_grant {
    char *name; /* without the * */
    size_t len;
    bool is_prefix;
    uint8_t perm;
};

struct acl_grants {
    struct acl_grant *items; /* by name; exact ones first where names are equal */
    size_t count;
    uint8_t fallback;
};

struct acl_user {
    char name[USER_NAME_MAX + 1];
    char access_key[USER_ACCESS_KEY_MAX + 1]; /* empty: not read yet */
    struct signer *signer;                    /* NULL: no secret read yet */
    bool is_admin;
    struct acl_grants topics;
    struct acl_grants groups;
    struct address_pattern *addresses; /* none: from anywhere */
    size_t address_count;
    unsigned line; /* of its section */
    unsigned seen; /* bit per key read */
};

struct acl_users {
    struct acl_user **list;
    size_t count;
    struct strmap by_key;
};

#endif
