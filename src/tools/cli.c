#include "src/tools/cli.h"

#include "core/base/log.h"
#include "core/io_uv/clock_system.h"
#include "core/io_uv/small_file.h"
#include "core/io_uv/tls_files.h"
#include "core/proto/body_route.h"
#include "core/proto/body_topic.h"
#include "core/proto/codes.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_options_init(struct cli_options *options)
{
    const char *namesrv =
        getenv("ESCROW_NAMESRV"); /* NOLINT(concurrency-mt-unsafe): before any thread */
    const char *timeout = getenv("ESCROW_TIMEOUT"); /* NOLINT(concurrency-mt-unsafe) */

    *options = (struct cli_options){.timeout_ms = 5000};
    options->access_key = getenv("ESCROW_ACCESS_KEY");           /* NOLINT(concurrency-mt-unsafe) */
    options->secret_key_file = getenv("ESCROW_SECRET_KEY_FILE"); /* NOLINT(concurrency-mt-unsafe) */
    options->tls = getenv("ESCROW_TLS");                         /* NOLINT(concurrency-mt-unsafe) */
    options->tls_ca_file = getenv("ESCROW_TLS_CA_FILE");         /* NOLINT(concurrency-mt-unsafe) */
    options->tls_cert_file = getenv("ESCROW_TLS_CERT_FILE");     /* NOLINT(concurrency-mt-unsafe) */
    options->tls_key_file = getenv("ESCROW_TLS_KEY_FILE");       /* NOLINT(concurrency-mt-unsafe) */
    options->tls_server_name = getenv("ESCROW_TLS_SERVER_NAME"); /* NOLINT(concurrency-mt-unsafe) */
    if (timeout != NULL && timeout[0] != '\0' && !args_to_duration(timeout, &options->timeout_ms)) {
        options->bad_timeout = timeout;
    }
    options->namesrv = namesrv != NULL && namesrv[0] != '\0' ? namesrv : CLI_NAMESRV;
}

/* ---- start and stop ---- */

static void on_signal(void *arg)
{
    struct cli *cli = arg;

    if (cli->is_interrupted) {
        _Exit(CLI_INTERRUPTED); /* asked twice: now */
    }
    cli->is_interrupted = true;
    if (cli->on_interrupt != NULL) {
        cli->on_interrupt(cli->interrupt_arg);
    }
    loop_stop(&cli->loop);
}

/* The secret, "" when there is none; both or neither of the options. */
static int read_secret(struct cli *cli, char *secret, size_t size)
{
    const struct cli_options *o = &cli->options;
    int rc;

    secret[0] = '\0';
    if ((o->access_key == NULL) != (o->secret_key_file == NULL)) {
        return err_set(&cli->err, ESCROW_ECONFIG,
                       "--access-key and --secret-key-file belong together");
    }
    if (o->access_key == NULL) {
        return 0;
    }
    rc = secret_file_read(o->secret_key_file, secret, size, &cli->err);
    if (rc == ESCROW_ENOTFOUND) { /* of the command line: not what the command was to find */
        rc = cli->err.code = ESCROW_ECONFIG;
    }
    return rc;
}

/* What an option holds that can be seen before anybody is asked. */
static int check_options(struct cli *cli)
{
    const struct cli_options *o = &cli->options;

    if (o->bad_timeout != NULL) {
        return err_set(&cli->err, ESCROW_ECONFIG,
                       "ESCROW_TIMEOUT '%.60s': expected a time, as in 500ms or 5s",
                       o->bad_timeout);
    }
    if (o->timeout_ms == 0) {
        return err_set(&cli->err, ESCROW_ECONFIG, "--timeout, ESCROW_TIMEOUT: at least 1ms");
    }
    if (o->addr != NULL && !remote_addr_is_valid(o->addr)) {
        return err_set(&cli->err, ESCROW_ECONFIG,
                       "--addr '%.100s': expected host:port, as in 127.0.0.1:10911", o->addr);
    }
    return 0;
}

