/*
 * A small client for tests of escrowd: one blocking connection, any header type, any request.
 *
 *     struct header_writer *w = client_begin(&c, REQUEST_GET_MAX_OFFSET, 0);
 *     header_put_str(w, "topic", SLICE_LIT("T"));
 *     client_call(&c, SLICE_EMPTY);                       the answer is in c.header and c.body
 *
 * Owns:    its socket and buffers. c.header, c.body: until the next receive.
 * Thread:  any one.
 * Errors:  end the test, unless a function says otherwise.
 */
#ifndef TESTS_LIB_BROKER_CLIENT_H
#define TESTS_LIB_BROKER_CLIENT_H

#include "core/acl/sign.h"
#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/body_publish.h"
#include "core/proto/codes.h"
#include "core/proto/header.h"
#include "core/proto/record.h"

#include <stdbool.h>
#include <stdint.h>

#define CLIENT_WAIT_MS 60000

struct client {
    int fd;
    enum header_type type;
    int32_t opaque; /* of the last request */
    struct buf in;
    size_t used; /* of `in`: the frames handed out */
    struct buf out;
    struct header_writer w;
    struct header header;
    struct slice body;
    /* The caller's; set after open. NULL: requests are not signed. */
    struct signer *signer;
    const char *access_key;
};

void client_open(struct client *c, uint16_t port, enum header_type type);
/* ESCROW_ECONN instead of ending the test. */
ESCROW_MUST_USE int client_try_open(struct client *c, uint16_t port, enum header_type type);
void client_close(struct client *c);

/*
 * A request in c->out; flag 0 or HEADER_FLAG_ONEWAY. Then fields, then client_submit or
 * client_call.
 */
struct header_writer *client_begin(struct client *c, int32_t code, int32_t flag);
void client_finish(struct client *c, struct slice body); /* end it, and leave it in c->out */
ESCROW_MUST_USE int client_flush(struct client *c);      /* send c->out: 0, ESCROW_ECLOSED */
void client_submit(struct client *c, struct slice body); /* finish and flush */

/* Send bytes as they are. */
ESCROW_MUST_USE int client_raw(struct client *c, const void *bytes, size_t len);

/* The next frame: 0, ESCROW_ECLOSED, ESCROW_ETIMEOUT after timeout_ms. */
ESCROW_MUST_USE int client_receive(struct client *c, int64_t timeout_ms);

/*
 * Submit, and wait for the answer to it (others in between are passed over). Returns its code; -1
 * when the connection was lost.
 */
int32_t client_call(struct client *c, struct slice body);

/* escrowError of the answer, 0 when it has none. */
int32_t client_error(struct client *c);

/* The peer closes the connection, without an answer. */
void client_expect_closed(struct client *c);

/* ---- requests ---- */

struct test_message {
    const char *topic;
    const char *properties; /* "K=V;K=V", UNIQ_KEY among them if wanted */
    struct slice body;
    int32_t queue;
    bool is_half; /* of group pg, if properties do not say */
    int32_t reconsume_times;
};

void client_topic(struct client *c, const char *topic, int32_t queues);

/* Put a send into c->out, without sending it; opaque in c->opaque. */
void client_put_send(struct client *c, const struct test_message *m, int32_t flag);

/*
 * Send and wait: the queue offset (of a half: its physical offset). The answer must be SUCCESS, but
 * for SYSTEM_BUSY, after which it is sent again.
 */
int64_t client_send(struct client *c, const struct test_message *m);

/* The same; returns the response code. */
int32_t client_try_send(struct client *c, const struct test_message *m);

/*
 * PULL with the subscription "*"; waits up to suspend_ms in the broker. Returns the response code.
 */
struct test_pull {
    const char *group;
    const char *topic;
    int32_t queue;
    int64_t offset;
    int32_t count;
    int64_t suspend_ms;
};
void client_put_pull(struct client *c, const struct test_pull *p);
int32_t client_pull(struct client *c, const struct test_pull *p);

int64_t client_max_offset(struct client *c, const char *topic, int32_t queue);

/* END_TRANSACTION 37 with an answer: the response code. outcome 8, 12, 0. */
int32_t client_end(struct client *c, const char *group, int64_t offset, const char *id,
                   int32_t outcome);

/* 30001. Returns the response code, and with SUCCESS the row of each half in results. */
int32_t client_decide(struct client *c, const struct end_txn_request *req,
                      const struct end_txn_half *halves, uint32_t count,
                      struct end_txn_result *results);

/* A number of STATUS. */
int64_t client_metric(struct client *c, const char *name);

/*
 * HEART_BEAT of a producer group, or of a consumer group of one topic. Returns the response code.
 */
int32_t client_heartbeat(struct client *c, const char *id, const char *producer_group,
                         const char *consumer_group, const char *topic);

/* 30003 */
int32_t client_source_open(struct client *c, const char *source, uint32_t lane,
                           struct source_open_answer *answer);

#endif
