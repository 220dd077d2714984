/* escrow copy: requests to both sides, and what is told to people. */
#include "src/tools/copy/copy.h"
#include "src/tools/out.h"

#include "core/proto/codes.h"

#include <stdarg.h>
#include <stdio.h>

#define ASK_TRIES    5
#define ASK_PAUSE_MS 200 /* longer each time */
#define TEXT_MAX     400 /* of a line */

/* ---- requests ---- */

static bool is_worth_repeating(int error)
{
    return error == ESCROW_EBUSY || error == ESCROW_ETIMEOUT || error == ESCROW_ECLOSED;
}

struct asking {
    struct copy *c;
    struct cli *side;
    const struct cli_request *req;
    cli_answer_fn *fn;
    void *arg;
    bool is_pull;
};

static int ask(const struct asking *a)
{
    int rc = 0;

    a->c->at = a->side;
    for (uint64_t i = 1; i <= ASK_TRIES; i++) {
        loop_time_forget(&a->side->loop); /* the other side's turn may have been long */
        rc = a->is_pull ? cli_call_pull(a->side, a->req, a->fn, a->arg)
                        : cli_call(a->side, a->req, a->fn, a->arg);
        if (!is_worth_repeating(rc) || i == ASK_TRIES || !cli_wait(a->side, i * ASK_PAUSE_MS)) {
            break;
        }
    }
    a->c->err = a->side->err;
    return rc;
}

int copy_ask(struct copy *c, struct cli *side, const struct cli_request *req, cli_answer_fn *fn,
             void *arg)
{
    return ask(&(struct asking){c, side, req, fn, arg, false});
}

int copy_ask_pull(struct copy *c, const struct cli_request *req, cli_answer_fn *fn, void *arg)
{
    return ask(&(struct asking){c, &c->from, req, fn, arg, true});
}

static void queue_fields(struct header_writer *w, void *arg)
{
    const struct copy_queue *queue = arg;

    header_put_str(w, "topic", slice_str(queue->topic));
    header_put_i64(w, "queueId", queue->queue);
}

static int on_offset(void *arg, struct header *header, struct slice body)
{
    int64_t *offset = arg;
    int rc = header_get_i64(header, "offset", offset);

    (void)body;
    return rc == 0 && *offset < 0 ? ESCROW_EPROTO : rc;
}

int copy_ask_offset(struct copy *c, struct cli *side, int32_t code, const struct copy_queue *queue,
                    int64_t *offset)
{
    struct copy_queue fields = *queue;
    struct cli_request req = {
        .addr = queue->addr, .code = code, .fields = queue_fields, .fields_arg = &fields};

    return copy_ask(c, side, &req, on_offset, offset);
}

/* ---- errors ---- */

int copy_error(struct copy *c, int error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(c->err.text, sizeof c->err.text, fmt, ap); /* cut when longer */
    va_end(ap);
    c->err.code = error;
    return error;
}

bool copy_is_over(const struct copy *c, int error)
{
    if (c->from.is_interrupted || c->to.is_interrupted) {
        return true;
    }
    switch (error) {
    case ESCROW_ENOMEM:
    case ESCROW_ECONN:
    case ESCROW_ECLOSED:
    case ESCROW_ETIMEOUT:
    case ESCROW_ESHUTDOWN:
    case ESCROW_ENOSPC:
    case ESCROW_EIO:
    case ESCROW_EAUTH:
    case ESCROW_ETLS:
    case ESCROW_EFENCED:
        return true;
    default:
        return false;
    }
}

/* ---- what is told ---- */

void copy_told(struct copy *c, const char *kind, const char *name, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap); /* cut when longer */
    va_end(ap);
    if (c->to.options.is_json) {
        json_write_object_begin(&c->w);
        json_put_string(&c->w, "kind", slice_str(kind));
        json_put_string(&c->w, "name", slice_str(name));
        json_put_string(&c->w, "result", slice_str(text));
        json_write_object_end(&c->w);
        return;
    }
    (void)printf("%-8s  %-32s  %s\n", kind, name, text);
    (void)fflush(stdout); /* main looks at it */
}

static void tell(const char *what, const char *name, const char *text)
{
    (void)fprintf(stderr, "escrow: copy%s%s%s %s\n", what, name, name[0] != '\0' ? ":" : "", text);
}

void copy_failed(struct copy *c, const char *name, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;

    c->failures++;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap); /* cut when longer */
    va_end(ap);
    tell(name[0] != '\0' ? " " : ":", name, text);
}

void copy_warn(struct copy *c, const char *name, const char *fmt, ...)
{
    char text[TEXT_MAX];
    va_list ap;

    (void)c;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap); /* cut when longer */
    va_end(ap);
    tell(name[0] != '\0' ? ": note: " : ": note:", name, text);
}

int copy_settle(struct copy *c, int error, const char *name)
{
    if (error == 0 || copy_is_over(c, error)) {
        return error;
    }
    copy_failed(c, name, "%s (%s)", c->err.code == error ? c->err.text : escrow_strerror(error),
                escrow_error_name(error));
    return 0;
}
