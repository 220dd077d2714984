#include "src/namesrv/registry.h"

#include "core/base/mem.h"
#include "core/proto/body_lists.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

static const struct hash_key key = {9, 10};

static struct topic_config topic(const char *name, int32_t queues)
{
    return (struct topic_config){.name = slice_str(name),
                                 .read_queue_count = queues,
                                 .write_queue_count = queues,
                                 .perm = 6};
}

/* One broker with one topic; version counter says which state. */
static struct registration make(const char *name, const char *addr, const struct topic_config *t,
                                size_t count, int64_t version)
{
    return (struct registration){.cluster = SLICE_LIT("c"),
                                 .broker_name = slice_str(name),
                                 .addr = slice_str(addr),
                                 .conn = 1,
                                 .version = {.timestamp_ms = 1, .counter = version},
                                 .topics = t,
                                 .topic_count = count};
}

/* Number of brokers that the route of a topic names; 0 = no route. */
static size_t route_brokers(const struct registry *r, const char *name)
{
    struct route route;
    struct buf out;
    size_t count = 0;

    buf_init(&out, 0);
    if (registry_route(r, slice_str(name), &out) == 0) {
        ck_assert_int_eq(route_decode(buf_slice(&out), &route), 0);
        count = route.broker_count;
        ck_assert_uint_eq(route.queue_count, count);
        route_fini(&route);
    }
    buf_fini(&out);
    return count;
}

/* Permissions that the route gives of a broker; -1: it does not name it. */
static int32_t route_perm(const struct registry *r, const char *name, const char *broker)
{
    struct route route;
    struct buf out;
    int32_t perm = -1;

    buf_init(&out, 0);
    ck_assert_int_eq(registry_route(r, slice_str(name), &out), 0);
    ck_assert_int_eq(route_decode(buf_slice(&out), &route), 0);
    for (size_t i = 0; i < route.queue_count; i++) {
        if (slice_eq_str(route.queues[i].broker_name, broker)) {
            perm = route.queues[i].perm;
        }
    }
    route_fini(&route);
    buf_fini(&out);
    return perm;
}

START_TEST(a_broker_without_write_permission_keeps_its_readers)
{
    /* Wiping lasts through registrations, and what comes back is what was registered. */
    struct registry r;
    struct topic_config t[] = {topic("T", 4), topic("U", 1)};
    struct registration a = make("a", "1.1.1.1:1", t, 2, 1);
    struct registration b = make("b", "2.2.2.2:2", t, 2, 1);
    struct buf out;

    t[1].perm = PERM_READ;
    registry_init(&r, key);
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_int_eq(registry_register(&r, 0, &b), 0);
    ck_assert_uint_eq(registry_set_writable(&r, SLICE_LIT("x"), false), 0);
    ck_assert_uint_eq(registry_set_writable(&r, SLICE_LIT("a"), false), 2);
    ck_assert_int_eq(route_perm(&r, "T", "a"), PERM_READ);
    ck_assert_int_eq(route_perm(&r, "T", "b"), PERM_READ | PERM_WRITE);
    a.version.counter = 2;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_int_eq(route_perm(&r, "T", "a"), PERM_READ);
    ck_assert_uint_eq(registry_set_writable(&r, SLICE_LIT("a"), true), 2);
    ck_assert_int_eq(route_perm(&r, "T", "a"), PERM_READ | PERM_WRITE);
    ck_assert_int_eq(route_perm(&r, "U", "a"), PERM_READ);

    buf_init(&out, 0);
    ck_assert_int_eq(registry_system_names(&r, &out), 0);
    ck_assert(slice_eq_str(buf_slice(&out), "{\"topicList\":[\"c\",\"a\",\"b\"]}") ||
              slice_eq_str(buf_slice(&out), "{\"topicList\":[\"c\",\"b\",\"a\"]}"));
    buf_fini(&out);
    registry_fini(&r);
}
END_TEST

