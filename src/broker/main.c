/*
 * escrowd: command line, signals, the parts put together.
 *
 * Exit status: 0 stopped as asked; 1 something failed for good (the log line says what); 2 bad
 * command line or configuration.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/io_uv/clock_system.h"
#include "core/io_uv/disk_posix.h"
#include "core/io_uv/standard_fds.h"
#include "src/broker/broker.h"
#include "src/broker/descriptors.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_USAGE 2

extern char **environ;

static void print_buf(const struct buf *b)
{
    (void)fwrite(b->ptr, 1, b->len, stdout); /* printed() looks at stdout */
}

/* The exit status of what only prints. */
static int printed(void)
{
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        (void)fprintf(stderr, "escrowd: standard output: cannot be written\n");
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static void usage(void)
{
    struct buf text;

    buf_init(&text, 0);
    buf_append_str(&text,
                   "usage: escrowd [--config FILE] [--OPTION VALUE]...\n\n"
                   "Transactional message broker: holds a message until the database commits. "
                   "Broker and name\n"
                   "server in one process, on 127.0.0.1, with no configuration at all.\n\n"
                   "  --config FILE                   read options from FILE (key = value lines)\n"
                   "  --print-config                  print an example configuration with every "
                   "option and exit\n"
                   "  --version, --help\n\n"
                   "Options; also as key = value in the file and as ESCROW_KEY (dots become _) in "
                   "the environment:\n");
    config_print_help(&text);
    buf_append_str(&text,
                   "\nStops cleanly at SIGTERM and SIGINT; reads users file, certificates and "
                   "keys again at SIGHUP. Exit status: 0 stopped, 1 failed, 2 usage.\n");
    print_buf(&text);
    buf_fini(&text);
}

static void print_example(void)
{
    struct buf text;

    buf_init(&text, 0);
    config_print_example(&text);
    print_buf(&text);
    buf_fini(&text);
}

static int take_callback(struct config *c, const char *value, struct err_ctx *err)
{
    const char *equals = strchr(value, '=');
    char key[300];

    if (equals == NULL || equals - value > 255) {
        return err_set(err, ESCROW_ECONFIG, "--callback: expected GROUP=URL");
    }
    (void)snprintf(key, sizeof key, "callback.%.*s", (int)(equals - value), value); /* fits */
    return config_set(c, key, equals + 1, "--callback", err);
}

/* One option of the command line: "--key value" or "--key=value". *used is 1 or 2 arguments. */
static int take_option(struct config *c, char **argv, int left, int *used, struct err_ctx *err)
{
    char key[64];
    const char *equals = strchr(argv[0], '=');
    size_t len = equals != NULL ? (size_t)(equals - argv[0]) : strlen(argv[0]);
    const char *value = equals != NULL ? equals + 1 : left > 1 ? argv[1] : NULL;
    char where[80];

    *used = equals != NULL ? 1 : 2;
    if (strncmp(argv[0], "--", 2) != 0 || len - 2 >= sizeof key) {
        return err_set(err, ESCROW_ECONFIG, "unexpected argument '%.80s'; see escrowd --help",
                       argv[0]);
    }
    (void)snprintf(key, sizeof key, "%.*s", (int)len - 2, argv[0] + 2); /* fits: checked above */
    if (value == NULL) {
        return err_set(err, ESCROW_ECONFIG, "--%s needs a value; see escrowd --help", key);
    }
    (void)snprintf(where, sizeof where, "--%s", key); /* fits */
    if (strcmp(key, "config") == 0) {
        return 0; /* read before everything else */
    }
    return strcmp(key, "callback") == 0 ? take_callback(c, value, err)
                                        : config_set(c, key, value, where, err);
}

/*
 * The file first, wherever --config stands on the command line; then the environment; then the
 * rest of the command line.
 */
static int read_configuration(struct config *c, int argc, char **argv, struct err_ctx *err)
{
    int used = 1;
    int rc = config_init(c, err);

    for (int i = 1; rc == 0 && i < argc; i++) {
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            rc = config_read_file(c, argv[i + 1], err);
        } else if (strncmp(argv[i], "--config=", 9) == 0) {
            rc = config_read_file(c, argv[i] + 9, err);
        }
    }
    if (rc == 0) {
        rc = config_read_environment(c, environ, err);
    }
    for (int i = 1; rc == 0 && i < argc; i += used) {
        rc = take_option(c, argv + i, argc - i, &used, err);
    }
    return rc == 0 ? config_finish(c, err) : rc;
}

