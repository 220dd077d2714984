/*
 * Service A of the money transfer: takes planned transfers from its own database, debits an
 * account, and tells service B by a message that is published if, and only if, the debit commits.
 * It may be killed at any moment: started again it goes on with whatever has no outcome.
 *
 * Three ways to bind a message to a transaction, all in use at once; the transfer says which:
 *   path marker     escrow_pg_*: no callbacks; escrow-relay answers the broker's check-back from
 *                   the marker row
 *   path callback   escrow_txn_send: this process answers check-backs itself
 *   path outbox     SELECT escrow.publish(...): no client library at all in the transaction
 *
 * usage: order_service CONNINFO NAME-SERVERS
 *
 * For the demonstration it dies by SIGKILL at the worst moments: of path callback after SIGUSR1,
 * when a transfer has committed and the broker has not been told; of path marker after SIGUSR2,
 * when the broker has the half and the transaction is about to commit.
 */
#include <escrow/escrow.h>
#include <escrow/pg.h>

#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4
#define LIMIT_AMOUNT                                                                               \
    900 /* the business check: a transfer above it is refused, after the debit was written */
#define TOPIC "transfers"

struct transfer {
    int id;
    int debit;
    int amount;
    char path[16];
    char body[96];
};

struct service {
    const char *conninfo;
    struct escrow_producer *pg_producer;
    struct escrow_producer *callback_producer;
};

struct worker {
    struct service *service;
    int index;
    PGconn *conn;
};

static atomic_int die_on_path; /* SIGUSR1, SIGUSR2; 0: never */

static void on_signal(int signum)
{
    atomic_store(&die_on_path, signum);
}

static void worst_moment(int signum)
{
    if (atomic_load(&die_on_path) == signum) {
        (void)usleep(100000); /* what leaves in the background has arrived by then */
        (void)raise(SIGKILL);
    }
}

/* ---- the database ---- */

/* The connection, opened again when it was lost. */
static PGconn *connected(PGconn **conn, const char *conninfo)
{
    while (*conn == NULL || PQstatus(*conn) != CONNECTION_OK) {
        PQfinish(*conn);
        *conn = PQconnectdb(conninfo);
        if (PQstatus(*conn) != CONNECTION_OK) {
            usleep(100000);
        }
    }
    return *conn;
}

