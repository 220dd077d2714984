/*
 * One send, while it is checked and appended: what handle_send.c and the files of its kinds share.
 *
 * Owns:    nothing; slices are of the request, or of the struct itself.
 * Thread:  loop.
 */
#ifndef SRC_BROKER_SEND_H
#define SRC_BROKER_SEND_H

#include "core/base/limits.h"
#include "core/proto/msgid.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "src/broker/broker.h"
#include "src/broker/delays.h"

/* One send while it is being checked and appended. */
struct send {
    struct request *req;
    struct broker *broker;
    struct send_request in;
    struct topic *topic;
    struct props_known props;
    struct delay delay;
    bool is_dead; /* goes to a dead-letter queue, and so at once */
    /* rewritten string; unused when the client's can be stored as it is */
    uint8_t properties[PROPERTIES_LEN_MAX];
    char made_id[MSGID_TEXT_MAX + 1];
    struct name_buf dlq_name;
};

/* ---- send_answer.c ---- */

/* Of a message that is at s->offset. */
void send_answer(struct broker *b, struct deferred *d, const struct pending_send *s,
                 struct slice recall_handle);
void send_answer_write(struct deferred *d, const struct send_answer *answer);

/* Keep what the answer will say. */
void send_note(const struct send *s, struct pending_send *a, uint64_t offset, int64_t queue_offset);

/* Answer when the log has passed wait_for (pump_wait). */
void send_wait(struct send *s, uint64_t wait_for, bool is_early, uint64_t offset,
               int64_t queue_offset);

/* An append that was refused: answer it. */
void send_refused(struct send *s, int error);

/* ---- send_properties.c ---- */

/*
 * Properties as they are stored: the client's string, less WAIT (it spoke of this send only), DELAY
 * (it has been read; as it counts it is there for consumers) and what only the broker may write,
 * plus that, plus a UNIQ_KEY if it gave none, and TIMER_OUT_MS, REAL_TOPIC and REAL_QID if it is
 * held. A level drops the other times, as in RocketMQ. Most strings
 * of our own clients pass as they are.
 */
ESCROW_MUST_USE int send_properties(struct send *s, struct slice in, struct slice *out);

/* Java's parseBoolean, which ignores case, is what reads the mark in RocketMQ. */
bool send_is_marked(const struct send *s);

/* What is stored of the request, with this body and these properties. */
struct record_fields send_fields(const struct send *s, struct slice body, struct slice properties);

/* ---- the kinds: each appends and answers ---- */

/* Written once, answered when durable, delivered when it is due: see delays.c. */
void send_held(struct send *s, struct slice properties);
void send_half(struct send *s, struct slice properties);
void send_batch(struct send *s);

#endif
