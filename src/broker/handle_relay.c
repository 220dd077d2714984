/*
 * What the broker asks a consumer for somebody else: GET_CONSUMER_RUNNING_INFO 307,
 * CONSUME_MESSAGE_DIRECTLY 309 (PROTOCOL.md, "Administration"). The client's answer is the answer.
 * INVOKE_BROKER_TO_GET_CONSUMER_STATUS 223: all members are asked (221), and what they answer is
 * put together.
 */
#include "core/base/mem.h"
#include "core/proto/body_queues.h"
#include "core/proto/json_write.h"
#include "core/proto/msgid.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

#define STATUSES_BYTES_MAX (FRAME_SIZE_MAX - (64u << 10)) /* of a body; the rest of the frame */

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

/* ---- how far the members are ---- */

struct statuses {
    struct deferred asker;
    struct buf body;
    struct json_writer w;
    size_t waiting; /* members that did not answer yet; and one for whoever is still asking */
};

struct status_names {
    struct slice topic;
    struct slice group;
};

static void put_status_names(struct header_writer *w, void *arg)
{
    const struct status_names *names = arg;

    header_put_str(w, "topic", names->topic);
    header_put_str(w, "group", names->group);
}

static void statuses_heard(struct broker *b, struct statuses *s)
{
    struct header_writer w;

    (void)b;
    if (--s->waiting > 0) {
        return;
    }
    json_write_object_end(&s->w);
    json_write_key(&s->w, "messageQueueTable");
    json_write_object_begin(&s->w);
    json_write_object_end(&s->w);
    json_write_object_end(&s->w);
    if (buf_failed(&s->body)) {
        deferred_fail(&s->asker, RESPONSE_MESSAGE_ILLEGAL, ESCROW_ETOOBIG,
                      "the members' answers do not fit into a frame");
    } else if (deferred_begin(&s->asker, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        buf_append_slice(w.buf, buf_slice(&s->body));
        deferred_end(&s->asker, &w);
    }
    buf_fini(&s->body);
    mem_free(s);
}

/* A member that does not answer, or not well, is left out. */
static void status_heard(struct broker *b, void *arg, const char *client_id, const struct header *h,
                         struct slice body)
{
    struct statuses *s = arg;
    struct queue_table table;

    if (h != NULL && h->code == RESPONSE_SUCCESS &&
        queue_table_decode(body, QUEUE_TABLE_MEMBER, &table) == 0) {
        json_write_key_slice(&s->w, slice_str(client_id));
        queue_offsets_write(&s->w, &table);
        queue_table_fini(&table);
    }
    statuses_heard(b, s);
}

/* Who cannot be asked for want of memory is left out, too. */
static void ask_members(struct broker *b, struct statuses *s, const struct client_group *group,
                        struct relay_ask *ask, struct slice only)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &group->roles) {
        const struct client_role *role = LIST_ENTRY(pos, struct client_role, by_group);
        if (only.len == 0 || slice_eq_str(only, role->client_id)) {
            ask->client_id = slice_str(role->client_id);
            s->waiting++;
            if (relay_ask_member(b, role, ask, status_heard, s) != 0) {
                s->waiting--;
            }
        }
    }
}

void handle_member_status(struct request *req)
{
    struct slice only = SLICE_EMPTY;
    struct status_names names = {.topic = SLICE_EMPTY};
    struct relay_ask ask = {.code = REQUEST_GET_CONSUMER_STATUS_FROM_CLIENT,
                            .put_fields = put_status_names,
                            .arg = &names};
    const struct client_group *group;
    struct statuses *s;

    if (header_get_str(req->header, "group", &names.group) != 0 ||
        name_check_group(names.group) != 0 ||
        header_get_str(req->header, "topic", &names.topic) != 0 ||
        name_check_topic(names.topic) != 0 ||
        header_opt_str(req->header, "clientAddr", &only) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field group or topic is missing or malformed");
        return;
    }
    ask.group = names.group;
    group = clients_find_consumers(req->broker, ask.group);
    if (group == NULL) {
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_ENOTFOUND,
                     "No Any Consumer online in the consumer group: [%.*s]", SLICE_ARGS(ask.group));
        return;
    }
    if (req->broker->relays.count + (only.len > 0 ? 1 : group->role_count) > RELAYS_MAX) {
        request_fail(req, -1, ESCROW_ELIMIT, "too many questions to clients under way");
        return;
    }
    s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    buf_init(&s->body, STATUSES_BYTES_MAX);
    s->w = json_writer_to(&s->body);
    json_write_object_begin(&s->w);
    json_write_key(&s->w, "consumerTable");
    json_write_object_begin(&s->w);
    s->waiting = 1;
    s->asker = request_defer(req);
    ask_members(req->broker, s, group, &ask, only);
    statuses_heard(req->broker, s);
}
