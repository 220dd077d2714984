/*
 * Push consumer: public calls, start and end. rebalance.c says which queues it has, queue.c pulls
 * them, jobs.c brings their messages to handlers.
 *
 * The end: no more pulls, messages without a handler are forgotten (they are delivered again),
 * running handlers are waited for, offsets are stored, then the group is left. Only then may others
 * take the queues over.
 */
#include "src/client/consumer_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/io/clock.h"
#include "core/proto/codes.h"
#include "core/proto/names.h"

#include <stdio.h>
#include <string.h>

const char *consumer_type_of(const struct consumer_topic *t)
{
    return t->is_sql ? "SQL92" : "TAG";
}

/* ---- what brokers hear ---- */

void consumer_on_ids_changed(struct escrow_client *c, struct slice group)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &c->consumers) {
        struct escrow_consumer *k = LIST_ENTRY(pos, struct escrow_consumer, node);
        if (slice_eq_str(group, k->group) && !k->is_stopping) {
            loop_defer(&c->loop, &k->rebalance_soon);
        }
    }
}

void consumer_describe(struct escrow_consumer *k, struct heartbeat_consumer *row)
{
    static const enum consume_from froms[] = {[ESCROW_SEEK_FIRST] = CONSUME_FROM_FIRST_OFFSET,
                                              [ESCROW_SEEK_LAST] = CONSUME_FROM_LAST_OFFSET,
                                              [ESCROW_SEEK_TIME] = CONSUME_FROM_TIMESTAMP};

    for (size_t i = 0; i < k->topic_count; i++) {
        k->subscriptions[i] =
            (struct subscription){.topic = slice_str(k->topics[i]->topic),
                                  .expression = slice_str(k->topics[i]->expression),
                                  .expression_type = slice_str(consumer_type_of(k->topics[i])),
                                  .version = k->topics[i]->version};
    }
    *row = (struct heartbeat_consumer){
        .group = slice_str(k->group),
        .type = consumer_is_polled(k) ? CONSUME_ACTIVELY : CONSUME_PASSIVELY,
        .model = k->is_broadcast ? MODEL_BROADCASTING : MODEL_CLUSTERING,
        .from = froms[k->from.to],
        .subscriptions = k->subscriptions,
        .subscription_count = k->topic_count};
}

/* The rows borrow from each consumer's own block until the next call. */
void consumer_fill_heartbeat(struct escrow_client *c, struct heartbeat_consumer *rows, size_t max,
                             size_t *count)
{
    struct list *pos;
    struct list *tmp;

    *count = 0;
    LIST_FOREACH(pos, tmp, &c->consumers) {
        struct escrow_consumer *k = LIST_ENTRY(pos, struct escrow_consumer, node);
        /* who chose its queues is no member: nobody may share with it */
        if (*count < max && !k->is_stopping && k->assign_count == 0) {
            consumer_describe(k, &rows[(*count)++]);
        }
    }
}

/* ---- public ---- */

/* One of two words. */
static int option_choose(const char *key, const char *value, const char *no, const char *yes,
                         bool *out)
{
    *out = strcmp(value, yes) == 0;
    return *out || strcmp(value, no) == 0
               ? 0
               : last_error_set(ESCROW_ECONFIG, "option %s = '%s': expected %s or %s", key, value,
                                no, yes);
}

static int parse_allocation(const char *text, enum consumer_allocation *how)
{
    static const char *const names[] = {
        [ALLOCATE_AVERAGE] = "average", [ALLOCATE_CIRCLE] = "circle", [ALLOCATE_HASH] = "hash"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i]) == 0) {
            *how = (enum consumer_allocation)i;
            return 0;
        }
    }
    return last_error_set(ESCROW_ECONFIG,
                          "option allocate = '%s': expected average, circle or hash", text);
}

static int parse_from(const char *text, struct queue_seek *from)
{
    *from = (struct queue_seek){ESCROW_SEEK_FIRST, 0};
    if (strcmp(text, "first") == 0) {
        return 0;
    }
    from->to = ESCROW_SEEK_LAST;
    if (strcmp(text, "last") == 0) {
        return 0;
    }
    from->to = ESCROW_SEEK_TIME;
    return slice_to_i64(slice_str(text), &from->value) && from->value >= 0
               ? 0
               : last_error_set(ESCROW_ECONFIG,
                                "option from = '%s': expected first, last, or ms since 1970", text);
}

