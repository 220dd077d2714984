/* escrow groups: how far each consumer group is, and how far behind. */
#include "core/proto/body_inspect.h"
#include "core/proto/codes.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <inttypes.h>

struct groups {
    struct cli cli;
    struct out_table table;
    struct buf json;
    struct json_writer w;
    const char *broker;
    int64_t lag;
    uint64_t rows;
};

static void put_row(struct groups *g, const struct group_row *row)
{
    g->rows++;
    g->lag += row->lag;
    if (g->cli.options.is_json) {
        json_write_object_begin(&g->w);
        json_put_string(&g->w, "group", row->group);
        json_put_string(&g->w, "topic", row->topic);
        json_put_string(&g->w, "broker", slice_str(g->broker));
        json_put_i64(&g->w, "queue", row->queue_id);
        json_put_i64(&g->w, "committed", row->committed);
        json_put_i64(&g->w, "max", row->max);
        json_put_i64(&g->w, "lag", row->lag);
        json_put_i64(&g->w, "members", row->members);
        json_write_object_end(&g->w);
        return;
    }
    out_cell_text(&g->table, row->group);
    out_cell_text(&g->table, row->topic);
    out_cell_text(&g->table, slice_str(g->broker));
    out_cell(&g->table, "%d", row->queue_id);
    if (row->committed < 0) {
        out_cell(&g->table, "-");
    } else {
        out_cell(&g->table, "%" PRId64, row->committed);
    }
    out_cell(&g->table, "%" PRId64, row->max);
    out_cell(&g->table, "%" PRId64, row->lag);
    out_cell(&g->table, "%u", row->members);
}

static int on_groups(void *arg, struct header *header, struct slice body)
{
    struct groups *g = arg;
    struct list_reader reader;
    struct group_row row;
    int rc = list_groups_decode(body, &reader);

    (void)header;
    while (rc == 0 && list_groups_next(&reader, &row)) {
        put_row(g, &row);
    }
    return rc;
}

static int ask_all(struct groups *g, const char *group)
{
    struct cli_brokers brokers;
    struct buf body;
    int rc = cli_brokers(&g->cli, &brokers);

    buf_init(&body, 0);
    list_groups_request_encode(&body, slice_str(group));
    for (size_t i = 0; rc == 0 && i < brokers.count; i++) {
        struct cli_request req = {.addr = brokers.items[i].addr,
                                  .code = REQUEST_ESCROW_LIST_GROUPS,
                                  .body = buf_slice(&body)};
        g->broker = brokers.items[i].name;
        rc = cli_call(&g->cli, &req, on_groups, g);
    }
    buf_fini(&body);
    return rc;
}

static int groups_run(struct groups *g, const char *group)
{
    static const char *const heads[] = {"GROUP",     "TOPIC", "BROKER", "QUEUE",
                                        "COMMITTED", "MAX",   "LAG",    "MEMBERS"};
    int rc;

    out_table_init(&g->table, heads, 8, 0xF8);
    buf_init(&g->json, 0);
    g->w = json_writer_to(&g->json);
    json_write_array_begin(&g->w);
    rc = ask_all(g, group);
    json_write_array_end(&g->w);
    buf_append_u8(&g->json, '\n');
    if (rc == 0 && group != NULL && g->rows == 0) {
        rc = err_set(&g->cli.err, ESCROW_ENOTFOUND, "no such group; escrow groups lists all");
    } else if (rc == 0 && g->cli.options.is_json) {
        rc = out_flush(&g->json) ? 0 : ESCROW_EIO;
    } else if (rc == 0) {
        out_table_print(&g->table);
    }
    buf_fini(&g->table.cells);
    buf_fini(&g->json);
    return rc;
}

int groups_main(int argc, char **argv)
{
    static struct groups g;
    struct cli_options common;
    const struct arg args[] = {CLI_ARGS(common), CLI_ARG_JSON(common)};
    const struct arg_list list = {"groups [GROUP] [OPTION]...",
                                  "Consumer groups by queue: what they have stored as done, what "
                                  "is there, the lag between the two,\n"
                                  "and how many members are connected.\n\n",
                                  args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int code = CLI_OK;
    int rc;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO && argc > 1) {
        parsed = args_bad(&list, "expected at most one group");
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    rc = cli_start(&g.cli, &common);
    if (rc == 0) {
        rc = groups_run(&g, argc == 1 ? argv[0] : NULL);
    }
    if (rc != 0) {
        code = cli_fail(&g.cli, rc, "groups%s%s", argc == 1 ? " " : "", argc == 1 ? argv[0] : "");
    }
    cli_stop(&g.cli);
    return code;
}
