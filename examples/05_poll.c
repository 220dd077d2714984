/*
 * Receive messages without a handler: ask for a few, work on them, say that they are done. usage:
 * 05_poll [NAME-SERVERS [TOPIC [COUNT [GROUP]]]]
 *
 * What was not committed comes again, here or at another member of the group.
 */
#include <escrow/escrow.h>

#include <stdio.h>
#include <stdlib.h>

#define BATCH 16

static void work(const struct escrow_delivery *message)
{
    size_t bytes;
    const char *body = escrow_delivery_body(message, &bytes);

    (void)printf("%s %.*s (queue %d offset %lld)\n", escrow_delivery_message_id(message),
                 (int)bytes, body, escrow_delivery_queue(message),
                 (long long)escrow_delivery_offset(message));
}

int main(int argc, char **argv)
{
    const char *servers = argc > 1 ? argv[1] : "127.0.0.1:9876";
    const char *topic = argc > 2 ? argv[2] : "hello";
    const char *group = argc > 4 ? argv[4] : "example-pollers";
    long left = argc > 3 ? strtol(argv[3], NULL, 10) : 1;
    const struct escrow_option options[] = {{"commit", "manual"}, {NULL, NULL}};
    struct escrow_client *client = NULL;
    struct escrow_consumer *consumer = NULL;
    struct escrow_delivery *messages[BATCH];
    size_t count = 0;
    int rc;

    rc = escrow_client_new(servers, NULL, &client);
    if (rc == 0) {
        rc = escrow_consumer_new(client, group, options, &consumer);
    }
    if (rc == 0) {
        rc = escrow_consumer_subscribe(consumer, topic, "*");
    }
    if (rc == 0) {
        rc = escrow_consumer_start(consumer, NULL, NULL);
    }
    while (rc == 0 && left > 0) {
        rc = escrow_consumer_poll(consumer, 10000, messages, BATCH, &count);
        for (size_t i = 0; rc == 0 && i < count; i++, left--) {
            work(messages[i]);
            escrow_delivery_free(&messages[i]);
        }
        if (rc == 0) {
            rc = escrow_consumer_commit(consumer);
        }
    }
    if (rc != 0) {
        (void)fprintf(stderr, "05_poll: %s\n", escrow_last_error());
    }
    escrow_consumer_free(&consumer);
    escrow_client_free(&client);
    return rc == 0 ? 0 : 1;
}
