/* escrow topics: list, show, create. */
#include "core/base/limits.h"
#include "core/proto/body_lists.h"
#include "core/proto/body_route.h"
#include "core/proto/body_topic.h"
#include "core/proto/codes.h"
#include "core/proto/names.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct topics {
    struct cli cli;
    const char *topic;
    uint64_t queues;
    bool is_all;
    struct buf out; /* list */
    struct json_writer w;
};

/* ---- list ---- */

static bool is_internal(struct slice name)
{
    return name_topic_class(name) != TOPIC_NORMAL || slice_has_prefix(name, SLICE_LIT("%")) ||
           slice_has_prefix(name, SLICE_LIT("RMQ_SYS_"));
}

static void put_name(struct topics *t, struct slice name)
{
    if (!t->is_all && is_internal(name)) {
        return;
    }
    if (t->cli.options.is_json) {
        json_write_string(&t->w, name);
    } else {
        out_put_text(&t->out, name);
        buf_append_u8(&t->out, '\n');
    }
}

/* A name server's. */
static int on_names(void *arg, struct header *header, struct slice body)
{
    struct topics *t = arg;
    struct name_list names;
    int rc = name_list_decode(body, LIST_TOPICS, &names);

    (void)header;
    for (size_t i = 0; rc == 0 && i < names.count; i++) {
        put_name(t, names.names[i]);
    }
    if (rc == 0) {
        name_list_fini(&names);
    }
    return rc;
}

/* A broker's. */
static int on_table(void *arg, struct header *header, struct slice body)
{
    struct topics *t = arg;
    struct topic_table table;
    int rc = topic_table_decode(body, &table);

    (void)header;
    for (size_t i = 0; rc == 0 && i < table.topic_count; i++) {
        put_name(t, table.topics[i].name);
    }
    if (rc == 0) {
        topic_table_fini(&table);
    }
    return rc;
}

/* t->out collects lines, or one JSON array. */
static void begin_out(struct topics *t)
{
    buf_init(&t->out, 0);
    t->w = json_writer_to(&t->out);
    if (t->cli.options.is_json) {
        json_write_array_begin(&t->w);
    }
}

/* Returns rc, or what went wrong when it was 0. */
static int end_out(struct topics *t, int rc, bool is_wanted)
{
    if (t->cli.options.is_json) {
        json_write_array_end(&t->w);
        buf_append_u8(&t->out, '\n');
    }
    if (is_wanted && !out_flush(&t->out) && rc == 0) {
        rc = ESCROW_EIO;
    }
    buf_fini(&t->out);
    return rc;
}

static int list_topics(struct topics *t)
{
    bool is_one = t->cli.options.addr != NULL;
    struct cli_request req = {.addr = is_one ? t->cli.options.addr : router_server(&t->cli.router),
                              .code = is_one ? REQUEST_GET_ALL_TOPIC_CONFIG
                                             : REQUEST_GET_ALL_TOPIC_LIST_FROM_NAMESERVER};
    int rc;

    begin_out(t);
    rc = cli_call(&t->cli, &req, is_one ? on_table : on_names, t);
    return end_out(t, rc, rc == 0);
}

/* ---- show ---- */

struct queue_ask {
    const char *topic;
    int32_t queue;
    int64_t offset;
};

static void queue_fields(struct header_writer *w, void *arg)
{
    const struct queue_ask *ask = arg;

    header_put_str(w, "topic", slice_str(ask->topic));
    header_put_i64(w, "queueId", ask->queue);
}

static int on_offset(void *arg, struct header *header, struct slice body)
{
    struct queue_ask *ask = arg;

    (void)body;
    return header_get_i64(header, "offset", &ask->offset);
}

static int ask_offset(struct topics *t, const char *addr, int32_t code, int32_t queue,
                      int64_t *offset)
{
    struct queue_ask ask = {.topic = t->topic, .queue = queue};
    struct cli_request req = {
        .addr = addr, .code = code, .fields = queue_fields, .fields_arg = &ask};
    int rc = cli_call(&t->cli, &req, on_offset, &ask);

    *offset = ask.offset;
    return rc;
}

struct shown {
    struct out_table table;
    struct buf json;
    struct json_writer w;
};

static void show_row(struct topics *t, struct shown *s, const struct route_target *target,
                     const int64_t numbers[3])
{
    if (!t->cli.options.is_json) {
        out_cell_text(&s->table, slice_str(target->broker));
        out_cell_text(&s->table, slice_str(target->addr));
        for (int i = 0; i < 3; i++) {
            out_cell(&s->table, "%" PRId64, numbers[i]);
        }
        out_cell(&s->table, "%" PRId64, numbers[2] - numbers[1]);
        return;
    }
    json_write_object_begin(&s->w);
    json_put_string(&s->w, "broker", slice_str(target->broker));
    json_put_string(&s->w, "addr", slice_str(target->addr));
    json_put_i64(&s->w, "queue", numbers[0]);
    json_put_i64(&s->w, "min", numbers[1]);
    json_put_i64(&s->w, "max", numbers[2]);
    json_write_object_end(&s->w);
}

/* The queues of one broker. */
static int show_target(struct topics *t, struct shown *s, const struct route_target *target)
{
    uint32_t queues =
        target->read_queues > target->write_queues ? target->read_queues : target->write_queues;
    int rc = 0;

    for (uint32_t q = 0; rc == 0 && q < queues && target->addr[0] != '\0'; q++) {
        int64_t numbers[3] = {(int64_t)q, 0, 0};
        rc = ask_offset(t, target->addr, REQUEST_GET_MIN_OFFSET, (int32_t)q, &numbers[1]);
        if (rc == 0) {
            rc = ask_offset(t, target->addr, REQUEST_GET_MAX_OFFSET, (int32_t)q, &numbers[2]);
        }
        if (rc == 0) {
            show_row(t, s, target, numbers);
        }
    }
    return rc;
}

