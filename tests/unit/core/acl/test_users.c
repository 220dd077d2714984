/* The users file: what is read, what is refused with its line, and what each user then may. */
#include "core/acl/users.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <stdio.h>

#define KEYS "access_key = alice-key\nsecret_key = alice-secret\n"

static const struct hash_key hash_key = {1, 2};
static struct acl_users *users;
static struct err_ctx err;

static int parse(const char *text)
{
    struct slice copy = copy_exact(slice_str(text));
    int rc;

    acl_users_free(&users);
    err = (struct err_ctx){.code = 0};
    rc = acl_users_parse(copy, "users.conf", hash_key, &users, &err);
    free_copy(copy);
    return rc;
}

static void tear_down(void)
{
    acl_users_free(&users);
}

/* alice with these further lines. */
static struct acl_user *alice(const char *lines)
{
    char text[2048];

    (void)snprintf(text, sizeof text, "[user alice]\n" KEYS "%s\n", lines);
    ck_assert_msg(parse(text) == 0, "%s", err.text);
    return acl_users_find(users, SLICE_LIT("alice-key"));
}

START_TEST(a_file_is_read)
{
    /* Comments, blanks, line ends of Windows, no newline at the end. */
    struct acl_user *u;

    ck_assert_int_eq(parse("# users\r\n\r\n ; more\n[ user  a.b_c-1 ]\r\n"
                           "\taccess_key=key-of-a\n  secret_key =  x = y z \n"
                           "[user root]\naccess_key = key-of-root\nsecret_key = 1234567\n"
                           "admin = true"),
                     0);
    ck_assert_uint_eq(acl_users_count(users), 2);
    u = acl_users_find(users, SLICE_LIT("key-of-a"));
    ck_assert_str_eq(acl_user_name(u), "a.b_c-1");
    ck_assert(!acl_user_is_admin(u));
    ck_assert(acl_user_is_admin(acl_users_find(users, SLICE_LIT("key-of-root"))));
    ck_assert_ptr_null(acl_users_find(users, SLICE_LIT("key-of-")));
    ck_assert_ptr_null(acl_users_find(users, SLICE_EMPTY));
}
END_TEST

START_TEST(a_fault_is_named_with_its_line)
{
    /* One line each, none with a secret in it. */
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"", "users.conf: no user in it"},
        {"x", "users.conf:1: expected [user NAME] or key = value"},
        {"\nadmin = true", "users.conf:2: a key before the first [user NAME]"},
        {"[user a]\n\n[user b]\n" KEYS, "users.conf:1: user a has no secret_key"},
        {"[user a]\nsecret_key = 1234567\n", "users.conf:1: user a has no access_key"},
        {"[users]", "users.conf:1: expected [user NAME]"},
        {"[user]", "users.conf:1: expected [user NAME]"},
        {"[user a", "users.conf:1: expected [user NAME]"},
        {"[", "users.conf:1: expected [user NAME]"},
        {"[user a b]", "users.conf:1: a user's name"},
        {"[user a]\n" KEYS "[user a]\n", "users.conf:4: user a is there twice, first in line 1"},
        {"[user a]\n" KEYS "[user b]\n" KEYS, "users.conf:5: access_key: another user"},
        {"[user a]\naccess_key = short\n", "users.conf:2: access_key: expected 7 to 128"},
        {"[user a]\nsecret_key = short\n", "users.conf:2: secret_key: expected 7 to 256"},
        {"[user a]\n" KEYS "secret_key = other-secret\n",
         "users.conf:4: secret_key is given twice"},
        {"[user a]\nadmin = yes\n", "users.conf:2: admin: expected true or false"},
        {"[user a]\npassword = x\n", "users.conf:2: unknown key 'password'"},
        {"[user a]\ntopics = T\n", "users.conf:2: 'T': expected name=DENY"},
        {"[user a]\ntopics = T=pub\n", "users.conf:2: 'T=pub': expected name=DENY"},
        {"[user a]\ntopics = T=PUB,\n", "users.conf:2: '': expected name=DENY"},
        {"[user a]\ntopics = T=PUB, ,U=PUB\n", "users.conf:2: '': expected name=DENY"},
        {"[user a]\ntopics = a/b=PUB\n", "users.conf:2: 'a/b=PUB': expected name=DENY"},
        {"[user a]\ngroups = a*b=PUB\n", "users.conf:2: 'a*b=PUB': expected name=DENY"},
        {"[user a]\ngroups = =PUB\n", "users.conf:2: '=PUB': expected name=DENY"},
        {"[user a]\ntopics = T=PUB, T=SUB\n", "users.conf:2: 'T' is named twice"},
        {"[user a]\ndefault.topic = ALL\n", "users.conf:2: default.topic: expected"},
        {"[user a]\ndefault.group =\n", "users.conf:2: default.group: expected"},
        {"[user a]\nip = 10.0.0.1/8\n", "users.conf:2: ip: '10.0.0.1/8' is no address"},
        {"[user a]\nip =\n", "users.conf:2: ip: '' is no address"},
        {"[user a]\nadmin = tr\001ue\n", "users.conf:2: control character at column 11"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(parse(rows[i].text) == ESCROW_ECONFIG, "%s", rows[i].text);
        ck_assert_ptr_null(users);
        ck_assert_msg(strncmp(err.text, rows[i].want, strlen(rows[i].want)) == 0, "%s", err.text);
        ck_assert_ptr_null(strstr(err.text, "secret-"));
        ck_assert_ptr_null(strstr(err.text, "short"));
    }
}
END_TEST

