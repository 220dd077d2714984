/*
 * escrow produce: messages from arguments, from the lines of standard input, or from a file. One at
 * a time, each answered before the next, so that what was printed is durable; the first failure
 * ends it.
 */
#include "core/base/limits.h"
#include "core/io_uv/clock_system.h"
#include "core/proto/codes.h"
#include "core/proto/msgid.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "core/proto/tags.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct produce {
    struct cli cli;
    const char *topic;
    const char *key;
    const char *tag;
    const char *ordering_key;
    const char *deliver_at;
    uint64_t delay_ms;
    uint64_t delay_level;
    int64_t deliver_at_ms;
    const char *file;
    const char *group;
    struct arg_texts properties;
    bool is_half;
    bool is_quiet;
    struct uniq_key_gen keys;
    uint32_t next_queue;
    uint64_t sent;
    struct buf out;
    /* The message being sent. */
    struct send_request req;
    char id[MSGID_TEXT_MAX + 1];
    uint8_t props[PROPERTIES_LEN_MAX];
    const char *addr;
};

static int put_user_properties(struct produce *p, struct props_writer *w)
{
    for (size_t i = 0; i < p->properties.count; i++) {
        const char *text = p->properties.items[i];
        const char *equals = strchr(text, '=');
        struct slice name;

        if (equals == NULL) {
            return err_set(&p->cli.err, ESCROW_EINVAL, "--property %s: expected NAME=VALUE", text);
        }
        name = slice_of(text, (size_t)(equals - text));
        if (prop_is_reserved(name)) {
            return err_set(&p->cli.err, ESCROW_EINVAL, "--property %.*s: reserved",
                           SLICE_ARGS(name));
        }
        props_put(w, name, slice_str(equals + 1));
    }
    return 0;
}

static void put_if(struct props_writer *w, enum prop_id id, const char *value)
{
    if (value != NULL) {
        props_put(w, prop_name(id), slice_str(value));
    }
}

static int make_properties(struct produce *p)
{
    struct props_writer w;
    int rc;

    props_writer_init(&w, p->props, sizeof p->props);
    (void)uniq_key_next(&p->keys, loop_wall_ms(&p->cli.loop), p->id); /* its length, not needed */
    put_if(&w, PROP_UNIQ_KEY, p->id);
    put_if(&w, PROP_WAIT, "true");
    put_if(&w, PROP_KEYS, p->key);
    put_if(&w, PROP_TAGS, p->tag);
    put_if(&w, PROP_SHARDING_KEY, p->ordering_key);
    if (p->delay_level > 0) {
        props_put_i64(&w, prop_name(PROP_DELAY), (int64_t)p->delay_level);
    } else if (p->delay_ms > 0) {
        props_put_i64(&w, prop_name(PROP_TIMER_DELAY_MS), (int64_t)p->delay_ms);
    } else if (p->deliver_at_ms > 0) {
        props_put_i64(&w, prop_name(PROP_TIMER_DELIVER_MS), p->deliver_at_ms);
    }
    if (p->is_half) {
        put_if(&w, PROP_TRAN_MSG, "true");
        put_if(&w, PROP_PGROUP, p->group);
    }
    rc = put_user_properties(p, &w);
    if (rc == 0 && w.error != 0) {
        rc = err_set(&p->cli.err, w.error, "key, tag or property: empty, too long, or not text");
    }
    p->req.properties = slice_of(w.ptr, w.len);
    return rc;
}

/* Broker and queue: by the ordering key, else in turn over all queues of all brokers. */
static int pick_queue(struct produce *p)
{
    const struct topic_route *route;
    uint32_t total = 0;
    uint32_t number;
    int rc;

    if (p->cli.options.addr != NULL) {
        p->addr = p->cli.options.addr;
        p->req.queue_id = p->ordering_key == NULL ? -1 : 0;
        return 0;
    }
    rc = cli_route(&p->cli, p->topic, true, &route);
    for (size_t i = 0; rc == 0 && i < route->target_count; i++) {
        total += route->targets[i].addr[0] != '\0' ? route->targets[i].write_queues : 0;
    }
    if (rc != 0 || total == 0) {
        return rc != 0 ? rc : err_set(&p->cli.err, ESCROW_ENOROUTE, "no broker takes messages");
    }
    number = p->ordering_key != NULL ? (uint32_t)java_hash(slice_str(p->ordering_key)) & 0x7FFFFFFF
                                     : p->next_queue++;
    number %= total;
    for (size_t i = 0; i < route->target_count; i++) {
        const struct route_target *t = &route->targets[i];
        if (t->addr[0] == '\0') {
            continue;
        }
        if (number < t->write_queues) {
            p->addr = t->addr;
            p->req.queue_id = (int32_t)number;
            return 0;
        }
        number -= t->write_queues;
    }
    return ESCROW_ENOROUTE;
}