START_TEST(brokers_come_change_and_go)
{
    /* Two brokers serve one topic; one says goodbye, the other is cut off. */
    struct registry r;
    struct topic_config t[] = {topic("T", 4), topic("U", 1)};
    struct registration a = make("a", "1.1.1.1:1", t, 1, 1);
    struct registration b = make("b", "2.2.2.2:2", t, 2, 1);

    registry_init(&r, key);
    b.conn = 2;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_int_eq(registry_register(&r, 0, &b), 0);
    registry_check(&r);
    ck_assert_uint_eq(route_brokers(&r, "T"), 2);
    ck_assert_uint_eq(route_brokers(&r, "U"), 1);
    ck_assert_uint_eq(route_brokers(&r, "V"), 0);
    ck_assert_int_eq(registry_unregister(&r, SLICE_LIT("a"), SLICE_LIT("9.9.9.9:9")),
                     ESCROW_ENOTFOUND);
    ck_assert_int_eq(registry_unregister(&r, SLICE_LIT("a"), SLICE_LIT("1.1.1.1:1")), 0);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_on_close(&r, 77);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_on_close(&r, 2);
    registry_check(&r);
    ck_assert_uint_eq(route_brokers(&r, "T"), 0);
    ck_assert_uint_eq(r.brokers.count, 0);
    ck_assert_uint_eq(r.topics.count, 0);
    registry_fini(&r);
}
END_TEST

START_TEST(a_registration_over_a_new_connection_survives_the_end_of_the_old_one)
{
    /* The old connection's end is noticed later than the new registration. */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration a = make("a", "1.1.1.1:1", &t, 1, 1);

    registry_init(&r, key);
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    a.conn = 2;
    ck_assert_int_eq(registry_register(&r, 1, &a), 0);
    registry_on_close(&r, 1);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_fini(&r);
}
END_TEST

START_TEST(a_broker_that_asks_over_a_new_connection_survives_the_end_of_the_old_one)
{
    /* It is told that it need not register. The end of what only asked takes nothing away. */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration a = make("a", "1.1.1.1:1", &t, 1, 1);

    registry_init(&r, key);
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    registry_seen(&r, a.broker_name, a.addr, 2, 1);
    registry_on_close(&r, 1);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_seen(&r, a.broker_name, a.addr, 3, 1);
    registry_on_close(&r, 3);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_on_close(&r, 2);
    ck_assert_uint_eq(route_brokers(&r, "T"), 0);
    registry_fini(&r);
}
END_TEST

START_TEST(silence_ends_a_broker_at_its_own_time)
{
    /* 120 s by default, or what the broker asked for; each heartbeat and each question counts. */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration a = make("a", "1.1.1.1:1", &t, 1, 1);
    struct registration b = make("b", "2.2.2.2:2", &t, 1, 1);

    registry_init(&r, key);
    b.timeout_ms = 5000;
    ck_assert_int_eq(registry_register(&r, 1000, &a), 0);
    ck_assert_int_eq(registry_register(&r, 1000, &b), 0);
    ck_assert_uint_eq(registry_expire(&r, 6000), 0);
    ck_assert_uint_eq(registry_expire(&r, 6001), 1);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    ck_assert_int_eq(registry_register(&r, 100000, &a), 0);
    ck_assert_uint_eq(registry_expire(&r, 220000), 0);
    registry_seen(&r, SLICE_LIT("a"), SLICE_LIT("9.9.9.9:9"), 9, 200000); /* not its address */
    registry_seen(&r, SLICE_LIT("b"), SLICE_LIT("2.2.2.2:2"), 9, 200000); /* gone */
    registry_seen(&r, SLICE_LIT("a"), SLICE_LIT("1.1.1.1:1"), 9, 110000);
    ck_assert_uint_eq(registry_expire(&r, 230000), 0);
    ck_assert_uint_eq(registry_expire(&r, 230001), 1);
    ck_assert_uint_eq(route_brokers(&r, "T"), 0);
    registry_fini(&r);
}
END_TEST

