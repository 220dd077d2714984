/* Brokers with one name at one name server: who has it, until when, and who has to register. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/body_register.h"

#include <stdio.h>
#include <string.h>

static struct broker_fixture names;
static struct broker_fixture first;
static struct broker_fixture second;

/* Ask for the route of a topic until it leads to this broker. */
static void await_route(struct client *n, const char *topic, uint16_t port)
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    char addr[32];

    (void)snprintf(addr, sizeof addr, "\"127.0.0.1:%u\"", port); /* fits */
    for (;;) {
        header_put_str(client_begin(n, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0), "topic",
                       slice_str(topic));
        if (client_call(n, SLICE_EMPTY) == RESPONSE_SUCCESS &&
            memmem(n->body.ptr, n->body.len, addr, strlen(addr)) != NULL) {
            return;
        }
        test_await(-1, deadline_ms, "the route");
    }
}

static void make_topic(const struct broker_fixture *f, const char *topic)
{
    struct client c;

    client_open(&c, f->port, HEADER_JSON);
    client_topic(&c, topic, 1);
    client_close(&c);
}

static int count_of(const char *log, const char *text)
{
    int count = 0;

    for (const char *at = log; (at = strstr(at, text)) != NULL; at += strlen(text)) {
        count++;
    }
    return count;
}

START_TEST(the_second_broker_of_a_name_waits_until_the_first_has_gone)
{
    /*
     * The first keeps its routes, the second says why it has none, and takes over by itself when
     * the first has died. With another address it is welcome at once when its own connection has
     * ended.
     */
    char addrs[64];
    char holder[64];
    const char *const args[] = {"--role", "broker", "--namesrv.addrs", addrs, NULL};
    struct client n;
    int64_t start_ms;

    broker_fixture_start(&names, (const char *const[]){"--role", "namesrv", NULL});
    (void)snprintf(addrs, sizeof addrs, "127.0.0.1:%u", names.name_port); /* fits */
    client_open(&n, names.name_port, HEADER_JSON);
    broker_fixture_start(&first, args);
    make_topic(&first, "Mine");
    await_route(&n, "Mine", first.port);

    start_ms = test_now_ms();
    broker_fixture_start(&second, args);
    (void)snprintf(holder, sizeof holder, "live broker at 127.0.0.1:%u;", first.port); /* fits */
    broker_fixture_await(&second, holder);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&second), " error "));
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&second), "register.refused"));
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&second), "a broker.name of its own"));
    broker_fixture_await(&names, "namesrv.conflict");
    make_topic(&second, "Theirs");
    await_route(&n, "Mine", first.port);

    broker_fixture_kill(&first);
    broker_fixture_await(&second, "register.accepted");
    await_route(&n, "Theirs", second.port);
    ck_assert_int_le(count_of(broker_fixture_log(&second), "register.refused"),
                     1 + (test_now_ms() - start_ms) / 60000);

    broker_fixture_kill(&second);
    second.port = 0;
    broker_fixture_launch(&second);
    await_route(&n, "Theirs", second.port);
    ck_assert_ptr_null(strstr(broker_fixture_log(&second), "register.refused"));
    client_close(&n);
    broker_fixture_stop(&second);
    broker_fixture_stop(&names);
}
END_TEST

/* ---- brokers that register only when they are told to (RocketMQ's forceRegister=false) ---- */

static const struct data_version version = {.timestamp_ms = 1, .counter = 7};

static void put_broker(struct header_writer *w, const char *addr, int64_t id)
{
    header_put_str(w, "brokerName", SLICE_LIT("n"));
    header_put_str(w, "clusterName", SLICE_LIT("c"));
    header_put_str(w, "brokerAddr", slice_str(addr));
    header_put_i64(w, "brokerId", id);
}

static void register_as(struct client *c, const char *addr, int64_t id)
{
    const struct register_body table = {.version = version};
    struct buf body;

    buf_init(&body, 0);
    register_body_encode(&body, &table);
    ck_assert(!buf_failed(&body));
    put_broker(client_begin(c, REQUEST_REGISTER_BROKER, 0), addr, id);
    ck_assert_int_eq(client_call(c, buf_slice(&body)), RESPONSE_SUCCESS);
    buf_fini(&body);
}

/* QUERY_DATA_VERSION: does it have to register? */
static bool has_changed(struct client *c, const char *addr, int64_t id)
{
    struct buf body;
    bool changed = false;

    buf_init(&body, 0);
    data_version_encode(&body, &version);
    ck_assert(!buf_failed(&body));
    put_broker(client_begin(c, REQUEST_QUERY_DATA_VERSION, 0), addr, id);
    ck_assert_int_eq(client_call(c, buf_slice(&body)), RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_bool(&c->header, "changed", &changed), 0);
    buf_fini(&body);
    return changed;
}

static bool cluster_has(struct client *c, const char *addr)
{
    (void)client_begin(c, REQUEST_GET_BROKER_CLUSTER_INFO, 0);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
    return memmem(c->body.ptr, c->body.len, addr, strlen(addr)) != NULL;
}

START_TEST(an_address_that_is_not_registered_is_told_to_register)
{
    /* A master that was cut off while its slave stayed; a broker that moved: same data version. */
    struct client master;
    struct client slave;
    int64_t deadline_ms;

    broker_fixture_start(&names, (const char *const[]){"--role", "namesrv", NULL});
    client_open(&master, names.name_port, HEADER_JSON);
    client_open(&slave, names.name_port, HEADER_JSON);
    register_as(&master, "10.0.0.1:1", 0);
    register_as(&slave, "10.0.0.2:2", 1);
    ck_assert(!has_changed(&master, "10.0.0.1:1", 0));
    ck_assert(!has_changed(&slave, "10.0.0.2:2", 1));

    client_close(&master);
    deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    while (cluster_has(&slave, "10.0.0.1:1")) {
        test_await(-1, deadline_ms, "the closed connection is noticed");
    }
    client_open(&master, names.name_port, HEADER_JSON);
    ck_assert(has_changed(&master, "10.0.0.1:1", 0));
    ck_assert(!has_changed(&slave, "10.0.0.2:2", 1));
    ck_assert(!cluster_has(&slave, "10.0.0.1:1"));
    register_as(&master, "10.0.0.1:1", 0);
    ck_assert(cluster_has(&slave, "10.0.0.1:1"));
    ck_assert(!has_changed(&master, "10.0.0.1:1", 0));
    ck_assert(has_changed(&slave, "10.0.0.3:3", 0)); /* moved */
    client_close(&master);
    client_close(&slave);
    broker_fixture_stop(&names);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, an_address_that_is_not_registered_is_told_to_register);
    tcase_add_test(tc, the_second_broker_of_a_name_waits_until_the_first_has_gone);
}

int main(void)
{
    return broker_fixture_main("names", 120, add);
}
