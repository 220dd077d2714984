/*
 * escrow copy: topics, groups, messages and offsets from Apache RocketMQ, or another escrowd, to an
 * escrowd. README.md says what that means.
 */
#include "src/tools/copy/copy.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(struct copy *);
} steps[COPY_STEPS] = {
    [COPY_TOPICS] = {"topics", copy_topics},
    [COPY_GROUPS] = {"groups", copy_groups},
    [COPY_MESSAGES] = {"messages", copy_messages},
    [COPY_OFFSETS] = {"offsets", copy_offsets},
};

/* ---- the command line ---- */

/* The operands; none: all steps. */
static enum args_result take_steps(const struct arg_list *list, struct copy *c, int argc,
                                   char **argv)
{
    for (int i = 0; i < argc; i++) {
        size_t step = 0;
        while (step < COPY_STEPS && strcmp(argv[i], steps[step].name) != 0) {
            step++;
        }
        if (step == COPY_STEPS) {
            return args_bad(list, "'%.60s': expected topics, groups, messages or offsets", argv[i]);
        }
        c->has_step[step] = true;
    }
    for (size_t step = 0; argc == 0 && step < COPY_STEPS; step++) {
        c->has_step[step] = true;
    }
    return ARGS_GO;
}

/* ---- the copy ---- */

static int begin_sides(struct copy *c, const struct cli_options *from, const struct cli_options *to)
{
    int rc = cli_start(&c->from, from);

    c->from.where = "is RocketMQ running there? --from says where";
    c->at = &c->from;
    if (rc != 0) { /* it names the options as every command has them */
        return copy_error(c, rc, "the source, --from-...: %.300s", c->from.err.text);
    }
    rc = cli_start(&c->to, to);
    c->at = &c->to;
    c->err = c->to.err;
    return rc;
}

static int run_steps(struct copy *c)
{
    int rc = copy_read_source(c);

    if (rc == 0) {
        rc = copy_find_target(c);
    }
    if (rc == 0) {
        rc = copy_read_target(c);
    }
    for (size_t step = 0; rc == 0 && step < COPY_STEPS; step++) {
        if (c->has_step[step]) {
            rc = steps[step].run(c);
        }
    }
    return rc;
}

/* Nothing is done twice by copying again, so an answer that was lost leaves nothing to look at. */
static int failed(struct copy *c, int rc)
{
    static const char next[] = "copy again: it goes on where it was broken off";

    (void)fflush(stdout);
    if (c->from.is_interrupted || c->to.is_interrupted) {
        (void)fprintf(stderr, "escrow: copy: interrupted; %s\n", next);
        return CLI_INTERRUPTED;
    }
    if (escrow_error_class(rc) == ESCROW_CLASS_UNKNOWN) {
        (void)fprintf(stderr, "escrow: copy: %s (%s); %s\n", c->err.text, escrow_error_name(rc),
                      next);
        return CLI_FAILED;
    }
    c->at->err = c->err;
    return cli_fail(c->at, rc, "copy");
}

static int copy_run(struct copy *c, const struct cli_options *from, const struct cli_options *to)
{
    int code = CLI_OK;
    int rc;

    buf_init(&c->out, 0);
    c->w = json_writer_to(&c->out);
    json_write_array_begin(&c->w);
    rc = begin_sides(c, from, to);
    if (rc == 0) {
        rc = run_steps(c);
    }
    json_write_array_end(&c->w);
    buf_append_u8(&c->out, '\n');
    if (to->is_json && c->to.is_started && !out_flush(&c->out) && rc == 0) {
        rc = copy_error(c, ESCROW_EIO, "standard output cannot be written");
    }
    if (rc != 0) {
        code = failed(c, rc);
    } else if (c->failures > 0) {
        (void)fprintf(stderr, "escrow: copy: not everything was copied: see above\n");
        code = CLI_FAILED;
    }
    copy_free_source(c);
    copy_free_target(c);
    buf_fini(&c->out);
    cli_stop(&c->from);
    cli_stop(&c->to);
    return code;
}

int copy_main(int argc, char **argv)
{
    static struct copy c;
    struct cli_options from = {.namesrv = NULL};
    struct cli_options to;
    const struct arg args[] = {
        {"from", "HOST:PORT", "the source's name servers, separated by ';'", &from.namesrv,
         ARG_TEXT},
        {"topic", "PATTERN",
         "only topics like it (\"order*\"), and without\n--group the groups that consume them; "
         "several times",
         &c.topic_patterns, ARG_TEXTS},
        {"group", "PATTERN", "only groups like it, with their retry and\ndead-letter topics",
         &c.group_patterns, ARG_TEXTS},
        {"broker", "NAME", "only these brokers of the source", &c.broker_names, ARG_TEXTS},
        {"all-messages", NULL, "those too that every group has consumed", &c.is_all_messages,
         ARG_FLAG},
        {"again", NULL, "copy messages that were copied before, too", &c.is_again, ARG_FLAG},
        {"skip-refused", NULL,
         "messages: pass over those that cannot be\ncopied; without it their queues stop there",
         &c.is_skip_refused, ARG_FLAG},
        {"skip-others", NULL,
         "offsets: behind messages of others at the\ntarget that lie before a group's place",
         &c.is_skip_others, ARG_FLAG},
        {"overwrite", NULL, "give topics and groups that are there the\nsource's settings",
         &c.is_overwrite, ARG_FLAG},
        {"dry-run", NULL, "say what would be done", &c.is_dry, ARG_FLAG},
        {"the source", NULL, NULL, NULL, ARG_HEADING},
        {"from-access-key", "KEY", "sign requests", &from.access_key, ARG_TEXT},
        {"from-secret-key-file", "FILE", "with the key in this file", &from.secret_key_file,
         ARG_TEXT},
        {"from-tls", "on|insecure", "encrypt", &from.tls, ARG_TEXT},
        {"from-tls-ca-file", "FILE", "authorities (the system's)", &from.tls_ca_file, ARG_TEXT},
        {"from-tls-cert-file", "FILE", "certificate for servers that ask", &from.tls_cert_file,
         ARG_TEXT},
        {"from-tls-key-file", "FILE", "its key", &from.tls_key_file, ARG_TEXT},
        {"from-tls-server-name", "NAME", "in certificates", &from.tls_server_name, ARG_TEXT},
        {"the target", NULL, NULL, NULL, ARG_HEADING},
        CLI_ARGS(to),
        CLI_ARG_JSON(to),
    };
    const struct arg_list list = {
        "copy [topics] [groups] [messages] [offsets] --from HOST:PORT [OPTION]...",
        "Copies from Apache RocketMQ (4.9, 5.x), or another escrowd, to an escrowd; all four when "
        "none is named.\n"
        "Messages: what a group has yet to consume, into queues of their own, in their order. "
        "Offsets: each\n"
        "group goes on at its place. Copying again copies what is new, and nothing twice, also "
        "after it was\n"
        "broken off. Stop producers and consumers before the last time; examples/MOVING.md has "
        "the steps.\n\n",
        args, ARG_LIST_COUNT(args)};
    enum args_result parsed;

    cli_options_init(&to);
    parsed = args_parse(&list, &argc, argv);
    if (parsed == ARGS_GO) {
        parsed = take_steps(&list, &c, argc, argv);
    }
    if (parsed == ARGS_GO && from.namesrv == NULL) {
        parsed = args_bad(&list, "--from is missing: the source's name server");
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    from.timeout_ms = to.timeout_ms;
    return copy_run(&c, &from, &to);
}
