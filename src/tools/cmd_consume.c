/*
 * escrow consume: reads the queues of a topic in turn, one pull at a time. With --group it joins
 * the group, takes its share of the queues (of the group's retry topic too), begins where the group
 * stands, and stores where it got to after what it printed was written: at least once, as any
 * consumer. Without, it reads all queues and leaves no trace.
 */
#include "core/base/mem.h"
#include "core/proto/codes.h"
#include "core/proto/names.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/member.h"
#include "src/tools/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CONSUME_QUEUES_MAX 4096
#define CONSUME_PAUSE_MS   200   /* between two rounds that brought nothing, or that failed */
#define CONSUME_HOLD_MS    1000  /* the first, with one queue: the broker waits for us */
#define CONSUME_ASK_MS     30000 /* without --follow: for so long it asks again when told to */

struct consume_topic {
    const char *name;
    size_t queue_count; /* 0 = not found yet */
};

struct consume_queue {
    char addr[REMOTE_ADDR_MAX];
    const struct consume_topic *topic;
    size_t index; /* among all queues of the topic: brokers by name, then ids */
    bool is_mine;
    int32_t id;
    int64_t next;
    int64_t stored; /* with --group: what the broker knows */
};

struct consume {
    struct cli cli;
    struct member member;           /* with --group */
    struct consume_topic topics[2]; /* the second: the group's retry topic */
    struct name_buf retry_name;
    int64_t beat_ms; /* when the last heartbeat was sent */
    const char *group;
    const char *from;
    const char *tag;
    const char *sql;
    uint64_t count; /* 0 = no limit */
    bool is_follow;
    bool is_long;
    struct consume_queue *queues;
    size_t queue_count;
    uint64_t seen;
    bool is_held;       /* this pull may wait */
    int64_t failing_ms; /* since when, on the loop's clock; 0: the last round went well */
    /* The pull under way. */
    struct consume_queue *queue;
    struct buf out;
    bool got_any;
};

/* ---- where to begin ---- */

static void queue_fields(struct header_writer *w, void *arg)
{
    const struct consume *c = arg;

    header_put_str(w, "topic", slice_str(c->queue->topic->name));
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

/*
 * All queues of the topic, in the order of which members take their shares. A member with --addr
 * reads that broker alone, but its share is one of the queues of all of them.
 */
static int find_queues(struct consume *c, struct consume_topic *topic)
{
    const struct topic_route *route;
    int rc = c->group != NULL ? cli_route_of_all(&c->cli, topic->name, false, &route)
                              : cli_route(&c->cli, topic->name, false, &route);

    for (size_t i = 0; rc == 0 && i < route->target_count; i++) {
        const struct route_target *t = &route->targets[i];
        for (uint32_t q = 0; q < t->read_queues && c->queue_count < CONSUME_QUEUES_MAX; q++) {
            struct consume_queue *queue = &c->queues[c->queue_count];
            size_t index = topic->queue_count++;
            if (t->addr[0] != '\0' &&
                (c->cli.options.addr == NULL || strcmp(c->cli.options.addr, t->addr) == 0)) {
                *queue = (struct consume_queue){.topic = topic, .index = index, .id = (int32_t)q};
                memcpy(queue->addr, t->addr, sizeof queue->addr);
                c->queue_count++;
            }
        }
    }
    return rc;
}

/* ---- the group ---- */

/* Is it the first queue of its broker? */
static bool is_first_there(const struct consume *c, size_t i)
{
    size_t k = 0;

    while (strcmp(c->queues[k].addr, c->queues[i].addr) != 0) {
        k++;
    }
    return k == i;
}

static int beat(struct consume *c)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->queue_count; i++) {
        if (is_first_there(c, i)) {
            rc = member_beat(&c->member, c->queues[i].addr);
        }
    }
    loop_time_forget(&c->cli.loop);
    c->beat_ms = loop_mono_ms(&c->cli.loop);
    return rc;
}

static void leave(struct consume *c)
{
    for (size_t i = 0; i < c->queue_count && !c->cli.is_interrupted; i++) {
        if (is_first_there(c, i)) {
            member_leave(&c->member, c->queues[i].addr);
        }
    }
}

/* Our queues of one topic: those that are new to us begin where the group stands. */
static int share_topic(struct consume *c, const struct consume_topic *topic)
{
    struct consume_queue *was = c->queue;
    struct allocation share;
    int rc = member_share(&c->member, c->queues[0].addr, topic->queue_count, &share);

    for (size_t i = 0; rc == 0 && i < c->queue_count; i++) {
        struct consume_queue *q = &c->queues[i];
        bool is_mine = q->index >= share.first && q->index - share.first < share.count;
        if (q->topic != topic) {
            continue;
        }
        if (is_mine && !q->is_mine) {
            c->queue = q;
            rc = begin_at(c);
        }
        q->is_mine = is_mine;
    }
    c->queue = was;
    return rc;
}

