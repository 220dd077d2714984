#include "core/proto/answer.h"

#include "core/base/check.h"
#include "core/base/err.h"
#include "core/base/utf8.h"

int answer_code(int error)
{
    switch (error) {
#define X(name, response)                                                                          \
    case ESCROW_##name:                                                                            \
        return RESPONSE_##response;
        ANSWER_ERRORS(X)
#undef X
    default:
        return RESPONSE_SYSTEM_ERROR;
    }
}

void answer_begin(struct header_writer *w, struct buf *out, struct answer_to to, int32_t code,
                  struct slice remark)
{
    CHECK(!to.is_oneway);
    header_begin(
        w, out, to.type,
        &(struct header_out){
            .code = code, .opaque = to.opaque, .flag = HEADER_FLAG_RESPONSE, .remark = remark});
}

int answer_empty(struct buf *out, struct answer_to to, int32_t code, struct slice remark)
{
    struct header_writer w;

    if (to.is_oneway) {
        return 0;
    }
    answer_begin(&w, out, to, code, remark);
    header_end(&w);
    return header_frame_end(&w, 0);
}

static const char *class_name(enum escrow_class class)
{
    switch (class) {
    case ESCROW_CLASS_NONE:
        return "NONE";
    case ESCROW_CLASS_RETRY:
        return "RETRY";
    case ESCROW_CLASS_ABORT:
        return "ABORT";
    case ESCROW_CLASS_FENCED:
        return "FENCED";
    case ESCROW_CLASS_UNKNOWN:
        return "UNKNOWN";
    case ESCROW_CLASS_FATAL:
        return "FATAL";
    }
    UNREACHABLE("error class");
}

int answer_error(struct buf *out, struct answer_to to, int32_t code, int error, const char *text)
{
    struct header_writer w;
    char remark[ERR_TEXT_MAX];

    if (to.is_oneway) {
        return 0;
    }
    /* It may name what a client sent, whatever bytes that are. */
    (void)utf8_clean(text == NULL ? escrow_strerror(error) : text, remark, sizeof remark);
    answer_begin(&w, out, to, code < 0 ? answer_code(error) : code, slice_str(remark));
    header_put_str(&w, ANSWER_FIELD_CLASS, slice_str(class_name(escrow_error_class(error))));
    header_put_i64(&w, ANSWER_FIELD_ERROR, error);
    header_end(&w);
    return header_frame_end(&w, 0);
}

/* The nearest of our errors for a response code of a server that says no more than that. */
static int error_of_code(int32_t code)
{
    switch (code) {
    case RESPONSE_SUCCESS:
        return 0;
    case RESPONSE_SYSTEM_ERROR: /* clients try another broker after these four, so may we */
    case RESPONSE_SYSTEM_BUSY:
    case RESPONSE_FLOW_CONTROL:
    case RESPONSE_NOT_LEADER_FOR_QUEUE:
        return ESCROW_EBUSY;
    case RESPONSE_SERVICE_NOT_AVAILABLE:
    case RESPONSE_GO_AWAY:
        return ESCROW_ESHUTDOWN;
    case RESPONSE_FLUSH_DISK_TIMEOUT: /* stored, but not as safely as asked for */
    case RESPONSE_SLAVE_NOT_AVAILABLE:
    case RESPONSE_FLUSH_SLAVE_TIMEOUT:
        return ESCROW_ETIMEOUT;
    case RESPONSE_REQUEST_CODE_NOT_SUPPORTED:
    case RESPONSE_VERSION_NOT_SUPPORTED:
        return ESCROW_ENOTSUP;
    case RESPONSE_TRANSACTION_FAILED:
        return ESCROW_ECONFLICT;
    case RESPONSE_MESSAGE_ILLEGAL:
    case RESPONSE_INVALID_PARAMETER:
    case RESPONSE_SUBSCRIPTION_PARSE_FAILED:
        return ESCROW_EINVAL;
    case RESPONSE_NO_PERMISSION:
        return ESCROW_EPERM;
    case RESPONSE_TOPIC_NOT_EXIST:
        return ESCROW_ENOROUTE;
    case RESPONSE_TOPIC_EXIST_ALREADY:
        return ESCROW_EEXIST;
    case RESPONSE_PULL_NOT_FOUND:
    case RESPONSE_PULL_RETRY_IMMEDIATELY:
    case RESPONSE_SUBSCRIPTION_NOT_LATEST:
        return ESCROW_EAGAIN;
    case RESPONSE_QUERY_NOT_FOUND:
    case RESPONSE_SUBSCRIPTION_NOT_EXIST:
    case RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST:
    case RESPONSE_CONSUMER_NOT_ONLINE:
    case RESPONSE_NO_MESSAGE:
        return ESCROW_ENOTFOUND;
    default:
        return ESCROW_EREJECTED;
    }
}

int answer_result(struct header *response)
{
    int32_t error = 0;

    if (response->code == RESPONSE_SUCCESS) {
        return 0;
    }
    if (header_get_i32(response, ANSWER_FIELD_ERROR, &error) == 0 && error < 0) {
        return error;
    }
    return error_of_code(response->code);
}
