/*
 * escrow-relay: command line, signals, the parts put together.
 *
 *   run             moves the outbox to the broker, and answers check-backs
 *   check-endpoint  answers check-backs only
 *   migrate         installs or upgrades the schema
 *   status          says how the outbox is doing
 *   replay          has parked rows published again
 *
 * Exit status: 0 done, or stopped as asked; 1 failed; 2 usage; 3 fenced by another relay; 4 the
 * database is not the one of the stored position.
 */
#include "core/base/log.h"
#include "core/io_uv/clock_system.h"
#include "core/io_uv/small_file.h"
#include "core/io_uv/standard_fds.h"
#include "core/io_uv/tls_files.h"
#include "outbox/pg/check_http.h"
#include "outbox/pg/cleaner.h"
#include "outbox/pg/migrate.h"
#include "outbox/pg/relay_loop.h"
#include "outbox/pg/replay.h"
#include "outbox/pg/schema.h"
#include "outbox/pg/status.h"
#include "src/client/remote.h"
#include "src/relay/broker_sink.h"
#include "src/relay/options.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EXIT_OK      0
#define EXIT_FAILED  1
#define EXIT_USAGE   2
#define EXIT_FENCED  3
#define EXIT_REFUSED 4

extern char **environ;

struct program {
    struct relay_options options;
    struct err_ctx err;
    struct loop loop;
    struct tcp_tls_policy tls;
    struct remote remote;
    struct broker_sink *sink;
    struct relay_loop *relay;
    struct cleaner *cleaner;
    struct checker *checker;
    struct check_http *http;
    char owner[128];
    int exit_code;
    bool is_stopping;
};

static void print_buf(struct buf *b)
{
    (void)fwrite(b->ptr, 1, b->len, stdout); /* printed() looks at stdout */
    buf_fini(b);
}

/* The exit status of what only prints. */
static int printed(void)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        (void)fprintf(stderr, "escrow-relay: standard output: cannot be written\n");
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

static void usage(void)
{
    struct buf text;

    buf_init(&text, 0);
    buf_append_str(
        &text,
        "usage: escrow-relay COMMAND [--config FILE] [--OPTION VALUE]...\n\n"
        "Moves messages from a PostgreSQL outbox to Escrow, exactly once, and answers check-backs "
        "from\n"
        "the database.\n\n"
        "  run                    move messages and answer check-backs, until SIGTERM\n"
        "  check-endpoint         answer check-backs only\n"
        "  migrate                install or upgrade the schema escrow\n"
        "  status [--json]        position, lag, and what holds something back\n"
        "  replay CONDITION       publish parked rows again, in their old order; an SQL condition "
        "on\n"
        "                         escrow.outbox_parked: true, \"topic = 't'\", \"parked_at > "
        "now() - interval '1 h'\"\n"
        "  print-config           an example configuration with every option\n\n"
        "Options; also as key = value in the file, and as ESCROW_RELAY_KEY (dots become _) in the\n"
        "environment:\n\n");
    options_print_help(&text);
    buf_append_str(&text, "\nExit status: 0 done or stopped as asked, 1 failed, 2 usage, 3 another "
                          "relay took over, 4 the\n"
                          "database is not the one of the stored position.\n");
    print_buf(&text);
}

static int fail(const struct err_ctx *err)
{
    log_error("relay.failed", "%s", err->text);
    return err->code == ESCROW_ECONFIG ? EXIT_USAGE : EXIT_FAILED;
}

/* ---- configuration ---- */

/* "--key value" or "--key=value". *used: arguments taken. */
static int take_option(struct relay_options *o, char **argv, int left, int *used,
                       struct err_ctx *err)
{
    const char *equals = strchr(argv[0], '=');
    size_t len = equals != NULL ? (size_t)(equals - argv[0]) : strlen(argv[0]);
    const char *value = equals != NULL ? equals + 1 : left > 1 ? argv[1] : NULL;
    char key[64];
    char where[80];

    *used = equals != NULL ? 1 : 2;
    if (strncmp(argv[0], "--", 2) != 0 || len - 2 >= sizeof key) {
        return err_set(err, ESCROW_ECONFIG, "unexpected argument '%.80s'; see escrow-relay --help",
                       argv[0]);
    }
    (void)snprintf(key, sizeof key, "%.*s", (int)len - 2, argv[0] + 2); /* fits: checked above */
    (void)snprintf(where, sizeof where, "--%s", key);                   /* fits */
    if (value == NULL) {
        return err_set(err, ESCROW_ECONFIG, "--%s needs a value; see escrow-relay --help", key);
    }
    return strcmp(key, "config") == 0 ? 0 : options_set(o, key, value, where, err);
}