static int start_remote(struct cli *cli)
{
    char secret[REMOTE_KEY_MAX + 1];
    struct clock *clock = clock_system();
    struct hash_key key = {clock_random_seed(clock), clock_random_seed(clock)};
    struct remote_options options;
    const struct tls_files files = {.certificate = cli->options.tls_cert_file,
                                    .key = cli->options.tls_key_file,
                                    .ca = cli->options.tls_ca_file};
    int rc;

    rc = tls_files_client(cli->options.tls, &files, cli->options.tls_server_name, &cli->tls,
                          &cli->err);
    if (rc == 0) {
        rc = read_secret(cli, secret, sizeof secret);
    }
    if (rc != 0) {
        return rc;
    }
    remote_options_init(&options);
    options.tcp.tls = &cli->tls;
    options.access_key = cli->options.access_key;
    options.secret_key = secret;
    options.connect_timeout_ms = cli->options.timeout_ms;
    options.on_push = cli->on_push;
    options.arg = cli->push_arg;
    rc = remote_init(&cli->remote, &cli->loop, key, &options);
    sign_wipe(secret, sizeof secret);
    if (rc != 0) {
        return err_set(&cli->err, rc, "%s", escrow_strerror(rc));
    }
    rc = router_init(&cli->router, &cli->remote, cli->options.namesrv, key, &cli->err);
    if (rc != 0) {
        remote_fini(&cli->remote);
    }
    return rc;
}

int cli_start(struct cli *cli, const struct cli_options *options)
{
    int rc;

    cli->options = *options;
    cli->err = (struct err_ctx){.code = 0};
    cli->tls = (struct tcp_tls_policy){.mode = TCP_TLS_DISABLED};
    rc = check_options(cli);
    if (rc != 0) {
        return rc;
    }
    log_set_program("escrow");
    log_set_level(LOG_ERROR);
    rc = loop_init(&cli->loop);
    if (rc != 0) {
        return err_set(&cli->err, rc, "event loop: %s", escrow_strerror(rc));
    }
    rc = loop_on_signal(&cli->loop, SIGINT, on_signal, cli);
    if (rc == 0) {
        rc = loop_on_signal(&cli->loop, SIGTERM, on_signal, cli);
    }
    if (rc == 0) {
        rc = start_remote(cli);
    }
    if (rc != 0) {
        tls_context_free(&cli->tls.context);
        loop_fini(&cli->loop);
        return rc;
    }
    cli->is_started = true;
    return 0;
}

void cli_stop(struct cli *cli)
{
    if (cli->is_started) {
        cli->is_started = false;
        remote_fini(&cli->remote);
        router_fini(&cli->router);
        tls_context_free(&cli->tls.context);
        loop_fini(&cli->loop);
    }
}

/* ---- calls ---- */

struct pending {
    struct remote_call call;
    struct cli *cli;
    cli_answer_fn *fn;
    void *arg;
    int result;
    bool is_done;
    bool is_pull; /* fn also sees the codes of is_pull_code */
};

/* Codes that are no errors of a pull: nothing new, nothing that matches, go on elsewhere. */
static bool is_pull_code(int32_t code)
{
    return code == RESPONSE_PULL_NOT_FOUND || code == RESPONSE_PULL_RETRY_IMMEDIATELY ||
           code == RESPONSE_PULL_OFFSET_MOVED;
}

static void call_done(struct remote_call *call, int error, struct header *header, struct slice body)
{
    struct pending *p = call->arg;

    p->is_done = true;
    p->result = error;
    loop_stop(&p->cli->loop);
    if (error == 0 || (p->is_pull && header != NULL && is_pull_code(header->code))) {
        p->result = p->fn != NULL ? p->fn(p->arg, header, body) : 0;
    } else if (header != NULL && header->remark.len > 0) {
        (void)err_set(&p->cli->err, error, "%.*s", SLICE_ARGS(header->remark));
    } else {
        (void)err_set(&p->cli->err, error, "%s", escrow_strerror(error));
    }
}

static int call(struct cli *cli, const struct cli_request *req, struct pending *pending)
{
    struct remote_request request = {.addr = req->addr,
                                     .code = req->code,
                                     .fields = req->fields,
                                     .fields_arg = req->fields_arg,
                                     .body = req->body,
                                     .timeout_ms = cli->options.timeout_ms};

    cli->err = (struct err_ctx){.code = 0};
    pending->cli = cli;
    pending->call.arg = pending;
    remote_call(&cli->remote, &pending->call, &request, call_done);
    while (!pending->is_done && !cli->is_interrupted) {
        loop_run(&cli->loop);
    }
    if (!pending->is_done) {
        pending->result = pending->call.is_sent ? ESCROW_ETIMEOUT : ESCROW_ESHUTDOWN;
        remote_cancel(&pending->call);
        return err_set(&cli->err, pending->result, "interrupted");
    }
    if (pending->result != 0 && cli->err.code == 0) {
        (void)err_set(&cli->err, pending->result, "%s", escrow_strerror(pending->result));
    }
    return pending->result;
}

