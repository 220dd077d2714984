/*
 * escrow transactions: the undecided halves, page by page, broker by broker.
 */
#include "core/base/limits.h"
#include "core/proto/body_inspect.h"
#include "core/proto/codes.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"
#include "txn/half.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define DATABASES_MAX     8 /* that are told apart in what is said about them */
#define DATABASE_TEXT_MAX 128

/* Halves that whoever was asked can never know, by the database that they name. */
struct not_mine {
    uint64_t count;
    char databases[DATABASES_MAX][DATABASE_TEXT_MAX]; /* "" ends it */
};

struct transactions {
    struct cli cli;
    const char *state;
    const char *group;
    uint64_t older_ms;
    uint64_t limit;
    int64_t now_ms; /* on the clock of the broker that is asked: every time in its rows is */
    const char *broker;
    uint64_t rows;
    uint64_t cursor;
    bool has_more;
    struct not_mine not_mine;
    struct out_table table;
    struct buf json;
    struct json_writer w;
};

/* A row may have come after the broker told its time. */
static int64_t age_ms(const struct transactions *t, const struct list_txn_row *row)
{
    return row->born_ms < t->now_ms ? t->now_ms - row->born_ms : 0;
}

static void note_not_mine(struct not_mine *n, struct slice database)
{
    n->count++;
    if (database.len == 0 || database.len >= DATABASE_TEXT_MAX) {
        return;
    }
    for (size_t i = 0; i < DATABASES_MAX; i++) {
        if (n->databases[i][0] == '\0') {
            (void)slice_to_cstr(database, n->databases[i], DATABASE_TEXT_MAX);
        }
        if (slice_eq_str(database, n->databases[i])) {
            return;
        }
    }
}

/*
 * "system/timeline/name" as the arguments of a call, and nothing else: it was in a message, and is
 * shown to somebody who copies it. false: it cannot be.
 */
static bool lineage_args(const char *database, struct buf *out)
{
    static const char digits[] = "0123456789";
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t system = strspn(database, digits);
    size_t timeline = database[system] == '/' ? strspn(database + system + 1, digits) : 0;
    size_t end = system + 1 + timeline; /* of the two numbers */

    if (system == 0 || timeline == 0 || database[end] != '/' || database[end + 1] == '\0' ||
        database[end + 1 + strspn(database + end + 1, plain)] != '\0') {
        return false;
    }
    buf_append_fmt(out, "'%.*s', %.*s, '%s'", (int)system, database, (int)timeline,
                   database + system + 1, database + end + 1);
    return true;
}

/* A person has to do something about them: nobody else ever will. */
static int explain_not_mine(const struct not_mine *n)
{
    struct buf args;
    struct buf text;
    bool is_out;

    if (n->count == 0) {
        return 0;
    }
    buf_init(&args, 0);
    buf_init(&text, 0);
    buf_append_fmt(&text,
                   "\nnot mine (%" PRIu64
                   "): their database is not the one that the relay which was "
                   "asked answers for, or they name none,\nand their producers are away. They stay "
                   "undecided until a producer is back, or somebody decides (escrow decide).\n",
                   n->count);
    for (size_t i = 0; i < DATABASES_MAX && n->databases[i][0] != '\0'; i++) {
        buf_clear(&args);
        if (lineage_args(n->databases[i], &args)) {
            buf_append_str(&text, "If the relay's database is that one, restored, promoted or "
                                  "renamed, run in it: SELECT escrow.lineage_add(");
            buf_append_slice(&text, buf_slice(&args));
            buf_append_str(&text, ");\n");
        }
    }
    is_out = out_flush(&text);
    buf_fini(&text);
    buf_fini(&args);
    return is_out ? 0 : ESCROW_EIO;
}

static void put_json(struct transactions *t, const struct list_txn_row *row)
{
    json_write_object_begin(&t->w);
    json_put_string(&t->w, "transactionId", row->transaction_id);
    json_put_i64(&t->w, "offset", row->offset);
    json_put_string(&t->w, "broker", slice_str(t->broker));
    json_put_string(&t->w, "group", row->group);
    json_put_string(&t->w, "topic", row->topic);
    json_put_string(&t->w, "state", row->state);
    json_put_i64(&t->w, "bornMs", row->born_ms);
    json_put_i64(&t->w, "ageMs", age_ms(t, row));
    json_put_i64(&t->w, "checks", row->checks);
    if (row->next_check_ms != INSPECT_NONE) {
        json_put_i64(&t->w, "nextCheckMs", row->next_check_ms);
    }
    if (row->is_not_mine) {
        json_put_string(&t->w, "notMine", row->database);
    }
    json_write_object_end(&t->w);
}

static void put_row(struct transactions *t, const struct list_txn_row *row)
{
    char age[32];

    t->rows++;
    if (t->cli.options.is_json) {
        put_json(t, row);
        return;
    }
    out_cell_text(&t->table, row->transaction_id);
    out_cell(&t->table, "%" PRId64, row->offset);
    out_cell_text(&t->table, row->group);
    out_cell_text(&t->table, row->topic);
    out_cell_text(&t->table, row->state);
    out_cell(&t->table, "%s", out_age(age_ms(t, row), age, sizeof age));
    out_cell(&t->table, "%u", row->checks);
    if (row->is_not_mine) {
        note_not_mine(&t->not_mine, row->database);
        out_cell(&t->table, "not mine");
    } else if (row->next_check_ms == INSPECT_NONE) {
        out_cell(&t->table, "-");
    } else if (row->next_check_ms <= t->now_ms) {
        out_cell(&t->table, "now");
    } else {
        out_cell(&t->table, "in %s", out_age(row->next_check_ms - t->now_ms, age, sizeof age));
    }
}

