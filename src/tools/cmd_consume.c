/*
 * escrow consume: reads the queues of a topic in turn, one pull at a time. With --group it begins
 * where the group stands, and stores where it got to after what it printed was written: at least
 * once, as any consumer. It does not join the group.
 */
#include "core/base/mem.h"
#include "core/proto/codes.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CONSUME_QUEUES_MAX 4096
#define CONSUME_PAUSE_MS   200  /* --follow: between two rounds that brought nothing */
#define CONSUME_HOLD_MS    1000 /* the same, when there is one queue: the broker waits for us */

struct consume_queue {
    char addr[REMOTE_ADDR_MAX];
    int32_t id;
    int64_t next;
    int64_t stored; /* with --group: what the broker knows */
};

struct consume {
    struct cli cli;
    const char *topic;
    const char *group;
    const char *from;
    const char *tag;
    uint64_t count; /* 0 = no limit */
    bool is_follow;
    bool is_long;
    struct consume_queue *queues;
    size_t queue_count;
    uint64_t seen;
    bool is_held; /* this pull may wait */
    /* The pull under way. */
    struct consume_queue *queue;
    struct buf out;
    bool got_any;
};

/* ---- where to begin ---- */

static void queue_fields(struct header_writer *w, void *arg)
{
    const struct consume *c = arg;

    header_put_str(w, "topic", slice_str(c->topic));
    header_put_i64(w, "queueId", c->queue->id);
}

static void group_fields(struct header_writer *w, void *arg)
{
    const struct consume *c = arg;

    header_put_str(w, "consumerGroup", slice_str(c->group));
    queue_fields(w, arg);
}

static int on_offset(void *arg, struct header *header, struct slice body)
{
    struct consume *c = arg;

    (void)body;
    return header_get_i64(header, "offset", &c->queue->next);
}

static int begin_at(struct consume *c)
{
    struct cli_request req = {.addr = c->queue->addr, .fields_arg = c};
    int rc;

    c->queue->stored = -1;
    if (c->group != NULL) {
        req.code = REQUEST_QUERY_CONSUMER_OFFSET;
        req.fields = group_fields;
        rc = cli_call(&c->cli, &req, on_offset, c);
        if (rc == 0) {
            c->queue->stored = c->queue->next;
        }
        if (rc != ESCROW_ENOTFOUND) {
            return rc;
        }
    }
    if (slice_to_i64(slice_str(c->from), &c->queue->next)) {
        return 0;
    }
    req.code = strcmp(c->from, "last") == 0 ? REQUEST_GET_MAX_OFFSET : REQUEST_GET_MIN_OFFSET;
    req.fields = queue_fields;
    return cli_call(&c->cli, &req, on_offset, c);
}

static int find_queues(struct consume *c)
{
    const struct topic_route *route;
    int rc = cli_route(&c->cli, c->topic, false, &route);

    if (rc != 0) {
        return rc;
    }
    c->queues = mem_calloc(CONSUME_QUEUES_MAX, sizeof *c->queues);
    if (c->queues == NULL) {
        return ESCROW_ENOMEM;
    }
    for (size_t i = 0; i < route->target_count; i++) {
        const struct route_target *t = &route->targets[i];
        for (uint32_t q = 0; q < t->read_queues && c->queue_count < CONSUME_QUEUES_MAX; q++) {
            struct consume_queue *queue = &c->queues[c->queue_count];
            if (t->addr[0] != '\0' &&
                (c->cli.options.addr == NULL || strcmp(c->cli.options.addr, t->addr) == 0)) {
                memcpy(queue->addr, t->addr, sizeof queue->addr);
                queue->id = (int32_t)q;
                c->queue_count++;
            }
        }
    }
    for (size_t i = 0; rc == 0 && i < c->queue_count; i++) {
        c->queue = &c->queues[i];
        rc = begin_at(c);
    }
    return rc;
}

/* ---- pulls ---- */

static void pull_fields(struct header_writer *w, void *arg)
{
    const struct consume *c = arg;
    uint64_t left = c->count == 0 ? 256 : c->count - c->seen;

    header_put_str(w, "consumerGroup", slice_str(c->group != NULL ? c->group : "escrow-cli"));
    header_put_str(w, "topic", slice_str(c->topic));
    header_put_i64(w, "queueId", c->queue->id);
    header_put_i64(w, "queueOffset", c->queue->next);
    header_put_i64(w, "maxMsgNums", left < 256 ? (int64_t)left : 256);
    header_put_i64(w, "sysFlag", c->is_held ? 2 | 4 : 4);
    header_put_i64(w, "commitOffset", 0);
    header_put_i64(w, "suspendTimeoutMillis", CONSUME_HOLD_MS);
    header_put_str(w, "subscription", slice_str(c->tag != NULL ? c->tag : "*"));
    header_put_i64(w, "subVersion", 0);
    header_put_str(w, "expressionType", SLICE_LIT("TAG"));
}

static void show(struct consume *c, const struct record_view *view)
{
    struct json_writer w = json_writer_to(&c->out);

    c->seen++;
    if (c->cli.options.is_json) {
        out_message_json(&w, view);
        buf_append_u8(&c->out, '\n');
    } else if (c->is_long) {
        out_message_text(&c->out, view);
        buf_append_u8(&c->out, '\n');
    } else {
        out_message_body(&c->out, view);
    }
}

