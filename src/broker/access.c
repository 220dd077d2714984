/*
 * Happy path: dispatch asks for each request; the signature says which user, the table what the
 * request needs, the users file whether the user has it.
 *
 * Failures: not signed, signed wrongly, from the wrong address: ESCROW_EAUTH; not allowed:
 * ESCROW_EPERM. All are NO_PERMISSION with a line that says which. A body that cannot be read needs
 * an admin: the handler will say what is wrong with it, to nobody else.
 */
#include "src/broker/access.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/body_pop.h"
#include "core/proto/body_publish.h"
#include "core/proto/body_queues.h"
#include "core/proto/codes.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"
#include "src/broker/broker.h"

#include <stdio.h>
#include <string.h>

/* Producer group of every RocketMQ consumer's heartbeat; nothing is ever asked of it. */
#define GROUP_INNER_PRODUCER "CLIENT_INNER_PRODUCER"

/* ---- what a request needs ---- */

/* What was refused, for the remark. */
struct refusal {
    const char *what; /* "PUB on topic" */
    struct slice name;
};

struct asker {
    const struct acl_user *user;
    struct request *req;
    struct refusal *refusal;
};

static const char *perm_words(unsigned perm, bool is_topic)
{
    if (perm == ACL_PUB) {
        return is_topic ? "PUB on topic" : "PUB on producer group";
    }
    return is_topic ? "SUB on topic" : "SUB on consumer group";
}

static bool may_topic(const struct asker *a, struct slice topic, unsigned perm)
{
    *a->refusal = (struct refusal){perm_words(perm, true), topic};
    return acl_user_may_topic(a->user, topic, perm);
}

static bool may_group(const struct asker *a, struct slice group, unsigned perm)
{
    *a->refusal = (struct refusal){perm_words(perm, false), group};
    return acl_user_may_group(a->user, group, perm);
}

static bool may_produce_as(const struct asker *a, struct slice group)
{
    return slice_eq_str(group, GROUP_INNER_PRODUCER) || may_group(a, group, ACL_PUB);
}

/* Copy the name of a refusal: it lies in something that is freed now. */
static void keep_name(struct refusal *r)
{
    static char name[GROUP_LEN_MAX + 1]; /* loop thread only */
    size_t len = r->name.len < sizeof name ? r->name.len : sizeof name - 1;

    (void)slice_to_cstr(slice_of(r->name.ptr, len), name, sizeof name);
    r->name = slice_str(name);
}

static bool needs_admin(const struct asker *a)
{
    *a->refusal = (struct refusal){"admin for this request", SLICE_EMPTY};
    return acl_user_is_admin(a->user);
}

/* May it become a half message (handle_send.c)? What a consumer sends back keeps the mark. */
static bool may_be_half(const struct send_request *in, const struct props_known *props)
{
    int64_t level = 0;

    return props->tran_msg.len > 0 &&
           (in->reconsume_times <= 0 || !slice_to_i64(props->delay, &level) || level <= 0);
}

/* A half message names the group that is asked about it, so it needs that group too. */
static bool needs_send(const struct asker *a)
{
    struct send_request in;
    struct props_known props;
    const char *field = NULL;

    if (send_request_decode(a->req->header, &in, &field) != 0) {
        return needs_admin(a);
    }
    (void)props_scan(in.properties, &props); /* the count does not matter here */
    return may_topic(a, in.topic, ACL_PUB) &&
           (!may_be_half(&in, &props) || props.pgroup.len == 0 || may_produce_as(a, props.pgroup));
}

static bool needs_recall(const struct asker *a)
{
    return may_topic(a, header_str(a->req->header, "topic"), ACL_PUB);
}

static bool needs_lock(const struct asker *a)
{
    struct queue_lock lock;
    bool may;

    if (queue_lock_decode(a->req->body, &lock) != 0) {
        return needs_admin(a);
    }
    may = may_group(a, lock.group, ACL_SUB);
    keep_name(a->refusal);
    queue_lock_fini(&lock);
    return may;
}

static bool needs_heartbeat(const struct asker *a)
{
    struct heartbeat hb;
    bool may = true;

    if (heartbeat_decode(a->req->body, &hb) != 0) {
        return needs_admin(a);
    }
    for (size_t i = 0; may && i < hb.producer_count; i++) {
        may = may_produce_as(a, hb.producer_groups[i]);
    }
    for (size_t i = 0; may && i < hb.consumer_count; i++) {
        const struct heartbeat_consumer *c = &hb.consumers[i];
        may = may_group(a, c->group, ACL_SUB);
        for (size_t j = 0; may && j < c->subscription_count; j++) {
            may = may_topic(a, c->subscriptions[j].topic, ACL_SUB);
        }
    }
    keep_name(a->refusal);
    heartbeat_fini(&hb);
    return may;
}