static int on_rows(void *arg, struct header *header, struct slice body)
{
    struct transactions *t = arg;
    struct list_reader reader;
    struct list_txn_row row;
    int rc = list_txn_decode(body, &reader);

    (void)header;
    while (rc == 0 && list_txn_next(&reader, &row)) {
        put_row(t, &row);
    }
    t->has_more = rc == 0 && reader.has_more;
    t->cursor = rc == 0 ? reader.cursor : 0;
    return rc;
}

static int on_horizon(void *arg, struct header *header, struct slice body)
{
    struct transactions *t = arg;
    struct txn_horizon horizon;
    int rc = txn_horizon_decode(body, &horizon);

    (void)header;
    if (rc == 0 && horizon.now_ms < 0) {
        rc = ESCROW_EPROTO;
    }
    t->now_ms = rc == 0 ? horizon.now_ms : 0;
    return rc;
}

/* Born before this. */
static int64_t older_than_ms(const struct transactions *t)
{
    if (t->older_ms == 0) {
        return INSPECT_NONE;
    }
    return t->older_ms < (uint64_t)t->now_ms ? t->now_ms - (int64_t)t->older_ms : 1;
}

static int ask_broker(struct transactions *t, const char *addr)
{
    struct cli_request now = {.addr = addr, .code = REQUEST_ESCROW_TXN_HORIZON};
    struct list_txn_request in = {.state = slice_str(t->state), .group = slice_str(t->group)};
    struct buf body;
    int rc = cli_call(&t->cli, &now, on_horizon, t);

    buf_init(&body, 0);
    in.older_than_ms = older_than_ms(t);
    t->cursor = 0;
    t->has_more = true;
    while (rc == 0 && t->has_more && t->rows < t->limit) {
        struct cli_request req = {.addr = addr, .code = REQUEST_ESCROW_LIST_TRANSACTIONS};
        uint64_t left = t->limit - t->rows;

        in.cursor = t->cursor;
        in.limit = left < LIST_ROWS_MAX ? (uint32_t)left : LIST_ROWS_MAX;
        buf_clear(&body);
        list_txn_request_encode(&body, &in);
        req.body = buf_slice(&body);
        rc = cli_call(&t->cli, &req, on_rows, t);
    }
    buf_fini(&body);
    return rc;
}

static int transactions_run(struct transactions *t)
{
    static const char *const heads[] = {"TRANSACTION", "OFFSET", "GROUP",  "TOPIC",
                                        "STATE",       "AGE",    "CHECKS", "NEXT CHECK"};
    struct cli_brokers brokers;
    int rc = cli_brokers(&t->cli, &brokers);

    out_table_init(&t->table, heads, 8, 0x62);
    buf_init(&t->json, 0);
    t->w = json_writer_to(&t->json);
    json_write_array_begin(&t->w);
    for (size_t i = 0; rc == 0 && i < brokers.count; i++) {
        t->broker = brokers.items[i].name;
        rc = ask_broker(t, brokers.items[i].addr);
    }
    json_write_array_end(&t->w);
    buf_append_u8(&t->json, '\n');
    if (rc == 0 && t->cli.options.is_json) {
        rc = out_flush(&t->json) ? 0 : ESCROW_EIO;
    } else if (rc == 0) {
        out_table_print(&t->table);
        rc = explain_not_mine(&t->not_mine);
    }
    buf_fini(&t->table.cells);
    buf_fini(&t->json);
    return rc;
}

/* One that a transaction is in before it is decided, or none given. */
static enum args_result check_state(const struct arg_list *list, const char *state)
{
    char names[160];
    size_t len = 0;

    for (int s = 0; s < HALF_STATE_COUNT; s++) {
        const char *name = sm_name(&half_sm, s);
        if (sm_is_final(&half_sm, s)) {
            continue;
        }
        if (state == NULL || strcmp(state, name) == 0) {
            return ARGS_GO;
        }
        len += (size_t)snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? ", " : "",
                                name); /* they fit */
    }
    return args_bad(list, "--state '%.40s': expected one of %s", state, names);
}

int transactions_main(int argc, char **argv)
{
    static struct transactions t = {.limit = 1000};
    struct cli_options common;
    const struct arg args[] = {
        {"state", "NAME", "PREPARED, CHECKING, EXPIRED, ... (txn/STATES.md)", &t.state, ARG_TEXT},
        {"group", "NAME", "of this producer group", &t.group, ARG_TEXT},
        {"older-than", "TIME", "held for longer than this", &t.older_ms, ARG_DURATION},
        {"limit", "N", "at most so many (1000)", &t.limit, ARG_COUNT},
        CLI_ARGS(common),
        CLI_ARG_JSON(common),
    };
    const struct arg_list list = {
        "transactions [list] [OPTION]...",
        "Transactions whose outcome the broker does not know yet, oldest first, with age, state, "
        "number\n"
        "of check-backs and when the next one is due. escrow decide decides one. not mine: the "
        "relay\n"
        "that was asked answers for another database.\n\n",
        args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int code = CLI_OK;
    int rc;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO && (argc > 1 || (argc == 1 && strcmp(argv[0], "list") != 0))) {
        parsed = args_bad(&list, "unexpected argument '%.80s'", argv[argc - 1]);
    }
    if (parsed == ARGS_GO) {
        parsed = check_state(&list, t.state);
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    rc = cli_start(&t.cli, &common);
    if (rc == 0) {
        rc = transactions_run(&t);
    }
    if (rc != 0) {
        code = cli_fail(&t.cli, rc, "transactions");
    }
    cli_stop(&t.cli);
    return code;
}