static int read_options(struct escrow_consumer *k, const struct escrow_option *options)
{
    char from[24] = "first";
    char commit[8] = "auto";
    char model[16] = "cluster";
    char order[8] = "off";
    char allocate[16] = "average";
    const struct option_spec specs[] = {
        {.key = "model", .text = model, .text_size = sizeof model},
        {.key = "order", .text = order, .text_size = sizeof order},
        {.key = "allocate", .text = allocate, .text_size = sizeof allocate},
        {.key = "offsets.file", .text = k->offsets_file, .text_size = sizeof k->offsets_file},
        {.key = "concurrency", .number = &k->concurrency, .min = 1, .max = CLIENT_WORKERS_MAX},
        {.key = "from", .text = from, .text_size = sizeof from},
        {.key = "retries.max", .number = &k->retries_max, .min = 0, .max = 1000000},
        {.key = "retry.level", .number = &k->retry_level, .min = 0, .max = 64},
        {.key = "retry.pause.ms", .number = &k->retry_pause_ms, .min = 1, .max = 600000},
        {.key = "lock.ms", .number = &k->lock_ms, .min = 10, .max = CONSUMER_LOCK_MS},
        {.key = "pull.batch", .number = &k->pull_batch, .min = 1, .max = 1024},
        {.key = "prefetch.max", .number = &k->prefetch_max, .min = 1, .max = 1000000},
        {.key = "commit", .text = commit, .text_size = sizeof commit},
        {.key = "commit.ms", .number = &k->commit_ms, .min = 1, .max = 600000},
    };
    int rc = options_read(options, specs, sizeof specs / sizeof specs[0]);

    if (rc == 0) {
        rc = parse_from(from, &k->from);
    }
    if (rc == 0) {
        rc = option_choose("commit", commit, "manual", "auto", &k->commits_by_itself);
    }
    if (rc == 0) {
        rc = option_choose("model", model, "cluster", "broadcast", &k->is_broadcast);
    }
    if (rc == 0) {
        rc = option_choose("order", order, "off", "queue", &k->is_orderly);
    }
    if (rc == 0) {
        rc = parse_allocation(allocate, &k->allocation);
    }
    if (rc == 0 && k->offsets_file[0] != '\0' && !k->is_broadcast) {
        rc = last_error_set(ESCROW_ECONFIG, "option offsets.file: only with model = broadcast; "
                                            "else the broker keeps the offsets");
    }
    if (k->retries_max == UINT64_MAX && !(k->is_orderly && !k->is_broadcast)) {
        k->retries_max = CONSUMER_RETRIES;
    }
    return rc;
}

int escrow_consumer_new(struct escrow_client *client, const char *group,
                        const struct escrow_option *options, struct escrow_consumer **out)
{
    struct escrow_consumer *k = mem_calloc(1, sizeof *k);
    int rc;

    *out = NULL;
    if (k == NULL) {
        return last_error_set(ESCROW_ENOMEM, "consumer: out of memory");
    }
    k->client = client;
    k->concurrency = 4;
    k->retries_max = UINT64_MAX; /* not said */
    k->retry_pause_ms = 1000;
    k->lock_ms = CONSUMER_LOCK_MS;
    k->pull_batch = 32;
    k->prefetch_max = 1000;
    k->commit_ms = 1000;
    list_init(&k->queues);
    list_init(&k->ready);
    list_init(&k->waiting);
    list_init(&k->node);
    rc = read_options(k, options);
    if (rc == 0 && name_check_group(slice_str(group)) != 0) {
        rc = last_error_set(ESCROW_EINVAL, "consumer: group '%.60s' is not a valid name", group);
    }
    if (rc != 0) {
        mem_free(k);
        return rc;
    }
    (void)snprintf(k->group, sizeof k->group, "%s", group); /* name_check_group bounds it */
    atomic_fetch_add(&k->client->children, 1);
    *out = k;
    return 0;
}

static void commit_time(void *arg)
{
    struct escrow_consumer *k = arg;

    if (!k->is_stopping) {
        commit_all(k);
    }
}

static void consumer_enter(void *arg)
{
    struct escrow_consumer *k = arg;
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &k->client->consumers) {
        if (strcmp(LIST_ENTRY(pos, struct escrow_consumer, node)->group, k->group) == 0) {
            k->start_error = ESCROW_EEXIST;
            return;
        }
    }
    k->started_ms = loop_mono_ms(&k->client->loop);
    list_push(&k->client->consumers, &k->node);
    k->is_running = true;
    loop_deferred_init(&k->poll_soon, poll_feed, k);
    loop_timer_start(&k->client->loop, &k->commit, k->commit_ms, k->commit_ms, commit_time, k);
    rebalance_start(k);
}

/* A group's retry topic: where the broker puts what handlers failed at. */
static int subscribe_retries(struct escrow_consumer *k)
{
    struct name_buf retry;
    int rc = name_retry_topic(slice_str(k->group), &retry);

    if (rc != 0 || !consumer_shares(k) || consumer_is_polled(k) ||
        consumer_topic_find(k, retry.text) != NULL) {
        return rc;
    }
    rc = topic_add(k, retry.text, "*", KIND_RETRY);
    return rc == 0 ? 0 : last_error_set(rc, "start: the retry topic: %s", escrow_strerror(rc));
}

