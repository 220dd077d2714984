#include "tests/integration/client/pg_proxy.h"

#include "tests/integration/client/forward.h"

#include <check.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET_NAME  ".s.PGSQL.5432"
#define BUFFER_BYTES 65536

static struct sockaddr_un address(const char *path)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    NEED(strlen(path) < sizeof addr.sun_path);
    memcpy(addr.sun_path, path, strlen(path));
    return addr;
}

/*
 * Pass on what one side has sent; false when the connection is to end. COMMIT is looked for in what
 * one read brought: both sides send it in one piece, with what belongs to it.
 */
static bool pass(struct pg_proxy *p, int from, int to, bool is_client)
{
    static char buffer[BUFFER_BYTES];
    static const char word[] = "COMMIT"; /* with its NUL it ends both the query and the answer */
    enum pg_cut cut = (enum pg_cut)atomic_load(&p->cut_at);
    ssize_t n = read(from, buffer, sizeof buffer);
    const char *at;

    if (n <= 0) {
        return n < 0 && errno == EINTR;
    }
    at = cut == PG_CUT_NEVER || is_client != (cut != PG_CUT_AFTER)
             ? NULL
             : memmem(buffer, (size_t)n, word, sizeof word);
    if (at == NULL) {
        return forward(to, buffer, (size_t)n);
    }
    if (cut == PG_CUT_WITHIN) {
        NEED(forward(to, buffer, (size_t)(at - buffer) + 3));
    }
    atomic_store(&p->has_cut, true);
    return false;
}

static void serve(struct pg_proxy *p, int client)
{
    struct sockaddr_un addr = address(p->server);
    int server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
    bool is_open = true;

    NEED(server >= 0);
    NEED(connect(server, (struct sockaddr *)(void *)&addr, sizeof addr) == 0);
    while (is_open) {
        NEED(poll(fds, 2, -1) > 0 || errno == EINTR);
        if (fds[0].revents != 0) {
            is_open = pass(p, client, server, true);
        }
        if (is_open && fds[1].revents != 0) {
            is_open = pass(p, server, client, false);
        }
    }
    (void)close(server);
    (void)close(client);
}

static void *run(void *arg)
{
    struct pg_proxy *p = arg;
    int client;

    while ((client = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >=
           0) { /* until it is shut down */
        serve(p, client);
    }
    return NULL;
}

void pg_proxy_start(struct pg_proxy *p, const char *server_folder, const char *database)
{
    struct sockaddr_un addr;
    char path[sizeof addr.sun_path];

    atomic_init(&p->cut_at, PG_CUT_NEVER);
    atomic_init(&p->has_cut, false);
    ck_assert(temp_folder_make(p->folder, "cut"));
    (void)snprintf(p->server, sizeof p->server, "%s/%s", server_folder, SOCKET_NAME);
    (void)snprintf(path, sizeof path, "%s/%s", p->folder, SOCKET_NAME);
    (void)snprintf(p->conninfo, sizeof p->conninfo, "host=%s user=escrow dbname=%s", p->folder,
                   database);
    addr = address(path);
    p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(p->listen_fd, 0);
    ck_assert_int_eq(bind(p->listen_fd, (struct sockaddr *)(void *)&addr, sizeof addr), 0);
    ck_assert_int_eq(listen(p->listen_fd, 4), 0);
    ck_assert_int_eq(pthread_create(&p->thread, NULL, run, p), 0);
}

void pg_proxy_stop(struct pg_proxy *p)
{
    char path[sizeof p->folder + sizeof SOCKET_NAME + 1];

    ck_assert_int_eq(shutdown(p->listen_fd, SHUT_RDWR), 0);
    ck_assert_int_eq(pthread_join(p->thread, NULL), 0);
    (void)close(p->listen_fd);
    (void)snprintf(path, sizeof path, "%s/%s", p->folder, SOCKET_NAME);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(p->folder), 0);
}
