/*
 * Error context: the code and one line of text that says what, where, and what to do.
 *
 * The layer that has errno fills it; callers put their own words in front ("open segment 000012: No
 * space left on device"). Logged once, where the operation is given up. Caller-owned, usually on
 * the stack; may be NULL everywhere.
 *
 * Look at it only after a call that returned an error. One that returned 0 may leave words about
 * something that failed on the way and was got over; one that failed without words (out of memory,
 * try again) leaves what was there before. So begin each operation with an empty one ({.code = 0}),
 * go by the returned code, and have words of your own for an empty text.
 */
#ifndef CORE_BASE_ERR_H
#define CORE_BASE_ERR_H

#include "core/base/attr.h"
#include "escrow/errors.h"

#define ERR_TEXT_MAX 512

struct err_ctx {
    int code;                /* 0 or one of ESCROW_E... */
    char text[ERR_TEXT_MAX]; /* NUL-terminated, one line, cut when longer */
};

/* Set code and text; returns code, so that `return err_set(err, ESCROW_EIO, ...)` reads well. */
int err_set(struct err_ctx *err, int code, const char *fmt, ...) ESCROW_PRINTF(3, 4);

/*
 * As err_set, with ": <strerror(errnum)>" at the end and the code derived from errnum by
 * err_from_errno.
 */
int err_set_errno(struct err_ctx *err, int errnum, const char *fmt, ...) ESCROW_PRINTF(3, 4);

/* Put "<words>: " in front of the text; keeps the code, which it returns. */
int err_prefix(struct err_ctx *err, const char *fmt, ...) ESCROW_PRINTF(2, 3);

/*
 * ESCROW_E... for an errno value (ENOSPC, EDQUOT, EFBIG -> ENOSPC; EROFS -> EROFS; ...; anything
 * else EIO).
 */
int err_from_errno(int errnum);

#if defined(__clang_analyzer__) && !defined(CORE_BASE_ERR_C)
/* For static analysis, which sees one file at a time: none of these returns 0. */
#define err_set(err, code, ...)      (err_set((err), (code), __VA_ARGS__), (code))
#define err_set_errno(err, num, ...) (err_set_errno((err), (num), __VA_ARGS__), ESCROW_EIO)
#define err_prefix(err, ...)         (err_prefix((err), __VA_ARGS__), ESCROW_EIO)
#endif

#endif
