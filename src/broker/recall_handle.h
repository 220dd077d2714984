/*
 * The handle by which a timed message can be taken back: RocketMQ's, which its clients open to find
 * the broker, with the place of the message behind.
 *
 *   base64url, padded: "v1 <topic> <broker name> <due, ms> <UNIQ_KEY> <log offset>"
 *
 * Owns:    nothing.
 * Thread:  any. Pure.
 */
#ifndef SRC_BROKER_RECALL_HANDLE_H
#define SRC_BROKER_RECALL_HANDLE_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stddef.h>
#include <stdint.h>

#define RECALL_TEXT_MAX   512u /* before base64 */
#define RECALL_HANDLE_MAX ((RECALL_TEXT_MAX + 2) / 3 * 4)

struct recall_handle {
    struct slice topic;
    struct slice broker;
    struct slice message_id;
    int64_t due_ms;
    uint64_t offset;
};

/*
 * Write the handle; its length, or 0 when it cannot be made (a name is empty, has a blank or a zero
 * byte, or all are too long).
 */
size_t recall_handle_encode(const struct recall_handle *handle, char out[RECALL_HANDLE_MAX]);

/* Slices are borrowed from `scratch`; none has a zero byte. ESCROW_EINVAL: not one of ours. */
ESCROW_MUST_USE int recall_handle_decode(struct slice text, uint8_t scratch[RECALL_TEXT_MAX],
                                         struct recall_handle *handle);

#endif