/* The file, wherever --config stands; then the environment; then the rest of the command line. */
static int read_options(struct relay_options *o, int argc, char **argv, struct err_ctx *err)
{
    int used = 1;
    int rc = options_init(o, err);

    for (int i = 0; rc == 0 && i < argc; i++) {
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            rc = options_read_file(o, argv[i + 1], err);
        } else if (strncmp(argv[i], "--config=", 9) == 0) {
            rc = options_read_file(o, argv[i] + 9, err);
        }
    }
    if (rc == 0) {
        rc = options_read_environment(o, environ, err);
    }
    for (int i = 0; rc == 0 && i < argc; i += used) {
        rc = take_option(o, argv + i, argc - i, &used, err);
    }
    if (rc == 0) {
        rc = options_finish(o, err);
    }
    if (rc == 0) {
        int level = log_level_from_name(o->log_level);
        if (level < 0) {
            return err_set(err, ESCROW_ECONFIG,
                           "log.level = '%s': expected debug, info, warn or error", o->log_level);
        }
        log_set_level((enum log_level)level);
    }
    return rc;
}

/* ---- run ---- */

static void on_ended(void *arg, enum relay_state final, const struct err_ctx *why)
{
    struct program *p = arg;

    if (final == RELAY_FENCED) {
        log_error("relay.fenced", "another relay has taken over source %s: %s", p->options.source,
                  why->text);
        p->exit_code = EXIT_FENCED;
    } else if (final == RELAY_REFUSED) {
        p->exit_code = EXIT_REFUSED; /* the relay has said why */
    }
    loop_stop(&p->loop);
}

static void on_signal(void *arg)
{
    struct program *p = arg;

    if (p->is_stopping) {
        log_warn("relay.stop", "stopping at once");
        loop_stop(&p->loop);
        return;
    }
    p->is_stopping = true;
    log_info("relay.stop", "stopping");
    if (p->relay != NULL) {
        relay_loop_stop(p->relay);
    } else {
        loop_stop(&p->loop);
    }
}

static int start_endpoint(struct program *p)
{
    int rc;

    p->checker = checker_new(&p->loop, p->options.db, (int)p->options.check_connections);
    if (p->checker == NULL) {
        return err_set(&p->err, ESCROW_ENOMEM, "out of memory");
    }
    rc = check_http_new(&p->loop, p->checker, p->options.check_listen, &p->http, &p->err);
    if (rc == 0) {
        log_info("relay.check.listen", "check-backs on http://%s/check", p->options.check_listen);
    }
    return rc;
}

static void fill_relay_config(struct program *p, struct relay_loop_config *cfg)
{
    const struct relay_options *o = &p->options;

    relay_loop_config_init(cfg);
    cfg->conninfo = o->db;
    cfg->switch_bytes = o->rotate_bytes;
    cfg->ended = on_ended;
    cfg->arg = p;
    cfg->relay.source = o->source;
    cfg->relay.owner = p->owner;
    cfg->relay.batch_rows_max = o->batch_rows;
    cfg->relay.batch_bytes_max = o->batch_bytes;
    cfg->relay.window_bytes = o->window_bytes;
    cfg->relay.poll_min_ms = (uint32_t)o->poll_min_ms;
    cfg->relay.poll_max_ms = (uint32_t)o->poll_max_ms;
    cfg->relay.maintain_ms = (uint32_t)o->maintain_ms;
    cfg->relay.backoff_max_ms = (uint32_t)o->backoff_max_ms;
    cfg->relay.topic_wait_ms = (uint32_t)o->topic_wait_ms;
    cfg->relay.db_timeout_ms = (uint32_t)o->db_timeout_ms;
    cfg->relay.seed = clock_random_seed(clock_system());
    if (o->foreign_system != 0) {
        cfg->relay.foreign = o->is_adopt ? RELAY_FOREIGN_ADOPT : RELAY_FOREIGN_DISCARD;
        cfg->relay.foreign_db =
            (struct db_identity){.system_id = o->foreign_system, .timeline = o->foreign_timeline};
    }
}

