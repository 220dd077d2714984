/*
 * Send messages and wait until the broker has stored each of them. usage: 01_send [NAME-SERVERS
 * [TOPIC [COUNT]]]
 */
#include <escrow/escrow.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    const char *servers = argc > 1 ? argv[1] : "127.0.0.1:9876";
    const char *topic = argc > 2 ? argv[2] : "hello";
    int count = argc > 3 ? atoi(argv[3]) : 1;
    struct escrow_client *client = NULL;
    struct escrow_producer *producer = NULL;
    int failed = 0;

    if (escrow_client_new(servers, NULL, &client) != 0 ||
        escrow_producer_new(client, "example-producers", NULL, &producer) != 0) {
        (void)fprintf(stderr, "01_send: %s\n", escrow_last_error());
        return 1;
    }
    for (int i = 0; i < count; i++) {
        char body[64];
        struct escrow_receipt *receipt = NULL;
        struct escrow_message *message;
        (void)snprintf(body, sizeof body, "hello %d", i);
        message = escrow_message_new(topic, body, strlen(body));
        if (message == NULL || escrow_message_set_tag(message, "greeting") != 0 ||
            escrow_send(producer, message, &receipt) != 0) {
            (void)fprintf(stderr, "01_send: %s\n", escrow_last_error());
            failed = 1;
        } else {
            (void)printf("%s queue %d offset %lld\n", escrow_receipt_message_id(receipt),
                         escrow_receipt_queue(receipt), (long long)escrow_receipt_offset(receipt));
        }
        escrow_receipt_free(&receipt);
        escrow_message_free(&message);
    }
    escrow_producer_free(&producer);
    escrow_client_free(&client);
    return failed;
}
