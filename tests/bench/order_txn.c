/*
 * The order transaction, in pgbench's manner: SESSIONS connections, each one transaction after the
 * other, for SECONDS.
 *
 *     plain  BEGIN, the five statements of work(), COMMIT: as many as in pgbench's own transaction,
 *     has,
 *            and in pgbench's own (the simple) query protocol
 *     half   the same around a half message, through escrow_pg_*
 *
 * For comparison "-prepared": the statements are prepared once per session, so that the database
 * has less to do for them; "-small": prepared, and only the first statement and the first INSERT.
 *
 * Prints transactions per second and how many failed. The same program, statements and threads for
 * both, so that the ratio is what messaging costs. Compiled by run.sh against libescrow.
 *
 * usage: order_txn plain|half[-prepared|-small] SESSIONS SECONDS CONNINFO [NAME-SERVERS]
 */
#include <escrow/escrow.h>
#include <escrow/pg.h>
#include <libpq-fe.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SESSIONS_MAX 256
#define BODY_BYTES   1024
#define ROWS         10000 /* accounts, items */

struct session {
    pthread_t thread;
    PGconn *conn;
    struct escrow_producer *producer; /* NULL: plain */
    bool is_small;
    bool is_prepared;
    uint64_t seed;
    uint64_t done;
    uint64_t failed;
};

static atomic_bool must_stop;