static bool needs_batch_ack(const struct asker *a)
{
    struct batch_acks acks;
    bool may = true;

    if (batch_acks_decode(a->req->body, &acks) != 0) {
        return needs_admin(a);
    }
    for (size_t i = 0; may && i < acks.count; i++) {
        may =
            may_topic(a, acks.acks[i].topic, ACL_SUB) && may_group(a, acks.acks[i].group, ACL_SUB);
    }
    keep_name(a->refusal);
    batch_acks_fini(&acks);
    return may;
}

static bool needs_assignment(const struct asker *a)
{
    struct assignment_request in;
    bool may;

    if (assignment_request_decode(a->req->body, &in) != 0) {
        return needs_admin(a);
    }
    may = may_topic(a, in.topic, ACL_SUB) && may_group(a, in.group, ACL_SUB);
    keep_name(a->refusal);
    assignment_request_fini(&in);
    return may;
}

static bool needs_unregister(const struct asker *a)
{
    struct slice producer = header_str(a->req->header, "producerGroup");
    struct slice consumer = header_str(a->req->header, "consumerGroup");

    return (producer.len == 0 || may_produce_as(a, producer)) &&
           (consumer.len == 0 || may_group(a, consumer, ACL_SUB));
}

static bool needs_decision(const struct asker *a)
{
    struct end_txn_request in;

    return end_txn_request_decode(a->req->body, &in) != 0 || in.is_operator
               ? needs_admin(a)
               : may_group(a, in.producer_group, ACL_PUB);
}

static bool needs_publish(const struct asker *a)
{
    struct publish_reader rows;
    struct publish_row row;
    int rc;

    if (publish_reader_begin(&rows, a->req->body) != 0) {
        return needs_admin(a);
    }
    if (!may_group(a, rows.head.source, ACL_PUB)) {
        return false;
    }
    while ((rc = publish_reader_next(&rows, &row)) == 1) {
        if (!row.is_same_topic && !may_topic(a, row.topic, ACL_PUB)) {
            return false;
        }
    }
    return rc == 0 || needs_admin(a);
}

static bool needs_source(const struct asker *a)
{
    struct source_open_request in;

    return source_open_request_decode(a->req->body, &in) != 0 ? needs_admin(a)
                                                              : may_group(a, in.source, ACL_PUB);
}

/*
 * Old clients name no topic: then that of the message decides, when it was read (access_may_read).
 */
static bool needs_send_back(const struct asker *a)
{
    struct slice topic = header_str(a->req->header, "originTopic");

    return (topic.len == 0 || may_topic(a, topic, ACL_SUB)) &&
           may_group(a, header_str(a->req->header, "group"), ACL_SUB);
}

/*
 * The table. A row needs SUB on the topic and the group that its fields name, PUB on the producer
 * group, or what its function says; a row with none of these needs a user, any. What is not here
 * needs an admin.
 */
