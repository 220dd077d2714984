/*
 * Which queues a member of a group takes, and whether it pulls or pops them, as the broker says.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct broker_fixture f;
static struct client c;

static void set_up(int32_t queues)
{
    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", queues);
}

static void tear_down(void)
{
    client_close(&c);
    broker_fixture_stop(&f);
}

static const char *assignment(const char *topic, const char *client, const char *strategy)
{
    static char text[2000];
    char body[400];

    (void)snprintf(body, sizeof body,
                   "{\"clientId\":\"%s\",\"consumerGroup\":\"g\",\"messageModel\":"
                   "\"CLUSTERING\",\"strategyName\":\"%s\",\"topic\":\"%s\"}",
                   client, strategy, topic);
    (void)client_begin(&c, REQUEST_QUERY_ASSIGNMENT, 0);
    ck_assert_int_eq(client_call(&c, slice_str(body)), RESPONSE_SUCCESS);
    (void)slice_to_cstr(c.body, text, sizeof text);
    return text;
}

static int32_t set_mode(const char *topic, const char *mode, int share)
{
    char body[400];

    (void)snprintf(body, sizeof body,
                   "{\"consumerGroup\":\"g\",\"mode\":\"%s\",\"popShareQueueNum\":%d,"
                   "\"topic\":\"%s\"}",
                   mode, share, topic);
    (void)client_begin(&c, REQUEST_SET_MESSAGE_REQUEST_MODE, 0);
    return client_call(&c, slice_str(body));
}

/* What an answer has of queues: "0,1 PULL". */
static const char *queues_of(const char *body)
{
    static char text[200];
    size_t len = 0;

    text[0] = '\0';
    for (const char *at = body; (at = strstr(at, "\"queueId\":")) != NULL; at++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%d", len > 0 ? "," : "",
                                (int)strtol(at + 10, NULL, 10));
    }
    (void)snprintf(text + len, sizeof text - len, "%s",
                   strstr(body, "\"POP\"") != NULL    ? " POP"
                   : strstr(body, "\"PULL\"") != NULL ? " PULL"
                                                      : "");
    return text;
}

START_TEST(the_broker_shares_out_the_queues)
{
    /* To those that heartbeat, by both strategies; nothing to one that does not. */
    struct client second;

    set_up(5);
    client_open(&second, f.port, HEADER_JSON);
    ck_assert_str_eq(assignment("T", "a", "AVG"), "{}");
    ck_assert_int_eq(client_heartbeat(&c, "a", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_str_eq(queues_of(assignment("T", "a", "AVG")), "0,1,2,3,4 PULL");
    ck_assert_int_eq(client_heartbeat(&second, "b", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_str_eq(queues_of(assignment("T", "a", "AVG")), "0,1,2 PULL");
    ck_assert_str_eq(queues_of(assignment("T", "b", "AVG")), "3,4 PULL");
    ck_assert_str_eq(queues_of(assignment("T", "b", "AVG_BY_CIRCLE")), "1,3 PULL");
    ck_assert_str_eq(assignment("T", "b", "MACHINE_ROOM"), "{}");
    ck_assert_str_eq(assignment("T", "x", "AVG"), "{}");
    ck_assert_str_eq(assignment("unknown", "b", "AVG"), "{}");
    (void)client_begin(&c, REQUEST_QUERY_ASSIGNMENT, 0);
    ck_assert_int_eq(client_call(&c, SLICE_LIT("[")), RESPONSE_INVALID_PARAMETER);
    client_close(&second);
    tear_down();
}
END_TEST

START_TEST(how_a_group_asks_survives_a_crash)
{
    /* All members pop every queue, or share some; what cannot be set is refused. */
    struct client members[3];

    set_up(4);
    ck_assert_int_eq(set_mode("T", "POP", 0), RESPONSE_SUCCESS);
    ck_assert_int_eq(set_mode("unknown", "POP", 0), RESPONSE_TOPIC_NOT_EXIST);
    ck_assert_int_eq(set_mode("%RETRY%g", "POP", 0), RESPONSE_NO_PERMISSION);
    ck_assert_int_eq(set_mode("T", "PUSH", 0), RESPONSE_INVALID_PARAMETER);
    client_close(&c);
    broker_fixture_kill(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    for (int i = 0; i < 3; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        client_open(&members[i], f.port, HEADER_JSON);
        ck_assert_int_eq(client_heartbeat(&members[i], id, NULL, "g", "T"), RESPONSE_SUCCESS);
    }
    ck_assert_str_eq(queues_of(assignment("T", "b", "AVG")), "-1 POP");
    ck_assert_int_eq(set_mode("T", "POP", 1), RESPONSE_SUCCESS);
    ck_assert_str_eq(queues_of(assignment("T", "a", "AVG")), "0,1,2 POP");
    ck_assert_str_eq(queues_of(assignment("T", "c", "AVG")), "3,0,1 POP");
    client_close(&c);
    broker_fixture_stop(&f); /* the checkpoint has it, too */
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(client_heartbeat(&c, "a", NULL, "g", "T"), RESPONSE_SUCCESS);
    ck_assert_str_eq(queues_of(assignment("T", "a", "AVG")), "-1 POP");
    ck_assert_int_eq(set_mode("T", "PULL", 0), RESPONSE_SUCCESS);
    ck_assert_str_eq(queues_of(assignment("T", "a", "AVG")), "0,1,2,3 PULL");
    for (int i = 0; i < 3; i++) {
        client_close(&members[i]);
    }
    tear_down();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, the_broker_shares_out_the_queues);
    tcase_add_test(tc, how_a_group_asks_survives_a_crash);
}

int main(void)
{
    return broker_fixture_main("assignment", 120, add_tests);
}
