/*
 * A half under a transaction id that has an undecided half already, of the same topic: the producer
 * tried again because it missed the answer, or it made two messages with one id. The first half's
 * record tells: with the same body it is the same half and is answered with where it is; another
 * body would never be delivered and is refused.
 *
 * Owns:    itself, while the log and the disk are waited for.
 * Thread:  loop.
 */
#ifndef SRC_BROKER_HALF_AGAIN_H
#define SRC_BROKER_HALF_AGAIN_H

#include "src/broker/pump.h"
#include "src/broker/session.h"

/* Answer success: the half is where `first` says. */
typedef void half_is_same_fn(struct broker *b, struct deferred *d,
                             const struct pending_send *first);

/* After pump_reserve. Answers when what was appended until now is durable. */
void half_again(struct request *req, const struct pending_send *first, half_is_same_fn *same);

/* Refuse what is another message under a known id. */
void half_refuse_other(struct deferred *d, const struct pending_send *first);

#endif