/* Heartbeats go first: a broker that heard of us has the retry topic, and names us as a member. */
static int rebalance(struct consume *c)
{
    int rc = beat(c);

    c->member.has_changed = false;
    if (rc == 0 && c->topics[1].queue_count == 0) {
        rc = find_queues(c, &c->topics[1]);
        rc = rc == ESCROW_ENOROUTE ? 0 : rc; /* nothing was retried so far */
    }
    for (size_t i = 0; rc == 0 && i < 2; i++) {
        rc = share_topic(c, &c->topics[i]);
    }
    return rc;
}

static bool is_rebalance_due(struct consume *c)
{
    return c->group != NULL && (c->member.has_changed || c->beat_ms == 0 ||
                                loop_mono_ms(&c->cli.loop) - c->beat_ms >= MEMBER_BEAT_MS);
}

static int begin(struct consume *c)
{
    int rc;

    c->queues = mem_calloc(CONSUME_QUEUES_MAX, sizeof *c->queues);
    if (c->queues == NULL) {
        return ESCROW_ENOMEM;
    }
    rc = find_queues(c, &c->topics[0]);
    if (rc == 0 && c->queue_count == 0) {
        rc = err_set(&c->cli.err, ESCROW_ENOROUTE, "no broker serves it");
    }
    for (size_t i = 0; rc == 0 && c->group == NULL && i < c->queue_count; i++) {
        c->queue = &c->queues[i];
        c->queue->is_mine = true;
        rc = begin_at(c);
    }
    return rc;
}

/* ---- pulls ---- */

static const char *expression_of(const struct consume *c)
{
    if (c->sql != NULL) {
        return c->sql;
    }
    return c->tag != NULL ? c->tag : "*";
}

static const char *expression_type_of(const struct consume *c)
{
    return c->sql != NULL ? "SQL92" : "TAG";
}