START_TEST(topics_are_taken_over_when_the_version_changed)
{
    /* The same version changes nothing; a deleted topic comes back with the next change only. */
    struct registry r;
    struct topic_config t[] = {topic("T", 4), topic("U", 1)};
    struct registration a = make("a", "1.1.1.1:1", t, 1, 1);
    struct data_version same = a.version;

    registry_init(&r, key);
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert(registry_is_current(&r, SLICE_LIT("a"), SLICE_LIT("1.1.1.1:1"), &same));
    a.topic_count = 2;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_uint_eq(route_brokers(&r, "U"), 0);
    a.version.counter = 2;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert(!registry_is_current(&r, SLICE_LIT("a"), SLICE_LIT("1.1.1.1:1"), &same));
    ck_assert_uint_eq(route_brokers(&r, "U"), 1);
    registry_delete_topic(&r, SLICE_LIT("U"));
    registry_check(&r);
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_uint_eq(route_brokers(&r, "U"), 0);
    a.version.counter = 3;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_uint_eq(route_brokers(&r, "U"), 1);
    registry_fini(&r);
}
END_TEST

START_TEST(a_slave_brings_no_topics_and_takes_none_away)
{
    /* Addresses by id; the master's table counts; the route goes with the last address. */
    struct registry r;
    struct topic_config t[] = {topic("T", 4), topic("U", 1)};
    struct registration master = make("a", "1.1.1.1:1", t, 1, 1);
    struct registration slave = make("a", "2.2.2.2:2", t, 2, 9);

    registry_init(&r, key);
    slave.broker_id = 1;
    slave.conn = 2;
    ck_assert_int_eq(registry_register(&r, 0, &master), 0);
    ck_assert_int_eq(registry_register(&r, 0, &slave), 0);
    registry_check(&r);
    ck_assert_uint_eq(route_brokers(&r, "U"), 0);
    registry_on_close(&r, 1);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_on_close(&r, 2);
    ck_assert_uint_eq(route_brokers(&r, "T"), 0);
    registry_fini(&r);
}
END_TEST

START_TEST(a_name_that_a_live_broker_holds_is_refused_to_another_address)
{
    /*
     * The refusal changes nothing and says who holds the name; it ends with the holder's
     * connection, its silence or its goodbye. Other ids and the same address are always welcome.
     */
    struct registry r;
    struct topic_config t[] = {topic("T", 4), topic("U", 1)};
    struct registration a = make("n", "1.1.1.1:1", t, 1, 1);
    struct registration b = make("n", "2.2.2.2:2", t, 2, 9);
    struct registration slave = make("n", "3.3.3.3:3", t, 1, 1);
    struct data_version version = a.version;
    char text[REGISTRY_REFUSAL_MAX + 1];

    registry_init(&r, key);
    b.conn = 2;
    b.cluster = SLICE_LIT("other");
    slave.conn = 3;
    slave.broker_id = 1;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_int_eq(registry_register(&r, 0, &b), ESCROW_EEXIST);
    registry_refusal(&r, 0, &b, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "broker.name n,"));
    ck_assert_ptr_nonnull(strstr(text, "live broker at 1.1.1.1:1;"));
    ck_assert_ptr_nonnull(strstr(text, "2.2.2.2:2"));
    registry_refusal(&r, 0, &a, text, sizeof text);
    ck_assert_str_eq(text, "");
    ck_assert(registry_is_current(&r, SLICE_LIT("n"), SLICE_LIT("1.1.1.1:1"), &version));
    ck_assert_uint_eq(route_brokers(&r, "U"), 0);
    ck_assert_int_eq(registry_unregister(&r, SLICE_LIT("n"), SLICE_LIT("2.2.2.2:2")),
                     ESCROW_ENOTFOUND);
    ck_assert_int_eq(registry_register(&r, 0, &slave), 0);
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);

    registry_on_close(&r, 1);
    ck_assert_int_eq(registry_register(&r, 0, &b), 0);
    ck_assert_uint_eq(route_brokers(&r, "U"), 1);
    ck_assert_int_eq(registry_register(&r, REGISTRY_EXPIRY_MS, &a), ESCROW_EEXIST);
    ck_assert_int_eq(registry_register(&r, REGISTRY_EXPIRY_MS + 1, &a), 0);
    ck_assert_int_eq(registry_register(&r, REGISTRY_EXPIRY_MS + 1, &b), ESCROW_EEXIST);
    ck_assert_int_eq(registry_unregister(&r, SLICE_LIT("n"), SLICE_LIT("1.1.1.1:1")), 0);
    ck_assert_int_eq(registry_register(&r, REGISTRY_EXPIRY_MS + 1, &b), 0);
    registry_check(&r);
    registry_fini(&r);
}
END_TEST

