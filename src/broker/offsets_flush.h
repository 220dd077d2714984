/* Writing noted consumer offsets to the log. Thread: loop. */
#ifndef SRC_BROKER_OFFSETS_FLUSH_H
#define SRC_BROKER_OFFSETS_FLUSH_H

#include "core/base/attr.h"

struct broker;

/*
 * Append everything noted and not yet appended as OFFSETS records. Errors as of an append: what was
 * refused stays noted.
 */
ESCROW_MUST_USE int offsets_flush(struct broker *b);

#endif
