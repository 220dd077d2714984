/* escrow skip-damaged: let the consumers of a queue go on behind damaged messages. */
#include "core/proto/codes.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

struct skip {
    struct cli cli;
    const char *topic;
    uint64_t queue;
    uint64_t first;
    uint64_t last; /* UINT64_MAX: only the first */
    bool is_yes;
};

static void skip_fields(struct header_writer *w, void *arg)
{
    const struct skip *s = arg;

    header_put_str(w, "topic", slice_str(s->topic));
    header_put_i64(w, "queueId", (int64_t)s->queue);
    header_put_i64(w, "offset", (int64_t)s->first);
    if (s->last != UINT64_MAX) {
        header_put_i64(w, "lastOffset", (int64_t)s->last);
    }
}

/* The one broker that is meant. */
static int skip_ask(struct skip *s)
{
    struct cli_brokers brokers;
    int rc = cli_brokers(&s->cli, &brokers);

    if (rc == 0 && brokers.count > 1) {
        return err_set(&s->cli.err, ESCROW_EINVAL,
                       "there are %zu brokers, each with queues of its own: say which with --addr",
                       brokers.count);
    }
    if (rc == 0) {
        struct cli_request req = {.addr = brokers.items[0].addr,
                                  .code = REQUEST_ESCROW_SKIP_DAMAGED,
                                  .fields = skip_fields,
                                  .fields_arg = s};
        rc = cli_call(&s->cli, &req, NULL, NULL);
    }
    if (rc == 0) {
        (void)printf("%s queue %" PRIu64 ": consumers go on behind damaged messages at offsets "
                     "%" PRIu64 " to %" PRIu64 "\n",
                     s->topic, s->queue, s->first, s->last != UINT64_MAX ? s->last : s->first);
    }
    return rc;
}

static bool is_confirmed(const struct skip *s)
{
    if (s->is_yes) {
        return true;
    }
    (void)fprintf(stderr,
                  "Consumers of %s queue %" PRIu64 " will not get the damaged messages from offset "
                  "%" PRIu64 " on. Restoring the\nfile from a backup would lose nothing. Go on "
                  "without them? [y/N] ",
                  s->topic, s->queue, s->first);
    (void)fflush(stderr);
    return getchar() == 'y';
}

static enum args_result take_place(const struct arg_list *list, struct skip *s, int argc,
                                   char **argv)
{
    if (argc != 3 || !args_to_count(argv[1], 1000, &s->queue) || s->queue > INT32_MAX ||
        !args_to_count(argv[2], 1000, &s->first) || s->first > INT64_MAX - 1) {
        return args_bad(list, "expected a topic, a queue and an offset");
    }
    if (s->last != UINT64_MAX && (s->last < s->first || s->last > INT64_MAX - 1)) {
        return args_bad(list, "--to: an offset behind the first");
    }
    s->topic = argv[0];
    if (!s->is_yes && isatty(STDIN_FILENO) != 1) {
        return args_bad(list, "standard input is no terminal to ask at: --yes");
    }
    return ARGS_GO;
}

int skip_damaged_main(int argc, char **argv)
{
    static struct skip s = {.last = UINT64_MAX};
    struct cli_options common;
    const struct arg args[] = {
        {"to", "OFFSET", "the last one of a range (only OFFSET)", &s.last, ARG_COUNT},
        {"yes", NULL, "do not ask", &s.is_yes, ARG_FLAG},
        CLI_ARGS(common),
    };
    const struct arg_list list = {
        "skip-damaged TOPIC QUEUE OFFSET [OPTION]...",
        "Lets the consumers of a queue go on behind damaged messages, which stop them otherwise "
        "(the broker's\n"
        "log and the consumers' errors name the place). OFFSET must be damaged. For good, after "
        "restarts too;\n"
        "nothing is removed: what reads well, or is restored from a backup, is delivered to those "
        "that come by.\n\n",
        args, ARG_LIST_COUNT(args)};
    enum args_result parsed;
    int code = CLI_OK;
    int rc;

    cli_options_init(&common);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO) {
        parsed = take_place(&list, &s, argc, argv);
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    if (!is_confirmed(&s)) {
        (void)fprintf(stderr, "escrow: nothing skipped\n");
        return CLI_FAILED;
    }
    rc = cli_start(&s.cli, &common);
    if (rc == 0) {
        rc = skip_ask(&s);
    }
    if (rc != 0) {
        code =
            cli_fail(&s.cli, rc, "skip-damaged %s %" PRIu64 " %" PRIu64, s.topic, s.queue, s.first);
    }
    cli_stop(&s.cli);
    return code;
}