static void send_fields(struct header_writer *w, void *arg)
{
    const struct produce *p = arg;

    send_request_encode(w, &p->req, true);
}

static int on_sent(void *arg, struct header *header, struct slice body)
{
    struct produce *p = arg;
    struct send_answer answer;
    struct json_writer w = json_writer_to(&p->out);
    int rc = send_answer_decode(header, &answer);

    (void)body;
    if (rc != 0) {
        return rc;
    }
    p->sent++;
    if (p->cli.options.is_json) {
        json_write_object_begin(&w);
        json_put_string(&w, "id", answer.msg_id);
        json_put_string(&w, p->is_half ? "transactionId" : "uniqueKey", slice_str(p->id));
        json_put_string(&w, "topic", slice_str(p->topic));
        json_put_i64(&w, "queue", answer.queue_id);
        json_put_i64(&w, p->is_half ? "halfOffset" : "queueOffset", answer.queue_offset);
        json_write_object_end(&w);
        buf_append_u8(&p->out, '\n');
    } else if (p->is_half) {
        buf_append_fmt(&p->out, "half %s at %" PRId64 "; escrow decide commit %" PRId64 "\n", p->id,
                       answer.queue_offset, answer.queue_offset);
    } else if (!p->is_quiet) {
        buf_append_fmt(&p->out, "%.*s  %s/%d @%" PRId64 "\n", SLICE_ARGS(answer.msg_id), p->topic,
                       answer.queue_id, answer.queue_offset);
    }
    return 0;
}

static int send_one(struct produce *p, struct slice body)
{
    struct cli_request req = {
        .code = REQUEST_SEND_MESSAGE_V2, .fields = send_fields, .fields_arg = p, .body = body};
    int rc;

    send_request_init(&p->req);
    p->req.topic = slice_str(p->topic);
    p->req.producer_group = slice_str(p->group);
    p->req.born_ms = loop_wall_ms(&p->cli.loop);
    rc = make_properties(p);
    if (rc == 0) {
        rc = pick_queue(p);
    }
    if (rc == 0) {
        req.addr = p->addr;
        rc = cli_call(&p->cli, &req, on_sent, p);
    }
    if (rc == 0 && !out_flush(&p->out)) {
        rc = err_set(&p->cli.err, ESCROW_EIO, "standard output cannot be written");
    }
    return rc;
}

/* All of a stream, at most `max` bytes. */
static int read_all(struct produce *p, FILE *f, const char *name, struct buf *body)
{
    uint8_t *dst;
    size_t got;

    do {
        dst = buf_reserve(body, 65536);
        if (dst == NULL) {
            return err_set(&p->cli.err, ESCROW_ETOOBIG, "%s: a message has at most %u bytes", name,
                           MESSAGE_BODY_MAX);
        }
        got = fread(dst, 1, 65536, f);
        buf_commit(body, got);
    } while (got > 0);
    return ferror(f) == 0 ? 0 : err_set_errno(&p->cli.err, errno, "%s", name);
}

