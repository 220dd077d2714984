/*
 * RECALL_MESSAGE 370: a producer takes a timed message back before it is due (PROTOCOL.md, "Delayed
 * messages"). A RELEASE record of kind "recalled" says so for good; the answer waits for it.
 */
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/delays.h"
#include "src/broker/dispatch.h"
#include "src/broker/recall_handle.h"

#include <string.h>

struct recalled {
    size_t len;
    char message_id[RECALL_TEXT_MAX];
};

static void recall_answered(struct broker *b, struct pending *p, int error)
{
    struct recalled *r = p->arg.ptr;
    struct header_writer w;

    (void)b;
    if (error != 0) {
        deferred_fail(&p->deferred, -1, error, NULL);
    } else if (deferred_begin(&p->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_str(&w, "msgId", slice_of(r->message_id, r->len));
        header_end(&w);
        deferred_end(&p->deferred, &w);
    }
    mem_free(r);
}

/* Does the handle speak of this topic and of this broker? The client is told what does not fit. */
static bool recall_check(struct request *req, struct slice topic, const struct recall_handle *h)
{
    const char *why = NULL;

    if (!slice_eq(topic, h->topic)) {
        why = "recall failed, topic not match";
    } else if (!slice_eq_str(h->broker, req->broker->config->broker_name)) {
        why = "recall failed, broker service not available";
    } else if (h->due_ms <= loop_wall_ms(req->broker->loop)) {
        why = "recall failed, timestamp invalid";
    }
    if (why != NULL) {
        request_fail(req, RESPONSE_ILLEGAL_OPERATION, ESCROW_EINVAL, "%s", why);
    }
    return why == NULL;
}

static void recall(struct request *req, const struct recall_handle *h)
{
    struct broker *b = req->broker;
    struct recalled *r = mem_alloc(sizeof *r);
    struct store_receipt receipt;
    int rc = r == NULL ? ESCROW_ENOMEM : pump_reserve(&b->pump);

    if (rc == 0) {
        rc = delays_recall(b, h->offset, h->topic, &receipt);
    }
    if (rc != 0) {
        mem_free(r);
        request_fail(req, rc == ESCROW_ENOTFOUND ? RESPONSE_ILLEGAL_OPERATION : -1, rc,
                     rc == ESCROW_ENOTFOUND ? "recall failed, the message is not held (any more)"
                                            : NULL);
        return;
    }
    r->len = h->message_id.len; /* it lay in RECALL_TEXT_MAX bytes */
    memcpy(r->message_id, h->message_id.ptr, r->len);
    pump_wait(&b->pump, receipt.wait_for, false, recall_answered, request_defer(req))->arg.ptr = r;
}

void handle_recall(struct request *req)
{
    uint8_t scratch[RECALL_TEXT_MAX];
    struct slice topic = SLICE_EMPTY;
    struct slice text = SLICE_EMPTY;
    struct recall_handle handle;

    if (header_get_str(req->header, "topic", &topic) != 0 || name_check_topic(topic) != 0 ||
        header_get_str(req->header, "recallHandle", &text) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "recall: a field is missing or malformed");
        return;
    }
    if (recall_handle_decode(text, scratch, &handle) != 0) {
        request_fail(req, RESPONSE_ILLEGAL_OPERATION, ESCROW_EINVAL, "recall handle is invalid");
        return;
    }
    if (recall_check(req, topic, &handle)) {
        recall(req, &handle);
    }
}