/* Would a broker that asks from this address register itself? */
static bool is_told_to_register(const struct registry *r, const struct registration *reg)
{
    return !registry_is_current(r, reg->broker_name, reg->addr, &reg->version);
}

START_TEST(a_master_that_was_cut_off_registers_again_although_its_slave_stayed)
{
    /* The slave keeps name, topics and data version alive; the master's address is gone. */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration master = make("n", "1.1.1.1:1", &t, 1, 7);
    struct registration slave = make("n", "2.2.2.2:2", &t, 1, 7);

    registry_init(&r, key);
    slave.broker_id = 1;
    slave.conn = 2;
    ck_assert(is_told_to_register(&r, &master));
    ck_assert_int_eq(registry_register(&r, 0, &master), 0);
    ck_assert_int_eq(registry_register(&r, 0, &slave), 0);
    ck_assert(!is_told_to_register(&r, &master));
    ck_assert(!is_told_to_register(&r, &slave));

    registry_on_close(&r, 1);
    registry_seen(&r, master.broker_name, master.addr, 9, 1); /* asking does not bring it back */
    ck_assert(is_told_to_register(&r, &master));
    ck_assert(!is_told_to_register(&r, &slave));
    master.conn = 3;
    ck_assert_int_eq(registry_register(&r, 1, &master), 0);
    ck_assert(!is_told_to_register(&r, &master));
    ck_assert(!is_told_to_register(&r, &slave));
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_check(&r);
    registry_fini(&r);
}
END_TEST

START_TEST(a_moved_broker_registers_although_its_data_version_is_known)
{
    /*
     * Its old address has said the same version; that address is told to when the name has gone to
     * the new one. No address, no name: never current.
     */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration old = make("n", "1.1.1.1:1", &t, 1, 7);
    struct registration moved = make("n", "2.2.2.2:2", &t, 1, 7);

    registry_init(&r, key);
    moved.conn = 2;
    ck_assert_int_eq(registry_register(&r, 0, &old), 0);
    ck_assert(!is_told_to_register(&r, &old));
    ck_assert(is_told_to_register(&r, &moved));
    registry_seen(&r, moved.broker_name, moved.addr, 9, 1); /* says nothing of the old address */
    ck_assert_int_eq(registry_register(&r, REGISTRY_QUIET_MS + 1, &moved), 0);
    ck_assert(!is_told_to_register(&r, &moved));
    ck_assert(is_told_to_register(&r, &old));
    ck_assert(!registry_is_current(&r, SLICE_LIT("n"), SLICE_EMPTY, &moved.version));
    ck_assert(!registry_is_current(&r, SLICE_LIT("x"), moved.addr, &moved.version));
    moved.version.counter = 8;
    ck_assert(is_told_to_register(&r, &moved));
    registry_fini(&r);
}
END_TEST

