/*
 * What every subcommand stands on: the loop, requests that wait for their answer, routes, error
 * lines and exit codes.
 *
 * Owns:    loop, remote, router (from cli_start to cli_stop).
 * Thread:  the one of main.
 * Errors:  negative ESCROW_E..., with words in cli->err; a command gives up through cli_fail, which
 *          prints one line and returns the exit code.
 * Holds:   cli_call and cli_wait run the loop; no other call may be under way inside them.
 */
#ifndef SRC_TOOLS_CLI_H
#define SRC_TOOLS_CLI_H

#include "core/base/err.h"
#include "core/io_uv/loop.h"
#include "core/proto/header.h"
#include "src/client/remote.h"
#include "src/client/router.h"
#include "src/tools/args.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CLI_NAMESRV     "127.0.0.1:9876"
#define CLI_BROKERS_MAX 64

/* Exit codes; documented in escrow --help. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_UNKNOWN = 4, /* sent, no answer: it may or may not have happened */
    CLI_INTERRUPTED = 130
};

struct cli_options {
    const char *namesrv;    /* --namesrv, ESCROW_NAMESRV, CLI_NAMESRV */
    const char *addr;       /* --addr: this broker only, no name server; NULL = none */
    const char *access_key; /* --access-key, ESCROW_ACCESS_KEY; NULL: requests are not signed */
    const char *secret_key_file; /* --secret-key-file, ESCROW_SECRET_KEY_FILE */
    const char *tls;             /* --tls, ESCROW_TLS; NULL: off. The others likewise */
    const char *tls_ca_file, *tls_cert_file, *tls_key_file, *tls_server_name;
    uint64_t timeout_ms;     /* --timeout, ESCROW_TIMEOUT, 5 seconds */
    const char *bad_timeout; /* what ESCROW_TIMEOUT says, if that is no time; else NULL */
    bool is_json;
};

struct cli {
    struct cli_options options;
    struct loop loop;
    struct tcp_tls_policy tls;
    struct remote remote;
    struct router router;
    struct err_ctx err;
    struct topic_route addr_route; /* of the broker of --addr */
    struct route_target addr_target;
    remote_push_fn *on_push; /* may be NULL; set before cli_start */
    void *push_arg;
    loop_fn *on_interrupt; /* SIGINT, SIGTERM; NULL: the loop stops, is_interrupted is set */
    void *interrupt_arg;
    const char *where; /* what to do when nobody is there; NULL: look at --namesrv and --addr */
    bool is_interrupted;
    bool is_started;
};

/* The options that nearly every command has: put these first into its table. */
#define CLI_ARGS(options)                                                                          \
    {"namesrv", "HOST:PORT",                                                                       \
     "name servers, separated by ';' (env ESCROW_NAMESRV,\nelse " CLI_NAMESRV ")",                 \
     &(options).namesrv, ARG_TEXT},                                                                \
        {"access-key", "KEY", "sign requests (env ESCROW_ACCESS_KEY)", &(options).access_key,      \
         ARG_TEXT},                                                                                \
        {"secret-key-file", "FILE", "with the key in this file (env\nESCROW_SECRET_KEY_FILE)",     \
         &(options).secret_key_file, ARG_TEXT},                                                    \
        {"tls", "on|insecure",                                                                     \
         "encrypt; insecure: without checking who answers\n(env ESCROW_TLS; the next four too)",   \
         &(options).tls, ARG_TEXT},                                                                \
        {"tls-ca-file", "FILE", "authorities (the system's)", &(options).tls_ca_file, ARG_TEXT},   \
        {"tls-cert-file", "FILE", "certificate for servers that ask", &(options).tls_cert_file,    \
         ARG_TEXT},                                                                                \
        {"tls-key-file", "FILE", "its key", &(options).tls_key_file, ARG_TEXT},                    \
        {"tls-server-name", "NAME", "in certificates (the address connected to)",                  \
         &(options).tls_server_name, ARG_TEXT},                                                    \
        {"addr", "HOST:PORT", "this broker, without asking a name server", &(options).addr,        \
         ARG_TEXT},                                                                                \
    {                                                                                              \
        "timeout", "TIME", "per request (env ESCROW_TIMEOUT, else 5s)", &(options).timeout_ms,     \
            ARG_DURATION                                                                           \
    }
#define CLI_ARG_JSON(options)                                                                      \
    {                                                                                              \
        "json", NULL, "machine-readable: one JSON document", &(options).is_json, ARG_FLAG          \
    }

/* Defaults, environment included. */
void cli_options_init(struct cli_options *options);

/*
 * ESCROW_ECONFIG (an option's value, or a file it names), ESCROW_EIO, ESCROW_ENOMEM. After an error
 * nothing is left.
 */
ESCROW_MUST_USE int cli_start(struct cli *cli, const struct cli_options *options);
void cli_stop(struct cli *cli); /* not started is fine */

struct cli_request {
    const char *addr;
    int32_t code;
    remote_fields_fn *fields; /* may be NULL */
    void *fields_arg;
    struct slice body;
};

/* The answer; header and body are borrowed until return. Its result becomes that of cli_call. */
typedef int cli_answer_fn(void *arg, struct header *header, struct slice body);

/*
 * Ask and wait. Returns what fn returned (0 without fn); else the error, with the server's remark
 * in cli->err. A signal while waiting:
 * ESCROW_ESHUTDOWN and is_interrupted when nothing is known to have been done, ESCROW_ETIMEOUT when
 * it was sent.
 */
ESCROW_MUST_USE int cli_call(struct cli *cli, const struct cli_request *req, cli_answer_fn *fn,
                             void *arg);

/*
 * The same for a pull: fn also sees the answers that only say there is nothing, or to go on
 * elsewhere.
 */
ESCROW_MUST_USE int cli_call_pull(struct cli *cli, const struct cli_request *req, cli_answer_fn *fn,
                                  void *arg);

/*
 * Route of a topic: the name servers', or with --addr that of this one broker, who is asked what
 * queues the topic has. *route is borrowed until the next call.
 */
ESCROW_MUST_USE int cli_route(struct cli *cli, const char *topic, bool may_create,
                              const struct topic_route **route);

/* The same, but always the name servers'. */
ESCROW_MUST_USE int cli_route_of_all(struct cli *cli, const char *topic, bool may_create,
                                     const struct topic_route **route);

struct cli_brokers {
    size_t count;
    size_t skipped; /* that have no master now, or are beyond CLI_BROKERS_MAX */
    struct {
        char name[ROUTER_NAME_MAX];
        char addr[REMOTE_ADDR_MAX];
        char cluster[ROUTER_NAME_MAX]; /* empty for --addr */
    } items[CLI_BROKERS_MAX];
};

/* Every broker of the cluster, or the one of --addr. ESCROW_ENOTFOUND: there is none. */
ESCROW_MUST_USE int cli_brokers(struct cli *cli, struct cli_brokers *brokers);

/* Wait on the loop; false when a signal came. */
bool cli_wait(struct cli *cli, uint64_t ms);

/*
 * The end of a command that failed: "escrow: <words>: <what happened>; <what to do next>" on
 * standard error. Returns the exit code:
 * cli_exit_code(error), or CLI_INTERRUPTED.
 */
int cli_fail(struct cli *cli, int error, const char *fmt, ...) ESCROW_PRINTF(3, 4);
int cli_exit_code(int error);

#endif
