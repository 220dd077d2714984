/*
 * escrow bench: options, set-up, phases. Set-up asks the broker through cli (topic, queues, is it
 * an escrowd); then the bench has connections of its own on the same loop: warm-up, measured time,
 * and at most BENCH_DRAIN_MS for the last answers.
 */
#include "src/tools/bench.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/io_uv/clock_system.h"
#include "core/proto/body_route.h"
#include "core/proto/body_topic.h"
#include "core/proto/codes.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- options ---- */

struct bench_texts {
    const char *header;
    const char *driver;
    const char *end;
    const char *from;
};

/* What the command line says and set-up decides. */
struct bench_setup {
    struct cli_options common;
    int header; /* HEADER_TYPE_COUNT = auto */
    int end;    /* BENCH_END_ONEWAY + 1 = auto */
};

static const char about[] =
    "Load generator. Runs against an escrowd or any RocketMQ broker; producer also against Redis\n"
    "(XADD) and beanstalkd (put), so that two brokers can be compared with one generator.\n"
    "  producer   sends messages\n"
    "  txn        half, then commit or rollback\n"
    "  consumer   reads a topic\n"
    "Exit status: 0 no errors, 1 errors or answers missing, 2 usage, 130 interrupted: what was\n"
    "measured until then is printed.\n\n";

