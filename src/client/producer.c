#include "src/client/client_private.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- making and freeing ---- */

/* Meet the brokers before the first send: check-backs for an earlier process of the group may be waiting. */
static void brokers_found(struct route_lookup *lookup, int error, const struct topic_route *route)
{
    struct escrow_producer *p = LIST_ENTRY(lookup, struct escrow_producer, lookup);

    (void)route;
    if (error == 0) {
        heartbeat_send_all(p->client);
    }
}

static void producer_enter(void *arg)
{
    struct escrow_producer *p = arg;

    list_push(&p->client->producers, &p->node);
    if (p->is_txn) {
        router_lookup(&p->client->router, &p->lookup, TOPIC_TEMPLATE, false, brokers_found);
    }
}

static void producer_leave(void *arg)
{
    struct escrow_producer *p = arg;

    router_cancel(&p->lookup);
    list_remove(&p->node);
}

static int producer_new(struct escrow_client *c, const char *group,
                        const struct escrow_option *options, struct escrow_producer *init,
                        struct escrow_producer **out)
{
    struct escrow_producer *p = mem_calloc(1, sizeof *p);
    int rc;

    *out = NULL;
    if (p == NULL) {
        return last_error_set(ESCROW_ENOMEM, "producer: out of memory");
    }
    *p = *init;
    p->client = c;
    p->retries = 2;
    p->timeout_ms = 3000;
    p->body_max = MESSAGE_BODY_MAX;
    p->queues = 4;
    const struct option_spec specs[] = {
        {.key = "retries", .number = &p->retries, .min = 0, .max = 1000},
        {.key = "send.timeout.ms", .number = &p->timeout_ms, .min = 1, .max = 3600000},
        {.key = "body.max.bytes", .number = &p->body_max, .min = 1, .max = MESSAGE_BODY_MAX},
        {.key = "queues", .number = &p->queues, .min = 1, .max = QUEUES_PER_TOPIC_MAX},
    };
    rc = options_read(options, specs, sizeof specs / sizeof specs[0]);
    if (rc == 0 && name_check_group(slice_str(group)) != 0) {
        rc = last_error_set(ESCROW_EINVAL, "producer: group '%.60s' is not a valid name", group);
    }
    if (rc == 0) {
        (void)snprintf(p->group, sizeof p->group, "%s", group); /* name_check_group bounds it */
        rc = client_call(c, producer_enter, p);
    }
    if (rc != 0) {
        mem_free(p);
        return rc;
    }
    *out = p;
    return 0;
}

int escrow_producer_new(struct escrow_client *client, const char *group,
                        const struct escrow_option *options, struct escrow_producer **out)
{
    struct escrow_producer init = {.is_txn = false};

    return producer_new(client, group, options, &init, out);
}

int escrow_txn_producer_new(struct escrow_client *client, const char *group,
                            const struct escrow_option *options, escrow_txn_check_fn *check,
                            void *arg, struct escrow_producer **out)
{
    struct escrow_producer init = {.is_txn = true, .check = check, .check_arg = arg};

    return producer_new(client, group, options, &init, out);
}

void escrow_producer_free(struct escrow_producer **producer)
{
    struct escrow_producer *p = *producer;
    struct timespec pause = {.tv_nsec = 1000000};

    if (p == NULL) {
        return;
    }
    *producer = NULL;
    if (client_call(p->client, producer_leave, p) != 0) {
        UNREACHABLE("a producer is freed before its client");
    }
    while (atomic_load(&p->in_flight) > 0) {
        (void)nanosleep(&pause, NULL); /* asynchronous sends end within their timeouts */
    }
    mem_free(p);
}

/* ---- synchronous ---- */

static int receipt_give(const struct escrow_receipt *from, struct escrow_receipt **out)
{
    if (out != NULL) {
        *out = mem_alloc(sizeof **out);
        if (*out == NULL) {
            return last_error_set(ESCROW_ENOMEM, "receipt: out of memory; the message is stored");
        }
        **out = *from;
    }
    return 0;
}

int escrow_send(struct escrow_producer *producer, const struct escrow_message *message,
                struct escrow_receipt **receipt)
{
    struct escrow_receipt r;
    int rc;

    if (receipt != NULL) {
        *receipt = NULL;
    }
    rc = send_wait(producer, message, SEND_PLAIN, SLICE_EMPTY, &r);
    return rc == 0 ? receipt_give(&r, receipt) : rc;
}

