#include "src/client/client_private.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"

#include <stdio.h>
#include <string.h>

/* ---- making and freeing ---- */

static void meet_again(void *arg);

/*
 * Meet the brokers before the first send: check-backs for an earlier process of the group may be
 * waiting.
 */
static void brokers_found(struct route_lookup *lookup, int error, const struct topic_route *route)
{
    struct escrow_producer *p = LIST_ENTRY(lookup, struct escrow_producer, lookup);

    (void)route;
    if (error == 0) {
        p->meet_tries = 0;
        heartbeat_send_all(p->client);
    } else {
        loop_timer_start(&p->client->loop, &p->meet, client_backoff_ms(p->client, ++p->meet_tries),
                         0, meet_again, p);
    }
}

void producer_meet(struct escrow_producer *p)
{
    if (p->is_txn && !p->lookup.is_active && !loop_timer_is_active(&p->meet)) {
        router_lookup(&p->client->router, &p->lookup, TOPIC_TEMPLATE, false, brokers_found);
    }
}

static void meet_again(void *arg)
{
    producer_meet(arg);
}

void producer_ref(struct escrow_producer *p)
{
    atomic_fetch_add(&p->refs, 1);
}

void producer_unref(struct escrow_producer *p)
{
    if (atomic_fetch_sub(&p->refs, 1) == 1) {
        waiter_signal(&p->idle);
    }
}

static void producer_enter(void *arg)
{
    struct escrow_producer *p = arg;

    list_push(&p->client->producers, &p->node);
    p->next_queue = (uint32_t)rand_u64(&p->client->rand);
    producer_meet(p);
}

static void producer_leave(void *arg)
{
    struct escrow_producer *p = arg;
    struct list *pos;
    struct list *tmp;

    router_cancel(&p->lookup);
    loop_timer_stop(&p->client->loop, &p->meet);
    list_remove(&p->node);
    LIST_FOREACH(pos, tmp, &p->client->producers) {
        const struct escrow_producer *other = LIST_ENTRY(pos, struct escrow_producer, node);
        if (other->check != NULL && strcmp(other->group, p->group) == 0) {
            return; /* the group is still here */
        }
    }
    if (p->check != NULL) {
        heartbeat_goodbye(p->client, "producerGroup", p->group);
    }
}

static int parse_compression(const char *text, enum compression *how)
{
    struct buf none;
    int rc = ESCROW_ECONFIG;

    buf_init(&none, 0);
    for (*how = COMPRESSION_ZLIB; *how < COMPRESSION_UNKNOWN; (*how)++) {
        if (strcmp(text, compression_name(*how)) == 0) {
            rc = compress_as(&none, *how, SLICE_EMPTY, 1);
            break;
        }
    }
    buf_fini(&none);
    if (rc == ESCROW_ENOTSUP) {
        return last_error_set(rc, "option compress.type = '%s': this library was built without it",
                              text);
    }
    if (rc == ESCROW_ECONFIG) {
        return last_error_set(rc, "option compress.type = '%s': expected zlib, lz4 or zstd", text);
    }
    return rc == 0 ? 0 : last_error_set(rc, "producer: %s", escrow_strerror(rc));
}

static int producer_new(struct escrow_client *c, const char *group,
                        const struct escrow_option *options, struct escrow_producer *init,
                        struct escrow_producer **out)
{
    struct escrow_producer *p = mem_calloc(1, sizeof *p);
    char type[8] = "zlib";
    int rc;