static int open_offsets(struct escrow_consumer *k)
{
    struct hash_key key = {clock_random_seed(k->client->clock),
                           clock_random_seed(k->client->clock)};
    struct err_ctx err = {.code = 0};
    int rc = 0;

    if (!k->is_broadcast) {
        return 0;
    }
    if (k->offsets_file[0] == '\0') {
        rc = local_offsets_default(k->group, k->offsets_file, sizeof k->offsets_file, &err);
    }
    if (rc == 0) {
        rc = local_offsets_open(k->offsets_file, key, &k->local, &err);
    }
    return rc == 0 ? 0 : last_error_set(rc, "start: offsets of the group: %s", err.text);
}

static int start_check(const struct escrow_consumer *k, escrow_handler_fn *handler)
{
    if (k->is_started) {
        return last_error_set(ESCROW_EINVAL, "start: the consumer is started already");
    }
    if (k->topic_count == 0) {
        return last_error_set(ESCROW_EINVAL, "start: nothing is subscribed");
    }
    if (handler == NULL && k->is_orderly) {
        return last_error_set(ESCROW_EINVAL,
                              "start: order = queue needs a handler; polls are in order anyhow");
    }
    for (size_t i = 0; k->assign_count > 0 && i < k->topic_count; i++) {
        size_t n = 0;
        while (n < k->assign_count && k->assigned[n].topic != k->topics[i]) {
            n++;
        }
        if (n == k->assign_count) {
            return last_error_set(ESCROW_EINVAL, "start: no queue of topic %s is assigned",
                                  k->topics[i]->topic);
        }
    }
    return 0;
}

int escrow_consumer_start(struct escrow_consumer *consumer, escrow_handler_fn *handler, void *arg)
{
    int rc;

    rc = start_check(consumer, handler);
    if (rc != 0) {
        return rc;
    }
    consumer->handler = handler;
    consumer->handler_arg = arg;
    rc = subscribe_retries(consumer);
    if (rc == 0) {
        rc = open_offsets(consumer);
    }
    if (rc != 0) {
        return rc;
    }
    consumer->start_error = 0;
    rc = client_call(consumer->client, consumer_enter, consumer);
    if (rc == 0) {
        rc = consumer->start_error;
    }
    if (rc != 0) {
        local_offsets_close(&consumer->local);
        return last_error_set(
            rc, "start: %s",
            rc == ESCROW_EEXIST
                ? "this client has a consumer of the group already; raise its concurrency instead"
                : escrow_strerror(rc));
    }
    consumer->is_started = true;
    return 0;
}

/* ---- the end ---- */

void consumer_maybe_stopped(struct escrow_consumer *k)
{
    if (k->is_stopping && list_is_empty(&k->queues) && k->direct == NULL && !commit_is_ending(k)) {
        loop_defer(&k->client->loop, &k->finish);
    }
}

/* Nobody up the stack uses the consumer: it may be freed as soon as this has signalled. */
static void consumer_finish(void *arg)
{
    struct escrow_consumer *k = arg;

    CHECK(k->running == 0);
    CHECK(k->prefetch[0].count + k->prefetch[1].count == 0);
    heartbeat_goodbye(k->client, "consumerGroup", k->group);
    loop_timer_stop(&k->client->loop, &k->commit);
    loop_deferred_cancel(&k->poll_soon);
    list_remove(&k->node);
    local_offsets_close(&k->local);
    waiter_signal(k->stopped);
}

struct stop_call {
    struct task task;
    struct waiter waiter;
    struct escrow_consumer *consumer;
};

static void consumer_stop(struct task *task)
{
    struct stop_call *call = LIST_ENTRY(task, struct stop_call, task);
    struct escrow_consumer *k = call->consumer;
    struct list *pos;
    struct list *tmp;

    loop_deferred_init(&k->finish, consumer_finish, k);
    k->is_stopping = true;
    k->is_running = false;
    k->stopped = &call->waiter;
    rebalance_stop(k);
    LIST_FOREACH(pos, tmp, &k->queues) {
        queue_drop(LIST_ENTRY(pos, struct consumer_queue, node));
    }
    consumer_maybe_stopped(k);
}

void escrow_consumer_free(struct escrow_consumer **consumer)
{
    struct escrow_consumer *k = *consumer;
    struct stop_call call = {.task.run = consumer_stop, .consumer = k};
    struct escrow_client *c;

    if (k == NULL) {
        return;
    }
    if (loop_is_mine(&k->client->loop) || client_is_worker(k->client)) {
        client_refuse_free("the consumer", "this is a callback of its client, perhaps the handler "
                                           "that it would wait for");
        return;
    }
    *consumer = NULL;
    c = k->client;
    if (k->is_started) {
        if (waiter_init(&call.waiter) != 0 || client_post(k->client, &call.task) != 0 ||
            waiter_wait(&call.waiter, -1) != 0) {
            UNREACHABLE("a consumer is freed before its client");
        }
        waiter_fini(&call.waiter);
    }
    for (size_t i = 0; i < k->topic_count; i++) {
        topic_free(k->topics[i]);
    }
    mem_free(k->assigned);
    mem_free(k->pauses);
    mem_free(k);
    atomic_fetch_sub(&c->children, 1);
}