/* What the words of an option mean; -1 when it is none. */
static int word_of(const char *text, const char *const *words, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static enum args_result check_options(const struct arg_list *list, struct bench_options *o)
{
    if (o->size_bytes == 0 || o->size_bytes > MESSAGE_BODY_MAX) {
        return args_bad(list, "--size: 1 to %u", MESSAGE_BODY_MAX);
    }
    if (o->connections == 0 || o->connections > BENCH_CONNECTIONS_MAX) {
        return args_bad(list, "--connections: 1 to %d", BENCH_CONNECTIONS_MAX);
    }
    if (o->window == 0 || o->window > BENCH_WINDOW_MAX) {
        return args_bad(list, "--window: 1 to %d", BENCH_WINDOW_MAX);
    }
    if (o->queues > BENCH_QUEUES_MAX) {
        return args_bad(list, "--queues: at most %d", BENCH_QUEUES_MAX);
    }
    if (o->end_batch == 0 || o->end_batch > END_TXN_HALVES_MAX) {
        return args_bad(list, "--end-batch: 1 to %d", END_TXN_HALVES_MAX);
    }
    if (o->rollback_percent + o->leave_percent > 100) {
        return args_bad(list, "--rollback and --leave: together at most 100");
    }
    if (o->pull_max == 0 || o->pull_max > PULL_MESSAGES_MAX) {
        return args_bad(list, "--pull: 1 to %d", PULL_MESSAGES_MAX);
    }
    if (o->duration_ms == 0 && o->count == 0) {
        return args_bad(list, "--duration: at least 1ms");
    }
    if (o->driver != BENCH_ROCKETMQ && o->mode != BENCH_PRODUCER) {
        return args_bad(list, "--driver: only for producer");
    }
    if (o->rate != 0 && o->mode == BENCH_CONSUMER) {
        return args_bad(list, "--rate: not for consumer");
    }
    return ARGS_GO;
}

static enum args_result read_words(const struct arg_list *list, const struct bench_texts *t,
                                   struct bench_options *o, int *header, int *end)
{
    static const char *const headers[] = {"json", "rocketmq", "msgpack", "auto"};
    static const char *const ends[] = {"confirmed", "answered", "oneway", "auto"};
    static const char *const drivers[] = {"rocketmq", "redis", "beanstalkd"};
    int driver = word_of(t->driver, drivers, 3);

    *header = word_of(t->header, headers, 4);
    *end = word_of(t->end, ends, 4);
    if (*header < 0) {
        return args_bad(list, "--header: json, rocketmq, msgpack or auto");
    }
    if (*end < 0) {
        return args_bad(list, "--end: confirmed, answered, oneway or auto");
    }
    if (driver < 0) {
        return args_bad(list, "--driver: rocketmq, redis or beanstalkd");
    }
    if (strcmp(t->from, "first") != 0 && strcmp(t->from, "last") != 0) {
        return args_bad(list, "--from: first or last");
    }
    o->driver = (enum bench_driver)driver;
    o->is_from_end = t->from[0] == 'l';
    return check_options(list, o);
}

/* ---- set-up ---- */

static int on_topic(void *arg, struct header *header, struct slice body)
{
    struct bench *b = arg;
    struct body_tree tree = {.chunks = NULL};
    const struct json_node *root;
    struct topic_config topic;
    int rc = body_tree_parse(&tree, body, TOPIC_TABLE_LIMITS, &root);

    (void)header;
    if (rc == 0) {
        rc = topic_config_read(root, &topic);
    }
    if (rc == 0) {
        b->queues =
            b->options.mode == BENCH_CONSUMER ? topic.read_queue_count : topic.write_queue_count;
    }
    body_tree_fini(&tree);
    return rc;
}

static void topic_fields(struct header_writer *w, void *arg)
{
    const struct bench *b = arg;

    header_put_str(w, "topic", slice_str(b->options.topic));
    header_put_str(w, "defaultTopic", SLICE_LIT("TBW102"));
    header_put_i64(w, "readQueueNums", b->queues);
    header_put_i64(w, "writeQueueNums", b->queues);
    header_put_i64(w, "perm", PERM_READ | PERM_WRITE);
    header_put_str(w, "topicFilterType", SLICE_LIT("SINGLE_TAG"));
    header_put_i64(w, "topicSysFlag", 0);
    header_put_bool(w, "order", false);
}

static void name_fields(struct header_writer *w, void *arg)
{
    header_put_str(w, "topic", slice_str(arg));
}

/* How many queues, and make them if they are not there. */
static int prepare_topic(struct bench *b)
{
    struct cli_request req = {.addr = b->addr,
                              .code = REQUEST_GET_TOPIC_CONFIG,
                              .fields = name_fields,
                              .fields_arg = (void *)(uintptr_t)b->options.topic};
    int rc = cli_call(b->cli, &req, on_topic, b);

    if (rc == 0 && (b->options.queues == 0 || (int32_t)b->options.queues == b->queues)) {
        return 0;
    }
    if (rc != 0 &&
        (rc == ESCROW_ECONN || b->cli->is_interrupted || b->options.mode == BENCH_CONSUMER)) {
        return rc;
    }
    b->queues = b->options.queues != 0 ? (int32_t)b->options.queues : 4;
    req.code = REQUEST_UPDATE_AND_CREATE_TOPIC;
    req.fields = topic_fields;
    req.fields_arg = b;
    return cli_call(b->cli, &req, NULL, NULL);
}

static int find_addr(struct bench *b)
{
    const struct topic_route *route;
    int rc;

    if (b->cli->options.addr != NULL) {
        (void)slice_to_cstr(slice_str(b->cli->options.addr), b->addr, sizeof b->addr);
        return 0;
    }
    rc = cli_route(b->cli, b->options.topic, b->options.mode != BENCH_CONSUMER, &route);
    for (size_t i = 0; rc == 0 && i < route->target_count; i++) {
        if (route->targets[i].addr[0] != '\0') {
            memcpy(b->addr, route->targets[i].addr, sizeof b->addr);
            return 0;
        }
    }
    return rc != 0 ? rc : err_set(&b->cli->err, ESCROW_ENOROUTE, "no broker is up");
}

static int split_addr(struct bench *b)
{
    const char *colon = strrchr(b->addr, ':');
    int32_t port;

    if (colon == NULL || !slice_to_i32(slice_str(colon + 1), &port) || port < 1 || port > 65535) {
        return err_set(&b->cli->err, ESCROW_EINVAL, "'%s' is not HOST:PORT", b->addr);
    }
    (void)slice_to_cstr(slice_of(b->addr, (size_t)(colon - b->addr)), b->host, sizeof b->host);
    b->port = (uint16_t)port;
    return 0;
}

static int set_up(struct bench *b, int header, int end)
{
    bool is_escrowd;
    int rc = find_addr(b);

    if (rc == 0) {
        rc = split_addr(b);
    }
    if (rc == 0 && b->options.driver == BENCH_ROCKETMQ) {
        rc = prepare_topic(b);
    }
    is_escrowd = remote_is_escrowd(&b->cli->remote, b->addr);
    b->options.header = header < HEADER_TYPE_COUNT ? (enum header_type)header
                        : is_escrowd               ? HEADER_MSGPACK
                                                   : HEADER_JSON;
    b->options.end = end <= BENCH_END_ONEWAY ? (enum bench_end)end
                     : is_escrowd            ? BENCH_END_CONFIRMED
                                             : BENCH_END_ONEWAY;
    if (b->options.end != BENCH_END_CONFIRMED) {
        b->options.end_batch = 1; /* one half each */
    }
    b->conn_count = (uint32_t)b->options.connections;
    if (b->options.mode == BENCH_CONSUMER && (int32_t)b->conn_count > b->queues) {
        b->conn_count = (uint32_t)b->queues;
    }
    return rc == 0 ? bench_frames_make(b) : rc;
}

/* ---- where a consumer begins ---- */

struct offset_ask {
    struct bench *bench;
    struct bench_slot *slot;
};

static void offset_fields(struct header_writer *w, void *arg)
{
    const struct offset_ask *ask = arg;

    header_put_str(w, "topic", slice_str(ask->bench->options.topic));
    header_put_i64(w, "queueId", ask->slot->queue);
}

static int on_offset(void *arg, struct header *header, struct slice body)
{
    struct offset_ask *ask = arg;

    (void)body;
    return header_get_i64(header, "offset", &ask->slot->offset);
}

static int find_offsets(struct bench *b)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < b->conn_count; i++) {
        for (uint32_t j = 0; rc == 0 && j < b->conns[i].slot_count; j++) {
            struct offset_ask ask = {b, &b->conns[i].slots[j]};
            struct cli_request req = {.addr = b->addr,
                                      .code = b->options.is_from_end ? REQUEST_GET_MAX_OFFSET
                                                                     : REQUEST_GET_MIN_OFFSET,
                                      .fields = offset_fields,
                                      .fields_arg = &ask};
            rc = cli_call(b->cli, &req, on_offset, &ask);
        }
    }
    return rc;
}