static int send_file(struct produce *p)
{
    bool is_stdin = strcmp(p->file, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(p->file, "re");
    struct buf body;
    int rc;

    if (f == NULL) {
        return err_set_errno(&p->cli.err, errno, "%s", p->file);
    }
    buf_init(&body, MESSAGE_BODY_MAX + 65536);
    rc = read_all(p, f, p->file, &body);
    if (!is_stdin) {
        (void)fclose(f); /* was only read */
    }
    if (rc == 0) {
        rc = send_one(p, buf_slice(&body));
    }
    buf_fini(&body);
    return rc;
}

/* More of standard input behind what `in` holds; *is_end when there is none. */
static int read_more(struct produce *p, struct buf *in, bool *is_end)
{
    uint8_t *dst = buf_reserve(in, 65536);
    ssize_t got;

    if (dst == NULL) {
        return err_set(&p->cli.err, ESCROW_ETOOBIG, "a line is too long");
    }
    got = read(STDIN_FILENO, dst, 65536);
    if (got < 0 && errno != EINTR) {
        return err_set_errno(&p->cli.err, errno, "standard input");
    }
    buf_commit(in, got > 0 ? (size_t)got : 0);
    *is_end = got == 0;
    return 0;
}

/* A message per line; empty lines are none. */
static int send_lines(struct produce *p)
{
    struct buf in;
    int rc = 0;
    bool is_end = false;

    buf_init(&in, MESSAGE_BODY_MAX + 65536);
    while (rc == 0 && !p->cli.is_interrupted && !(is_end && in.len == 0)) {
        const uint8_t *nl = in.len == 0 ? NULL : memchr(in.ptr, '\n', in.len);
        size_t len = nl != NULL ? (size_t)(nl - in.ptr) : in.len;

        if (nl == NULL && !is_end) {
            rc = read_more(p, &in, &is_end);
            continue;
        }
        rc = len > 0 ? send_one(p, slice_of(in.ptr, len)) : 0;
        buf_consume(&in, len + (nl != NULL));
    }
    buf_fini(&in);
    return rc;
}

static int produce_all(struct produce *p, int argc, char **argv)
{
    int rc = 0;

    if (p->file != NULL) {
        return send_file(p);
    }
    if (argc == 1) {
        return send_lines(p);
    }
    for (int i = 1; rc == 0 && i < argc; i++) {
        rc = send_one(p, slice_str(argv[i]));
    }
    return rc;
}

static int produce_run(struct produce *p, const struct cli_options *common, int argc, char **argv)
{
    static const uint8_t ip[4] = {127, 0, 0, 1};
    int rc = cli_start(&p->cli, common);
    int code = CLI_OK;

    if (rc != 0) {
        return cli_fail(&p->cli, rc, "produce");
    }
    uniq_key_init(&p->keys, ip, 4, (uint16_t)getpid(), (uint32_t)clock_random_seed(clock_system()));
    buf_init(&p->out, 0);
    rc = produce_all(p, argc, argv);
    if (rc != 0) {
        code = cli_fail(&p->cli, rc, "produce %s: message %" PRIu64, p->topic, p->sent + 1);
    }
    buf_fini(&p->out);
    cli_stop(&p->cli);
    return code;
}

/* A time of day in UTC, or milliseconds since 1970. */
static bool parse_time(const char *text, int64_t *ms)
{
    struct tm tm = {.tm_year = 0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (end != NULL && *end == '\0') {
        *ms = (int64_t)timegm(&tm) * 1000;
        return *ms > 0;
    }
    return slice_to_i64(slice_str(text), ms) && *ms > 0;
}

int produce_main(int argc, char **argv)
{
    static struct produce p = {.group = "escrow-cli"};
    struct cli_options common;
    const struct arg args[] = {
        {"key", "TEXT", "to look it up by (escrow message TOPIC KEY)", &p.key, ARG_TEXT},
        {"tag", "TEXT", "consumers can filter by it", &p.tag, ARG_TEXT},
        {"property", "NAME=VALUE", "may be repeated", &p.properties, ARG_TEXTS},
        {"ordering-key", "TEXT", "same key, same queue", &p.ordering_key, ARG_TEXT},
        {"delay", "TIME", "deliver it so much later: 500ms, 10s, 5m, 2h", &p.delay_ms,
         ARG_DURATION},
        {"delay-level", "N", "deliver it later, by the broker's table of levels", &p.delay_level,
         ARG_COUNT},
        {"deliver-at", "TIME", "deliver it then: 2026-12-31T23:59:00Z, or ms since 1970",
         &p.deliver_at, ARG_TEXT},
        {"file", "FILE", "its content is the message; - is standard input", &p.file, ARG_TEXT},
        {"half", NULL, "hold it until escrow decide says commit or rollback", &p.is_half, ARG_FLAG},
        {"group", "NAME", "producer group (escrow-cli)", &p.group, ARG_TEXT},
        {"quiet", NULL, "print nothing for a message that was stored", &p.is_quiet, ARG_FLAG},
        CLI_ARGS(common),
        {"json", NULL, "one JSON object per line", &common.is_json, ARG_FLAG},
    };
    const struct arg_list list = {"produce TOPIC [BODY...] [OPTION]...",
                                  "Sends each BODY as a message; without BODY, each line of "
                                  "standard input. Prints the id, queue\n"
                                  "and offset of each, which is then on the broker's disk.\n\n",
                                  args, ARG_LIST_COUNT(args)};
    enum args_result parsed;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO && argc < 1) {
        parsed = args_bad(&list, "which topic?");
    }
    if (parsed == ARGS_GO && p.file != NULL && argc > 1) {
        parsed = args_bad(&list, "--file and BODY: one of them");
    }
    if (parsed == ARGS_GO && (p.delay_ms > 0) + (p.delay_level > 0) + (p.deliver_at != NULL) > 1) {
        parsed = args_bad(&list, "--delay, --delay-level and --deliver-at: one of them");
    }
    if (parsed == ARGS_GO && p.deliver_at != NULL && !parse_time(p.deliver_at, &p.deliver_at_ms)) {
        parsed = args_bad(&list, "--deliver-at %s: expected 2026-12-31T23:59:00Z, or ms since 1970",
                          p.deliver_at);
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    p.topic = argv[0];
    return produce_run(&p, &common, argc, argv);
}
