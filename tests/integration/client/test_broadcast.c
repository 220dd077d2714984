/* Broadcast consumers: everybody gets everything, and remembers in a file how far. */
#include "tests/integration/client/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct rig rig;
static struct bag bag;
static struct bag other;
static char file[160];
static char other_file[160];

static void setup(void)
{
    rig_start(&rig, NULL);
    bag_init(&bag);
    bag_init(&other);
    (void)snprintf(file, sizeof file, "%s/offsets/a.json", rig.folder);
    (void)snprintf(other_file, sizeof other_file, "%s/offsets/b.json", rig.folder);
}

static void teardown(void)
{
    bag_fini(&other);
    bag_fini(&bag);
    rig_stop(&rig);
}

static struct escrow_consumer *broadcast_to(struct escrow_client *c, const char *path,
                                            escrow_handler_fn *handler, struct bag *to)
{
    const struct escrow_option options[] = {{"model", "broadcast"}, {"offsets.file", path},
                                            {"retries.max", "2"},   {"retry.pause.ms", "5"},
                                            {"commit.ms", "20"},    {NULL, NULL}};

    return rig_consume(c, "all", "News", "*", options, handler, to);
}

static void send_many(struct escrow_producer *p, int first, int count)
{
    for (int i = first; i < first + count; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        OK(rig_send(p, "News", text));
    }
}

/* Two members of one group, in two clients: both get every message, of every queue. */
START_TEST(every_member_gets_every_message)
{
    struct escrow_client *c1 = rig_client(&rig);
    struct escrow_client *c2 = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k1;
    struct escrow_consumer *k2;

    OK(escrow_producer_new(c1, "shop", NULL, &p));
    send_many(p, 0, 20);
    k1 = broadcast_to(c1, file, bag_handler, &bag);
    k2 = broadcast_to(c2, other_file, bag_handler, &other);
    send_many(p, 20, 20);
    bag_wait_distinct(&bag, 40);
    bag_wait_distinct(&other, 40);
    ck_assert_uint_eq(bag_count(&bag), 40);
    ck_assert_uint_eq(bag_count(&other), 40);
    escrow_consumer_free(&k1);
    escrow_consumer_free(&k2);
    escrow_producer_free(&p);
    escrow_client_free(&c1);
    escrow_client_free(&c2);
}
END_TEST

/* After a clean end a member goes on behind what it handled; without its file it begins anew. */
START_TEST(a_member_goes_on_where_its_file_says)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 10);
    k = broadcast_to(c, file, bag_handler, &bag);
    bag_wait_distinct(&bag, 10);
    escrow_consumer_free(&k);
    send_many(p, 10, 10);
    k = broadcast_to(c, file, bag_handler, &bag);
    bag_wait_distinct(&bag, 20);
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&bag), 20);
    ck_assert_int_eq(unlink(file), 0);
    k = broadcast_to(c, file, bag_handler, &other);
    bag_wait_distinct(&other, 20);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static int start_with(struct escrow_client *c, const char *path)
{
    const struct escrow_option options[] = {
        {"model", "broadcast"}, {"offsets.file", path}, {NULL, NULL}};
    struct escrow_consumer *k = NULL;
    int rc;

    OK(escrow_consumer_new(c, "others", options, &k));
    OK(escrow_consumer_subscribe(k, "News", "*"));
    rc = escrow_consumer_start(k, bag_handler, &other);
    escrow_consumer_free(&k);
    return rc;
}

/* A file that another consumer has, or that is something else, is refused, and stays as it is. */
START_TEST(a_file_of_another_is_refused)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_consumer *k = broadcast_to(c, file, bag_handler, &bag);
    const struct escrow_option cluster[] = {{"offsets.file", file}, {NULL, NULL}};
    struct escrow_consumer *none = NULL;
    char text[16] = "";
    FILE *f;

    ck_assert_int_eq(start_with(c, file), ESCROW_ELOCKED);
    f = fopen(other_file, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs("my diary", f), 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(start_with(c, other_file), ESCROW_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(escrow_last_error(), other_file));
    f = fopen(other_file, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(text, sizeof text, f));
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_str_eq(text, "my diary");
    ck_assert_int_eq(start_with(c, "/proc/nowhere/a.json") == 0, 0);
    ck_assert_int_eq(escrow_consumer_new(c, "g", cluster, &none), ESCROW_ECONFIG);
    escrow_consumer_free(&k);
    escrow_client_free(&c);
}
END_TEST

static enum escrow_consume_result fails_on_5(const struct escrow_delivery *message, void *arg)
{
    char text[64];
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)snprintf(text, sizeof text, "%.*s %d", (int)len, body,
                   (int)escrow_delivery_attempt(message));
    bag_add(arg, text, strlen(text));
    return len == 1 && body[0] == '5' ? ESCROW_CONSUME_RETRY : ESCROW_CONSUME_OK;
}

/*
 * A message that fails is tried again here, retries.max times, keeps nobody waiting, and is left.
 */
START_TEST(a_message_that_fails_is_dropped_in_the_end)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 10);
    k = broadcast_to(c, file, fails_on_5, &bag);
    bag_wait_for(&bag, "5 2");
    bag_wait_distinct(&bag, 12);
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count(&bag), 12);
    send_many(p, 10, 1);
    k = broadcast_to(c, file, fails_on_5, &other);
    bag_wait_for(&other, "10 0");
    escrow_consumer_free(&k);
    ck_assert_uint_eq(bag_count_of(&other, "5 0"), 0);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* Nobody says where: below XDG_STATE_HOME, in a file named after the group. */
START_TEST(the_file_has_a_place_of_its_own)
{
    const struct escrow_option options[] = {{"model", "broadcast"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    char state[120];
    char path[200];

    (void)snprintf(state, sizeof state, "%s/state", rig.folder);
    ck_assert_int_eq(setenv("XDG_STATE_HOME", state, 1), 0);
    OK(escrow_producer_new(c, "shop", NULL, &p));
    send_many(p, 0, 1);
    k = rig_consume(c, "all", "News", "*", options, bag_handler, &bag);
    bag_wait(&bag, 1);
    escrow_consumer_free(&k);
    (void)snprintf(path, sizeof path, "%s/escrow/offsets/all.json", state);
    ck_assert_int_eq(access(path, R_OK), 0);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, every_member_gets_every_message);
    tcase_add_test(tc, a_member_goes_on_where_its_file_says);
    tcase_add_test(tc, a_file_of_another_is_refused);
    tcase_add_test(tc, a_message_that_fails_is_dropped_in_the_end);
    tcase_add_test(tc, the_file_has_a_place_of_its_own);
}

int main(void)
{
    return rig_main("client_broadcast", add);
}
