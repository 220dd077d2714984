#define CORE_BASE_ERR_C /* see the end of err.h */
#include "core/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct error_row {
    int number;
    enum escrow_class class_;
    const char *name;
    const char *text;
};

static const struct error_row error_rows[] = {
#define X(name_, number_, class__, text_)                                                          \
    {.number = (number_),                                                                          \
     .class_ = ESCROW_CLASS_##class__,                                                             \
     .name = "ESCROW_" #name_,                                                                     \
     .text = (text_)},
    ESCROW_ERRORS(X)
#undef X
};

static const struct error_row *find_row(int error)
{
    for (size_t i = 0; i < sizeof error_rows / sizeof error_rows[0]; i++) {
        if (error_rows[i].number == error) {
            return &error_rows[i];
        }
    }
    return NULL;
}

const char *escrow_strerror(int error)
{
    const struct error_row *row = find_row(error);
    return row == NULL ? "unknown error" : row->text;
}

const char *escrow_error_name(int error)
{
    const struct error_row *row = find_row(error);
    return row == NULL ? "ESCROW_?" : row->name;
}

enum escrow_class escrow_error_class(int error)
{
    const struct error_row *row = find_row(error);
    if (row != NULL) {
        return row->class_;
    }
    return error < 0 ? ESCROW_CLASS_UNKNOWN : ESCROW_CLASS_NONE;
}

int err_from_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return ESCROW_OK;
    case ENOMEM:
        return ESCROW_ENOMEM;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ESCROW_ENOSPC;
    case EROFS:
        return ESCROW_EROFS;
    case ENOENT:
        return ESCROW_ENOTFOUND;
    case EEXIST:
        return ESCROW_EEXIST;
    case EACCES:
    case EPERM:
        return ESCROW_EPERM;
    case EAGAIN:
        return ESCROW_EAGAIN;
    case EMFILE:
    case ENFILE:
        return ESCROW_ELIMIT;
    default:
        return ESCROW_EIO;
    }
}

/* Thread-safe strerror: the GNU variant may return static text instead of filling the buffer. */
static const char *errno_text(int errnum, char *scratch, size_t size)
{
    return strerror_r(errnum, scratch, size);
}

int err_set(struct err_ctx *err, int code, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        err->code = code;
        va_start(args, fmt);
        /* cut when too long, by contract */
        (void)vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
    }
    return code;
}

int err_set_errno(struct err_ctx *err, int errnum, const char *fmt, ...)
{
    int code = err_from_errno(errnum);

    if (err != NULL) {
        char scratch[128];
        va_list args;
        size_t len;
        err->code = code;
        va_start(args, fmt);
        /* cut when too long, by contract */
        (void)vsnprintf(err->text, sizeof err->text, fmt, args);
        va_end(args);
        len = strlen(err->text);
        (void)snprintf(err->text + len, sizeof err->text - len, ": %s",
                       errno_text(errnum, scratch, sizeof scratch));
    }
    return code;
}

int err_prefix(struct err_ctx *err, const char *fmt, ...)
{
    char old[ERR_TEXT_MAX];
    va_list args;
    size_t len;

    if (err == NULL) {
        return ESCROW_OK;
    }
    memcpy(old, err->text, sizeof old);
    va_start(args, fmt);
    (void)vsnprintf(err->text, sizeof err->text, fmt, args); /* cut when too long, by contract */
    va_end(args);
    len = strlen(err->text);
    (void)snprintf(err->text + len, sizeof err->text - len, ": %s", old);
    return err->code;
}
