/*
 * A message that is sent exactly if a PostgreSQL transaction commits: a debit, and the news of it.
 * No callbacks: should this process die, escrow-relay tells the broker what the database knows.
 *
 * Before: escrow-relay migrate; CREATE TABLE account (id int PRIMARY KEY, cents int CHECK (cents
 * >= 0)); and a row with id 1.
 *
 * usage: 04_pg_transaction NAME-SERVERS CONNINFO TOPIC CENTS
 */
#include <escrow/escrow.h>
#include <escrow/pg.h>

#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

/* The business part: any statements on the connection. */
static int debit(PGconn *conn, const char *cents)
{
    const char *const values[] = {cents};
    PGresult *res = PQexecParams(conn, "UPDATE account SET cents = cents - $1::int WHERE id = 1", 1,
                                 NULL, values, NULL, NULL, 0);
    int is_done = PQresultStatus(res) == PGRES_COMMAND_OK && strcmp(PQcmdTuples(res), "1") == 0;

    if (!is_done) {
        (void)fprintf(stderr, "04_pg_transaction: %s\n",
                      PQresultStatus(res) == PGRES_COMMAND_OK ? "no account 1"
                                                              : PQerrorMessage(conn));
    }
    PQclear(res);
    return is_done;
}

static int transfer(struct escrow_producer *producer, PGconn *conn, const char *topic,
                    const char *cents)
{
    struct escrow_message *message = escrow_message_new(topic, cents, strlen(cents));
    struct escrow_pg_txn *txn = NULL;
    int rc = message == NULL ? ESCROW_ENOMEM : escrow_pg_begin(producer, conn, &txn);

    if (rc == 0) {
        rc = escrow_pg_publish(txn, message);
    }
    if (rc == 0 && debit(conn, cents)) {
        rc = escrow_pg_commit(&txn);
        if (rc == 0) {
            (void)printf("committed\n");
        }
    } else if (txn != NULL) {
        (void)escrow_pg_rollback(&txn); /* the message goes with it */
        (void)printf("rolled back\n");
    }
    if (rc != 0) {
        /* class UNKNOWN: the connection was lost during COMMIT; account and message agree */
        (void)fprintf(stderr, "04_pg_transaction: %s\n", escrow_last_error());
    }
    escrow_message_free(&message);
    return rc;
}

int main(int argc, char **argv)
{
    struct escrow_client *client = NULL;
    struct escrow_producer *producer = NULL;
    PGconn *conn;
    int rc = 1;

    if (argc != 5) {
        (void)fprintf(stderr, "usage: 04_pg_transaction NAME-SERVERS CONNINFO TOPIC CENTS\n");
        return 2;
    }
    conn = PQconnectdb(argv[2]);
    if (PQstatus(conn) != CONNECTION_OK) {
        (void)fprintf(stderr, "04_pg_transaction: %s", PQerrorMessage(conn));
    } else if (escrow_client_new(argv[1], NULL, &client) != 0 ||
               escrow_producer_new(client, "example-bank", NULL, &producer) != 0) {
        (void)fprintf(stderr, "04_pg_transaction: %s\n", escrow_last_error());
    } else {
        rc = transfer(producer, conn, argv[3], argv[4]);
    }
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    PQfinish(conn);
    return rc == 0 ? 0 : 1;
}