static const struct need {
    int32_t code;
    const char *sub_topic;
    const char *sub_group;
    const char *pub_group;
    bool (*fn)(const struct asker *a);
} needs[] = {
    {REQUEST_SEND_MESSAGE, NULL, NULL, NULL, needs_send},
    {REQUEST_SEND_MESSAGE_V2, NULL, NULL, NULL, needs_send},
    {REQUEST_SEND_BATCH_MESSAGE, NULL, NULL, NULL, needs_send},
    {REQUEST_SEND_REPLY_MESSAGE, NULL, NULL, NULL, needs_send},
    {REQUEST_SEND_REPLY_MESSAGE_V2, NULL, NULL, NULL, needs_send},
    {REQUEST_RECALL_MESSAGE, NULL, NULL, NULL, needs_recall},
    {REQUEST_PULL_MESSAGE, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_LITE_PULL_MESSAGE, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_POP_MESSAGE, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_ACK_MESSAGE, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_CHANGE_MESSAGE_INVISIBLETIME, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_PEEK_MESSAGE, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_NOTIFICATION, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_POLLING_INFO, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_BATCH_ACK_MESSAGE, NULL, NULL, NULL, needs_batch_ack},
    {REQUEST_QUERY_ASSIGNMENT, NULL, NULL, NULL, needs_assignment},
    {REQUEST_QUERY_MESSAGE, "topic", NULL, NULL, NULL},
    {REQUEST_QUERY_CONSUMER_OFFSET, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_UPDATE_CONSUMER_OFFSET, "topic", "consumerGroup", NULL, NULL},
    {REQUEST_SEARCH_OFFSET_BY_TIMESTAMP, "topic", NULL, NULL, NULL},
    {REQUEST_GET_MAX_OFFSET, "topic", NULL, NULL, NULL},
    {REQUEST_GET_MIN_OFFSET, "topic", NULL, NULL, NULL},
    {REQUEST_GET_EARLIEST_MSG_STORETIME, "topic", NULL, NULL, NULL},
    {REQUEST_HEART_BEAT, NULL, NULL, NULL, needs_heartbeat},
    {REQUEST_UNREGISTER_CLIENT, NULL, NULL, NULL, needs_unregister},
    {REQUEST_CONSUMER_SEND_MSG_BACK, NULL, NULL, NULL, needs_send_back},
    {REQUEST_END_TRANSACTION, NULL, NULL, "producerGroup", NULL},
    {REQUEST_GET_CONSUMER_LIST_BY_GROUP, NULL, "consumerGroup", NULL, NULL},
    {REQUEST_LOCK_BATCH_MQ, NULL, NULL, NULL, needs_lock},
    {REQUEST_UNLOCK_BATCH_MQ, NULL, NULL, NULL, needs_lock},
    {REQUEST_CHECK_CLIENT_CONFIG, NULL, NULL, NULL, NULL}, /* only whether a filter compiles */
    {REQUEST_GET_KV_CONFIG, NULL, NULL, NULL, NULL},
    {REQUEST_GET_ROUTEINFO_BY_TOPIC, NULL, NULL, NULL, NULL},
    {REQUEST_GET_BROKER_CLUSTER_INFO, NULL, NULL, NULL, NULL},
    {REQUEST_GET_TOPIC_CONFIG, NULL, NULL, NULL, NULL},
    {REQUEST_ESCROW_END_TRANSACTION, NULL, NULL, NULL, needs_decision},
    {REQUEST_ESCROW_PUBLISH_BATCH, NULL, NULL, NULL, needs_publish},
    {REQUEST_ESCROW_SOURCE_OPEN, NULL, NULL, NULL, needs_source},
    {REQUEST_ESCROW_TXN_HORIZON, NULL, NULL, NULL, NULL}, /* also how clients know an escrowd */
};

static const struct need *need_of(int32_t code)
{
    for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
        if (needs[i].code == code) {
            return &needs[i];
        }
    }
    return NULL;
}

static bool may_request(const struct asker *a)
{
    struct header *h = a->req->header;
    const struct need *need = need_of(h->code);

    if (need == NULL) {
        return needs_admin(a);
    }
    if (need->fn != NULL) {
        return need->fn(a);
    }
    return (need->sub_topic == NULL || may_topic(a, header_str(h, need->sub_topic), ACL_SUB)) &&
           (need->sub_group == NULL || may_group(a, header_str(h, need->sub_group), ACL_SUB)) &&
           (need->pub_group == NULL || may_group(a, header_str(h, need->pub_group), ACL_PUB));
}

/* ---- who ---- */

/* The user whose signature the request has, or NULL and the request was answered. */
static struct acl_user *authenticate(struct request *req)
{
    struct broker *b = req->broker;
    struct slice key = header_str(req->header, SIGN_FIELD_ACCESS_KEY);
    const struct tcp_addr *peer = tcp_conn_peer(&req->session->conn);
    struct acl_user *user;
    char text[TCP_ADDR_TEXT_MAX];

    if (key.len == 0) {
        b->metrics.access_unsigned++;
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EAUTH,
                     "the request is not signed: this server needs an access key and a secret key");
        return NULL;
    }
    user = acl_users_find(b->access.users, key);
    if (user == NULL || !acl_user_signed(user, req->header, req->body)) {
        b->metrics.access_refused++;
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EAUTH,
                     "unknown access key, or the signature does not fit its secret key");
        return NULL;
    }
    if (!acl_user_may_come_from(user, peer->ip, peer->ip_len)) {
        b->metrics.access_refused++;
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EAUTH, "user %s may not come from %s",
                     acl_user_name(user), tcp_addr_format(peer, text, sizeof text));
        return NULL;
    }
    return user;
}

bool access_may_read(const struct broker *b, struct slice access_key, struct slice topic)
{
    const struct acl_user *user;

    if (!access_is_on(&b->access)) {
        return true;
    }
    user = acl_users_find(b->access.users, access_key);
    return user != NULL && acl_user_may_topic(user, topic, ACL_SUB);
}

