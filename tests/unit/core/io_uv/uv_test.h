/*
 * What the tests of this folder share: a loop that runs until something is true, and raw sockets
 * that do exactly what a test wants. Everything is on the loopback interface, on ports that the
 * kernel chooses.
 */
#ifndef TESTS_UNIT_CORE_IO_UV_UV_TEST_H
#define TESTS_UNIT_CORE_IO_UV_UV_TEST_H

#include "core/io_uv/clock_system.h"
#include "core/io_uv/loop.h"
#include "tests/unit/core/base/unit_main.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define UV_TEST_PATIENCE_MS 20000 /* far above what any wait here takes, also under TSan */

/* A timer that does nothing but wake the loop, so that run_until looks again. */
static inline void uv_test_tick(void *arg)
{
    (void)arg;
}

/* Run the loop until cond(arg); a test that waits for ever fails here. */
static inline void run_until(struct loop *l, bool (*cond)(void *arg), void *arg)
{
    int64_t end_ms = clock_mono_ms(clock_system()) + UV_TEST_PATIENCE_MS;
    struct loop_timer tick = {0};

    loop_timer_start(l, &tick, 1, 1, uv_test_tick, NULL);
    while (!cond(arg)) {
        loop_run_once(l, true);
        ck_assert_msg(clock_mono_ms(clock_system()) < end_ms, "waited in vain");
    }
    loop_timer_stop(l, &tick);
}

static inline bool uv_test_is_true(void *arg)
{
    return *(bool *)arg;
}

static inline bool uv_test_is_time(void *arg)
{
    return clock_mono_ms(clock_system()) >= *(int64_t *)arg;
}

/* Run the loop for so long: to show that something does not happen. */
static inline void run_for(struct loop *l, int64_t ms)
{
    int64_t end_ms = clock_mono_ms(clock_system()) + ms;

    run_until(l, uv_test_is_time, &end_ms);
}

static inline struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* A connected socket that does not block; buf_bytes 0 = the kernel's choice. */
static inline int raw_connect(uint16_t port, int buf_bytes)
{
    struct sockaddr_in addr = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    if (buf_bytes > 0) {
        ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buf_bytes, sizeof buf_bytes), 0);
    }
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

/* Everything at once; only for amounts that fit into a socket's buffer. */
static inline void raw_send(int fd, const void *data, size_t len)
{
    ck_assert_int_eq((int)send(fd, data, len, MSG_NOSIGNAL), (int)len);
}

/* Close with a reset instead of a farewell. */
static inline void raw_reset(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    ck_assert_int_eq(close(fd), 0);
}

#endif