static bool run(PGconn *conn, const char *sql)
{
    PGresult *res = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(res);

    PQclear(res);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/*
 * Note the outcome and debit, inside a transaction. false: roll back; refused, failed, or done
 * already by a process that was killed before it could see its COMMIT through (the row then has an
 * outcome, and this transaction must not debit again).
 */
static bool debit(PGconn *conn, const struct transfer *t)
{
    char sql[160];
    PGresult *res;
    bool is_mine;

    (void)snprintf(sql, sizeof sql,
                   "UPDATE transfer SET outcome = 'committed' WHERE id = %d AND outcome IS NULL",
                   t->id);
    res = PQexec(conn, sql);
    is_mine = PQresultStatus(res) == PGRES_COMMAND_OK && strcmp(PQcmdTuples(res), "1") == 0;
    PQclear(res);
    (void)snprintf(sql, sizeof sql, "UPDATE account SET balance = balance - %d WHERE id = %d",
                   t->amount, t->debit);
    return is_mine && run(conn, sql) && t->amount <= LIMIT_AMOUNT;
}

static void note_refused(PGconn *conn, const struct transfer *t)
{
    char sql[160];

    (void)snprintf(sql, sizeof sql,
                   "UPDATE transfer SET outcome = 'rolled back' WHERE id = %d AND outcome IS NULL",
                   t->id);
    (void)run(conn, sql);
}

/* ---- the three ways ---- */

static void by_pg(struct worker *w, const struct transfer *t)
{
    struct escrow_message *m = escrow_message_new(TOPIC, t->body, strlen(t->body));
    struct escrow_pg_txn *txn = NULL;

    if (m != NULL && escrow_pg_begin(w->service->pg_producer, w->conn, &txn) == 0) {
        if (escrow_pg_publish(txn, m) == 0 && debit(w->conn, t)) {
            worst_moment(SIGUSR2);
            /* Whatever it says, the database knows: the outcome is read again. */
            if (escrow_pg_commit(&txn) != 0) {
                (void)fprintf(stderr, "order_service: %s\n", escrow_last_error());
            }
        } else {
            (void)escrow_pg_rollback(&txn);
            if (t->amount > LIMIT_AMOUNT) {
                note_refused(w->conn, t);
            }
        }
    }
    escrow_message_free(&m);
}

struct local {
    struct worker *worker;
    const struct transfer *transfer;
};

static enum escrow_txn_state execute(const struct escrow_message *message, const char *id,
                                     void *arg)
{
    struct local *local = arg;
    PGconn *conn = local->worker->conn;
    char mark[128];

    (void)message;
    (void)snprintf(mark, sizeof mark, "BEGIN; SELECT escrow.transaction_mark('%s')", id);
    if (!run(conn, mark) || !debit(conn, local->transfer)) {
        (void)run(conn, "ROLLBACK");
        if (local->transfer->amount > LIMIT_AMOUNT) {
            note_refused(conn, local->transfer);
        }
        return ESCROW_TXN_ROLLBACK;
    }
    if (!run(conn, "COMMIT")) {
        return ESCROW_TXN_UNKNOWN; /* the broker asks, and the marker answers */
    }
    worst_moment(SIGUSR1);
    return ESCROW_TXN_COMMIT;
}

/*
 * The broker asks, possibly about a transaction of a process that was killed. The marker answers,
 * and fences latecomers. This group's transactions are all in this one database; the half does not
 * say which, so the service does.
 */
static enum escrow_txn_state check(const struct escrow_delivery *message, const char *id, void *arg)
{
    const struct service *service = arg;
    const char *params[1] = {id};
    enum escrow_txn_state state = ESCROW_TXN_IN_PROGRESS;
    PGconn *conn = PQconnectdb(service->conninfo);
    PGresult *res = PQexecParams(
        conn,
        "SELECT escrow.transaction_check($1, NULL, system_identifier, timeline, database_name) "
        "FROM escrow.database_identity()",
        1, NULL, params, NULL, NULL, 0);

    (void)message;
    if (PQresultStatus(res) == PGRES_TUPLES_OK) {
        const char *answer = PQgetvalue(res, 0, 0);
        if (strcmp(answer, "commit") == 0) {
            state = ESCROW_TXN_COMMIT;
        } else if (strcmp(answer, "rollback") == 0) {
            state = ESCROW_TXN_ROLLBACK;
        }
    } else {
        (void)fprintf(stderr, "order_service: check-back of %s: %s\n", id, PQerrorMessage(conn));
    }
    PQclear(res);
    PQfinish(conn);
    return state;
}

static void by_callback(struct worker *w, const struct transfer *t)
{
    struct escrow_message *m = escrow_message_new(TOPIC, t->body, strlen(t->body));
    struct local local = {w, t};

    if (m != NULL) {
        (void)escrow_txn_send(w->service->callback_producer, m, execute, &local, NULL, NULL);
    }
    escrow_message_free(&m);
}

static void by_outbox(struct worker *w, const struct transfer *t)
{
    char sql[256];

    (void)snprintf(sql, sizeof sql, "SELECT escrow.publish_text('" TOPIC "', '%s')", t->body);
    if (run(w->conn, "BEGIN") && debit(w->conn, t) && run(w->conn, sql)) {
        (void)run(w->conn, "COMMIT"); /* the outcome is read again */
    } else {
        (void)run(w->conn, "ROLLBACK");
        if (t->amount > LIMIT_AMOUNT) {
            note_refused(w->conn, t);
        }
    }
}

/* ---- work ---- */

/*
 * The next transfer without an outcome that is this worker's; counts the attempt. false: none left.
 */
static bool next_transfer(struct worker *w, struct transfer *t)
{
    char sql[400];
    PGresult *res;
    bool found;

    (void)snprintf(
        sql, sizeof sql,
        "UPDATE transfer SET attempts = attempts + 1 WHERE id = (SELECT id FROM transfer "
        "WHERE outcome IS NULL AND id %% %d = %d ORDER BY id LIMIT 1) "
        "RETURNING id, debit, credit, amount, path",
        THREADS, w->index);
    for (;;) {
        res = PQexec(connected(&w->conn, w->service->conninfo), sql);
        if (PQresultStatus(res) == PGRES_TUPLES_OK) {
            break;
        }
        PQclear(res);
        usleep(50000);
    }
    found = PQntuples(res) == 1;
    if (found) {
        t->id = atoi(PQgetvalue(res, 0, 0));
        t->debit = atoi(PQgetvalue(res, 0, 1));
        t->amount = atoi(PQgetvalue(res, 0, 3));
        (void)snprintf(t->path, sizeof t->path, "%s", PQgetvalue(res, 0, 4));
        (void)snprintf(t->body, sizeof t->body, "%d %s %d", t->id, PQgetvalue(res, 0, 2),
                       t->amount);
    }
    PQclear(res);
    return found;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct transfer t;

    for (;;) {
        if (!next_transfer(w, &t)) {
            usleep(20000); /* until somebody asks for one */
        } else if (strcmp(t.path, "outbox") == 0) {
            by_outbox(w, &t);
        } else if (strcmp(t.path, "marker") == 0) {
            by_pg(w, &t);
        } else {
            by_callback(w, &t);
        }
    }
    return NULL; /* never */
}

int main(int argc, char **argv)
{
    struct service service = {.conninfo = argc == 3 ? argv[1] : NULL};
    struct worker workers[THREADS] = {{0}};
    pthread_t threads[THREADS];
    struct escrow_client *client = NULL;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: order_service CONNINFO NAME-SERVERS\n");
        return 2;
    }
    (void)signal(SIGUSR1, on_signal);
    (void)signal(SIGUSR2, on_signal);
    if (escrow_client_new(argv[2], NULL, &client) != 0 ||
        escrow_txn_producer_new(client, "orders-pg", NULL, NULL, NULL, &service.pg_producer) != 0 ||
        escrow_txn_producer_new(client, "orders-callback", NULL, check, &service,
                                &service.callback_producer) != 0) {
        (void)fprintf(stderr, "order_service: %s\n", escrow_last_error());
        return 1;
    }
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.service = &service, .index = i};
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0) {
            (void)fprintf(stderr, "order_service: cannot create a thread\n");
            return 1;
        }
    }
    for (;;) {
        pause(); /* transfers and check-backs go on until somebody ends this process */
    }
}
