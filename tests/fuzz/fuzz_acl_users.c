/*
 * A users file: it is refused with one line that begins with its name, or every user in it can be
 * asked. The text is also taken as an address pattern.
 */
#include "core/acl/address.h"
#include "core/acl/users.h"
#include "core/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t ip[4] = {127, 0, 0, 1};
    struct acl_users *users;
    struct address_pattern pattern;
    struct err_ctx err = {.code = 0};
    int rc = acl_users_parse(slice_of(data, size), "f", (struct hash_key){1, 2}, &users, &err);

    if (rc != 0) {
        CHECK(rc == ESCROW_ECONFIG);
        CHECK(users == NULL);
        CHECK(strncmp(err.text, "f:", 2) == 0);
        CHECK(strchr(err.text, '\n') == NULL);
    } else {
        const struct acl_user *user = acl_users_find(users, SLICE_LIT("access1"));
        CHECK(acl_users_count(users) > 0);
        if (user != NULL && acl_user_may_topic(user, SLICE_LIT("T"), ACL_PUB | ACL_SUB)) {
            CHECK(acl_user_may_topic(user, SLICE_LIT("T"), ACL_PUB));
            (void)acl_user_may_come_from(user, ip, sizeof ip); /* either is right */
        }
        acl_users_free(&users);
    }
    if (address_parse(slice_of(data, size), &pattern) == 0 && pattern.is_any) {
        CHECK(address_matches(&pattern, ip, sizeof ip));
    }
    return 0;
}