/* A signal to stop. It may come while the broker is being started, which runs the loop, too. */
struct stop {
    struct loop *loop;
    bool is_wanted;
};

static void on_stop_signal(void *arg)
{
    struct stop *stop = arg;

    log_info("stop", "signal received, draining");
    stop->is_wanted = true;
    loop_stop(stop->loop);
}

static void on_reload_signal(void *arg)
{
    broker_reload(arg);
}

static int serve(struct config *c, struct loop *l, struct disk *disk)
{
    static struct broker broker; /* large: not on the stack */
    static struct stop stop;     /* a second signal may come until the loop is gone */
    struct err_ctx err = {.code = 0};
    int rc;

    stop.loop = l;
    rc = loop_on_signal(l, SIGTERM, on_stop_signal, &stop);
    if (rc == 0) {
        rc = loop_on_signal(l, SIGINT, on_stop_signal, &stop);
    }
    if (rc != 0) {
        log_error("start", "signals: %s", escrow_strerror(rc));
        return EXIT_FAILURE;
    }
    rc = broker_start(&broker, c, l, clock_system(), disk, &err);
    if (rc != 0) {
        log_error("start", "%s", err.text);
        return rc == ESCROW_ECONFIG ? EXIT_USAGE : EXIT_FAILURE;
    }
    rc = loop_on_signal(l, SIGHUP, on_reload_signal, &broker);
    if (rc != 0) {
        log_warn("start", "SIGHUP is not handled: %s", escrow_strerror(rc));
    }
    if (!stop.is_wanted) {
        log_info("ready", "escrowd %s is ready", ESCROW_VERSION);
        loop_run(l);
    }
    broker_stop(&broker);
    log_info("stopped", "stopped cleanly");
    return EXIT_SUCCESS;
}

static int run(struct config *c)
{
    static struct loop loop;
    struct disk *disk = NULL;
    struct err_ctx err = {.code = 0};
    int status;
    int rc = c->data_dir[0] == '\0' ? 0 : disk_posix_new(c->data_dir, &disk, &err);

    if (rc != 0 && !c->is_broker && c->is_default_data_dir) {
        log_warn("start", "data.dir: %s: key-value configuration cannot be set", err.text);
        rc = 0;
    }
    if (rc != 0) {
        log_error("start", "data.dir: %s", err.text);
        return EXIT_FAILURE;
    }
    rc = loop_init(&loop);
    if (rc != 0) {
        log_error("start", "event loop: %s", escrow_strerror(rc));
        disk_free(&disk);
        return EXIT_FAILURE;
    }
    status = serve(c, &loop, disk);
    loop_fini(&loop);
    disk_free(&disk);
    return status;
}

int main(int argc, char **argv)
{
    struct config config;
    struct err_ctx err = {.code = 0};
    int status;

    log_set_program("escrowd");
    if (standard_fds_open(&err) != 0) {
        log_error("start", "%s", err.text);
        return EXIT_FAILURE;
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            usage();
            return printed();
        }
        if (strcmp(argv[i], "--version") == 0) {
            (void)printf("escrowd %s\n", ESCROW_VERSION);
            return printed();
        }
        if (strcmp(argv[i], "--print-config") == 0) {
            print_example();
            return printed();
        }
    }
    if (read_configuration(&config, argc, argv, &err) != 0) {
        (void)fprintf(stderr, "escrowd: %s\n", err.text);
        config_fini(&config);
        return EXIT_USAGE;
    }
    log_set_level((enum log_level)log_level_from_name(config.log_level));
    mem_map_large();
    descriptors_prepare(&config);
    status = run(&config);
    config_fini(&config);
    return status;
}