START_TEST(nothing_is_allowed_that_is_not_said)
{
    /* A user with keys only. */
    struct acl_user *u = alice("");

    for (unsigned perm = ACL_PUB; perm <= (ACL_PUB | ACL_SUB); perm++) {
        ck_assert(!acl_user_may_topic(u, SLICE_LIT("T"), perm));
        ck_assert(!acl_user_may_group(u, SLICE_LIT("G"), perm));
    }
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%RETRY%G"), ACL_SUB));
    ck_assert(acl_user_may_come_from(u, (const uint8_t[]){9, 9, 9, 9}, 4));
}
END_TEST

START_TEST(permissions_are_as_the_table_says)
{
    /* Exact names, beginnings, the default; every combination. */
    static const struct {
        const char *topic;
        unsigned perms; /* all that are allowed, as bits */
    } rows[] = {
        {"orders", ACL_PUB},          {"orders2", ACL_SUB},     {"audit-x", ACL_PUB | ACL_SUB},
        {"audit-secret-1", ACL_DENY}, {"audit-", ACL_DENY},     {"audit", ACL_SUB},
        {"%DLQ%billing", ACL_SUB},    {"%DLQ%other", ACL_DENY},
    };
    struct acl_user *u = alice("topics = orders=PUB, audit-*=SUB|PUB, audit-secret*=DENY, "
                               "audit-=DENY\ndefault.topic = SUB\ngroups = billing=SUB");

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice topic = slice_str(rows[i].topic);
        for (unsigned perm = ACL_PUB; perm <= (ACL_PUB | ACL_SUB); perm++) {
            bool want = (rows[i].perms & perm) == perm;
            ck_assert_msg(acl_user_may_topic(u, topic, perm) == want, "%s %u", rows[i].topic, perm);
        }
    }
}
END_TEST

START_TEST(a_system_topic_is_read_by_its_exact_name_only)
{
    /* Neither a default nor a beginning shows expired halves and traces; sending traces is free. */
    static const char topics[][32] = {"TRANS_CHECK_MAX_TIME_TOPIC", "RMQ_SYS_TRACE_TOPIC",
                                      "RMQ_SYS_TRANS_HALF_TOPIC",   "RMQ_SYS_TRANS_OP_HALF_TOPIC",
                                      "SCHEDULE_TOPIC_XXXX",        "OFFSET_MOVED_EVENT",
                                      "rmq_sys_wheel_timer"};
    static const char *const lines[] = {
        "default.topic = PUB|SUB", "topics = *=PUB|SUB",
        ("topics = TRANS_CHECK_*=SUB|PUB, RMQ_SYS_*=PUB|SUB, SCHEDULE_TOPIC_XXXX*=PUB|SUB, "
         "OFF*=PUB|SUB, rmq_sys_*=PUB|SUB")};

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct acl_user *u = alice(lines[i]);
        for (size_t j = 0; j < sizeof topics / sizeof topics[0]; j++) {
            struct slice topic = slice_str(topics[j]);
            ck_assert_msg(!acl_user_may_topic(u, topic, ACL_SUB), "%s %s", lines[i], topics[j]);
            ck_assert(!acl_user_may_topic(u, topic, ACL_PUB | ACL_SUB));
            ck_assert(acl_user_may_topic(u, topic, ACL_PUB));
        }
    }
    for (size_t j = 0; j < sizeof topics / sizeof topics[0]; j++) {
        char line[512];
        (void)snprintf(line, sizeof line, "topics = *=PUB|SUB, %s=SUB", topics[j]); /* fits */
        ck_assert(acl_user_may_topic(alice(line), slice_str(topics[j]), ACL_SUB));
        (void)snprintf(line, sizeof line, "topics = %s=PUB", topics[j]); /* fits */
        ck_assert(!acl_user_may_topic(alice(line), slice_str(topics[j]), ACL_SUB));
        ck_assert(acl_user_may_topic(alice("admin = true"), slice_str(topics[j]), ACL_SUB));
    }
}
END_TEST

START_TEST(dead_letters_of_other_groups_stay_theirs)
{
    /* "*" is no word about dead letters; a name that begins with %DLQ% is. */
    struct acl_user *u = alice("topics = *=PUB|SUB\ngroups = billing=SUB");

    ck_assert(acl_user_may_topic(u, SLICE_LIT("%DLQ%billing"), ACL_SUB));
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%DLQ%billing"), ACL_PUB));
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%DLQ%other"), ACL_SUB));
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%DLQ%other"), ACL_PUB));
    u = alice("topics = %*=PUB|SUB\ndefault.topic = SUB");
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%DLQ%other"), ACL_SUB));
    u = alice("topics = %DLQ%o*=SUB, %DLQ%billing=DENY\ngroups = *=SUB");
    ck_assert(acl_user_may_topic(u, SLICE_LIT("%DLQ%other"), ACL_SUB));
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%DLQ%billing"), ACL_SUB));
}
END_TEST

