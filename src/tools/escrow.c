/*
 * escrow: the command line. Each subcommand is a function <name>_main(argc, argv) that returns the
 * exit code.
 */
#include "core/io_uv/standard_fds.h"
#include "src/tools/bench.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    const char *summary;
    int (*main)(int argc, char **argv); /* argv[0] is the first argument behind the name */
};

static const struct command commands[] = {
    {"produce", "send messages", produce_main},
    {"consume", "print the messages of a topic", consume_main},
    {"topics", "list, show, create topics", topics_main},
    {"groups", "consumer groups and their lag", groups_main},
    {"transactions", "undecided transactions: age, state, checks", transactions_main},
    {"decide", "commit or roll back a transaction by hand", decide_main},
    {"message", "look a message up by id, or by topic and key", message_main},
    {"copy", "topics, groups, messages, offsets from RocketMQ", copy_main},
    {"status", "counters and gauges of the brokers", status_main},
    {"skip-damaged", "let consumers go on behind a damaged message", skip_damaged_main},
    {"dump", "print the log of a stopped broker", dump_main},
    {"verify", "check the data folder of a stopped broker", verify_main},
    {"bench", "generate load and measure: producer, txn, consumer", bench_main},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

static void help(void)
{
    (void)printf("usage: escrow COMMAND [ARGUMENT]... [--OPTION VALUE]...\n\n"
                 "Looks into, feeds and measures an Escrow broker.\n\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        (void)printf("  %-14s %s\n", commands[i].name, commands[i].summary);
    }
    (void)printf(
        "\nescrow COMMAND --help shows the options of a command. Name servers: --namesrv, or\n"
        "ESCROW_NAMESRV, or " CLI_NAMESRV ".\n\n"
        "Exit status: 0 done; 1 failed; 2 wrong usage; 3 not found; 4 outcome unknown (sent, and "
        "no\n"
        "answer came: it may or may not have happened); 130 interrupted.\n");
}

/* The exit status, when what was printed has to be written, too. */
static int printed(int code)
{
    if (!out_sync() && code == CLI_OK) {
        (void)fprintf(stderr, "escrow: standard output: cannot be written\n");
        code = CLI_FAILED;
    }
    return code;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    struct err_ctx err;

    if (standard_fds_open(&err) != 0) {
        (void)fprintf(stderr, "escrow: %s\n", err.text);
        return CLI_FAILED;
    }
    (void)signal(SIGPIPE,
                 /* `escrow ... | head` ends quietly; sockets are written with the signal blocked */
                 SIG_DFL);
    if (name == NULL) {
        help();
        return CLI_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        help();
        return printed(CLI_OK);
    }
    if (strcmp(name, "--version") == 0) {
        (void)printf("escrow %s\n", ESCROW_VERSION);
        return printed(CLI_OK);
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return printed(commands[i].main(argc - 2, argv + 2));
        }
    }
    (void)fprintf(stderr, "escrow: unknown command '%.80s'; see escrow --help\n", name);
    return CLI_USAGE;
}
