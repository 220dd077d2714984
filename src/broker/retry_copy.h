/*
 * The copy of a message that a consumer could not handle: in the retry topic of its group, held for
 * a delay, in any of its queues, or in the dead-letter topic.
 *
 * It keeps body, properties and born data, and remembers where it came from. A retry is held for
 * the delay of its level, which grows with the number of retries unless the consumer names one.
 *
 * Owns:    nothing.
 * Thread:  loop.
 */
#ifndef SRC_BROKER_RETRY_COPY_H
#define SRC_BROKER_RETRY_COPY_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/proto/record.h"
#include "core/store/store.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;

struct retry_copy {
    struct slice group;
    uint64_t offset;     /* physical, of the message */
    int64_t delay_level; /* <= 0: by the number of retries */
    bool is_dead;        /* to the dead-letter topic, at once */
};

/*
 * Append the copy; view is of the message, with the retries it has had. Errors of appends and of
 * topic_find_or_create.
 */
ESCROW_MUST_USE int retry_copy_append(struct broker *b, const struct record_view *view,
                                      const struct retry_copy *copy, struct store_receipt *receipt,
                                      struct err_ctx *err);

#endif