static int on_pulled(void *arg, struct header *header, struct slice body)
{
    struct consume *c = arg;
    struct record_walk walk = {body};
    struct record_view view;
    int64_t next;
    int rc = header_get_i64(header, "nextBeginOffset", &next);

    while (rc == 0 && (rc = record_walk_next(&walk, &view)) == 1) {
        rc = 0;
        show(c, &view);
        c->got_any = true;
        if (c->count != 0 && c->seen >= c->count) {
            next = view.f.queue_offset + 1;
            break;
        }
    }
    if (rc == 0) {
        c->got_any |= next != c->queue->next;
        c->queue->next = next;
    }
    return rc;
}

static int pull(struct consume *c)
{
    struct cli_request req = {.addr = c->queue->addr,
                              .code = REQUEST_PULL_MESSAGE,
                              .fields = pull_fields,
                              .fields_arg = c};
    int rc = cli_call_pull(&c->cli, &req, on_pulled, c);

    if (!out_flush(&c->out)) {
        return err_set(&c->cli.err, ESCROW_EIO, "standard output cannot be written");
    }
    return rc;
}

static void store_fields(struct header_writer *w, void *arg)
{
    const struct consume *c = arg;

    group_fields(w, arg);
    header_put_i64(w, "commitOffset", c->queue->next);
}

static int store_offset(struct consume *c)
{
    struct cli_request req = {.addr = c->queue->addr,
                              .code = REQUEST_UPDATE_CONSUMER_OFFSET,
                              .fields = store_fields,
                              .fields_arg = c};
    int rc;

    if (c->group == NULL || c->queue->next == c->queue->stored) {
        return 0;
    }
    if (!out_sync()) {
        return err_set(&c->cli.err, ESCROW_EIO, "standard output cannot be written");
    }
    rc = cli_call(&c->cli, &req, NULL, NULL);
    if (rc == 0) {
        c->queue->stored = c->queue->next;
    }
    return rc;
}

static bool is_over(const struct consume *c)
{
    return c->cli.is_interrupted || (c->count != 0 && c->seen >= c->count);
}

static int consume_all(struct consume *c)
{
    int rc = find_queues(c);

    while (rc == 0 && !is_over(c)) {
        c->got_any = false;
        for (size_t i = 0; rc == 0 && i < c->queue_count && !is_over(c); i++) {
            c->queue = &c->queues[i];
            c->is_held = c->is_follow && c->queue_count == 1;
            rc = pull(c);
            if (rc == 0) {
                rc = store_offset(c);
            }
        }
        if (rc == 0 && !c->got_any && !c->is_follow) {
            break;
        }
        if (rc == 0 && !c->got_any && c->queue_count != 1) {
            (void)fflush(stdout);                      /* main looks at it */
            (void)cli_wait(&c->cli, CONSUME_PAUSE_MS); /* a signal is seen by is_over */
        }
        if (c->is_follow) {
            (void)out_sync(); /* main looks at it */
        }
    }
    return c->cli.is_interrupted ? 0 : rc;
}

static int consume_run(struct consume *c, const struct cli_options *common)
{
    int rc = cli_start(&c->cli, common);
    int code = CLI_OK;

    if (rc != 0) {
        return cli_fail(&c->cli, rc, "consume");
    }
    buf_init(&c->out, 0);
    rc = consume_all(c);
    if (rc != 0) {
        code = cli_fail(&c->cli, rc, "consume %s", c->topic);
    } else if (c->cli.is_interrupted && !c->is_follow) {
        code = CLI_INTERRUPTED;
    }
    buf_fini(&c->out);
    mem_free(c->queues);
    cli_stop(&c->cli);
    return code;
}

int consume_main(int argc, char **argv)
{
    static struct consume c = {.from = "first"};
    struct cli_options common;
    const struct arg args[] = {
        {"from", "WHERE",
         "first, last, or an offset (first); with --group\nonly where the group has none", &c.from,
         ARG_TEXT},
        {"group", "NAME", "begin at the offsets of this group, and store them", &c.group, ARG_TEXT},
        {"tag", "EXPR", "only these: a tag, or \"a || b\"", &c.tag, ARG_TEXT},
        {"count", "N", "stop after so many", &c.count, ARG_COUNT},
        {"follow", NULL, "wait for more, until interrupted", &c.is_follow, ARG_FLAG},
        {"long", NULL, "all fields and properties, not only the body", &c.is_long, ARG_FLAG},
        CLI_ARGS(common),
        {"json", NULL, "one JSON object per line", &common.is_json, ARG_FLAG},
    };
    const struct arg_list list = {"consume TOPIC [OPTION]...",
                                  "Prints the messages of a topic, each body on a line, and ends "
                                  "at its end. It does not join the\n"
                                  "group of --group: do not use it beside running members.\n\n",
                                  args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int64_t offset;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO && argc != 1) {
        parsed = args_bad(&list, "expected one topic");
    }
    if (parsed == ARGS_GO && strcmp(c.from, "first") != 0 && strcmp(c.from, "last") != 0 &&
        !slice_to_i64(slice_str(c.from), &offset)) {
        parsed = args_bad(&list, "--from: first, last or an offset");
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    c.topic = argv[0];
    return consume_run(&c, &common);
}
