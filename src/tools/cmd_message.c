/* escrow message: look one up by its id, or by topic and key. */
#include "core/io_uv/tcp.h"
#include "core/proto/codes.h"
#include "core/proto/msgid.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <stdio.h>
#include <string.h>

struct message {
    struct cli cli;
    const char *topic;
    const char *key;
    struct record_host host; /* of the id */
    int64_t offset;
    struct buf out;
    uint64_t found;
};

static int on_records(void *arg, struct header *header, struct slice body)
{
    struct message *m = arg;
    struct record_walk walk = {body};
    struct record_view view;
    int rc;

    (void)header;
    while ((rc = record_walk_next(&walk, &view)) == 1) {
        struct json_writer w = json_writer_to(&m->out);
        if (m->cli.options.is_json) {
            out_message_json(&w, &view);
            buf_append_u8(&m->out, '\n');
        } else {
            buf_append_str(&m->out, m->found > 0 ? "\n" : "");
            out_message_text(&m->out, &view);
        }
        m->found++;
    }
    return rc;
}

static void id_fields(struct header_writer *w, void *arg)
{
    const struct message *m = arg;

    header_put_i64(w, "offset", m->offset);
}

static int by_id(struct message *m)
{
    char addr[TCP_ADDR_TEXT_MAX];
    struct tcp_addr tcp = {.ip_len = 0};
    struct cli_request req = {
        .addr = addr, .code = REQUEST_VIEW_MESSAGE_BY_ID, .fields = id_fields, .fields_arg = m};

    memcpy(tcp.ip, m->host.ip, sizeof tcp.ip);
    tcp.ip_len = m->host.ip_len;
    tcp.port = m->host.port;
    (void)tcp_addr_format(&tcp, addr, sizeof addr); /* returns addr */
    if (m->cli.options.addr != NULL) {
        req.addr = m->cli.options.addr;
    }
    return cli_call(&m->cli, &req, on_records, m);
}

static void key_fields(struct header_writer *w, void *arg)
{
    const struct message *m = arg;

    header_put_str(w, "topic", slice_str(m->topic));
    header_put_str(w, "key", slice_str(m->key));
    header_put_i64(w, "maxNum", 64);
    header_put_i64(w, "beginTimestamp", 0);
    header_put_i64(w, "endTimestamp", INT64_MAX);
}

static int by_key(struct message *m)
{
    struct cli_brokers brokers;
    int rc = cli_brokers(&m->cli, &brokers);

    for (size_t i = 0; rc == 0 && i < brokers.count; i++) {
        struct cli_request req = {.addr = brokers.items[i].addr,
                                  .code = REQUEST_QUERY_MESSAGE,
                                  .fields = key_fields,
                                  .fields_arg = m};
        rc = cli_call(&m->cli, &req, on_records, m);
        rc = rc == ESCROW_ENOTFOUND ? 0 : rc; /* another broker may have it */
    }
    if (rc == 0 && m->found == 0) {
        rc = err_set(&m->cli.err, ESCROW_ENOTFOUND, "no message of %s has the key %s", m->topic,
                     m->key);
    }
    return rc;
}

int message_main(int argc, char **argv)
{
    static struct message m;
    struct cli_options common;
    const struct arg args[] = {
        CLI_ARGS(common), {"json", NULL, "one JSON object per line", &common.is_json, ARG_FLAG}};
    const struct arg_list list = {
        "message ID | message TOPIC KEY [OPTION]...",
        "Shows a message by its id, or those of a topic with a key or unique key, newest first: "
        "fields,\n"
        "properties, body. What a terminal could obey is shown as \\xNN.\n\n",
        args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int code = CLI_OK;
    int rc;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO && argc != 1 && argc != 2) {
        parsed = args_bad(&list, "expected an id, or topic and key");
    }
    if (parsed == ARGS_GO && argc == 1 &&
        msgid_decode(slice_str(argv[0]), &m.host, &m.offset) != 0) {
        parsed = args_bad(&list,
                          "'%.60s' is not a message id (32 or 56 hex digits, as produce prints it)",
                          argv[0]);
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    m.topic = argv[0];
    m.key = argc == 2 ? argv[1] : NULL;
    buf_init(&m.out, 0);
    rc = cli_start(&m.cli, &common);
    if (rc == 0) {
        rc = m.key == NULL ? by_id(&m) : by_key(&m);
    }
    if (rc == 0 && !out_flush(&m.out)) {
        rc = err_set(&m.cli.err, ESCROW_EIO, "standard output cannot be written");
    }
    if (rc != 0) {
        code = cli_fail(&m.cli, rc, "message %s", argv[0]);
    }
    buf_fini(&m.out);
    cli_stop(&m.cli);
    return code;
}
