#include "tests/integration/client/rig.h"

#include "core/base/mem.h"
#include "tests/lib/temp_folder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LOG_BYTES   (1 << 20)
#define LINES_MAX   65536
#define SECONDS_MAX 60

/* ---- escrowd ---- */

static void child(const struct rig *r, const char *broker_port, const char *name_port, int log_fd)
{
    const char *argv[RIG_ARGS_MAX + 16] = {
        ESCROWD,     "--data.dir",          r->folder, "--broker.port",
        broker_port, "--broker.vip.port",   "0",       "--namesrv.port",
        name_port,   "--log.segment.bytes", "64m",     "--disk.warning.ratio",
        "100"};
    size_t n = 13; /* a small log: dozens of them are made; args may say otherwise */

    for (size_t i = 0; r->args[i] != NULL; i++) {
        argv[n++] = r->args[i];
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)dup2(log_fd, STDOUT_FILENO);
    (void)dup2(log_fd, STDERR_FILENO);
    (void)execv(ESCROWD, (char *const *)(void *)argv);
    _exit(127);
}

/* "listen WHAT listens on ADDR" */
static void take_addr(const char *log, const char *what, char *addr, size_t size)
{
    const char *at = strstr(log, what);
    size_t len;

    ck_assert_msg(at != NULL, "no line '%s' in %s", what, log);
    at += strlen(what);
    len = strcspn(at, " \n");
    ck_assert_uint_lt(len, size);
    memcpy(addr, at, len);
    addr[len] = '\0';
}

static void wait_ready(struct rig *r)
{
    static char log[LINES_MAX];
    size_t len = 0;

    log[0] = '\0';
    while (strstr(log, "is ready") == NULL) {
        ssize_t n = read(r->log_fd, log + len, sizeof log - 1 - len);
        if (n <= 0 && errno == EINTR) {
            continue;
        }
        ck_assert_msg(n > 0, "escrowd did not start: %s", log);
        len += (size_t)n;
        log[len] = '\0';
    }
    take_addr(log, "broker listens on ", r->broker, sizeof r->broker);
    if (!r->is_broker_only) {
        take_addr(log, "name server listens on ", r->name_server, sizeof r->name_server);
    }
}

static const char *port_of(const char *addr)
{
    const char *colon = strrchr(addr, ':');

    return colon == NULL ? "0" : colon + 1;
}

static void launch(struct rig *r)
{
    int ends[2];

    ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
    (void)fcntl(ends[1], F_SETPIPE_SZ, LOG_BYTES); /* nobody reads what comes after the start */
    r->pid = fork();
    ck_assert_int_ge(r->pid, 0);
    if (r->pid == 0) {
        child(r, port_of(r->broker), port_of(r->name_server), ends[1]);
    }
    (void)close(ends[1]);
    r->log_fd = ends[0];
    wait_ready(r);
}

static void make_folder(struct rig *r)
{
    _Static_assert(sizeof r->folder == TEMP_FOLDER_MAX, "the folder's name has to fit");
    ck_assert(temp_folder_make(r->folder, "client"));
}

static void start(struct rig *r, const char *const *args)
{
    for (size_t i = 0; args != NULL && args[i] != NULL; i++) {
        ck_assert_uint_lt(i + 1, RIG_ARGS_MAX);
        r->args[i] = args[i];
    }
    make_folder(r);
    launch(r);
}

void rig_start(struct rig *r, const char *const *args)
{
    *r = (struct rig){.pid = -1};
    start(r, args);
}

void rig_start_broker(struct rig *r, const char *const *args)
{
    *r = (struct rig){.pid = -1, .is_broker_only = true};
    start(r, args);
}

static int reap(struct rig *r)
{
    int status = 0;

    ck_assert_int_eq(waitpid(r->pid, &status, 0), r->pid);
    (void)close(r->log_fd);
    r->pid = -1;
    return status;
}

void rig_kill(struct rig *r)
{
    ck_assert_int_eq(kill(r->pid, SIGKILL), 0);
    (void)reap(r); /* killed: its status says nothing */
}

void rig_restart(struct rig *r)
{
    launch(r);
}

void rig_start_twin(struct rig *r, const struct rig *dead)
{
    ck_assert_int_lt(dead->pid, 0);
    *r = *dead;
    make_folder(r);
    launch(r);
}

void rig_stop(struct rig *r)
{
    if (r->pid > 0) {
        int status;
        ck_assert_int_eq(kill(r->pid, SIGTERM), 0);
        status = reap(r);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "escrowd ended with %d",
                      status);
    }
    ck_assert(temp_folder_remove(r->folder));
}

struct escrow_client *rig_client_with(const char *servers, const struct escrow_option *options)
{
    struct escrow_client *c = NULL;

    OK(escrow_client_new(servers, options, &c));
    return c;
}

struct escrow_client *rig_client(const struct rig *r)
{
    return rig_client_with(r->name_server, NULL);
}

/* ---- bag ---- */

void bag_init(struct bag *b)
{
    pthread_condattr_t attr;

    *b = (struct bag){.count = 0};
    ck_assert_int_eq(pthread_mutex_init(&b->lock, NULL), 0);
    ck_assert_int_eq(pthread_condattr_init(&attr), 0);
    ck_assert_int_eq(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC), 0);
    ck_assert_int_eq(pthread_cond_init(&b->changed, &attr), 0);
    (void)pthread_condattr_destroy(&attr);
}

void bag_fini(struct bag *b)
{
    for (size_t i = 0; i < b->count; i++) {
        mem_free(b->items[i]);
    }
    (void)pthread_cond_destroy(&b->changed);
    (void)pthread_mutex_destroy(&b->lock);
}

