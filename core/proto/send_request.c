#include "core/proto/send_request.h"

#include "core/base/limits.h"
#include "core/proto/names.h"
#include "escrow/errors.h"

void send_request_init(struct send_request *req)
{
    *req = (struct send_request){.default_topic = SLICE_LIT(TOPIC_TEMPLATE),
                                 .default_queue_count = 4,
                                 .queue_id = -1,
                                 .max_reconsume_times = SEND_MAX_RECONSUME_NONE};
}

/* The names of one spelling, by member of struct send_request. */
struct field_names {
#define X(member, letter, name) const char *member;
    SEND_FIELDS(X)
#undef X
};

static const struct field_names letter_names = {
#define X(member, letter, name) .member = (letter),
    SEND_FIELDS(X)
#undef X
};

static const struct field_names long_names = {
#define X(member, letter, name) .member = (name),
    SEND_FIELDS(X)
#undef X
};

/* Keep the first error and the field that has it. */
static void note(int result, const char *name, int *error, const char **field)
{
    if (*error == 0 && result != 0) {
        *error = result;
        *field = name;
    }
}

int send_request_decode(struct header *h, struct send_request *req, const char **field)
{
    const struct field_names *n =
        header_find(h, SLICE_LIT("a")) != NULL ? &letter_names : &long_names;
    int error = 0;

    send_request_init(req);
    note(header_get_str(h, n->producer_group, &req->producer_group), n->producer_group, &error,
         field);
    note(header_get_str(h, n->topic, &req->topic), n->topic, &error, field);
    note(header_opt_str(h, n->default_topic, &req->default_topic), n->default_topic, &error, field);
    note(header_opt_i32(h, n->default_queue_count, &req->default_queue_count),
         n->default_queue_count, &error, field);
    note(header_get_i32(h, n->queue_id, &req->queue_id), n->queue_id, &error, field);
    note(header_get_i32(h, n->sys_flag, &req->sys_flag), n->sys_flag, &error, field);
    note(header_get_i64(h, n->born_ms, &req->born_ms), n->born_ms, &error, field);
    note(header_get_i32(h, n->flag, &req->flag), n->flag, &error, field);
    note(header_opt_str(h, n->properties, &req->properties), n->properties, &error, field);
    note(header_opt_i32(h, n->reconsume_times, &req->reconsume_times), n->reconsume_times, &error,
         field);
    note(header_opt_bool(h, n->unit_mode, &req->unit_mode), n->unit_mode, &error, field);
    note(header_opt_i32(h, n->max_reconsume_times, &req->max_reconsume_times),
         n->max_reconsume_times, &error, field);
    note(header_opt_bool(h, n->batch, &req->is_batch), n->batch, &error, field);
    note(header_opt_str(h, n->broker_name, &req->broker_name), n->broker_name, &error, field);
    if (error != 0) {
        return ESCROW_EINVAL;
    }
    if (req->properties.len > PROPERTIES_LEN_MAX) {
        *field = n->properties;
        return ESCROW_ETOOBIG;
    }
    return 0;
}

void send_request_encode(struct header_writer *w, const struct send_request *req, bool use_letters)
{
    const struct field_names *n = use_letters ? &letter_names : &long_names;

    header_put_str(w, n->producer_group, req->producer_group);
    header_put_str(w, n->topic, req->topic);
    header_put_str(w, n->default_topic, req->default_topic);
    header_put_i64(w, n->default_queue_count, req->default_queue_count);
    header_put_i64(w, n->queue_id, req->queue_id);
    header_put_i64(w, n->sys_flag, req->sys_flag);
    header_put_i64(w, n->born_ms, req->born_ms);
    header_put_i64(w, n->flag, req->flag);
    header_put_str(w, n->properties, req->properties);
    header_put_i64(w, n->reconsume_times, req->reconsume_times);
    header_put_bool(w, n->unit_mode, req->unit_mode);
    if (req->max_reconsume_times != SEND_MAX_RECONSUME_NONE) {
        header_put_i64(w, n->max_reconsume_times, req->max_reconsume_times);
    }
    header_put_bool(w, n->batch, req->is_batch);
    if (req->broker_name.len > 0) {
        header_put_str(w, n->broker_name, req->broker_name);
    }
}

void send_answer_encode(struct header_writer *w, const struct send_answer *answer)
{
    header_put_str(w, "msgId", answer->msg_id);
    header_put_i64(w, "queueId", answer->queue_id);
    header_put_i64(w, "queueOffset", answer->queue_offset);
    if (answer->transaction_id.len > 0) {
        header_put_str(w, "transactionId", answer->transaction_id);
    }
    if (answer->recall_handle.len > 0) {
        header_put_str(w, "recallHandle", answer->recall_handle);
    }
    header_put_str(w, "MSG_REGION",
                   answer->region.len > 0 ? answer->region : SLICE_LIT(REGION_DEFAULT));
    header_put_str(w, "TRACE_ON", SLICE_LIT("true"));
}

int send_answer_decode(struct header *h, struct send_answer *answer)
{
    *answer = (struct send_answer){0};
    if (header_get_str(h, "msgId", &answer->msg_id) != 0 ||
        header_get_i32(h, "queueId", &answer->queue_id) != 0 ||
        header_get_i64(h, "queueOffset", &answer->queue_offset) != 0) {
        return ESCROW_EPROTO;
    }
    answer->transaction_id = header_str(h, "transactionId");
    answer->region = header_str(h, "MSG_REGION");
    answer->recall_handle = header_str(h, "recallHandle");
    return 0;
}
