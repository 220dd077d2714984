/*
 * What the broker asks a consumer for somebody else: GET_CONSUMER_RUNNING_INFO 307,
 * CONSUME_MESSAGE_DIRECTLY 309 (PROTOCOL.md, "Administration"). The client's answer is the answer.
 */
#include "core/base/mem.h"
#include "core/proto/msgid.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

struct relay_names {
    char group[GROUP_LEN_MAX + 1];
    char client_id[CLIENT_ID_MAX + 1];
    char msg_id[MSGID_TEXT_MAX + 1];
    bool wants_stacks;
};

static bool names_decode(struct request *req, struct relay_names *names)
{
    struct slice group = SLICE_EMPTY;
    struct slice client = SLICE_EMPTY;

    *names = (struct relay_names){.wants_stacks = false};
    if (header_get_str(req->header, "consumerGroup", &group) != 0 || name_check_group(group) != 0 ||
        header_get_str(req->header, "clientId", &client) != 0 || client.len > CLIENT_ID_MAX ||
        header_opt_bool(req->header, "jstackEnable", &names->wants_stacks) != 0) {
        request_fail(req, -1, ESCROW_EINVAL,
                     "field consumerGroup or clientId is missing or malformed");
        return false;
    }
    (void)slice_to_cstr(group, names->group, sizeof names->group);
    (void)slice_to_cstr(client, names->client_id, sizeof names->client_id);
    return true;
}

/* ---- running info ---- */

static void put_running(struct header_writer *w, void *arg)
{
    header_put_bool(w, "jstackEnable", ((const struct relay_names *)arg)->wants_stacks);
}

void handle_running_info(struct request *req)
{
    struct relay_names names;
    struct relay_ask ask = {.code = REQUEST_GET_CONSUMER_RUNNING_INFO, .put_fields = put_running};
    struct deferred deferred;

    if (!names_decode(req, &names)) {
        return;
    }
    ask.group = slice_str(names.group);
    ask.client_id = slice_str(names.client_id);
    ask.arg = &names;
    deferred = request_defer(req);
    relay_start(req->broker, &deferred, &ask);
}

/* ---- one message, consumed now ---- */

static void put_message_id(struct header_writer *w, void *arg)
{
    const struct read_job *job = arg;
    const struct relay_names *names = job->ptr;

    header_put_str(w, "msgId", slice_str(names->msg_id));
    header_put_str(w, "brokerName", slice_str(job->broker->config->broker_name));
}

static void message_done(struct read_job *job)
{
    const struct relay_names *names = job->ptr;
    struct relay_ask ask = {.code = REQUEST_CONSUME_MESSAGE_DIRECTLY,
                            .group = slice_str(names->group),
                            .client_id = slice_str(names->client_id),
                            .put_fields = put_message_id,
                            .arg = job,
                            .body = buf_slice(&job->body)};

    relay_start(job->broker, &job->deferred, &ask);
}

void handle_consume_directly(struct request *req)
{
    struct relay_names names;
    struct record_host host;
    struct slice id = SLICE_EMPTY;
    struct relay_names *kept;
    struct read_job *job;
    int64_t offset = -1;

    if (!names_decode(req, &names)) {
        return;
    }
    if (header_get_str(req->header, "msgId", &id) != 0 || msgid_decode(id, &host, &offset) != 0 ||
        offset < 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field msgId is not the offset id of a message");
        return;
    }
    (void)slice_to_cstr(id, names.msg_id, sizeof names.msg_id);
    kept = mem_alloc(sizeof *kept);
    if (kept == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    *kept = names;
    job = read_job_new(req, read_message_step, message_done);
    if (job == NULL) {
        mem_free(kept);
        return;
    }
    job->ptr = kept;
    job->offset = (uint64_t)offset;
    job->not_found_code = RESPONSE_SYSTEM_ERROR;
    read_job_start(job);
}
