/*
 * What the proxies of these tests share: passing bytes on, in a thread of their own.
 *
 * Owns:    nothing.
 * Thread:  the proxy's.
 */
#ifndef TESTS_INTEGRATION_CLIENT_FORWARD_H
#define TESTS_INTEGRATION_CLIENT_FORWARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

/* A failure in the thread would not be seen as the test's: it ends the process. */
#define NEED(expr)                                                                                 \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            perror(__FILE__ ": " #expr);                                                           \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* All of it. false: the other side is gone. */
bool forward(int fd, const void *bytes, size_t len);

#endif
