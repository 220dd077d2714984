/* Consumer offsets: which are noted, and writing them to the log. Thread: loop. */
#ifndef SRC_BROKER_OFFSETS_FLUSH_H
#define SRC_BROKER_OFFSETS_FLUSH_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct store_queue_ref;

/*
 * Append everything noted and not yet appended as OFFSETS records. Errors as of an append: what was
 * refused stays noted.
 */
ESCROW_MUST_USE int offsets_flush(struct broker *b);

/*
 * May what a consumer says, unasked, that its group has consumed be noted? Not behind the end of
 * the queue: then the broker was put back to an older copy of its data, and the offset of then is
 * the one from which nothing is skipped. Counted, and said.
 */
bool offset_is_taken(struct broker *b, struct slice group, const struct store_queue_ref *queue,
                     int64_t offset);

#endif