bool access_check(struct request *req)
{
    struct broker *b = req->broker;
    struct refusal refusal = {.what = ""};
    struct asker asker = {.req = req, .refusal = &refusal};

    if (tcp_conn_is_refused(&req->session->conn)) {
        b->metrics.access_refused++;
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EAUTH, ACCESS_PLAIN_TEXT);
        return false;
    }
    if (!access_is_on(&b->access)) {
        return true;
    }
    asker.user = authenticate(req);
    if (asker.user == NULL) {
        return false;
    }
    if (may_request(&asker)) {
        return true;
    }
    b->metrics.access_denied++;
    request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EPERM, "user %s has no %s%s%.*s (%s)",
                 acl_user_name(asker.user), refusal.what, refusal.name.len > 0 ? " " : "",
                 (int)(refusal.name.len > 255 ? 255 : refusal.name.len),
                 refusal.name.len == 0 ? "" : (const char *)refusal.name.ptr,
                 request_code_name(req->header->code));
    return false;
}

/* ---- the file ---- */

/* Take what was read. false: the old users stay; *err says why. */
static bool take_text(struct access *a, struct err_ctx *err)
{
    const char *path = a->broker->config->acl_file;
    struct acl_users *users;
    int rc = acl_users_parse(buf_slice(&a->text), path, a->broker->hash_key, &users, err);

    if (a->text.cap > 0) {
        sign_wipe(a->text.ptr, a->text.cap);
    }
    buf_fini(&a->text);
    if (rc != 0) {
        return false;
    }
    acl_users_free(&a->users);
    a->users = users;
    if (small_file_is_open_to_others(&a->stamp)) {
        log_warn("acl.mode",
                 "%s: mode %04o: it holds secrets, and others can get at them; chmod 600", path,
                 a->stamp.mode);
    }
    return true;
}

static void run_read(struct pool_job *job)
{
    struct access *a = (struct access *)(void *)((char *)job - offsetof(struct access, job));

    a->result = small_file_read(a->broker->config->acl_file, USERS_FILE_MAX, a->must_read,
                                &a->stamp, &a->text, &a->err);
}

static void complain(struct access *a)
{
    if (strcmp(a->complaint, a->err.text) != 0) {
        memcpy(a->complaint, a->err.text, sizeof a->complaint);
        log_warn("acl.reload.failed", "%s; the users read before stay", a->err.text);
    }
}

static void read_is_done(struct pool_job *job)
{
    struct access *a = (struct access *)(void *)((char *)job - offsetof(struct access, job));

    a->is_reading = false;
    if (a->result == 1 && take_text(a, &a->err)) {
        a->complaint[0] = '\0';
        log_info("acl.reload", "%s: %zu users", a->broker->config->acl_file,
                 acl_users_count(a->users));
    } else if (a->result != 0) {
        complain(a);
    }
    buf_fini(&a->text);
    if (a->must_read_again && !a->is_stopping) {
        access_reload(a->broker);
    }
}

static void read_soon(struct access *a, bool force)
{
    if (a->is_reading || a->is_stopping) {
        a->must_read_again = a->must_read_again || force;
        return;
    }
    a->must_read = force;
    a->must_read_again = false;
    a->err = (struct err_ctx){.code = 0};
    buf_init(&a->text, 0);
    a->is_reading = pool_submit(&a->pool, &a->job) == 0; /* else the next tick tries */
}

static void on_tick(void *arg)
{
    read_soon(arg, false);
}

void access_reload(struct broker *b)
{
    struct access *a = &b->access;

    if (a->users != NULL) {
        a->complaint[0] = '\0'; /* asked: answer, although it was said before */
        read_soon(a, true);
    }
}

int access_start(struct broker *b, struct err_ctx *err)
{
    struct access *a = &b->access;
    int rc;

    a->broker = b;
    if (b->config->acl_file[0] == '\0') {
        return 0;
    }
    pool_init(&a->pool, b->loop, 1);
    a->job = (struct pool_job){.run = run_read, .done = read_is_done};
    buf_init(&a->text, 0);
    rc = small_file_read(b->config->acl_file, USERS_FILE_MAX, true, &a->stamp, &a->text, err);
    if (rc != 1 || !take_text(a, err)) {
        buf_fini(&a->text);
        (void)err_prefix(err, "acl.file");
        return err->code == ESCROW_ENOMEM ? ESCROW_ENOMEM : ESCROW_ECONFIG;
    }
    log_info("acl.on", "%s: %zu users; every request must be signed", b->config->acl_file,
             acl_users_count(a->users));
    loop_timer_start(b->loop, &a->timer, b->config->acl_reload_ms, b->config->acl_reload_ms,
                     on_tick, a);
    return 0;
}

void access_stop(struct broker *b)
{
    struct access *a = &b->access;

    a->is_stopping = true;
    if (a->users != NULL) {
        loop_timer_stop(b->loop, &a->timer);
        while (a->is_reading) {
            loop_run_once(b->loop, true);
        }
        pool_fini(&a->pool);
    }
    acl_users_free(&a->users);
}
