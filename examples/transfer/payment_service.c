/*
 * Service B of the money transfer: credits an account for every message, exactly once: the inbox
 * remembers in the same transaction which transfers were credited, so a message that comes twice
 * changes nothing.
 *
 * usage: payment_service CONNINFO NAME-SERVERS
 */
#include <escrow/escrow.h>

#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *conninfo;

/*
 * One connection per handler thread, opened again when it was lost; the process's end closes them.
 */
static PGconn *connection(void)
{
    static _Thread_local PGconn *conn;

    if (conn == NULL || PQstatus(conn) != CONNECTION_OK) {
        PQfinish(conn);
        conn = PQconnectdb(conninfo);
    }
    return conn;
}

static int run(PGconn *conn, const char *sql, char *value, size_t size)
{
    PGresult *res = PQexec(conn, sql);
    int ok = PQresultStatus(res) == PGRES_COMMAND_OK || PQresultStatus(res) == PGRES_TUPLES_OK;

    if (ok && value != NULL) {
        (void)snprintf(value, size, "%s", PQntuples(res) == 1 ? PQgetvalue(res, 0, 0) : "");
    }
    PQclear(res);
    return ok;
}

static enum escrow_consume_result credit(const struct escrow_delivery *message, void *arg)
{
    size_t bytes;
    const char *body = escrow_delivery_body(message, &bytes);
    PGconn *conn = connection();
    char text[96];
    char sql[320];
    char first[8] = "";
    int id;
    int account;
    int amount;

    (void)arg;
    (void)snprintf(text, sizeof text, "%.*s", (int)(bytes < sizeof text ? bytes : 0), body);
    if (sscanf(text, "%d %d %d", &id, &account, &amount) != 3) {
        (void)fprintf(stderr, "payment_service: not a transfer: %s\n", text);
        /* to the dead-letter queue in the end, where a person looks at it */
        return ESCROW_CONSUME_RETRY;
    }
    (void)snprintf(sql, sizeof sql,
                   "BEGIN; SELECT escrow.inbox_accept('payments', 'transfers', '%d')", id);
    if (!run(conn, sql, first, sizeof first)) {
        (void)run(conn, "ROLLBACK", NULL, 0);
        return ESCROW_CONSUME_RETRY;
    }
    if (strcmp(first, "t") == 0) {
        (void)snprintf(sql, sizeof sql,
                       "UPDATE account SET balance = balance + %d WHERE id = %d;"
                       "INSERT INTO credit (transfer, account, amount) VALUES (%d, %d, %d); COMMIT",
                       amount, account, id, account, amount);
    } else {
        (void)snprintf(sql, sizeof sql, "COMMIT");
    }
    if (!run(conn, sql, NULL, 0)) {
        (void)run(conn, "ROLLBACK", NULL, 0);
        return ESCROW_CONSUME_RETRY;
    }
    return ESCROW_CONSUME_OK;
}

int main(int argc, char **argv)
{
    static const struct escrow_option options[] = {
        {"retry.level", "1"}, {"commit.ms", "200"}, {NULL, NULL}};
    struct escrow_client *client = NULL;
    struct escrow_consumer *consumer = NULL;
    sigset_t ends;
    int signum;

    if (argc != 3) {
        (void)fprintf(stderr, "usage: payment_service CONNINFO NAME-SERVERS\n");
        return 2;
    }
    conninfo = argv[1];
    /* Before there are threads: these two wait for sigwait below, whenever they come. */
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &ends, NULL);
    if (escrow_client_new(argv[2], NULL, &client) != 0 ||
        escrow_consumer_new(client, "payments", options, &consumer) != 0 ||
        escrow_consumer_subscribe(consumer, "transfers", "*") != 0 ||
        escrow_consumer_start(consumer, credit, NULL) != 0) {
        (void)fprintf(stderr, "payment_service: %s\n", escrow_last_error());
        return 1;
    }
    (void)sigwait(&ends, &signum);
    escrow_consumer_free(&consumer);
    escrow_client_free(&client);
    return 0;
}
