/*
 * escrow status: every metric of every broker, for people, as JSON, or in Prometheus' text format.
 */
#include "core/proto/body_inspect.h"
#include "core/proto/codes.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <inttypes.h>

struct status {
    struct cli cli;
    bool is_prometheus;
    bool is_first; /* broker: help lines are written once */
    const char *broker;
    struct buf out;
    struct out_table table;
    struct json_writer w;
};

/* Letters, digits and '_' as they are; anything else becomes '_'. */
static void put_metric_name(struct buf *out, struct slice name)
{
    buf_append_str(out, slice_has_prefix(name, SLICE_LIT("escrow_")) ? "" : "escrow_");
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        buf_append_u8(out, is_plain ? c : '_');
    }
}

static void put_prometheus(struct status *s, const struct metric_row *row)
{
    if (s->is_first) {
        buf_append_str(&s->out, "# HELP ");
        put_metric_name(&s->out, row->name);
        buf_append_str(&s->out, " ");
        out_put_text(&s->out, row->help);
        buf_append_str(&s->out, "\n# TYPE ");
        put_metric_name(&s->out, row->name);
        buf_append_str(&s->out, row->kind == METRIC_COUNTER ? " counter\n" : " gauge\n");
    }
    put_metric_name(&s->out, row->name);
    buf_append_str(&s->out, "{broker=");
    json_append_quoted(&s->out, slice_str(s->broker));
    buf_append_fmt(&s->out, "} %" PRId64 "\n", row->value);
}

static int on_status(void *arg, struct header *header, struct slice body)
{
    struct status *s = arg;
    struct list_reader reader;
    struct metric_row row;
    int rc = status_decode(body, &reader);

    (void)header;
    while (rc == 0 && status_next(&reader, &row)) {
        if (s->is_prometheus) {
            put_prometheus(s, &row);
        } else if (s->cli.options.is_json) {
            json_write_key_slice(&s->w, row.name);
            json_write_i64(&s->w, row.value);
        } else {
            out_cell_text(&s->table, slice_str(s->broker));
            out_cell_text(&s->table, row.name);
            out_cell(&s->table, "%" PRId64, row.value);
            out_cell_text(&s->table, row.help);
        }
    }
    return rc;
}

static int ask_all(struct status *s)
{
    struct cli_brokers brokers;
    int rc = cli_brokers(&s->cli, &brokers);

    json_write_object_begin(&s->w);
    for (size_t i = 0; rc == 0 && i < brokers.count; i++) {
        struct cli_request req = {.addr = brokers.items[i].addr, .code = REQUEST_ESCROW_STATUS};
        s->broker = brokers.items[i].name;
        s->is_first = i == 0;
        json_write_key(&s->w, s->broker);
        json_write_object_begin(&s->w);
        rc = cli_call(&s->cli, &req, on_status, s);
        json_write_object_end(&s->w);
    }
    json_write_object_end(&s->w);
    return rc;
}

static int status_run(struct status *s)
{
    static const char *const heads[] = {"BROKER", "METRIC", "VALUE", "WHAT"};
    struct buf json;
    int rc;

    buf_init(&s->out, 0);
    buf_init(&json, 0);
    s->w = json_writer_to(&json);
    out_table_init(&s->table, heads, 4, 0x4);
    rc = ask_all(s);
    buf_append_u8(&json, '\n');
    if (rc == 0 && s->is_prometheus) {
        rc = out_flush(&s->out) ? 0 : ESCROW_EIO;
    } else if (rc == 0 && s->cli.options.is_json) {
        rc = out_flush(&json) ? 0 : ESCROW_EIO;
    } else if (rc == 0) {
        out_table_print(&s->table);
    }
    buf_fini(&s->table.cells);
    buf_fini(&json);
    buf_fini(&s->out);
    return rc;
}

int status_main(int argc, char **argv)
{
    static struct status s;
    struct cli_options common;
    const struct arg args[] = {
        {"prometheus", NULL, "Prometheus' text format", &s.is_prometheus, ARG_FLAG},
        CLI_ARGS(common),
        CLI_ARG_JSON(common),
    };
    const struct arg_list list = {"status [OPTION]...", "Counters and gauges of every broker.\n\n",
                                  args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int code = CLI_OK;
    int rc;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO && argc > 0) {
        parsed = args_bad(&list, "unexpected argument '%.80s'", argv[0]);
    }
    if (parsed == ARGS_GO && s.is_prometheus && common.is_json) {
        parsed = args_bad(&list, "--json or --prometheus, not both");
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    rc = cli_start(&s.cli, &common);
    if (rc == 0) {
        rc = status_run(&s);
    }
    if (rc != 0) {
        code = cli_fail(&s.cli, rc, "status");
    }
    cli_stop(&s.cli);
    return code;
}
