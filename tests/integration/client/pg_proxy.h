/*
 * Stands between libpq and PostgreSQL and cuts the connection at a chosen moment of a COMMIT.
 *
 * Owns:    a folder with the socket, and a thread that serves one connection after another.
 * Thread:  the test's; cut_at and has_cut are for both.
 * Errors:  end the test.
 */
#ifndef TESTS_INTEGRATION_CLIENT_PG_PROXY_H
#define TESTS_INTEGRATION_CLIENT_PG_PROXY_H

#include "tests/lib/temp_folder.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum pg_cut {
    PG_CUT_NEVER,
    PG_CUT_BEFORE, /* no byte of what carries COMMIT reaches the server */
    PG_CUT_WITHIN, /* a part of it does */
    PG_CUT_AFTER   /* the server has committed; its answer does not reach the client */
};

struct pg_proxy {
    char folder[TEMP_FOLDER_MAX];
    char conninfo[256];
    char server[128]; /* socket of the server */
    int listen_fd;
    pthread_t thread;
    atomic_int cut_at; /* enum pg_cut */
    atomic_bool has_cut;
};

/* database is one of the server whose sockets are in server_folder. */
void pg_proxy_start(struct pg_proxy *p, const char *server_folder, const char *database);

/* Its connections must be closed. */
void pg_proxy_stop(struct pg_proxy *p);

#endif