static int show_topic(struct topics *t)
{
    static const char *const heads[] = {"BROKER", "ADDRESS", "QUEUE", "MIN", "MAX", "MESSAGES"};
    const struct topic_route *route;
    struct route_target targets[ROUTER_BROKERS_MAX];
    size_t count = 0;
    struct shown s;
    int rc = cli_route(&t->cli, t->topic, false, &route);

    if (rc != 0) {
        return rc;
    }
    for (; count < route->target_count && count < ROUTER_BROKERS_MAX; count++) {
        targets[count] = route->targets[count]; /* the route may change while we ask */
    }
    out_table_init(&s.table, heads, 6, 0x3C);
    buf_init(&s.json, 0);
    s.w = json_writer_to(&s.json);
    json_write_array_begin(&s.w);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = show_target(t, &s, &targets[i]);
    }
    json_write_array_end(&s.w);
    buf_append_u8(&s.json, '\n');
    if (rc == 0 && t->cli.options.is_json) {
        rc = out_flush(&s.json) ? 0 : ESCROW_EIO;
    } else if (rc == 0) {
        out_table_print(&s.table);
    }
    buf_fini(&s.json);
    buf_fini(&s.table.cells);
    return rc;
}

/* ---- create ---- */

static void create_fields(struct header_writer *w, void *arg)
{
    const struct topics *t = arg;

    header_put_str(w, "topic", slice_str(t->topic));
    header_put_str(w, "defaultTopic", SLICE_LIT("TBW102"));
    header_put_i64(w, "readQueueNums", (int64_t)t->queues);
    header_put_i64(w, "writeQueueNums", (int64_t)t->queues);
    header_put_i64(w, "perm", PERM_READ | PERM_WRITE);
    header_put_str(w, "topicFilterType", SLICE_LIT("SINGLE_TAG"));
    header_put_i64(w, "topicSysFlag", 0);
    header_put_bool(w, "order", false);
}

static void put_created(struct topics *t, const char *broker, const char *addr)
{
    if (!t->cli.options.is_json) {
        buf_append_fmt(&t->out, "%s: %" PRIu64 " queues at %s (%s)\n", t->topic, t->queues, broker,
                       addr);
        return;
    }
    json_write_object_begin(&t->w);
    json_put_string(&t->w, "topic", slice_str(t->topic));
    json_put_string(&t->w, "broker", slice_str(broker));
    json_put_string(&t->w, "addr", slice_str(addr));
    json_put_i64(&t->w, "queues", (int64_t)t->queues);
    json_write_object_end(&t->w);
}

/* One broker after the other; those that have it are told, also when a later one refuses. */
static int create_topic(struct topics *t)
{
    struct cli_brokers brokers;
    int rc = cli_brokers(&t->cli, &brokers);
    bool is_any = false;

    begin_out(t);
    for (size_t i = 0; rc == 0 && i < brokers.count; i++) {
        struct cli_request req = {.addr = brokers.items[i].addr,
                                  .code = REQUEST_UPDATE_AND_CREATE_TOPIC,
                                  .fields = create_fields,
                                  .fields_arg = t};
        rc = cli_call(&t->cli, &req, NULL, NULL);
        if (rc == 0) {
            put_created(t, brokers.items[i].name, brokers.items[i].addr);
            is_any = true;
        }
    }
    return end_out(t, rc, is_any);
}

static int topics_run(struct topics *t, const struct cli_options *common,
                      int (*what)(struct topics *))
{
    int rc = cli_start(&t->cli, common);
    int code = CLI_OK;

    if (rc == 0) {
        rc = what(t);
    }
    if (rc != 0) {
        code = cli_fail(&t->cli, rc, "topics%s%s", t->topic != NULL ? " " : "",
                        t->topic != NULL ? t->topic : "");
    }
    cli_stop(&t->cli);
    return code;
}

int topics_main(int argc, char **argv)
{
    static struct topics t = {.queues = 4};
    struct cli_options common;
    const struct arg args[] = {
        {"queues", "N", "create: number of queues on each broker (4)", &t.queues, ARG_COUNT},
        {"all", NULL, "list: retry, dead-letter and system topics too", &t.is_all, ARG_FLAG},
        CLI_ARGS(common),
        CLI_ARG_JSON(common),
    };
    const struct arg_list list = {
        "topics [list | show TOPIC | create TOPIC] [OPTION]...",
        "Lists topics, shows the queues of one, makes one on every broker.\n\n", args,
        ARG_LIST_COUNT(args)};
    enum args_result parsed;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    if (t.queues == 0 || t.queues > QUEUES_PER_TOPIC_MAX) {
        (void)args_bad(&list, "--queues: 1 to %d", QUEUES_PER_TOPIC_MAX); /* always BAD */
        return CLI_USAGE;
    }
    if (argc == 0 || (argc == 1 && strcmp(argv[0], "list") == 0)) {
        return topics_run(&t, &common, list_topics);
    }
    t.topic = argv[1];
    if (argc == 2 && strcmp(argv[0], "show") == 0) {
        return topics_run(&t, &common, show_topic);
    }
    if (argc == 2 && strcmp(argv[0], "create") == 0) {
        return topics_run(&t, &common, create_topic);
    }
    (void)args_bad(&list, "expected list, show TOPIC or create TOPIC"); /* always BAD */
    return CLI_USAGE;
}
