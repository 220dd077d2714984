/*
 * escrow decide: commit or roll back halves by hand. An offset is taken as it is. An id with
 * --group is put to every broker, which knows undecided halves and remembers decided ones by group
 * and id. An id alone is put to every broker first, to learn whose it is; if several groups have it
 * it is refused, because deciding the first one found might decide somebody else's.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/body_inspect.h"
#include "core/proto/codes.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DECIDE_MAX   256
#define GROUPS_SHOWN 4

struct decide_item {
    const char *text; /* as given */
    int64_t offset;   /* END_TXN_OFFSET_NONE = not known */
    bool is_id;
    int error;
    enum txn_decision decided;
    /* Who has this id; one more than are kept: "and others". */
    size_t group_count;
    char groups[GROUPS_SHOWN][GROUP_LEN_MAX + 1];
};

struct decide {
    struct cli cli;
    const char *group;
    bool is_yes;
    enum txn_decision decision;
    struct decide_item items[DECIDE_MAX];
    size_t count;
    struct cli_brokers brokers;
    struct decide_item *looking; /* whose groups are looked for */
    uint64_t cursor;
    bool has_more;
};

/* ---- whose they are ---- */

static void note_group(struct decide_item *item, struct slice group)
{
    for (size_t i = 0; i < item->group_count && i < GROUPS_SHOWN; i++) {
        if (slice_eq_str(group, item->groups[i])) {
            return;
        }
    }
    if (item->group_count < GROUPS_SHOWN) {
        (void)slice_to_cstr(group, item->groups[item->group_count], GROUP_LEN_MAX + 1);
    }
    item->group_count += item->group_count <= GROUPS_SHOWN;
}

static int on_rows(void *arg, struct header *header, struct slice body)
{
    struct decide *d = arg;
    struct list_reader reader;
    struct list_txn_row row;
    int rc = list_txn_decode(body, &reader);

    (void)header;
    while (rc == 0 && list_txn_next(&reader, &row)) {
        if (slice_eq_str(row.transaction_id, d->looking->text)) {
            note_group(d->looking, row.group);
        }
    }
    d->has_more = rc == 0 && reader.has_more;
    d->cursor = rc == 0 ? reader.cursor : 0;
    return rc;
}

/*
 * Learn the groups of an id from every broker. One of an earlier version lists all its undecided
 * halves instead, page after page.
 */
static int look_for_groups(struct decide *d, struct decide_item *item)
{
    struct list_txn_request in = {.older_than_ms = INSPECT_NONE,
                                  .limit = LIST_ROWS_MAX,
                                  .transaction_id = slice_str(item->text)};
    struct buf body;
    int rc = 0;

    d->looking = item;
    buf_init(&body, 0);
    for (size_t i = 0; rc == 0 && i < d->brokers.count; i++) {
        struct cli_request req = {.addr = d->brokers.items[i].addr,
                                  .code = REQUEST_ESCROW_LIST_TRANSACTIONS};
        d->cursor = 0;
        d->has_more = true;
        while (rc == 0 && d->has_more) {
            in.cursor = d->cursor;
            buf_clear(&body);
            list_txn_request_encode(&body, &in);
            req.body = buf_slice(&body);
            rc = cli_call(&d->cli, &req, on_rows, d);
        }
    }
    buf_fini(&body);
    return rc;
}

/* ---- deciding ---- */

static int on_decided(void *arg, struct header *header, struct slice body)
{
    struct decide *d = arg;
    struct end_txn_answer answer;
    struct end_txn_result result;
    int rc = end_txn_answer_decode(body, &answer);

    (void)header;
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        if (!d->items[i].is_id) {
            rc = end_txn_next_result(&answer, &result) ? 0 : ESCROW_EPROTO;
            d->items[i].error = rc == 0 ? result.error : rc;
            d->items[i].decided = rc == 0 ? result.decided : TXN_NONE;
        }
    }
    return rc;
}