int cli_call(struct cli *cli, const struct cli_request *req, cli_answer_fn *fn, void *arg)
{
    struct pending pending = {.fn = fn, .arg = arg};

    return call(cli, req, &pending);
}

int cli_call_pull(struct cli *cli, const struct cli_request *req, cli_answer_fn *fn, void *arg)
{
    struct pending pending = {.fn = fn, .arg = arg, .is_pull = true};

    return call(cli, req, &pending);
}

struct routing {
    struct cli *cli;
    const struct topic_route *route;
    int result;
    bool is_done;
};

static void route_done(struct route_lookup *lookup, int error, const struct topic_route *route)
{
    struct routing *r = lookup->arg;

    r->is_done = true;
    r->result = error;
    r->route = route;
    loop_stop(&r->cli->loop);
}

/* ---- the broker of --addr ---- */

static void name_fields(struct header_writer *w, void *arg)
{
    header_put_str(w, "topic", slice_str(arg));
}

static int on_topic(void *arg, struct header *header, struct slice body)
{
    struct route_target *target = arg;
    struct body_tree tree = {.chunks = NULL};
    const struct json_node *root;
    struct topic_config topic;
    int rc = body_tree_parse(&tree, body, TOPIC_TABLE_LIMITS, &root);

    (void)header;
    if (rc == 0) {
        rc = topic_config_read(root, &topic);
    }
    if (rc == 0) {
        target->read_queues = (topic.perm & PERM_READ) != 0 ? (uint32_t)topic.read_queue_count : 0;
        target->write_queues =
            (topic.perm & PERM_WRITE) != 0 ? (uint32_t)topic.write_queue_count : 0;
    }
    body_tree_fini(&tree);
    return rc;
}

static int route_of_addr(struct cli *cli, const char *topic, const struct topic_route **route)
{
    struct cli_request req = {.addr = cli->options.addr,
                              .code = REQUEST_GET_TOPIC_CONFIG,
                              .fields = name_fields,
                              .fields_arg = (void *)(uintptr_t)topic};
    struct route_target *target = &cli->addr_target;

    (void)slice_to_cstr(slice_str(cli->options.addr), target->addr, sizeof target->addr);
    (void)slice_to_cstr(slice_str(cli->options.addr), target->broker, sizeof target->broker);
    cli->addr_route = (struct topic_route){.targets = target, .target_count = 1};
    *route = &cli->addr_route;
    return cli_call(cli, &req, on_topic, target);
}

int cli_route(struct cli *cli, const char *topic, bool may_create, const struct topic_route **route)
{
    return cli->options.addr != NULL ? route_of_addr(cli, topic, route)
                                     : cli_route_of_all(cli, topic, may_create, route);
}

int cli_route_of_all(struct cli *cli, const char *topic, bool may_create,
                     const struct topic_route **route)
{
    struct routing r = {.cli = cli};
    struct route_lookup lookup = {.arg = &r};

    router_lookup(&cli->router, &lookup, topic, may_create, route_done);
    while (!r.is_done && !cli->is_interrupted) {
        loop_run(&cli->loop);
    }
    if (!r.is_done) {
        router_cancel(&lookup);
        return err_set(&cli->err, ESCROW_ESHUTDOWN, "interrupted");
    }
    if (r.result == ESCROW_ECONN) {
        return err_set(&cli->err, r.result, "no name server answers at %s", cli->options.namesrv);
    }
    if (r.result != 0) {
        return err_set(&cli->err, r.result, "%s", escrow_strerror(r.result));
    }
    *route = r.route;
    return 0;
}

static void add_broker(struct cli_brokers *brokers, struct slice cluster, struct slice name,
                       struct slice addr)
{
    if (brokers->count == CLI_BROKERS_MAX || addr.len == 0 || addr.len >= REMOTE_ADDR_MAX ||
        name.len >= ROUTER_NAME_MAX || cluster.len >= ROUTER_NAME_MAX) {
        brokers->skipped++; /* one that cannot be asked: the others can */
        return;
    }
    (void)slice_to_cstr(cluster, brokers->items[brokers->count].cluster, ROUTER_NAME_MAX);
    (void)slice_to_cstr(name, brokers->items[brokers->count].name, ROUTER_NAME_MAX);
    (void)slice_to_cstr(addr, brokers->items[brokers->count].addr, REMOTE_ADDR_MAX);
    brokers->count++;
}