static int start_relay(struct program *p)
{
    struct clock *clock = clock_system();
    struct hash_key key = {clock_random_seed(clock), clock_random_seed(clock)};
    struct remote_options remote;
    struct relay_loop_config cfg;
    struct cleaner_config clean = {.conninfo = p->options.db,
                                   .interval_ms = p->options.clean_ms,
                                   .keep_ms = p->options.keep_ms,
                                   .keep_tombstone_ms = p->options.keep_tombstone_ms};
    struct horizons_config brokers = {.broker = p->options.broker,
                                      .brokers = p->options.brokers,
                                      .namesrv = p->options.namesrv,
                                      .timeout_ms = p->options.publish_timeout_ms};
    char host[64] = "";
    const struct tls_files files = {.certificate = p->options.tls_cert_file,
                                    .key = p->options.tls_key_file,
                                    .ca = p->options.tls_ca_file};
    char secret[REMOTE_KEY_MAX + 1] = "";
    int rc;

    (void)gethostname(host, sizeof host - 1); /* for people; empty will do */
    (void)snprintf(p->owner, sizeof p->owner, "%s:%ld", host, (long)getpid());
    remote_options_init(&remote);
    rc = tls_files_client(p->options.tls, &files, p->options.tls_server_name, &p->tls, &p->err);
    if (rc != 0) {
        return rc;
    }
    remote.tcp.tls = &p->tls;
    if (p->options.access_key[0] != '\0') {
        rc = secret_file_read(p->options.secret_key_file, secret, sizeof secret, &p->err);
        if (rc != 0) {
            return err_prefix(&p->err, "secret.key.file");
        }
        remote.access_key = p->options.access_key;
        remote.secret_key = secret;
    }
    rc = remote_init(&p->remote, &p->loop, key, &remote);
    sign_wipe(secret, sizeof secret);
    if (rc != 0) {
        return err_set(&p->err, rc, "network: %s", escrow_strerror(rc));
    }
    fill_relay_config(p, &cfg);
    p->sink = broker_sink_new(&p->remote, &brokers);
    if (p->sink != NULL) {
        p->relay = relay_loop_new(&p->loop, broker_sink_sink(p->sink), &cfg);
        p->cleaner = cleaner_new(&p->loop, broker_sink_sink(p->sink), &clean);
    }
    if (p->relay == NULL || p->cleaner == NULL) {
        return err_set(&p->err, ESCROW_ENOMEM, "out of memory");
    }
    relay_loop_start(p->relay);
    log_info("relay.start", "source %s to broker %s", p->options.source, p->options.broker);
    return 0;
}

static void stop_relay(struct program *p)
{
    if (p->sink == NULL) {
        return;
    }
    if (p->relay != NULL) {
        relay_loop_stop(p->relay); /* when it has not been */
    }
    if (p->cleaner != NULL) {
        cleaner_stop(p->cleaner);
    }
    remote_fini(&p->remote); /* everything that is under way comes back now */
    loop_run_once(&p->loop, false);
    cleaner_free(p->cleaner);
    relay_loop_free(p->relay);
    broker_sink_free(p->sink);
}

static int run(struct program *p, bool with_relay)
{
    int rc = loop_init(&p->loop);

    if (rc != 0) {
        (void)err_set(&p->err, rc, "event loop: %s", escrow_strerror(rc));
        return fail(&p->err);
    }
    rc = loop_on_signal(&p->loop, SIGTERM, on_signal, p);
    if (rc == 0) {
        rc = loop_on_signal(&p->loop, SIGINT, on_signal, p);
    }
    if (rc != 0) {
        (void)err_set(&p->err, rc, "signals: %s", escrow_strerror(rc));
    }
    if (rc == 0 && p->options.has_endpoint) {
        rc = start_endpoint(p);
    }
    if (rc == 0 && with_relay) {
        rc = start_relay(p);
    }
    if (rc == 0) {
        loop_run(&p->loop);
    } else {
        p->exit_code = fail(&p->err);
    }
    stop_relay(p);
    tls_context_free(&p->tls.context);
    checker_free(p->checker);
    check_http_free(p->http);
    loop_fini(&p->loop);
    return p->exit_code;
}

/* ---- the other commands ---- */