/* By offset, at the one broker there is. */
static int decide_offsets(struct decide *d)
{
    struct end_txn_request in = {.producer_group = slice_str(d->group == NULL ? "" : d->group),
                                 .decision = d->decision,
                                 .is_operator = true};
    struct cli_request req = {.code = REQUEST_ESCROW_END_TRANSACTION};
    struct end_txn_half halves[DECIDE_MAX];
    struct buf body;
    uint32_t count = 0;
    int rc;

    for (size_t i = 0; i < d->count; i++) {
        if (!d->items[i].is_id) {
            halves[count++] = (struct end_txn_half){.offset = d->items[i].offset};
        }
    }
    if (count == 0) {
        return 0;
    }
    CHECK(d->brokers.count == 1);
    req.addr = d->brokers.items[0].addr;
    buf_init(&body, 0);
    end_txn_request_encode(&body, &in, halves, count);
    req.body = buf_slice(&body);
    rc = cli_call(&d->cli, &req, on_decided, d);
    buf_fini(&body);
    return rc;
}

static int on_one(void *arg, struct header *header, struct slice body)
{
    struct end_txn_result *out = arg;
    struct end_txn_answer answer;
    int rc = end_txn_answer_decode(body, &answer);

    (void)header;
    if (rc != 0) {
        return rc;
    }
    return end_txn_next_result(&answer, out) ? 0 : ESCROW_EPROTO;
}

/*
 * By group and id, on every broker. A producer that tried again may have left its half on two: both
 * are decided.
 */
static int decide_id(struct decide *d, struct decide_item *item, const char *group)
{
    struct end_txn_request in = {
        .producer_group = slice_str(group), .decision = d->decision, .is_operator = true};
    struct end_txn_half half = {.transaction_id = slice_str(item->text),
                                .offset = END_TXN_OFFSET_NONE};
    struct buf body;
    int rc = 0;

    buf_init(&body, 0);
    end_txn_request_encode(&body, &in, &half, 1);
    item->error = ESCROW_ENOTFOUND;
    for (size_t i = 0; rc == 0 && i < d->brokers.count; i++) {
        struct end_txn_result result = {.error = 0};
        struct cli_request req = {.addr = d->brokers.items[i].addr,
                                  .code = REQUEST_ESCROW_END_TRANSACTION,
                                  .body = buf_slice(&body)};
        rc = cli_call(&d->cli, &req, on_one, &result);
        if (rc == 0 && result.error != ESCROW_ENOTFOUND &&
            (item->error == ESCROW_ENOTFOUND || result.error != 0)) {
            item->error = result.error;
            item->decided = result.decided;
        }
    }
    buf_fini(&body);
    return rc;
}

/* ---- the command ---- */

static const char *word(enum txn_decision decision)
{
    return decision == TXN_COMMIT ? "committed" : decision == TXN_ROLLBACK ? "rolled back" : "";
}

/* Why an id alone did not do, and what would. */
static void put_hint(struct buf *out, const struct decide *d, const struct decide_item *item)
{
    if (!item->is_id || d->group != NULL) {
        return;
    }
    if (item->group_count == 0) {
        buf_append_fmt(out, ": neither undecided nor remembered");
    } else if (item->group_count > 1) {
        buf_append_fmt(out, ": several groups have this id (");
        for (size_t i = 0; i < item->group_count && i < GROUPS_SHOWN; i++) {
            buf_append_fmt(out, "%s%s", i > 0 ? ", " : "", item->groups[i]);
        }
        buf_append_fmt(out, "%s): say which with --group",
                       item->group_count > GROUPS_SHOWN ? ", and others" : "");
    }
}

static void put_error(const struct decide *d, const struct decide_item *item)
{
    struct buf line;

    buf_init(&line, 0);
    buf_append_fmt(&line, "escrow: decide %s: %s%s%s", item->text, escrow_strerror(item->error),
                   item->decided != TXN_NONE ? ": " : "", word(item->decided));
    put_hint(&line, d, item);
    (void)fprintf(stderr, "%.*s\n", SLICE_ARGS(buf_slice(&line)));
    buf_fini(&line);
}

/* One line per half; the worst exit code. */
static int report(const struct decide *d)
{
    struct buf out;
    struct json_writer w;
    int code = CLI_OK;

    buf_init(&out, 0);
    w = json_writer_to(&out);
    for (size_t i = 0; i < d->count; i++) {
        const struct decide_item *item = &d->items[i];
        code = item->error != 0 && code == CLI_OK ? cli_exit_code(item->error) : code;
        if (d->cli.options.is_json) {
            w = json_writer_to(&out);
            json_write_object_begin(&w);
            json_put_string(&w, "transaction", slice_str(item->text));
            json_put_string(&w, "decided", slice_str(word(item->decided)));
            json_put_string(&w, "error",
                            slice_str(item->error == 0 ? "" : escrow_error_name(item->error)));
            json_write_object_end(&w);
            buf_append_u8(&out, '\n');
        } else if (item->error == 0) {
            buf_append_fmt(&out, "%s: %s\n", item->text, word(item->decided));
        } else {
            put_error(d, item);
        }
    }
    code = out_flush(&out) ? code : CLI_FAILED;
    buf_fini(&out);
    return code;
}