/* ---- phases ---- */

static void measure_begin(void *arg);
static void measure_end(void *arg);

static void drain_over(void *arg)
{
    struct bench *b = arg;

    loop_stop(b->loop);
}

static void measure_begin(void *arg)
{
    struct bench *b = arg;

    bench_usage_read(b, &b->usage[0]);
    b->started_ns = clock_mono_ns(b->clock);
    b->is_measuring = true;
    if (b->options.count == 0) {
        loop_timer_start(b->loop, &b->phase, b->options.duration_ms, 0, measure_end, b);
    }
}

static void measure_end(void *arg)
{
    struct bench *b = arg;

    if (!b->is_measuring) {
        return;
    }
    b->is_measuring = false;
    b->is_running = false;
    b->ended_ns = clock_mono_ns(b->clock);
    bench_usage_read(b, &b->usage[1]);
    if (b->in_flight == 0 || b->options.mode == BENCH_CONSUMER) {
        loop_stop(b->loop);
    } else {
        loop_timer_start(b->loop, &b->phase, BENCH_DRAIN_MS, 0, drain_over, b);
    }
}

static void on_second(void *arg)
{
    bench_progress(arg);
}

static int run(struct bench *b)
{
    bool has_progress = !b->options.is_quiet && isatty(STDERR_FILENO) == 1;
    int rc = bench_connect(b);

    if (b->cli->is_interrupted) {
        return err_set(&b->cli->err, ESCROW_ESHUTDOWN, "interrupted");
    }
    if (rc != 0) {
        return err_set(&b->cli->err, rc, "%s",
                       b->error_count > 0 ? b->errors[0].text : escrow_strerror(rc));
    }
    if (b->options.mode == BENCH_CONSUMER) {
        rc = find_offsets(b);
        if (rc != 0) {
            return rc;
        }
    }
    if (has_progress) {
        loop_timer_start(b->loop, &b->progress, 1000, 1000, on_second, b);
    }
    if (b->options.warmup_ms > 0 && b->options.count == 0) {
        loop_timer_start(b->loop, &b->phase, b->options.warmup_ms, 0, measure_begin, b);
    } else {
        measure_begin(b);
    }
    loop_hook_start(b->loop, LOOP_BEFORE_SLEEP, &b->end_hook, bench_txn_flush, b);
    rc = bench_begin(b);
    if (rc == 0) {
        loop_run(b->loop);
        measure_end(b); /* when it ended by count, by a signal or by a failure */
    }
    loop_hook_stop(b->loop, &b->end_hook);
    loop_timer_stop(b->loop, &b->phase);
    loop_timer_stop(b->loop, &b->progress);
    bench_tick_stop(b);
    if (has_progress) {
        (void)fprintf(stderr, "\r%70s\r", "");
    }
    return rc;
}

