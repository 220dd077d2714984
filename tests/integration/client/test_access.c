/* libescrow with access key and secret key, against an escrowd that wants them. */
#include "tests/integration/client/rig.h"
#include "tests/lib/temp_folder.h"

#include <sys/stat.h>
#include <unistd.h>

static const char users[] = "[user shop]\n"
                            "access_key = shop-key\n"
                            "secret_key = shop-secret\n"
                            "topics = Orders=PUB|SUB\n"
                            "groups = shop=PUB, readers=SUB\n";

static struct rig rig;
static struct bag bag;
static char folder[TEMP_FOLDER_MAX];
static char file[TEMP_FOLDER_MAX + 16];
static const char *const args[] = {"--acl.file", file, NULL};

static void setup(void)
{
    FILE *out;

    ck_assert(temp_folder_make(folder, "users"));
    (void)snprintf(file, sizeof file, "%s/users.conf", folder); /* fits */
    out = fopen(file, "we");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(users, out), 0);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_int_eq(chmod(file, 0600), 0);
    rig_start(&rig, args);
    bag_init(&bag);
}

static void teardown(void)
{
    bag_fini(&bag);
    rig_stop(&rig);
    ck_assert_int_eq(unlink(file), 0);
    ck_assert_int_eq(rmdir(folder), 0);
}

static struct escrow_client *client(const char *secret, const char *header)
{
    const struct escrow_option options[] = {
        {"access.key", "shop-key"}, {"secret.key", secret}, {"header", header}, {NULL, NULL}};

    return rig_client_with(rig.name_server, options);
}

/* Sending, a transaction, and consuming, with every encoding of headers. */
START_TEST(a_client_with_keys_does_all_it_may)
{
    static const char *const headers[] = {"auto", "json", "rocketmq", "msgpack"};

    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct escrow_client *c = client("shop-secret", headers[i]);
        struct escrow_producer *p = NULL;
        OK(escrow_producer_new(c, "shop", NULL, &p));
        OK(rig_send(p, "Orders", headers[i]));
        if (i == 0) {
            struct escrow_consumer *k =
                rig_consume(c, "readers", "Orders", "*", NULL, bag_handler, &bag);
            bag_wait_for(&bag, headers[i]);
            escrow_consumer_free(&k);
        }
        escrow_producer_free(&p);
        escrow_client_free(&c);
    }
}
END_TEST

/* The error says that the client is not known; of a known user, that the topic is not permitted. */
START_TEST(a_client_without_the_right_keys_is_refused)
{
    struct escrow_client *c = client("other-secret", "auto");
    struct escrow_producer *p = NULL;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    ck_assert_int_eq(rig_send(p, "Orders", "x"), ESCROW_EAUTH);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    c = rig_client(&rig);
    OK(escrow_producer_new(c, "shop", NULL, &p));
    ck_assert_int_eq(rig_send(p, "Orders", "x"), ESCROW_EAUTH);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    c = client("shop-secret", "auto");
    OK(escrow_producer_new(c, "shop", NULL, &p));
    ck_assert_int_eq(rig_send(p, "Payroll", "x"), ESCROW_EPERM);
    /* in the broker's words */
    ck_assert_msg(strstr(escrow_last_error(), "has no PUB on topic Payroll") != NULL, "%s",
                  escrow_last_error());
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* Half of a pair of keys is a mistake that is found at once. */
START_TEST(one_key_alone_is_refused)
{
    const struct escrow_option only[] = {{"access.key", "shop-key"}, {NULL, NULL}};
    struct escrow_client *c = NULL;

    ck_assert_int_eq(escrow_client_new("127.0.0.1:1", only, &c), ESCROW_ECONFIG);
    ck_assert_ptr_null(c);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_client_with_keys_does_all_it_may);
    tcase_add_test(tc, a_client_without_the_right_keys_is_refused);
    tcase_add_test(tc, one_key_alone_is_refused);
}

int main(void)
{
    return rig_main("access", add_tests);
}