static void pull_fields(struct header_writer *w, void *arg)
{
    const struct consume *c = arg;
    uint64_t left = c->count == 0 ? 256 : c->count - c->seen;

    header_put_str(w, "consumerGroup", slice_str(c->group != NULL ? c->group : "escrow-cli"));
    header_put_str(w, "topic", slice_str(c->queue->topic->name));
    header_put_i64(w, "queueId", c->queue->id);
    header_put_i64(w, "queueOffset", c->queue->next);
    header_put_i64(w, "maxMsgNums", left < 256 ? (int64_t)left : 256);
    header_put_i64(w, "sysFlag", c->is_held ? 2 | 4 : 4);
    header_put_i64(w, "commitOffset", 0);
    header_put_i64(w, "suspendTimeoutMillis", CONSUME_HOLD_MS);
    header_put_str(w, "subscription", slice_str(expression_of(c)));
    header_put_i64(w, "subVersion", 0);
    header_put_str(w, "expressionType", slice_str(expression_type_of(c)));
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
    uint64_t seen = c->seen;
    int rc = cli_call_pull(&c->cli, &req, on_pulled, c);

    if (rc == 0 && c->group != NULL && c->member.has_changed) {
        rc = rebalance(c);
        if (!c->queue->is_mine) { /* another member's meanwhile: it shows them */
            buf_clear(&c->out);
            c->seen = seen;
        }
    }
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

    if (c->group == NULL || !c->queue->is_mine || c->queue->next == c->queue->stored) {
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

static size_t count_mine(const struct consume *c)
{
    size_t count = 0;

    for (size_t i = 0; i < c->queue_count; i++) {
        count += c->queues[i].is_mine ? 1 : 0;
    }
    return count;
}

/* One pull of each queue that is ours. */
static int consume_round(struct consume *c)
{
    int rc = is_rebalance_due(c) ? rebalance(c) : 0;

    c->is_held = c->is_follow && count_mine(c) == 1;
    for (size_t i = 0; rc == 0 && i < c->queue_count && !is_over(c); i++) {
        c->queue = &c->queues[i];
        if (c->queue->is_mine) {
            rc = pull(c);
            if (rc == 0) {
                rc = store_offset(c);
            }
        }
    }
    return rc;
}

/*
 * Does an error pass? With --follow a broker that is restarted, or out of reach, is waited for.
 * Without, only one that says to ask again (a queue file is being rebuilt), and not for ever.
 */
static bool is_waited_for(struct consume *c, int error)
{
    enum escrow_class class_ = escrow_error_class(error);

    loop_time_forget(&c->cli.loop);
    if (c->failing_ms == 0) {
        c->failing_ms = loop_mono_ms(&c->cli.loop);
    }
    if (c->is_follow) {
        return error != ESCROW_ENOMEM &&
               (class_ == ESCROW_CLASS_RETRY || class_ == ESCROW_CLASS_UNKNOWN);
    }
    return error == ESCROW_ELIMIT && loop_mono_ms(&c->cli.loop) - c->failing_ms < CONSUME_ASK_MS;
}

/* After a round: an error that passes is said once, and is none. */
static int settle(struct consume *c, int rc)
{
    bool is_first = c->failing_ms == 0;

    if (rc == 0 || is_over(c) || !is_waited_for(c, rc)) {
        if (rc == 0 && !is_first) {
            (void)fprintf(stderr, "escrow: consume %s: it goes on\n", c->topics[0].name);
            c->failing_ms = 0;
        }
        return rc;
    }
    if (is_first) {
        (void)cli_fail(&c->cli, rc, "consume %s: waiting until this is over", c->topics[0].name);
    }
    c->beat_ms = 0; /* one that was restarted does not know us */
    (void)cli_wait(&c->cli, CONSUME_PAUSE_MS);
    c->got_any = true; /* nobody has said that there is nothing */
    return 0;
}

static int consume_all(struct consume *c)
{
    int rc = begin(c);

    while (rc == 0 && !is_over(c)) {
        c->got_any = false;
        rc = settle(c, consume_round(c));
        if (rc == 0 && !c->got_any && !c->is_follow && !c->member.has_changed) {
            break;
        }
        if (rc == 0 && !c->got_any && !c->is_held) {
            (void)fflush(stdout);                      /* main looks at it */
            (void)cli_wait(&c->cli, CONSUME_PAUSE_MS); /* a signal is seen by is_over */
        }
        if (c->is_follow) {
            (void)out_sync(); /* main looks at it */
        }
    }
    if (rc == 0 && c->group != NULL) {
        leave(c);
    }
    return c->cli.is_interrupted ? 0 : rc;
}

static int consume_run(struct consume *c, const struct cli_options *common)
{
    int code = CLI_OK;
    int rc;

    if (c->group != NULL) {
        member_init(&c->member, &c->cli, c->group);
        c->member.topic = c->topics[0].name;
        c->member.expression = expression_of(c);
        c->member.expression_type = expression_type_of(c);
        c->member.from_last = strcmp(c->from, "last") == 0;
        c->topics[1].name = c->retry_name.text;
    }
    rc = cli_start(&c->cli, common);
    if (rc != 0) {
        return cli_fail(&c->cli, rc, "consume");
    }
    buf_init(&c->out, 0);
    rc = consume_all(c);
    if (rc != 0) {
        code = cli_fail(&c->cli, rc, "consume %s", c->topics[0].name);
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
        {"group", "NAME",
         "join this group: share the queues with its other\nmembers, begin at its offsets, and "
         "store them",
         &c.group, ARG_TEXT},
        {"tag", "EXPR", "only these: a tag, or \"a || b\"", &c.tag, ARG_TEXT},
        {"sql", "EXPR", "only those whose properties make it true:\n\"color = 'red' AND n > 5\"",
         &c.sql, ARG_TEXT},
        {"count", "N", "stop after so many", &c.count, ARG_COUNT},
        {"follow", NULL, "wait for more, until interrupted", &c.is_follow, ARG_FLAG},
        {"long", NULL, "all fields and properties, not only the body", &c.is_long, ARG_FLAG},
        CLI_ARGS(common),
        {"json", NULL, "one JSON object per line", &common.is_json, ARG_FLAG},
    };
    const struct arg_list list = {"consume TOPIC [OPTION]...",
                                  "Prints the messages of a topic, each body on a line, and ends "
                                  "at its end. With --group it is\n"
                                  "a member of the group while it runs: the others, which must "
                                  "read the same topic, get what\n"
                                  "is not in its share of the queues.\n\n",
                                  args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int64_t offset;

    cli_options_init(&common);
    c.count = UINT64_MAX;
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO && argc != 1) {
        parsed = args_bad(&list, "expected one topic");
    }
    if (parsed == ARGS_GO && c.count == 0) {
        parsed = args_bad(&list, "--count: at least 1; without it, all");
    }
    c.count = c.count == UINT64_MAX ? 0 : c.count; /* 0: all */
    if (parsed == ARGS_GO && strcmp(c.from, "first") != 0 && strcmp(c.from, "last") != 0 &&
        (!slice_to_i64(slice_str(c.from), &offset) || offset < 0)) {
        parsed = args_bad(&list, "--from: first, last or an offset, which is not negative");
    }
    if (parsed == ARGS_GO && c.group != NULL &&
        name_retry_topic(slice_str(c.group), &c.retry_name) != 0) {
        parsed = args_bad(&list, "--group: '%.60s' is not a valid name", c.group);
    }
    if (parsed == ARGS_GO && c.tag != NULL && c.sql != NULL) {
        parsed = args_bad(&list, "--tag and --sql do not go together");
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    c.topics[0].name = argv[0];
    return consume_run(&c, &common);
}
