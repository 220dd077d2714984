/*
 * Receive messages in a consumer group until so many have come. usage: 02_consume [NAME-SERVERS
 * [TOPIC [COUNT [GROUP]]]]
 */
#include <escrow/escrow.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static atomic_int left;

static enum escrow_consume_result handle(const struct escrow_delivery *message, void *arg)
{
    size_t bytes;
    const char *body = escrow_delivery_body(message, &bytes);

    (void)arg;
    (void)printf("%s %.*s (queue %d offset %lld)\n", escrow_delivery_message_id(message),
                 (int)bytes, body, escrow_delivery_queue(message),
                 (long long)escrow_delivery_offset(message));
    (void)fflush(stdout);
    atomic_fetch_sub(&left, 1);
    return ESCROW_CONSUME_OK; /* ESCROW_CONSUME_RETRY: come again later */
}

int main(int argc, char **argv)
{
    const char *servers = argc > 1 ? argv[1] : "127.0.0.1:9876";
    const char *topic = argc > 2 ? argv[2] : "hello";
    const char *group = argc > 4 ? argv[4] : "example-consumers";
    struct timespec pause = {.tv_nsec = 20000000};
    struct escrow_client *client = NULL;
    struct escrow_consumer *consumer = NULL;

    atomic_store(&left, argc > 3 ? atoi(argv[3]) : 1);
    if (escrow_client_new(servers, NULL, &client) != 0 ||
        escrow_consumer_new(client, group, NULL, &consumer) != 0 ||
        escrow_consumer_subscribe(consumer, topic, "*") != 0 ||
        escrow_consumer_start(consumer, handle, NULL) != 0) {
        (void)fprintf(stderr, "02_consume: %s\n", escrow_last_error());
        return 1;
    }
    while (atomic_load(&left) > 0) {
        (void)nanosleep(&pause, NULL);
    }
    escrow_consumer_free(&consumer);
    escrow_client_free(&client);
    return 0;
}