void bag_add(struct bag *b, const void *text, size_t len)
{
    char *copy = mem_alloc(len + 1);

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, text, len);
    copy[len] = '\0';
    (void)pthread_mutex_lock(&b->lock);
    ck_assert_uint_lt(b->count, BAG_MAX);
    b->items[b->count++] = copy;
    (void)pthread_cond_broadcast(&b->changed);
    (void)pthread_mutex_unlock(&b->lock);
}

static size_t all(const struct bag *b, const char *text)
{
    (void)text;
    return b->count;
}

static size_t equal(const struct bag *b, const char *text)
{
    size_t n = 0;

    for (size_t i = 0; i < b->count; i++) {
        n += strcmp(b->items[i], text) == 0 ? 1 : 0;
    }
    return n;
}

static int text_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static size_t distinct(const struct bag *b, const char *text)
{
    static _Thread_local const char *sorted[BAG_MAX];
    size_t n = 0;

    (void)text;
    for (size_t i = 0; i < b->count; i++) {
        sorted[i] = b->items[i];
    }
    qsort(sorted, b->count, sizeof sorted[0], text_compare);
    for (size_t i = 0; i < b->count; i++) {
        n += i == 0 || strcmp(sorted[i], sorted[i - 1]) != 0 ? 1 : 0;
    }
    return n;
}

static size_t locked(struct bag *b, size_t (*fn)(const struct bag *, const char *),
                     const char *text)
{
    size_t n;

    (void)pthread_mutex_lock(&b->lock);
    n = fn(b, text);
    (void)pthread_mutex_unlock(&b->lock);
    return n;
}

static void wait_until(struct bag *b, size_t (*fn)(const struct bag *, const char *),
                       const char *text, size_t count)
{
    struct timespec limit;
    size_t last_count = SIZE_MAX;
    size_t have = 0;
    int rc = 0;

    (void)clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += RIG_WAIT_MS / 1000;
    (void)pthread_mutex_lock(&b->lock);
    while (rc == 0) {
        if (b->count != last_count) {
            last_count = b->count;
            have = fn(b, text);
        }
        if (have >= count) {
            break;
        }
        rc = pthread_cond_timedwait(&b->changed, &b->lock, &limit);
    }
    (void)pthread_mutex_unlock(&b->lock);
    ck_assert_msg(have >= count, "%zu of %zu arrived%s%s", have, count, text == NULL ? "" : ": ",
                  text == NULL ? "" : text);
}

size_t bag_count(struct bag *b)
{
    return locked(b, all, NULL);
}

size_t bag_count_of(struct bag *b, const char *text)
{
    return locked(b, equal, text);
}

size_t bag_distinct(struct bag *b)
{
    return locked(b, distinct, NULL);
}

void bag_wait(struct bag *b, size_t count)
{
    wait_until(b, all, NULL, count);
}

void bag_wait_distinct(struct bag *b, size_t count)
{
    wait_until(b, distinct, NULL, count);
}

void bag_wait_for(struct bag *b, const char *text)
{
    wait_until(b, equal, text, 1);
}

enum escrow_consume_result bag_handler(const struct escrow_delivery *message, void *arg)
{
    size_t len;
    const void *body = escrow_delivery_body(message, &len);

    bag_add(arg, body, len);
    return ESCROW_CONSUME_OK;
}

struct escrow_consumer *rig_consume(struct escrow_client *c, const char *group, const char *topic,
                                    const char *expression, const struct escrow_option *options,
                                    escrow_handler_fn *handler, void *arg)
{
    struct escrow_consumer *k = NULL;

    OK(escrow_consumer_new(c, group, options, &k));
    OK(escrow_consumer_subscribe(k, topic, expression));
    OK(escrow_consumer_start(k, handler, arg));
    return k;
}

struct escrow_message *rig_message(const char *topic, const char *text)
{
    struct escrow_message *m = escrow_message_new(topic, text, strlen(text));

    ck_assert_ptr_nonnull(m);
    return m;
}

int rig_send(struct escrow_producer *p, const char *topic, const char *text)
{
    struct escrow_message *m = rig_message(topic, text);
    int rc = escrow_send(p, m, NULL);

    escrow_message_free(&m);
    return rc;
}

/* ---- black hole ---- */

void black_hole_open(struct black_hole *h)
{
    struct sockaddr_in addr = {.sin_family = AF_INET};
    socklen_t len = sizeof addr;

    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    h->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(h->fd, 0);
    ck_assert_int_eq(bind(h->fd, (struct sockaddr *)(void *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(h->fd, 16), 0); /* the kernel accepts; nobody reads */
    ck_assert_int_eq(getsockname(h->fd, (struct sockaddr *)(void *)&addr, &len), 0);
    (void)snprintf(h->addr, sizeof h->addr, "127.0.0.1:%u", (unsigned)ntohs(addr.sin_port));
}

void black_hole_close(struct black_hole *h)
{
    (void)close(h->fd);
}

int rig_main(const char *name, void (*add)(TCase *tc))
{
    Suite *s = suite_create(name);
    TCase *tc = tcase_create(name);
    SRunner *sr = srunner_create(s);
    char folder[TEMP_FOLDER_MAX];
    int failed;

    /* A test that fails leaves its folders: they lie in this one. */
    if (!temp_folder_make(folder, "rig") || chmod(folder, 0755) != 0 /* PostgreSQL's user */ ||
        setenv("TMPDIR", folder, 1) != 0) {
        (void)fprintf(stderr, "%s: %s\n", folder, strerror(errno));
        return 1;
    }
    suite_add_tcase(s, tc);
    tcase_set_timeout(tc, SECONDS_MAX);
    add(tc);
    srunner_run_all(sr, CK_NORMAL);
    failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    (void)temp_folder_remove(folder); /* nothing can be done about a failure */
    return failed == 0 ? 0 : 1;
}