static int on_cluster(void *arg, struct header *header, struct slice body)
{
    struct cli_brokers *brokers = arg;
    struct cluster_info info;
    int rc = cluster_info_decode(body, &info);

    (void)header;
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < info.broker_count; i++) {
        add_broker(brokers, info.brokers[i].cluster, info.brokers[i].broker_name,
                   route_broker_master(&info.brokers[i]));
    }
    cluster_info_fini(&info);
    return 0;
}

int cli_brokers(struct cli *cli, struct cli_brokers *brokers)
{
    struct cli_request req = {.code = REQUEST_GET_BROKER_CLUSTER_INFO};
    int rc = ESCROW_ECONN;

    brokers->count = brokers->skipped = 0;
    if (cli->options.addr != NULL) {
        add_broker(brokers, SLICE_EMPTY, slice_str(cli->options.addr),
                   slice_str(cli->options.addr));
        return 0;
    }
    for (size_t i = 0; rc == ESCROW_ECONN && i < cli->router.server_count; i++) {
        req.addr = router_server(&cli->router);
        rc = cli_call(cli, &req, on_cluster, brokers);
        if (rc == ESCROW_ECONN) {
            router_server_failed(&cli->router);
        }
    }
    if (rc == ESCROW_ECONN) {
        return err_set(&cli->err, rc, "no name server answers at %s", cli->options.namesrv);
    }
    if (rc == 0 && brokers->count == 0) {
        return err_set(&cli->err, ESCROW_ENOTFOUND, "the name server knows no broker");
    }
    return rc;
}

struct waiting {
    struct loop_timer timer;
    struct cli *cli;
    bool is_over;
};

static void wait_over(void *arg)
{
    struct waiting *w = arg;

    w->is_over = true;
    loop_stop(&w->cli->loop);
}

bool cli_wait(struct cli *cli, uint64_t ms)
{
    struct waiting w = {.cli = cli};

    loop_timer_start(&cli->loop, &w.timer, ms, 0, wait_over, &w);
    while (!w.is_over && !cli->is_interrupted) {
        loop_run(&cli->loop);
    }
    loop_timer_stop(&cli->loop, &w.timer);
    return !cli->is_interrupted;
}

/* ---- the end ---- */

int cli_exit_code(int error)
{
    if (error == 0) {
        return CLI_OK;
    }
    if (error == ESCROW_ENOTFOUND || error == ESCROW_ENOROUTE) {
        return CLI_NOT_FOUND;
    }
    if (error == ESCROW_ECONFIG) {
        return CLI_USAGE;
    }
    return escrow_error_class(error) == ESCROW_CLASS_UNKNOWN ? CLI_UNKNOWN : CLI_FAILED;
}

/* What a person does next; NULL when the message says it all. */
static const char *next_step(int error)
{
    switch (error) {
    case ESCROW_ECONN:
        return "is escrowd running there? --namesrv or --addr say where";
    case ESCROW_ENOROUTE:
        return "see escrow topics list, or make it with escrow topics create";
    case ESCROW_ETIMEOUT:
    case ESCROW_ECLOSED:
        return "it may or may not have happened: look before you repeat it";
    case ESCROW_ELOCKED:
        return "stop the escrowd that has the folder first";
    case ESCROW_ENOTSUP:
        return "this needs an escrowd";
    case ESCROW_ENOSPC:
        return "make room on the broker's disk; decisions still work";
    case ESCROW_EBUSY:
    case ESCROW_ELIMIT:
        return "nothing happened; try again";
    default:
        return NULL;
    }
}

int cli_fail(struct cli *cli, int error, const char *fmt, ...)
{
    const char *next = error == ESCROW_ECONN && cli->where != NULL ? cli->where : next_step(error);
    char words[300];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(words, sizeof words, fmt, ap); /* cut when longer */
    va_end(ap);
    (void)fflush(stdout);
    (void)fprintf(stderr, "escrow: %s: %s (%s)%s%s\n", words,
                  cli->err.code == error && cli->err.text[0] != '\0' ? cli->err.text
                                                                     : escrow_strerror(error),
                  escrow_error_name(error), next != NULL ? "; " : "", next != NULL ? next : "");
    return cli->is_interrupted ? CLI_INTERRUPTED : cli_exit_code(error);
}
