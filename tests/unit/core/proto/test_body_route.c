/* Route and cluster bodies. */
#include "core/proto/body_route.h"

#include "tests/unit/core/proto/body_test.h"

#define SAMPLE                                                                                     \
    "{\"brokerDatas\":[{\"brokerAddrs\":{\"0\":\"10.0.0.1:10911\",\"1\":\"10.0.0.2:10911\"},"      \
    "\"brokerName\":\"broker-a\",\"cluster\":\"DefaultCluster\",\"enableActingMaster\":false}],"   \
    "\"filterServerTable\":{},\"queueDatas\":[{\"brokerName\":\"broker-a\",\"perm\":6,"            \
    "\"readQueueNums\":4,\"topicSysFlag\":0,\"writeQueueNums\":8}]}"

#define CLUSTER_SAMPLE                                                                             \
    "{\"brokerAddrTable\":{"                                                                       \
    "\"a\":{\"brokerAddrs\":{\"0\":\"x:1\"},\"brokerName\":\"a\",\"cluster\":\"c1\","              \
    "\"enableActingMaster\":false},"                                                               \
    "\"b\":{\"brokerAddrs\":{},\"brokerName\":\"b\",\"cluster\":\"c2\","                           \
    "\"enableActingMaster\":false},"                                                               \
    "\"d\":{\"brokerAddrs\":{},\"brokerName\":\"d\",\"cluster\":\"c1\","                           \
    "\"enableActingMaster\":false}},"                                                              \
    "\"clusterAddrTable\":{\"c1\":[\"a\",\"d\"],\"c2\":[\"b\"]}}"

static int decode_route(struct slice body)
{
    struct route route;
    int error = route_decode(body, &route);

    route_fini(&route);
    return error;
}

static int decode_cluster(struct slice body)
{
    struct cluster_info info;
    int error = cluster_info_decode(body, &info);

    cluster_info_fini(&info);
    return error;
}

START_TEST(a_route_is_written_compactly_with_quoted_keys)
{
    /* Shows: the exact text, which Go's splitter takes apart by ',' and ':'. */
    struct route_addr addrs[] = {{0, SLICE_LIT("10.0.0.1:10911")},
                                 {1, SLICE_LIT("10.0.0.2:10911")}};
    struct route_broker broker = {SLICE_LIT("DefaultCluster"), SLICE_LIT("broker-a"), addrs, 2};
    struct route_queue queue = {SLICE_LIT("broker-a"), 4, 8, PERM_READ | PERM_WRITE, 0};
    struct route route = {
        .queues = &queue, .queue_count = 1, .brokers = &broker, .broker_count = 1};
    struct buf out;

    buf_init(&out, 0);
    route_encode(&out, &route);
    assert_slice(buf_slice(&out), SAMPLE);
    ck_is_standard(buf_slice(&out));
    buf_clear(&out);
    route_encode(&out, &(struct route){.order_topic_conf = SLICE_LIT("broker-a:4")});
    assert_slice(buf_slice(&out), "{\"brokerDatas\":[],\"filterServerTable\":{},"
                                  "\"orderTopicConf\":\"broker-a:4\",\"queueDatas\":[]}");
    buf_fini(&out);
}
END_TEST

static void ck_sample(const char *text)
{
    struct route route;
    const struct route_broker *broker;

    ck_assert_int_eq(route_decode(slice_str(text), &route), 0);
    ck_assert_uint_eq(route.broker_count, 1);
    ck_assert_uint_eq(route.queue_count, 1);
    ck_assert_int_eq(route.queues[0].perm, 6);
    ck_assert_int_eq(route.queues[0].read_queue_count, 4);
    ck_assert_int_eq(route.queues[0].write_queue_count, 8);
    broker = route_find_broker(&route, SLICE_LIT("broker-a"));
    ck_assert_ptr_nonnull(broker);
    assert_slice(broker->cluster, "DefaultCluster");
    ck_assert_uint_eq(broker->addr_count, 2);
    assert_slice(route_broker_master(broker), "10.0.0.1:10911");
    ck_assert_ptr_null(route_find_broker(&route, SLICE_LIT("broker-b")));
    route_fini(&route);
}

START_TEST(a_route_is_read_back)
{
    /* Shows: our own text decodes to what went in. */
    ck_sample(SAMPLE);
}
END_TEST

