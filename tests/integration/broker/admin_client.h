/*
 * What tests of administration requests share: asking, and looking into bodies that are text.
 *
 * Owns:    nothing.    Thread: the test's.    Errors: end the test.
 */
#ifndef TESTS_INTEGRATION_BROKER_ADMIN_CLIENT_H
#define TESTS_INTEGRATION_BROKER_ADMIN_CLIENT_H

#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* A request with one field. Returns the response code. */
static inline int32_t ask(struct client *c, int32_t code, const char *field, const char *value)
{
    struct header_writer *w = client_begin(c, code, 0);

    header_put_str(w, field, slice_str(value));
    return client_call(c, SLICE_EMPTY);
}

static inline bool body_has(const struct client *c, const char *text)
{
    return c->body.len > 0 && memmem(c->body.ptr, c->body.len, text, strlen(text)) != NULL;
}

static inline void expect_body(const struct client *c, const char *text)
{
    ck_assert_msg(body_has(c, text), "no '%s' in '%.*s'", text, SLICE_ARGS(c->body));
}

static inline void commit(struct client *c, const char *group, const char *topic, int64_t offset)
{
    struct header_writer *w = client_begin(c, REQUEST_UPDATE_CONSUMER_OFFSET, 0);

    header_put_str(w, "consumerGroup", slice_str(group));
    header_put_str(w, "topic", slice_str(topic));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", offset);
    ck_assert_int_eq(client_call(c, SLICE_EMPTY), RESPONSE_SUCCESS);
}

static inline void send_tagged(struct client *c, const char *topic, const char *tag)
{
    char properties[64];

    (void)snprintf(properties, sizeof properties, "TAGS=%s", tag);
    (void)client_send(c, &(struct test_message){
                             .topic = topic, .properties = properties, .body = SLICE_LIT("x")});
}

static inline int64_t committed(struct client *c, const char *group, int32_t queue)
{
    struct header_writer *w = client_begin(c, REQUEST_QUERY_CONSUMER_OFFSET, 0);
    int64_t offset = -1;

    header_put_str(w, "consumerGroup", slice_str(group));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", queue);
    header_put_bool(w, "setZeroIfNotFound", false);
    if (client_call(c, SLICE_EMPTY) == RESPONSE_SUCCESS) {
        ck_assert_int_eq(header_opt_i64(&c->header, "offset", &offset), 0);
    }
    return offset;
}

/* Answer the request that the client has received last. */
static inline void client_answer(struct client *c, int32_t code, struct slice body)
{
    struct header_out head = {
        .code = code, .opaque = c->header.opaque, .flag = HEADER_FLAG_RESPONSE};

    header_begin(&c->w, &c->out, c->type, &head);
    client_finish(c, body);
    ck_assert_int_eq(client_flush(c), 0);
}

#endif