START_TEST(a_broker_that_was_moved_takes_its_name_when_registrations_were_missed)
{
    /*
     * Its machine vanished, so the connection is still open. Not with an older data version, not
     * earlier, and not back again from one that is alive.
     */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration a = make("n", "1.1.1.1:1", &t, 1, 7);
    struct registration moved = make("n", "2.2.2.2:2", &t, 1, 7);
    struct registration older = make("n", "3.3.3.3:3", &t, 1, 6);
    char text[REGISTRY_REFUSAL_MAX + 1];

    registry_init(&r, key);
    moved.conn = 2;
    older.conn = 3;
    ck_assert_int_eq(registry_register(&r, 1000, &a), 0);
    ck_assert_int_eq(registry_register(&r, 1000 + REGISTRY_QUIET_MS, &moved), ESCROW_EEXIST);
    ck_assert_int_eq(registry_register(&r, 1001 + REGISTRY_QUIET_MS, &older), ESCROW_EEXIST);
    registry_refusal(&r, 1001 + REGISTRY_QUIET_MS, &moved, text, sizeof text);
    ck_assert_str_eq(text, "");
    ck_assert_int_eq(registry_register(&r, 1001 + REGISTRY_QUIET_MS, &moved), 0);
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    ck_assert_int_eq(registry_register(&r, 1002 + REGISTRY_QUIET_MS, &a), ESCROW_EEXIST);
    registry_refusal(&r, 1002 + REGISTRY_QUIET_MS, &a, text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "live broker at 2.2.2.2:2;"));
    registry_on_close(&r, 1); /* the kernel gives up at last */
    ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    registry_check(&r);
    registry_fini(&r);
}
END_TEST

START_TEST(an_elected_master_takes_the_name_over)
{
    /*
     * A higher state version wins and a lower one never does; without any, an address that was a
     * slave of the name may become its master.
     */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration a = make("n", "1.1.1.1:1", &t, 1, 1);
    struct registration b = make("n", "2.2.2.2:2", &t, 1, 1);
    struct registration c = make("n", "3.3.3.3:3", &t, 1, 1);

    registry_init(&r, key);
    b.conn = 2;
    b.broker_id = 2;
    c.conn = 3;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_int_eq(registry_register(&r, 0, &b), 0);
    b.broker_id = 0;
    ck_assert_int_eq(registry_register(&r, 0, &b), 0);
    ck_assert_int_eq(registry_register(&r, 0, &a), ESCROW_EEXIST);
    a.broker_id = 1;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);

    ck_assert_int_eq(registry_register(&r, 0, &c), ESCROW_EEXIST);
    c.version.state_version = 1;
    ck_assert_int_eq(registry_register(&r, 0, &c), 0);
    a.broker_id = 0;
    ck_assert_int_eq(registry_register(&r, 0, &a), ESCROW_EEXIST);
    registry_check(&r);
    registry_fini(&r);
}
END_TEST

START_TEST(names_that_could_harm_are_refused)
{
    /*
     * Empty, blanks, quotes, too long, negative ids; bad topic names are left out, the rest counts.
     */
    struct registry r;
    struct topic_config t[] = {topic("no good!", 4), topic("T", 1)};
    static const char *const bad[] = {"", "a b", "a\"b", "a;b", "a\nb"};
    char long_name[200];

    registry_init(&r, key);
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct registration a = make(bad[i], "1.1.1.1:1", t, 2, 1);
        struct registration b = make("b", bad[i], t, 2, 1);
        ck_assert_int_eq(registry_register(&r, 0, &a), ESCROW_EINVAL);
        ck_assert_int_eq(registry_register(&r, 0, &b), ESCROW_EINVAL);
    }
    {
        struct registration a = make(long_name, "1.1.1.1:1", t, 2, 1);
        struct registration b = make("b", "1.1.1.1:1", t, 2, 1);
        ck_assert_int_eq(registry_register(&r, 0, &a), ESCROW_EINVAL);
        b.broker_id = -1;
        ck_assert_int_eq(registry_register(&r, 0, &b), ESCROW_EINVAL);
        ck_assert_uint_eq(r.brokers.count, 0);
        b.broker_id = 0;
        ck_assert_int_eq(registry_register(&r, 0, &b), 0);
        ck_assert_uint_eq(r.topics.count, 1);
        ck_assert_uint_eq(route_brokers(&r, "T"), 1);
    }
    registry_fini(&r);
}
END_TEST

