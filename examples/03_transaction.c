/*
 * A half message around a local transaction. Here the "database" is a file: the transaction is to
 * create it. Killed between the half and the decision, the broker asks any process of the group
 * what became of it: run it again with "answer", which sends nothing and stays until it was asked.
 *
 * usage: 03_transaction NAME-SERVERS TOPIC FILE [commit|rollback|die|answer]
 */
#include <escrow/escrow.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *path;
static atomic_bool was_asked;

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
    enum escrow_txn_state state = access(path, F_OK) == 0 ? ESCROW_TXN_COMMIT : ESCROW_TXN_ROLLBACK;

    (void)message;
    (void)arg;
    (void)printf("checked back: %s: %s\n", id,
                 state == ESCROW_TXN_COMMIT ? "committed" : "rolled back");
    atomic_store(&was_asked, true);
    return state;
}

static void stay_until_asked(void)
{
    struct timespec pause = {.tv_nsec = 20000000};

    while (!atomic_load(&was_asked)) {
        (void)nanosleep(&pause, NULL);
    }
}

static int transfer(struct escrow_producer *producer, const char *topic, char *what)
{
    struct escrow_message *message = escrow_message_new(topic, path, strlen(path));
    enum escrow_txn_state state;
    int rc = message == NULL ? ESCROW_ENOMEM
                             : escrow_txn_send(producer, message, execute, what, &state, NULL);

    if (rc != 0) {
        (void)fprintf(stderr, "03_transaction: %s\n", escrow_last_error());
    } else {
        (void)printf("%s\n", state == ESCROW_TXN_COMMIT ? "committed" : "rolled back");
    }
    escrow_message_free(&message);
    return rc;
}

int main(int argc, char **argv)
{
    char what[16];
    struct escrow_client *client = NULL;
    struct escrow_producer *producer = NULL;
    int rc = 0;

    if (argc < 4) {
        (void)fprintf(
            stderr, "usage: 03_transaction NAME-SERVERS TOPIC FILE [commit|rollback|die|answer]\n");
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
    if (strcmp(what, "answer") == 0) {
        stay_until_asked();
    } else {
        rc = transfer(producer, argv[2], what);
    }
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    return rc == 0 ? 0 : 1;
}
