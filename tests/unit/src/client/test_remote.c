/* Connections to an address: what calls are told. */
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "src/client/remote.h"
#include "tests/unit/src/client/client_main.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct rig {
    struct loop loop;
    struct remote remote;
    char addr[REMOTE_ADDR_MAX];
    int listen_fd; /* the kernel connects whoever comes; nobody answers */
    bool is_up;
    int ended;
    int error;
};

static void on_state(void *arg, const char *addr, bool is_open)
{
    (void)addr;
    ((struct rig *)arg)->is_up = is_open;
}

static void on_done(struct remote_call *call, int error, struct header *header, struct slice body)
{
    struct rig *r = call->arg;

    (void)header;
    (void)body;
    r->ended++;
    r->error = error;
}

static void rig_start(struct rig *r)
{
    struct remote_options options;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;

    *r = (struct rig){.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    ck_assert_int_ge(r->listen_fd, 0);
    ck_assert_int_eq(bind(r->listen_fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(listen(r->listen_fd, 8), 0);
    ck_assert_int_eq(getsockname(r->listen_fd, (struct sockaddr *)&at, &size), 0);
    (void)snprintf(r->addr, sizeof r->addr, "127.0.0.1:%u", (unsigned)ntohs(at.sin_port));
    ck_assert_int_eq(loop_init(&r->loop), 0);
    remote_options_init(&options);
    options.encoding = REMOTE_JSON; /* no question first */
    options.on_state = on_state;
    options.arg = r;
    ck_assert_int_eq(remote_init(&r->remote, &r->loop, (struct hash_key){.k0 = 1}, &options), 0);
}

static void rig_stop(struct rig *r)
{
    remote_fini(&r->remote);
    loop_fini(&r->loop);
    ck_assert_int_eq(close(r->listen_fd), 0);
    ck_assert_int_eq(mem_live_count(), 0);
}

START_TEST(a_connection_that_is_being_closed_is_no_lack_of_memory)
{
    /* Between the close and its callback nothing can be written: there is no connection. */
    struct rig r;
    struct remote_call call = {.arg = &r};
    struct remote_request req = {.code = 34, .timeout_ms = 60000};
    struct answer_to to = {.opaque = 1};

    rig_start(&r);
    req.addr = r.addr;
    ck_assert_int_eq(remote_oneway(&r.remote, &req), ESCROW_ECONN); /* connects */
    while (!r.is_up) {
        loop_run_once(&r.loop, true);
    }
    ck_assert_int_eq(remote_oneway(&r.remote, &req), 0);
    remote_disconnect(&r.remote, r.addr);
    remote_call(&r.remote, &call, &req, on_done);
    ck_assert_int_eq(remote_oneway(&r.remote, &req), ESCROW_ECONN);
    ck_assert_int_eq(remote_answer(&r.remote, r.addr, to, 0, SLICE_EMPTY, SLICE_EMPTY),
                     ESCROW_ECONN);
    ck_assert(r.is_up); /* nobody was told yet */
    while (r.ended == 0 || r.is_up) {
        loop_run_once(&r.loop, true);
    }
    ck_assert_int_eq(r.error, ESCROW_ECONN);
    ck_assert_int_eq(r.ended, 1);
    rig_stop(&r);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_connection_that_is_being_closed_is_no_lack_of_memory};

    return client_main("client_remote", tests, sizeof tests / sizeof tests[0]);
}