START_TEST(a_broker_with_many_topics_goes_at_once_and_whole)
{
    /*
     * 2,000 topics, half of them shared: after it has gone the other's are there and nothing else.
     */
    static struct topic_config t[2000];
    static char names[2000][16];
    struct registry r;
    struct registration a;
    struct registration b;

    registry_init(&r, key);
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(names[i], sizeof names[i], "t-%d", i); /* fits */
        t[i] = topic(names[i], 1);
    }
    a = make("a", "1.1.1.1:1", t, 2000, 1);
    b = make("b", "2.2.2.2:2", t, 1000, 1);
    b.conn = 2;
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    ck_assert_int_eq(registry_register(&r, 0, &b), 0);
    registry_on_close(&r, 1);
    registry_check(&r);
    ck_assert_uint_eq(r.topics.count, 1000);
    for (int i = 0; i < 2000; i++) {
        ck_assert_uint_eq(route_brokers(&r, names[i]), i < 1000 ? 1 : 0);
    }
    registry_fini(&r);
}
END_TEST

START_TEST(key_value_configuration)
{
    /*
     * Put, replace, list one namespace, delete; limits; the order configuration of a topic is in
     * its route.
     */
    struct registry r;
    struct topic_config t = topic("T", 4);
    struct registration a = make("a", "1.1.1.1:1", &t, 1, 1);
    struct slice value = SLICE_EMPTY;
    struct kv_table table;
    struct route route;
    struct buf out;

    registry_init(&r, key);
    buf_init(&out, 0);
    ck_assert_int_eq(registry_kv_get(&r, SLICE_LIT("n"), SLICE_LIT("k"), &value), ESCROW_ENOTFOUND);
    ck_assert_int_eq(registry_kv_put(&r, SLICE_LIT("n"), SLICE_LIT("k"), SLICE_LIT("1")), 0);
    ck_assert_int_eq(registry_kv_put(&r, SLICE_LIT("n"), SLICE_LIT("k"), SLICE_LIT("2")), 0);
    ck_assert_int_eq(registry_kv_put(&r, SLICE_LIT("nn"), SLICE_LIT("k"), SLICE_LIT("3")), 0);
    ck_assert_int_eq(registry_kv_put(&r, SLICE_EMPTY, SLICE_LIT("k"), SLICE_LIT("1")),
                     ESCROW_EINVAL);
    ck_assert_int_eq(registry_kv_put(&r, SLICE_LIT("n"), SLICE_LIT("k"), SLICE_LIT("a\0b")),
                     ESCROW_EINVAL);
    ck_assert_int_eq(registry_kv_get(&r, SLICE_LIT("n"), SLICE_LIT("k"), &value), 0);
    ck_assert(slice_eq_str(value, "2"));
    ck_assert_int_eq(registry_kv_list(&r, SLICE_LIT("n"), &out), 0);
    ck_assert_int_eq(kv_table_decode(buf_slice(&out), &table), 0);
    ck_assert_uint_eq(table.count, 1);
    kv_table_fini(&table);
    ck_assert_int_eq(registry_kv_delete(&r, SLICE_LIT("n"), SLICE_LIT("k")), 0);
    ck_assert_int_eq(registry_kv_delete(&r, SLICE_LIT("n"), SLICE_LIT("k")), ESCROW_ENOTFOUND);
    ck_assert_int_eq(registry_kv_list(&r, SLICE_LIT("n"), &out), ESCROW_ENOTFOUND);
    ck_assert_uint_eq(r.kv_bytes, 3 + 1 + 1);
    r.kv_bytes += REGISTRY_KV_BYTES_MAX - 9; /* as if there were many */
    ck_assert_int_eq(registry_kv_put(&r, SLICE_LIT("nn"), SLICE_LIT("k"), SLICE_LIT("67890")), 0);
    ck_assert_int_eq(registry_kv_put(&r, SLICE_LIT("nn"), SLICE_LIT("k"), SLICE_LIT("678901")),
                     ESCROW_ELIMIT);
    ck_assert_int_eq(registry_kv_delete(&r, SLICE_LIT("nn"), SLICE_LIT("k")), 0);
    ck_assert_uint_eq(r.kv_bytes, REGISTRY_KV_BYTES_MAX - 9);
    r.kv_bytes = 0;
    ck_assert_int_eq(
        registry_kv_put(&r, SLICE_LIT("ORDER_TOPIC_CONFIG"), SLICE_LIT("T"), SLICE_LIT("a:4")), 0);
    ck_assert_int_eq(registry_register(&r, 0, &a), 0);
    buf_clear(&out);
    ck_assert_int_eq(registry_route(&r, SLICE_LIT("T"), &out), 0);
    ck_assert_int_eq(route_decode(buf_slice(&out), &route), 0);
    ck_assert(slice_eq_str(route.order_topic_conf, "a:4"));
    route_fini(&route);
    buf_fini(&out);
    registry_fini(&r);
}
END_TEST