static int migrate(struct program *p)
{
    struct migrate_result result;

    if (migrate_run(p->options.db, SCHEMA_VERSION, &result, &p->err) != 0) {
        return fail(&p->err);
    }
    if (result.version_after == result.version_before) {
        (void)printf("schema escrow: version %d, nothing to do\n", result.version_after);
    } else {
        (void)printf("schema escrow: version %d, was %d\n", result.version_after,
                     result.version_before);
    }
    return EXIT_OK;
}

static int status(struct program *p, bool is_json)
{
    struct buf text;

    buf_init(&text, 0);
    if (status_run(p->options.db, is_json, &text, &p->err) != 0) {
        buf_fini(&text);
        return fail(&p->err);
    }
    print_buf(&text);
    return EXIT_OK;
}

static int replay(struct program *p, const char *condition)
{
    uint64_t rows;

    if (condition == NULL) {
        (void)err_set(&p->err, ESCROW_ECONFIG,
                      "replay: which rows? A condition on escrow.outbox_parked follows; true: all");
        return fail(&p->err);
    }
    if (replay_run(p->options.db, condition, &rows, &p->err) != 0) {
        return fail(&p->err);
    }
    (void)printf("%" PRIu64 " rows will be published again\n", rows);
    return EXIT_OK;
}

static int print_config(void)
{
    struct buf text;

    buf_init(&text, 0);
    options_print_example(&text);
    print_buf(&text);
    return printed();
}

/* Takes "--json" out of the arguments. */
static bool take_json(int *argc, char **argv)
{
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            memmove(argv + i, argv + i + 1, (size_t)(*argc - i - 1) * sizeof *argv);
            (*argc)--;
            return true;
        }
    }
    return false;
}

/* Takes the condition that follows "replay" out of the arguments; NULL: none does. */
static const char *take_condition(int *argc, char **argv)
{
    const char *condition = NULL;

    if (*argc > 2 && strcmp(argv[1], "replay") == 0 && strncmp(argv[2], "--", 2) != 0) {
        condition = argv[2];
        memmove(argv + 2, argv + 3, (size_t)(*argc - 3) * sizeof *argv);
        (*argc)--;
    }
    return condition;
}

static int dispatch(struct program *p, const char *command, const char *condition, bool is_json)
{
    if (strcmp(command, "run") == 0) {
        return run(p, true);
    }
    if (strcmp(command, "check-endpoint") == 0) {
        if (!p->options.has_endpoint) {
            (void)err_set(&p->err, ESCROW_ECONFIG, "check.listen is off: there is nothing to do");
            return fail(&p->err);
        }
        return run(p, false);
    }
    if (strcmp(command, "migrate") == 0) {
        return migrate(p);
    }
    if (strcmp(command, "status") == 0) {
        return status(p, is_json);
    }
    if (strcmp(command, "replay") == 0) {
        return replay(p, condition);
    }
    (void)err_set(&p->err, ESCROW_ECONFIG, "unknown command '%.40s'; see escrow-relay --help",
                  command);
    return fail(&p->err);
}

static bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], word) == 0) {
            return true;
        }
    }
    return false;
}

int main(int argc, char **argv)
{
    static struct program p; /* zeroed, and too big for comfort on the stack */
    const char *command = argc > 1 ? argv[1] : "";
    int left;
    const char *condition;
    bool is_json;
    int code;

    log_set_program("escrow-relay");
    if (standard_fds_open(&p.err) != 0) {
        return fail(&p.err);
    }
    if (argc < 2 || has_word(argc, argv, "--help") || has_word(argc, argv, "-h") ||
        strcmp(command, "help") == 0) {
        usage();
        return argc < 2 ? EXIT_USAGE : printed();
    }
    if (has_word(argc, argv, "--version")) {
        (void)printf("escrow-relay %s\n", ESCROW_VERSION);
        return printed();
    }
    if (strcmp(command, "print-config") == 0) {
        return print_config();
    }
    condition = take_condition(&argc, argv);
    left = argc - 2;
    is_json = strcmp(command, "status") == 0 && take_json(&left, argv + 2);
    if (read_options(&p.options, left, argv + 2, &p.err) == 0) {
        code = dispatch(&p, command, condition, is_json);
    } else {
        (void)fail(&p.err);
        code = p.err.code == ESCROW_ENOMEM ? EXIT_FAILED : EXIT_USAGE; /* also a missing file */
    }
    options_fini(&p.options);
    return code;
}
