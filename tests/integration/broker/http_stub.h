/*
 * A tiny HTTP server for check-backs: one thread, one request at a time, an answer by mode.
 *
 * Owns:    its thread and socket.
 * Thread:  the test's; `mode`, `asked` and `is_stopping` are shared with the stub's thread.
 */
#ifndef TESTS_INTEGRATION_BROKER_HTTP_STUB_H
#define TESTS_INTEGRATION_BROKER_HTTP_STUB_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum http_stub_mode {
    STUB_COMMIT,
    STUB_ROLLBACK,
    STUB_IN_PROGRESS,
    STUB_UNKNOWN,
    STUB_NOT_MINE,
    STUB_WRONG_NONCE,
    STUB_WRONG_ID,
    STUB_WRONG_STATE, /* "COMMITTED" */
    STUB_GARBAGE,     /* no JSON */
    STUB_STATUS_500,  /* with a valid body */
    STUB_CUT,         /* closes in the middle of the answer */
    STUB_SILENT,      /* no answer at all */
    STUB_MODE_COUNT
};

struct http_stub {
    pthread_t thread;
    int fd;
    uint16_t port;
    _Atomic int mode;
    _Atomic int asked[STUB_MODE_COUNT]; /* requests by the mode they met */
    _Atomic int is_stopping;
    char request[4096]; /* body of the last one; read it when the stub has stopped */
};

void http_stub_start(struct http_stub *s, enum http_stub_mode mode);
void http_stub_stop(struct http_stub *s);

/* Switch, and wait until `count` more requests met the new mode. */
void http_stub_expect(struct http_stub *s, enum http_stub_mode mode, int count);

#endif