static double now_s(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* allow(clock): a program of its own, always there */
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* The end of a statement. */
static int check(PGconn *conn, PGresult *r, ExecStatusType expected)
{
    int rc = PQresultStatus(r) == expected ? 0 : -1;

    if (rc != 0) {
        (void)fprintf(stderr, "order_txn: %s", PQerrorMessage(conn));
    }
    PQclear(r);
    return rc;
}

/* What an order does: debit, look, take from stock, order, order line. */
static const struct statement {
    const char *name;
    const char *head; /* before the id */
    const char *tail; /* and behind it */
    ExecStatusType expected;
    bool is_small; /* also in the small transaction */
} statements[] = {
    {"debit", "UPDATE bench_account SET balance = balance - 1 WHERE id = ", "", PGRES_COMMAND_OK,
     true},
    {"look", "SELECT balance FROM bench_account WHERE id = ", "", PGRES_TUPLES_OK, false},
    {"take", "UPDATE bench_stock SET count = count - 1 WHERE id = ", "", PGRES_COMMAND_OK, false},
    {"order", "INSERT INTO bench_order (account, amount) VALUES (", ", 1)", PGRES_COMMAND_OK, true},
    {"line", "INSERT INTO bench_line (item, count) VALUES (", ", 1)", PGRES_COMMAND_OK, false},
};

#define STATEMENTS (sizeof statements / sizeof statements[0])

static void statement_text(const struct statement *t, const char *id, char *sql, size_t size)
{
    (void)snprintf(sql, size, "%s%s%s", t->head, id, t->tail); /* fits: the longest has 70 */
}

static int run_statement(const struct session *s, const struct statement *t, const char *id)
{
    const char *values[1] = {id};
    char sql[128];
    PGresult *r;

    if (s->is_prepared) {
        r = PQexecPrepared(s->conn, t->name, 1, values, NULL, NULL, 0);
    } else {
        statement_text(t, id, sql, sizeof sql);
        r = PQexec(s->conn, sql);
    }
    return check(s->conn, r, t->expected);
}

static int run(PGconn *conn, const char *sql)
{
    return check(conn, PQexec(conn, sql), PGRES_COMMAND_OK);
}

static int work(const struct session *s, uint64_t number)
{
    char id[32];
    int rc = 0;

    (void)snprintf(id, sizeof id, "%llu", (unsigned long long)number);
    for (size_t i = 0; rc == 0 && i < STATEMENTS; i++) {
        if (statements[i].is_small || !s->is_small) {
            rc = run_statement(s, &statements[i], id);
        }
    }
    return rc;
}

static int plain(struct session *s)
{
    if (run(s->conn, "BEGIN") != 0 || work(s, next_random(&s->seed) % ROWS) != 0) {
        (void)run(s->conn, "ROLLBACK"); /* counted as failed by the caller */
        return -1;
    }
    return run(s->conn, "COMMIT");
}

static int half(struct session *s)
{
    struct escrow_pg_txn *txn = NULL;
    struct escrow_message *message;
    uint64_t body[BODY_BYTES / sizeof(uint64_t)];
    int rc = escrow_pg_begin(s->producer, s->conn, &txn);

    if (rc != 0) {
        (void)fprintf(stderr, "order_txn: begin: %s\n", escrow_last_error());
        return rc;
    }
    for (size_t i = 0; i < sizeof body / sizeof body[0]; i++) {
        body[i] = next_random(&s->seed);
    }
    message = escrow_message_new("BenchOrders", body, sizeof body);
    rc = message == NULL ? ESCROW_ENOMEM : escrow_pg_publish(txn, message);
    escrow_message_free(&message);
    if (rc != 0 || work(s, next_random(&s->seed) % ROWS) != 0) {
        (void)escrow_pg_rollback(&txn); /* counted as failed by the caller */
        return -1;
    }
    rc = escrow_pg_commit(&txn);
    if (rc != 0) {
        (void)fprintf(stderr, "order_txn: commit: %s\n", escrow_last_error());
    }
    return rc;
}

static void *session_main(void *arg)
{
    struct session *s = arg;

    while (!atomic_load(&must_stop)) {
        int rc = s->producer != NULL ? half(s) : plain(s);
        s->done += rc == 0;
        s->failed += rc != 0;
        if (s->failed > 100) {
            break;
        }
    }
    return NULL;
}

static int session_open(struct session *s, const char *conninfo)
{
    int rc;

    s->conn = PQconnectdb(conninfo);
    rc = run(s->conn, "SET application_name = 'order_txn'"); /* is it connected? */
    for (size_t i = 0; rc == 0 && s->is_prepared && i < STATEMENTS; i++) {
        char sql[128];
        statement_text(&statements[i], "$1", sql, sizeof sql);
        rc = check(s->conn, PQprepare(s->conn, statements[i].name, sql, 1, NULL), PGRES_COMMAND_OK);
    }
    return rc;
}

/* Run all sessions for so long; returns the seconds it took. */
static double drive(struct session *sessions, int count, double seconds)
{
    struct timespec pause = {.tv_sec = (time_t)seconds,
                             .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    double begin = now_s();

    for (int i = 0; i < count; i++) {
        if (pthread_create(&sessions[i].thread, NULL, session_main, &sessions[i]) != 0) {
            abort();
        }
    }
    (void)nanosleep(&pause, NULL); /* allow(sleep): the measured time itself */
    atomic_store(&must_stop, true);
    for (int i = 0; i < count; i++) {
        (void)pthread_join(sessions[i].thread, NULL); /* they were created */
    }
    return now_s() - begin;
}

int main(int argc, char **argv)
{
    static struct session sessions[SESSIONS_MAX];
    struct escrow_client *client = NULL;
    struct escrow_producer *producer = NULL;
    uint64_t done = 0;
    uint64_t failed = 0;
    int count = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 0;
    bool is_half = argc > 1 && strncmp(argv[1], "half", 4) == 0;
    bool is_small = argc > 1 && strstr(argv[1], "small") != NULL;
    double took;

    if (argc < (is_half ? 6 : 5) || count < 1 || count > SESSIONS_MAX) {
        (void)fprintf(stderr,
                      "usage: order_txn plain|half[-prepared|-small] SESSIONS SECONDS CONNINFO "
                      "[NAME-SERVERS]\n");
        return 2;
    }
    if (is_half && (escrow_client_new(argv[5], NULL, &client) != 0 ||
                    escrow_producer_new(client, "bench-orders", NULL, &producer) != 0)) {
        (void)fprintf(stderr, "order_txn: %s\n", escrow_last_error());
        return 1;
    }
    for (int i = 0; i < count; i++) {
        sessions[i].producer = producer;
        sessions[i].is_small = is_small;
        sessions[i].is_prepared = is_small || strstr(argv[1], "-prepared") != NULL;
        sessions[i].seed = (uint64_t)(i + 1) * UINT64_C(0x9E3779B97F4A7C15);
        if (session_open(&sessions[i], argv[4]) != 0) {
            return 1;
        }
    }
    took = drive(sessions, count, strtod(argv[3], NULL));
    for (int i = 0; i < count; i++) {
        done += sessions[i].done;
        failed += sessions[i].failed;
        PQfinish(sessions[i].conn);
    }
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    (void)printf("{\"rate\":%.1f,\"failed\":%llu}\n", (double)done / took,
                 (unsigned long long)failed);
    return failed == 0 ? 0 : 1;
}
