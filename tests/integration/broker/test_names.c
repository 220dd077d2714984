/* Two brokers with one name at one name server: who has it, and until when. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

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

static void add(TCase *tc)
{
    tcase_add_test(tc, the_second_broker_of_a_name_waits_until_the_first_has_gone);
}

int main(void)
{
    return broker_fixture_main("names", 120, add);
}