START_TEST(the_legacy_route_text_is_read)
{
    /*
     * Shows: bare ids, blanks, other key order, unknown keys and nulls, as servers before 4.9.4 may
     * send them.
     */
    ck_sample(
        "{ \"queueDatas\": [ {\"perm\":6,\"readQueueNums\":4,\"writeQueueNums\":\"8\","
        "\"topicSynFlag\":0,\"brokerName\":\"broker-a\"} ],\"extra\":{1:null},\"brokerDatas\":["
        "{\"brokerAddrs\":{0:\"10.0.0.1:10911\",1:\"10.0.0.2:10911\"},"
        "\"brokerName\":\"broker-a\",\"cluster\":\"DefaultCluster\",\"zoneName\":null}]}");
}
END_TEST

START_TEST(a_route_without_lists_is_empty)
{
    /* Shows: absent lists are no error; a broker without addresses has no master. */
    struct route route;
    struct route_broker broker = {0};

    ck_assert_int_eq(route_decode(SLICE_LIT("{\"orderTopicConf\":\"a:1\"}"), &route), 0);
    ck_assert_uint_eq(route.broker_count + route.queue_count, 0);
    assert_slice(route.order_topic_conf, "a:1");
    route_fini(&route);
    ck_assert_uint_eq(route_broker_master(&broker).len, 0);
}
END_TEST

START_TEST(a_route_that_makes_no_sense_is_refused)
{
    /* Shows: wrong kinds where names and addresses have to be. */
    static const char *const bad[] = {"[]",
                                      "17",
                                      "{\"queueDatas\":[{}]}",
                                      "{\"queueDatas\":[3]}",
                                      "{\"brokerDatas\":[{\"cluster\":\"c\"}]}",
                                      "{\"brokerDatas\":[{\"brokerName\":\"b\",\"brokerAddrs\":"
                                      "{\"x\":\"a\"}}]}",
                                      "{\"brokerDatas\":[{\"brokerName\":\"b\",\"brokerAddrs\":"
                                      "{\"0\":1}}]}"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(decode_route(slice_str(bad[i])) == ESCROW_EPROTO, "accepted: %s", bad[i]);
    }
}
END_TEST

START_TEST(truncated_routes_are_refused)
{
    /* Shows: every prefix of both bodies. */
    ck_every_truncation(decode_route, SAMPLE);
    ck_every_truncation(decode_cluster, CLUSTER_SAMPLE);
}
END_TEST

START_TEST(no_failing_allocation_leaks)
{
    /* Shows: out of memory at any point is ESCROW_ENOMEM with nothing left behind. */
    ck_every_failing_allocation(decode_route, SAMPLE);
    ck_every_failing_allocation(decode_cluster, CLUSTER_SAMPLE);
}
END_TEST

START_TEST(cluster_info_groups_brokers_by_cluster)
{
    /* Shows: both tables of the body, and the way back. */
    struct route_addr addr = {0, SLICE_LIT("x:1")};
    struct route_broker brokers[] = {{SLICE_LIT("c1"), SLICE_LIT("a"), &addr, 1},
                                     {SLICE_LIT("c2"), SLICE_LIT("b"), NULL, 0},
                                     {SLICE_LIT("c1"), SLICE_LIT("d"), NULL, 0}};
    struct cluster_info info = {.brokers = brokers, .broker_count = 3};
    struct cluster_info back;
    struct buf out;

    buf_init(&out, 0);
    cluster_info_encode(&out, &info);
    assert_slice(buf_slice(&out), CLUSTER_SAMPLE);
    ck_assert_int_eq(cluster_info_decode(buf_slice(&out), &back), 0);
    ck_assert_uint_eq(back.broker_count, 3);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(slice_eq(back.brokers[i].cluster, brokers[i].cluster));
        ck_assert(slice_eq(back.brokers[i].broker_name, brokers[i].broker_name));
    }
    assert_slice(route_broker_master(&back.brokers[0]), "x:1");
    cluster_info_fini(&back);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_route");

    tcase_add_test(tc, a_route_is_written_compactly_with_quoted_keys);
    tcase_add_test(tc, a_route_is_read_back);
    tcase_add_test(tc, the_legacy_route_text_is_read);
    tcase_add_test(tc, a_route_without_lists_is_empty);
    tcase_add_test(tc, a_route_that_makes_no_sense_is_refused);
    tcase_add_test(tc, truncated_routes_are_refused);
    tcase_add_test(tc, no_failing_allocation_leaks);
    tcase_add_test(tc, cluster_info_groups_brokers_by_cluster);
    return run_tests(tc, "core/proto/body_route");
}
