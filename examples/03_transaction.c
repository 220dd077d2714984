/*
 * A half message around a local transaction. Here the "database" is a file: the transaction is to
 * create it. Killed between the half and the decision, the broker asks any process of the group
 * what became of it.
 *
 * usage: 03_transaction NAME-SERVERS TOPIC FILE [commit|rollback|die]
 */
#include <escrow/escrow.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *path;

static enum escrow_txn_state execute(const struct escrow_message *message, const char *id,
                                     void *arg)
{
    const char *what = arg;
    FILE *f;

    (void)message;
    if (strcmp(what, "rollback") == 0) {
        return ESCROW_TXN_ROLLBACK;
    }
    f = fopen(path, "w");
    if (f == NULL || fprintf(f, "%s\n", id) < 0 || fclose(f) != 0) {
        return ESCROW_TXN_ROLLBACK;
    }
    if (strcmp(what, "die") == 0) {
        _exit(3); /* committed, and nobody told the broker */
    }
    return ESCROW_TXN_COMMIT;
}

/* What became of it? The file says; a real service asks its database. */
static enum escrow_txn_state check(const struct escrow_delivery *message, const char *id, void *arg)
{
    (void)message;
    (void)arg;
    (void)printf("checked back: %s\n", id);
    return access(path, F_OK) == 0 ? ESCROW_TXN_COMMIT : ESCROW_TXN_ROLLBACK;
}

int main(int argc, char **argv)
{
    char what[16];
    struct escrow_client *client = NULL;
    struct escrow_producer *producer = NULL;
    struct escrow_message *message;
    enum escrow_txn_state state;
    int rc;

    if (argc < 4) {
        (void)fprintf(stderr,
                      "usage: 03_transaction NAME-SERVERS TOPIC FILE [commit|rollback|die]\n");
        return 2;
    }
    path = argv[3];
    (void)snprintf(what, sizeof what, "%s", argc > 4 ? argv[4] : "commit");
    if (escrow_client_new(argv[1], NULL, &client) != 0 ||
        escrow_txn_producer_new(client, "example-transactions", NULL, check, NULL, &producer) !=
            0) {
        (void)fprintf(stderr, "03_transaction: %s\n", escrow_last_error());
        return 1;
    }
    message = escrow_message_new(argv[2], path, strlen(path));
    rc = message == NULL ? ESCROW_ENOMEM
                         : escrow_txn_send(producer, message, execute, what, &state, NULL);
    if (rc != 0) {
        (void)fprintf(stderr, "03_transaction: %s\n", escrow_last_error());
    } else {
        (void)printf("%s\n", state == ESCROW_TXN_COMMIT ? "committed" : "rolled back");
    }
    escrow_message_free(&message);
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    return rc == 0 ? 0 : 1;
}