static int run_and_report(struct bench *b)
{
    int rc;

    b->tcp_options = tcp_options_default;
    b->tick_fd = -1;
    list_init(&b->ending);
    histogram_init(&b->latency);
    histogram_init(&b->second);
    header_init(&b->header);
    rc = tcp_init(&b->tcp, b->loop, 0);
    if (rc != 0) {
        return rc;
    }
    rc = run(b);
    bench_disconnect(b);
    tcp_fini(&b->tcp);
    header_fini(&b->header);
    if (rc != 0) {
        return rc;
    }
    if (b->cli->options.is_json) {
        return bench_report_json(b);
    }
    bench_report_text(b);
    return 0;
}

static int bench_all(struct bench *b, const struct cli_options *options, int header, int end)
{
    int code;
    int rc = cli_start(b->cli, options);

    if (rc != 0) {
        return cli_fail(b->cli, rc, "bench");
    }
    b->loop = &b->cli->loop;
    b->clock = clock_system();
    rand_init(&b->rand, clock_random_seed(b->clock));
    rc = set_up(b, header, end);
    if (rc == 0) {
        rc = run_and_report(b);
    }
    if (rc != 0) {
        code = cli_fail(b->cli, rc, "bench%s%s", b->addr[0] != '\0' ? " " : "", b->addr);
    } else {
        code = b->cli->is_interrupted                                 ? CLI_INTERRUPTED
               : b->is_failed || b->error_count > 0 || b->missing > 0 ? CLI_FAILED
                                                                      : CLI_OK;
    }
    bench_frames_free(b);
    cli_stop(b->cli);
    return code;
}