int escrow_send_batch(struct escrow_producer *producer,
                      const struct escrow_message *const *messages, size_t count,
                      struct escrow_receipt **receipt)
{
    struct escrow_receipt r;
    int rc;

    if (receipt != NULL) {
        *receipt = NULL;
    }
    rc = send_batch_wait(producer, messages, count, &r);
    return rc == 0 ? receipt_give(&r, receipt) : rc;
}

/* ---- asynchronous and one-way: the message is copied ---- */

struct async_send {
    struct send_op op;
    struct escrow_message *copy;
    size_t bytes;
    escrow_send_fn *fn; /* NULL: one-way */
    void *arg;
};

static void async_done(struct send_op *op)
{
    struct async_send *a = LIST_ENTRY(op, struct async_send, op);
    struct escrow_producer *p = op->producer;

    send_fini(op);
    if (a->fn != NULL) {
        a->fn(op->error, op->error == 0 ? &op->receipt : NULL, a->arg);
    }
    client_memory_give(p->client, a->bytes);
    escrow_message_free(&a->copy);
    mem_free(a);
    atomic_fetch_sub(&p->in_flight, 1);
}

static void async_start(struct task *task)
{
    struct async_send *a = LIST_ENTRY(task, struct async_send, op.task);
    int rc = send_prepare(&a->op, a->copy);

    if (rc != 0) {
        a->op.error = rc;
        async_done(&a->op);
        return;
    }
    send_start(&a->op);
}

struct escrow_message *message_copy(const struct escrow_message *m)
{
    struct escrow_message *copy = escrow_message_new(m->topic, m->body, m->body_len);
    bool ok = copy != NULL;

    ok = ok && (m->tag == NULL || escrow_message_set_tag(copy, m->tag) == 0);
    ok = ok && (m->keys == NULL || escrow_message_set_keys(copy, m->keys) == 0);
    ok = ok &&
         (m->ordering_key == NULL || escrow_message_set_ordering_key(copy, m->ordering_key) == 0);
    if (ok) {
        buf_append_slice(&copy->properties, buf_slice(&m->properties));
        ok = !buf_failed(&copy->properties);
    }
    if (!ok) {
        escrow_message_free(&copy);
    }
    return copy;
}

static int async_begin(struct escrow_producer *p, const struct escrow_message *m,
                       escrow_send_fn *fn, void *arg)
{
    struct async_send *a;
    int rc = message_check(p, m);

    if (rc != 0) {
        return rc;
    }
    a = mem_calloc(1, sizeof *a);
    if (a == NULL) {
        return last_error_set(ESCROW_ENOMEM, "send: out of memory");
    }
    a->bytes = m->body_len + sizeof *a + m->properties.len;
    if (!client_memory_take(p->client, a->bytes)) {
        mem_free(a);
        return last_error_set(ESCROW_ELIMIT,
                              "send: memory.max.bytes is used up; wait for callbacks");
    }
    a->copy = message_copy(m);
    a->fn = fn;
    a->arg = arg;
    if (a->copy != NULL) {
        a->op.producer = p;
        a->op.kind = SEND_PLAIN;
        a->op.is_oneway = fn == NULL;
        a->op.topic = a->copy->topic;
        a->op.body = slice_of(a->copy->body, a->copy->body_len);
        a->op.done = async_done;
        a->op.task.run = async_start;
        buf_init(&a->op.properties, 0);
    }
    atomic_fetch_add(&p->in_flight, 1);
    rc = a->copy == NULL ? ESCROW_ENOMEM : client_post(p->client, &a->op.task);
    if (rc != 0) {
        atomic_fetch_sub(&p->in_flight, 1);
        client_memory_give(p->client, a->bytes);
        escrow_message_free(&a->copy);
        mem_free(a);
        return last_error_set(rc, "send: %s", escrow_strerror(rc));
    }
    return 0;
}

int escrow_send_async(struct escrow_producer *producer, const struct escrow_message *message,
                      escrow_send_fn *fn, void *arg)
{
    CHECK(fn != NULL);
    return async_begin(producer, message, fn, arg);
}

int escrow_send_oneway(struct escrow_producer *producer, const struct escrow_message *message)
{
    return async_begin(producer, message, NULL, NULL);
}
