/*
 * Answers: from a request's header and a result to a response frame, and back to one of our errors
 * at the other end.
 *
 * An error crosses the wire twice: as a RocketMQ response code with a remark, for every client, and
 * as two fields of our own, escrowError (the number of escrow/errors.h) and escrowClass (RETRY,
 * ABORT, ...), so that libescrow gets back exactly what the broker meant. ANSWER_ERRORS is the
 * mapping; PROTOCOL.md shows the same table.
 *
 * Owns:    nothing.
 * Thread:  any.
 */
#ifndef CORE_PROTO_ANSWER_H
#define CORE_PROTO_ANSWER_H

#include "core/base/attr.h"
#include "core/proto/codes.h"
#include "core/proto/header.h"
#include "escrow/errors.h"

#define ANSWER_FIELD_ERROR "escrowError"
#define ANSWER_FIELD_CLASS "escrowClass"

/* X(name of ESCROW_..., name of RESPONSE_...) */
#define ANSWER_ERRORS(X)                                                                           \
    X(OK, SUCCESS)                                                                                 \
    X(ENOMEM, SYSTEM_BUSY)                                                                         \
    X(EINVAL, INVALID_PARAMETER)                                                                   \
    X(ELIMIT, SYSTEM_BUSY)                                                                         \
    X(ETIMEOUT, SYSTEM_ERROR)                                                                      \
    X(ECONN, SYSTEM_ERROR)                                                                         \
    X(ECLOSED, SYSTEM_ERROR)                                                                       \
    X(ESHUTDOWN, SERVICE_NOT_AVAILABLE)                                                            \
    X(EIO, SERVICE_NOT_AVAILABLE)                                                                  \
    X(ENOSPC, SERVICE_NOT_AVAILABLE)                                                               \
    X(EROFS, SERVICE_NOT_AVAILABLE)                                                                \
    X(ELOCKED, SYSTEM_ERROR)                                                                       \
    X(ECORRUPT, SYSTEM_ERROR)                                                                      \
    X(ETORN, SYSTEM_ERROR)                                                                         \
    X(EVERSION, VERSION_NOT_SUPPORTED)                                                             \
    X(ENOTFOUND, QUERY_NOT_FOUND)                                                                  \
    X(EEXIST, TOPIC_EXIST_ALREADY)                                                                 \
    X(ECONFLICT, TRANSACTION_FAILED)                                                               \
    X(EFENCED, ILLEGAL_OPERATION)                                                                  \
    X(EPROTO, INVALID_PARAMETER)                                                                   \
    X(ETOOBIG, MESSAGE_ILLEGAL)                                                                    \
    X(EBUSY, SYSTEM_BUSY)                                                                          \
    X(EAGAIN, SYSTEM_BUSY)                                                                         \
    X(ENOROUTE, TOPIC_NOT_EXIST)                                                                   \
    X(EPERM, NO_PERMISSION)                                                                        \
    X(ENOTSUP, REQUEST_CODE_NOT_SUPPORTED)                                                         \
    X(EDB, SYSTEM_ERROR)                                                                           \
    X(EREJECTED, ILLEGAL_OPERATION)                                                                \
    X(ECONFIG, SYSTEM_ERROR)                                                                       \
    X(EFOREIGN, ILLEGAL_OPERATION)                                                                 \
    X(EROLLEDBACK, TRANSACTION_FAILED)                                                             \
    X(EAUTH, NO_PERMISSION)                                                                        \
    X(ETLS, SYSTEM_ERROR)

/* What a pending answer has to remember of its request: enough to write the response long after the
 * header is gone. */
struct answer_to {
    enum header_type type;
    int32_t opaque;
    bool is_oneway; /* then nothing may be written */
};

static inline struct answer_to answer_to(const struct header *request)
{
    return (struct answer_to){request->type, request->opaque, header_is_oneway(request)};
}

/* Response code for an error: 0 for ESCROW_OK, RESPONSE_SYSTEM_ERROR for a number not in the table.
 */
int answer_code(int error);

/*
 * Begin the response to a request: same encoding, same opaque, response bit set. Continue with
 * header_put_..., header_end, body, header_frame_end. remark may be SLICE_EMPTY. The request must
 * not be one-way.
 */
void answer_begin(struct header_writer *w, struct buf *out, struct answer_to to, int32_t code,
                  struct slice remark);

/* A whole response without fields and body. Returns as header_frame_end. Writes nothing for a
 * one-way request. */
ESCROW_MUST_USE int answer_empty(struct buf *out, struct answer_to to, int32_t code,
                                 struct slice remark);

/*
 * A whole error response: response code, remark, escrowError, escrowClass. `code` is the response
 * code to use, or -1 for answer_code(error). `text` may be NULL for escrow_strerror(error). Returns
 * as header_frame_end. Writes nothing for a one-way request.
 */
ESCROW_MUST_USE int answer_error(struct buf *out, struct answer_to to, int32_t code, int error,
                                 const char *text);

/*
 * The other end: the result a response stands for. 0 for RESPONSE_SUCCESS; else what escrowError
 * says; else, from a server that is not ours, the nearest of our errors. The remark stays in the
 * header.
 */
int answer_result(struct header *response);

#endif