    *out = NULL;
    if (p == NULL) {
        return last_error_set(ESCROW_ENOMEM, "producer: out of memory");
    }
    *p = *init;
    p->client = c;
    atomic_store(&p->refs, 1);
    p->retries = 2;
    p->timeout_ms = 3000;
    p->body_max = MESSAGE_BODY_MAX;
    p->queues = 4;
    p->compress_over = 4096;
    p->compress_level = 5;
    const struct option_spec specs[] = {
        {.key = "retries", .number = &p->retries, .min = 0, .max = 1000},
        {.key = "send.timeout.ms", .number = &p->timeout_ms, .min = 1, .max = 3600000},
        {.key = "body.max.bytes", .number = &p->body_max, .min = 1, .max = MESSAGE_BODY_MAX},
        {.key = "compress.over.bytes", .number = &p->compress_over, .min = 0, .max = INT32_MAX},
        {.key = "compress.level", .number = &p->compress_level, .min = 1, .max = 9},
        {.key = "compress.type", .text = type, .text_size = sizeof type},
        {.key = "queues", .number = &p->queues, .min = 1, .max = QUEUES_PER_TOPIC_MAX},
    };
    rc = options_read(options, specs, sizeof specs / sizeof specs[0]);
    if (rc == 0) {
        rc = parse_compression(type, &p->compress_how);
    }
    if (rc == 0 && name_check_group(slice_str(group)) != 0) {
        rc = last_error_set(ESCROW_EINVAL, "producer: group '%.60s' is not a valid name", group);
    }
    if (rc == 0) {
        (void)snprintf(p->group, sizeof p->group, "%s", group); /* name_check_group bounds it */
        rc = waiter_init(&p->idle);
        if (rc == 0) {
            rc = client_call(c, producer_enter, p);
            if (rc != 0) {
                waiter_fini(&p->idle);
            }
        }
        if (rc != 0) {
            rc = last_error_set(rc, "producer: %s", escrow_strerror(rc));
        }
    }
    if (rc != 0) {
        mem_free(p);
        return rc;
    }
    atomic_fetch_add(&c->children, 1);
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

/* It would wait for ever, or leave something behind that needs it; NULL: free it. */
static const char *why_not_freed(const struct escrow_producer *p)
{
    if (loop_is_mine(&p->client->loop)) {
        return "this is a completion callback";
    }
    if (p->check != NULL && client_is_worker(p->client)) {
        return "this is a handler or check callback, and its check callbacks wait for their turn";
    }
    if (txn_is_executing(p)) {
        return "this is the execute of its own escrow_txn_send";
    }
    return atomic_load(&p->open) > 0 ? "a transaction of escrow_pg_begin is open: end it first"
                                     : NULL;
}

void escrow_producer_free(struct escrow_producer **producer)
{
    struct escrow_producer *p = *producer;
    struct escrow_client *c;
    const char *why;

    if (p == NULL) {
        return;
    }
    why = why_not_freed(p);
    if (why != NULL) {
        client_refuse_free("the producer", why);
        return;
    }
    *producer = NULL;
    c = p->client;
    if (client_call(c, producer_leave, p) != 0) {
        UNREACHABLE("a producer is freed before its client");
    }
    producer_unref(p);
    if (waiter_wait(&p->idle, -1) != 0) { /* what is under way ends within its timeouts */
        UNREACHABLE("a wait without a limit");
    }
    waiter_fini(&p->idle);
    mem_free(p);
    atomic_fetch_sub(&c->children, 1);
}

/* ---- synchronous ---- */

/* Before the send, so that what was sent is not reported as failed. */
int receipt_new(struct escrow_receipt **out)
{
    if (out != NULL) {
        *out = mem_calloc(1, sizeof **out);
        if (*out == NULL) {
            return last_error_set(ESCROW_ENOMEM, "receipt: out of memory");
        }
    }
    return 0;
}

int receipt_give(int rc, const struct escrow_receipt *from, struct escrow_receipt **out)
{
    if (out == NULL) {
        return rc;
    }
    if (rc == 0) {
        CHECK(*out != NULL); /* receipt_new made it */
        **out = *from;
    } else {
        escrow_receipt_free(out);
    }
    return rc;
}

int escrow_send(struct escrow_producer *producer, const struct escrow_message *message,
                struct escrow_receipt **receipt)
{
    struct escrow_receipt r;
    int rc = receipt_new(receipt);

    if (rc != 0) {
        return rc;
    }
    rc = send_wait(producer, message, SEND_PLAIN, &r);
    return receipt_give(rc, &r, receipt);
}

int escrow_send_batch(struct escrow_producer *producer,
                      const struct escrow_message *const *messages, size_t count,
                      struct escrow_receipt **receipt)
{
    struct escrow_receipt r;
    int rc = receipt_new(receipt);

    if (rc != 0) {
        return rc;
    }
    rc = send_batch_wait(producer, messages, count, &r);
    return receipt_give(rc, &r, receipt);
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
    producer_unref(p);
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
        copy->time_prop = m->time_prop;
        copy->time_value = m->time_value;
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
    a->bytes = 2 * send_bytes(m); /* the copy, and the frame; compressed less than once more */
    if (!client_memory_take(p->client, a->bytes)) {
        mem_free(a);
        return last_error_set(ESCROW_ELIMIT,
                              "send: memory.max.bytes is used up; wait for other sends and their "
                              "callbacks");
    }
    a->copy = message_copy(m);
    a->fn = fn;
    a->arg = arg;
    if (a->copy != NULL) {
        a->op.producer = p;
        a->op.kind = SEND_PLAIN;
        a->op.is_oneway = fn == NULL;
        a->op.topic = a->copy->topic;
        a->op.done = async_done;
        a->op.task.run = async_start;
        buf_init(&a->op.properties, 0);
    }
    producer_ref(p);
    rc = a->copy == NULL ? ESCROW_ENOMEM : send_pack(&a->op, a->copy);
    if (rc == 0) {
        rc = client_post(p->client, &a->op.task);
    }
    if (rc != 0) {
        buf_fini(&a->op.packed);
        producer_unref(p);
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
