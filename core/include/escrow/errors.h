/*
 * Every error of Escrow, in one table: name, number, class, text.
 *
 * Numbers are on the wire and in logs: never reuse one, never change one; append only. The class
 * tells a caller what it may do next, which is the only thing most callers need:
 *
 *   RETRY    nothing happened; the same request may be sent again (same id), here or to another
 *            broker
 *   ABORT    this request can never succeed as it is; a local transaction that depends on it must
 *            be rolled back
 *   FENCED   a newer owner (epoch) exists; stop acting for this source
 *   UNKNOWN  sent, and no answer came: it may or may not have happened. Ask by transaction id, or
 *            let check-back decide
 *   FATAL    this process or data folder cannot go on; a person has to look
 *
 * core/proto/PROTOCOL.md lists the same table; a test keeps the two in step.
 */
#ifndef ESCROW_ERRORS_H
#define ESCROW_ERRORS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ESCROW_API __attribute__((visibility("default")))
#else
#define ESCROW_API
#endif

enum escrow_class {
    ESCROW_CLASS_NONE = 0,
    ESCROW_CLASS_RETRY = 1,
    ESCROW_CLASS_ABORT = 2,
    ESCROW_CLASS_FENCED = 3,
    ESCROW_CLASS_UNKNOWN = 4,
    ESCROW_CLASS_FATAL = 5
};

/* X(name, number, class, text) */
#define ESCROW_ERRORS(X)                                                                           \
    X(OK, 0, NONE, "success")                                                                      \
    X(ENOMEM, -1, RETRY, "out of memory")                                                          \
    X(EINVAL, -2, ABORT, "invalid argument")                                                       \
    X(ELIMIT, -3, RETRY, "a configured limit is reached")                                          \
    X(ETIMEOUT, -4, UNKNOWN, "no answer in time; the outcome is unknown")                          \
    X(ECONN, -5, RETRY, "connection failed; nothing was sent")                                     \
    X(ECLOSED, -6, UNKNOWN, "connection lost after sending; the outcome is unknown")               \
    X(ESHUTDOWN, -7, RETRY, "shutting down")                                                       \
    X(EIO, -8, FATAL, "input/output error")                                                        \
    X(ENOSPC, -9, RETRY, "no space left on device")                                                \
    X(EROFS, -10, FATAL, "read-only file system")                                                  \
    X(ELOCKED, -11, FATAL, "in use by another process")                                            \
    X(ECORRUPT, -12, FATAL, "corrupt data")                                                        \
    X(ETORN, -13, FATAL, "torn tail")                                                              \
    X(EVERSION, -14, FATAL, "unknown format version")                                              \
    X(ENOTFOUND, -15, ABORT, "not found")                                                          \
    X(EEXIST, -16, ABORT, "exists already")                                                        \
    X(ECONFLICT, -17, ABORT, "already decided the other way")                                      \
    X(EFENCED, -18, FENCED, "fenced by a newer epoch")                                             \
    X(EPROTO, -19, ABORT, "protocol error")                                                        \
    X(ETOOBIG, -20, ABORT, "too big")                                                              \
    X(EBUSY, -21, RETRY, "busy")                                                                   \
    X(EAGAIN, -22, RETRY, "not available without waiting")                                         \
    X(ENOROUTE, -23, RETRY, "no route to the topic")                                               \
    X(EPERM, -24, ABORT, "not permitted")                                                          \
    X(ENOTSUP, -25, ABORT, "not supported")                                                        \
    X(EDB, -26, UNKNOWN, "database error")                                                         \
    X(EREJECTED, -27, ABORT, "rejected by the broker")                                             \
    X(ECONFIG, -28, FATAL, "bad configuration")                                                    \
    X(EFOREIGN, -29, FENCED, "position belongs to another database system or timeline")            \
    X(EROLLEDBACK, -30, ABORT, "the transaction was rolled back")                                  \
    X(EAUTH, -31, ABORT, "not authenticated")                                                      \
    X(ETLS, -32, RETRY, "TLS could not be agreed on; nothing was sent")

enum escrow_error {
#define X(name, number, class_, text) ESCROW_##name = (number),
    ESCROW_ERRORS(X)
#undef X
};

/*
 * Text of an error number, static storage; "unknown error" for a number not in the table. Any
 * thread.
 */
ESCROW_API const char *escrow_strerror(int error);

/*
 * Symbolic name ("ESCROW_ENOSPC"), static storage; "ESCROW_?" for a number not in the table. Any
 * thread.
 */
ESCROW_API const char *escrow_error_name(int error);

/*
 * Class of an error number; ESCROW_CLASS_UNKNOWN for a negative number not in the table. Any
 * thread.
 */
ESCROW_API enum escrow_class escrow_error_class(int error);

#ifdef __cplusplus
}
#endif

#endif