START_TEST(groups_rule_their_retry_topics)
{
    /* Consuming as a group includes its retry topic, both ways, and nothing of another group. */
    struct acl_user *u = alice("topics = *=PUB|SUB\ngroups = billing=SUB, orders-tx=PUB");

    ck_assert(acl_user_may_group(u, SLICE_LIT("billing"), ACL_SUB));
    ck_assert(!acl_user_may_group(u, SLICE_LIT("billing"), ACL_PUB));
    ck_assert(acl_user_may_group(u, SLICE_LIT("orders-tx"), ACL_PUB));
    ck_assert(!acl_user_may_group(u, SLICE_LIT("other"), ACL_SUB));
    ck_assert(acl_user_may_topic(u, SLICE_LIT("%RETRY%billing"), ACL_SUB));
    ck_assert(acl_user_may_topic(u, SLICE_LIT("%RETRY%billing"), ACL_PUB));
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%RETRY%other"), ACL_SUB));
    ck_assert(!acl_user_may_topic(u, SLICE_LIT("%RETRY%orders-tx"), ACL_PUB));
}
END_TEST

START_TEST(an_admin_may_everything_from_where_it_may_come)
{
    /* The address list holds for admins too. */
    struct acl_user *u = alice("admin = true\nip = 10.0.0.{1,2}, fd00::/8,192.168.1.*\n"
                               "default.topic = DENY");

    ck_assert(acl_user_may_topic(u, SLICE_LIT("T"), ACL_PUB | ACL_SUB));
    ck_assert(acl_user_may_group(u, SLICE_LIT("G"), ACL_PUB | ACL_SUB));
    ck_assert(acl_user_may_come_from(u, (const uint8_t[]){10, 0, 0, 2}, 4));
    ck_assert(acl_user_may_come_from(u, (const uint8_t[]){192, 168, 1, 200}, 4));
    ck_assert(acl_user_may_come_from(u, (const uint8_t[16]){0xfd, 1}, 16));
    ck_assert(!acl_user_may_come_from(u, (const uint8_t[]){10, 0, 0, 3}, 4));
}
END_TEST

START_TEST(a_user_signs_with_its_own_secret)
{
    /* The secret of the file is the one that verifies. */
    struct signer *signer;
    struct header h;
    struct buf out;
    struct frame frame;
    struct sign_request req = {.access_key = SLICE_LIT("alice-key")};
    struct header_out head = {.code = 10, .opaque = 1};
    static const char *const secrets[] = {"alice-secret", "other-secret"};

    buf_init(&out, 0);
    header_init(&h);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(signer_new(slice_str(secrets[i]), &signer), 0);
        req.signer = signer;
        buf_clear(&out);
        ck_assert_int_eq(sign_frame(&out, HEADER_JSON, &head, &req), 0);
        ck_assert_int_eq(frame_decode(buf_slice(&out), &frame), 0);
        ck_assert_int_eq(header_decode(&h, frame.type, frame.header), 0);
        ck_assert_int_eq(acl_user_signed(alice(""), &h, SLICE_EMPTY), i == 0);
        signer_free(&signer);
    }
    header_fini(&h);
    buf_fini(&out);
}
END_TEST

START_TEST(without_memory_nothing_is_left_behind)
{
    /* The n-th allocation fails, for every n. */
    int64_t live = mem_live_count();
    uint64_t n = 0;

    do {
        struct err_ctx e = {.code = 0};
        struct acl_users *u = NULL;
        mem_fault_at(++n);
        if (acl_users_parse(
                SLICE_LIT("[user alice]\n" KEYS "topics = a=PUB, b*=SUB\nip = *, ::1\n"),
                "users.conf", hash_key, &u, &e) != 0) {
            ck_assert_int_eq(e.code, ESCROW_ENOMEM);
            ck_assert_ptr_null(u);
        }
        acl_users_free(&u);
        ck_assert_int_eq(mem_live_count(), live);
    } while (mem_fault_fired());
    mem_fault_at(0);
    ck_assert_uint_gt(n, 8);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("users");

    tcase_add_checked_fixture(tc, NULL, tear_down);
    tcase_add_test(tc, a_file_is_read);
    tcase_add_test(tc, a_fault_is_named_with_its_line);
    tcase_add_test(tc, nothing_is_allowed_that_is_not_said);
    tcase_add_test(tc, permissions_are_as_the_table_says);
    tcase_add_test(tc, a_system_topic_is_read_by_its_exact_name_only);
    tcase_add_test(tc, dead_letters_of_other_groups_stay_theirs);
    tcase_add_test(tc, groups_rule_their_retry_topics);
    tcase_add_test(tc, an_admin_may_everything_from_where_it_may_come);
    tcase_add_test(tc, a_user_signs_with_its_own_secret);
    tcase_add_test(tc, without_memory_nothing_is_left_behind);
    return run_tests(tc, "core/acl/users");
}