START_TEST(a_failed_allocation_is_made_good_by_the_next_registration)
{
    /*
     * Each allocation of a registration fails once; the invariants hold, and trying again completes
     * it.
     */
    struct topic_config t[] = {topic("T", 4), topic("U", 1)};
    int rc = ESCROW_ENOMEM;

    for (uint64_t n = 1; rc != 0; n++) {
        struct registry r;
        struct registration a = make("a", "1.1.1.1:1", t, 2, 1);
        registry_init(&r, key);
        mem_fault_at(n);
        rc = registry_register(&r, 0, &a);
        mem_fault_at(0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        registry_check(&r);
        ck_assert_int_eq(registry_register(&r, 0, &a), 0);
        ck_assert_uint_eq(route_brokers(&r, "T"), 1);
        ck_assert_uint_eq(route_brokers(&r, "U"), 1);
        registry_fini(&r);
        ck_assert_uint_lt(n, 50);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/namesrv/registry");
    TCase *tc = tcase_create("registry");

    tcase_add_test(tc, brokers_come_change_and_go);
    tcase_add_test(tc, a_broker_without_write_permission_keeps_its_readers);
    tcase_add_test(tc, a_registration_over_a_new_connection_survives_the_end_of_the_old_one);
    tcase_add_test(tc, a_broker_that_asks_over_a_new_connection_survives_the_end_of_the_old_one);
    tcase_add_test(tc, silence_ends_a_broker_at_its_own_time);
    tcase_add_test(tc, topics_are_taken_over_when_the_version_changed);
    tcase_add_test(tc, a_slave_brings_no_topics_and_takes_none_away);
    tcase_add_test(tc, a_name_that_a_live_broker_holds_is_refused_to_another_address);
    tcase_add_test(tc, a_master_that_was_cut_off_registers_again_although_its_slave_stayed);
    tcase_add_test(tc, a_moved_broker_registers_although_its_data_version_is_known);
    tcase_add_test(tc, a_broker_that_was_moved_takes_its_name_when_registrations_were_missed);
    tcase_add_test(tc, an_elected_master_takes_the_name_over);
    tcase_add_test(tc, names_that_could_harm_are_refused);
    tcase_add_test(tc, a_broker_with_many_topics_goes_at_once_and_whole);
    tcase_add_test(tc, key_value_configuration);
    tcase_add_test(tc, a_failed_allocation_is_made_good_by_the_next_registration);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