static bool is_confirmed(const struct decide *d)
{
    char answer[8] = "";

    if (d->is_yes) {
        return true;
    }
    (void)fprintf(stderr, "%s %zu transaction%s by hand? What was decided stays decided. [y/N] ",
                  d->decision == TXN_COMMIT ? "Commit" : "Roll back", d->count,
                  d->count == 1 ? "" : "s");
    return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static int decide_by_id(struct decide *d, struct decide_item *item)
{
    int rc;

    if (d->group != NULL) {
        return decide_id(d, item, d->group);
    }
    rc = look_for_groups(d, item);
    if (rc == 0 && item->group_count == 1) {
        return decide_id(d, item, item->groups[0]);
    }
    item->error = item->group_count == 0 ? ESCROW_ENOTFOUND : ESCROW_EINVAL;
    return rc;
}

static int decide_all(struct decide *d)
{
    int rc = cli_brokers(&d->cli, &d->brokers);
    bool has_offset = false;

    for (size_t i = 0; i < d->count; i++) {
        has_offset |= !d->items[i].is_id;
    }
    if (rc == 0 && has_offset && d->brokers.count > 1) {
        return err_set(&d->cli.err, ESCROW_EINVAL,
                       "there are %zu brokers: an offset needs --addr, or use the transaction id",
                       d->brokers.count);
    }
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        if (d->items[i].is_id) {
            rc = decide_by_id(d, &d->items[i]);
        }
    }
    return rc != 0 ? rc : decide_offsets(d);
}

static enum args_result take_items(const struct arg_list *list, struct decide *d, int argc,
                                   char **argv)
{
    if (argc < 2 || (strcmp(argv[0], "commit") != 0 && strcmp(argv[0], "rollback") != 0)) {
        return args_bad(list, "expected commit or rollback, and at least one transaction");
    }
    if (argc - 1 > DECIDE_MAX) {
        return args_bad(list, "at most %d at once", DECIDE_MAX);
    }
    d->decision = argv[0][0] == 'c' ? TXN_COMMIT : TXN_ROLLBACK;
    for (int i = 1; i < argc; i++) {
        struct decide_item *item = &d->items[d->count++];
        item->text = argv[i];
        item->offset = END_TXN_OFFSET_NONE;
        /* Ids have 32 digits or more; no log is that long. */
        item->is_id = strlen(argv[i]) > 19 || !slice_to_i64(slice_str(argv[i]), &item->offset);
    }
    if (!d->is_yes && isatty(STDIN_FILENO) != 1) {
        return args_bad(list, "standard input is no terminal to ask at: --yes");
    }
    return ARGS_GO;
}

int decide_main(int argc, char **argv)
{
    static struct decide d;
    struct cli_options common;
    const struct arg args[] = {
        {"yes", NULL, "do not ask", &d.is_yes, ARG_FLAG},
        {"group", "NAME", "producer group of the transactions", &d.group, ARG_TEXT},
        CLI_ARGS(common),
        {"json", NULL, "one JSON object per line", &common.is_json, ARG_FLAG},
    };
    const struct arg_list list = {"decide commit|rollback TRANSACTION|OFFSET... [OPTION]...",
                                  "Decides transactions by hand, for good, also expired ones. The "
                                  "first decision wins: the same\n"
                                  "again is fine, the opposite is refused and says what holds. "
                                  "escrow transactions lists\n"
                                  "them. An id that several producer groups have needs "
                                  "--group.\n\n",
                                  args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int code;
    int rc;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO) {
        parsed = take_items(&list, &d, argc, argv);
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    if (!is_confirmed(&d)) {
        (void)fprintf(stderr, "escrow: nothing decided\n");
        return CLI_FAILED;
    }
    rc = cli_start(&d.cli, &common);
    if (rc == 0) {
        rc = decide_all(&d);
    }
    code = rc != 0 ? cli_fail(&d.cli, rc, "decide") : report(&d);
    cli_stop(&d.cli);
    return code;
}