/* Fill the options; ARGS_GO: they are sound. */
static enum args_result read_options(struct bench_options *o, struct bench_setup *setup, int argc,
                                     char **argv)
{
    struct bench_texts t = {"auto", "rocketmq", "auto", "first"};
    static const char *const modes[] = {"producer", "txn", "consumer"};
    const struct arg args[] = {
        {"what and where", NULL, NULL, NULL, ARG_HEADING},
        CLI_ARGS(setup->common),
        {"driver", "NAME", "rocketmq (escrowd too), redis, beanstalkd (rocketmq)", &t.driver,
         ARG_TEXT},
        {"header", "NAME",
         "json, rocketmq, msgpack, auto: msgpack for an\nescrowd, else json (auto)", &t.header,
         ARG_TEXT},
        {"topic", "NAME", "made when missing; Redis: the stream's key (Bench)", &o->topic,
         ARG_TEXT},
        {"queues", "N", "of the topic (what it has, else 4)", &o->queues, ARG_COUNT},
        {"group", "NAME", "producer or consumer group (bench)", &o->group, ARG_TEXT},
        {"load", NULL, NULL, NULL, ARG_HEADING},
        {"size", "BYTES", "body; random bytes (1k)", &o->size_bytes, ARG_SIZE},
        {"connections", "N", "(1)", &o->connections, ARG_COUNT},
        {"window", "N", "in flight per connection (1)", &o->window, ARG_COUNT},
        {"delay", "TIME", "ask for delivery so much later", &o->delay_ms, ARG_DURATION},
        {"duration", "TIME", "measured (10s)", &o->duration_ms, ARG_DURATION},
        {"warmup", "TIME", "before it, not counted (1s)", &o->warmup_ms, ARG_DURATION},
        {"count", "N", "this many instead, all counted", &o->count, ARG_COUNT},
        {"rate", "N", "per second, on a fixed schedule (as fast as it goes)", &o->rate, ARG_COUNT},
        {"transactions", NULL, NULL, NULL, ARG_HEADING},
        {"end", "HOW",
         "confirmed (escrowd), answered, oneway, auto: confirmed\nwith an escrowd, else oneway "
         "(auto)",
         &t.end, ARG_TEXT},
        {"end-batch", "N", "halves decided by one request, at most (64)", &o->end_batch, ARG_COUNT},
        {"rollback", "PERCENT", "(0)", &o->rollback_percent, ARG_COUNT},
        {"leave", "PERCENT", "not decided at all (0)", &o->leave_percent, ARG_COUNT},
        {"consumer", NULL, NULL, NULL, ARG_HEADING},
        {"from", "WHERE", "first or last (first)", &t.from, ARG_TEXT},
        {"pull", "N", "messages per request, at most (256)", &o->pull_max, ARG_COUNT},
        {"report", NULL, NULL, NULL, ARG_HEADING},
        {"server-pid", "PID", "also the processor time and memory of this process", &o->server_pid,
         ARG_COUNT},
        {"quiet", NULL, "no progress line", &o->is_quiet, ARG_FLAG},
        CLI_ARG_JSON(setup->common),
    };
    const struct arg_list list = {"bench producer|txn|consumer [OPTION]...", about, args,
                                  ARG_LIST_COUNT(args)};
    enum args_result parsed = args_parse(&list, &argc, argv);
    int mode = parsed == ARGS_GO && argc == 1 ? word_of(argv[0], modes, 3) : -1;

    if (parsed != ARGS_GO) {
        return parsed;
    }
    if (mode < 0) {
        return args_bad(&list, "expected producer, txn or consumer");
    }
    if (setup->common.access_key != NULL || setup->common.secret_key_file != NULL) {
        return args_bad(&list,
                        "bench does not sign its requests: measure a broker without acl.file");
    }
    if (setup->common.tls != NULL && strcmp(setup->common.tls, "off") != 0) {
        return args_bad(&list, "bench does not speak TLS: measure a broker that takes plain "
                               "connections");
    }
    o->mode = (enum bench_mode)mode;
    if (strcmp(t.driver, "rocketmq") != 0 && setup->common.addr == NULL) {
        return args_bad(&list, "--driver %.40s: --addr says where it is", t.driver);
    }
    return read_words(&list, &t, o, &setup->header, &setup->end);
}

int bench_main(int argc, char **argv)
{
    static struct bench b; /* large: not on the stack */
    static struct cli cli;
    struct bench_setup setup;
    enum args_result parsed;

    b.options = (struct bench_options){.topic = "Bench",
                                       .group = "bench",
                                       .size_bytes = 1024,
                                       .connections = 1,
                                       .window = 1,
                                       .duration_ms = 10000,
                                       .warmup_ms = 1000,
                                       .end_batch = 64,
                                       .pull_max = 256};
    cli_options_init(&setup.common);
    parsed = read_options(&b.options, &setup, argc, argv);
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    b.cli = &cli;
    return bench_all(&b, &setup.common, setup.header, setup.end);
}
