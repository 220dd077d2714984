/*
 * What a consumer reads, also while it runs: topics that it takes up and gives up, queues that it
 * leaves alone for a while.
 *
 * A paused queue stays this member's: its lock is renewed, its offset is stored. What no handler
 * and no poll has of it is forgotten, for it must not use up the room of the others; when it is
 * resumed, and its handlers are done, it goes on behind what was finished.
 */
#include "core/base/mem.h"
#include "core/filter/sql.h"
#include "core/io/clock.h"
#include "core/proto/names.h"
#include "src/client/consumer_private.h"

#include <stdio.h>
#include <string.h>

/* ---- topics ---- */

struct consumer_topic *consumer_topic_find(const struct escrow_consumer *k, const char *topic)
{
    for (size_t i = 0; i < k->topic_count; i++) {
        if (strcmp(k->topics[i]->topic, topic) == 0) {
            return k->topics[i];
        }
    }
    return NULL;
}

int topic_add(struct escrow_consumer *k, const char *topic, const char *expression,
              enum topic_kind kind)
{
    struct consumer_topic *t;

    if (consumer_topic_find(k, topic) != NULL) {
        return ESCROW_EEXIST;
    }
    if (k->topic_count == CONSUMER_TOPICS_MAX) {
        return ESCROW_ELIMIT;
    }
    t = mem_calloc(1, sizeof *t);
    if (t != NULL) {
        t->expression = mem_strdup(expression);
    }
    if (t == NULL || t->expression == NULL) {
        mem_free(t);
        return ESCROW_ENOMEM;
    }
    t->consumer = k;
    t->version = clock_wall_ms(k->client->clock);
    (void)snprintf(t->topic, sizeof t->topic, "%s", topic); /* names are bounded by their check */
    t->is_sql = kind == KIND_SQL;
    t->is_retry = kind == KIND_RETRY;
    k->topics[k->topic_count++] = t;
    return 0;
}

void topic_free(struct consumer_topic *t)
{
    mem_free(t->expression);
    mem_free(t);
}

void topic_release(struct consumer_topic *t)
{
    if (--t->queue_count == 0 && t->is_gone) {
        topic_free(t);
    }
}

struct subscribe_call {
    struct escrow_consumer *consumer;
    const char *topic;
    const char *expression;
    enum topic_kind kind;
    int rc;
};

static void subscribe_run(void *arg)
{
    struct subscribe_call *s = arg;
    struct escrow_consumer *k = s->consumer;

    s->rc = topic_add(k, s->topic, s->expression, s->kind);
    if (s->rc == 0 && k->is_running) {
        heartbeat_send_all(k->client); /* before the rebalance asks */
        loop_defer(&k->client->loop, &k->rebalance_soon);
    }
}

static int subscribe(struct escrow_consumer *k, const char *topic, const char *expression,
                     enum topic_kind kind)
{
    struct subscribe_call s = {k, topic, expression, kind, 0};
    int rc;

    if (k->is_started && k->assign_count > 0) {
        return last_error_set(ESCROW_EINVAL, "subscribe: the consumer is started, and has assigned "
                                             "queues: of the new topic it would have none");
    }
    rc = client_call(k->client, subscribe_run, &s);
    if (rc == 0) {
        rc = s.rc;
    }
    if (rc == ESCROW_EEXIST) {
        return last_error_set(rc, "subscribe: topic %s is subscribed already", topic);
    }
    if (rc == ESCROW_ELIMIT) {
        return last_error_set(rc, "subscribe: more than %d topics", CONSUMER_TOPICS_MAX);
    }
    return rc == 0 ? 0 : last_error_set(rc, "subscribe: %s", escrow_strerror(rc));
}

static int topic_check(const char *topic)
{
    if (name_check_topic(slice_str(topic)) != 0) {
        return last_error_set(ESCROW_EINVAL, "subscribe: topic '%.80s' is not a valid name", topic);
    }
    if (name_topic_class(slice_str(topic)) == TOPIC_RETRY) {
        return last_error_set(ESCROW_EINVAL,
                              "subscribe: retry topics are subscribed by themselves");
    }
    return 0;
}

int escrow_consumer_subscribe(struct escrow_consumer *consumer, const char *topic,
                              const char *expression)
{
    struct tag_filter filter;
    int rc = topic_check(topic);

    if (rc != 0) {
        return rc;
    }
    if (strlen(expression) > CONSUMER_TAGS_LEN_MAX ||
        tag_filter_parse(slice_str(expression), &filter) != 0) {
        return last_error_set(
            ESCROW_EINVAL, "subscribe: expression '%.80s': expected * or TagA || TagB", expression);
    }
    return subscribe(consumer, topic, expression, KIND_TAGS);
}

/* Compiled here only to be checked: a mistake is told at once, not by a pull that is refused. */
int escrow_consumer_subscribe_sql(struct escrow_consumer *consumer, const char *topic,
                                  const char *expression)
{
    struct sql_program *program;
    struct err_ctx err = {.code = 0};
    int rc = topic_check(topic);

    if (rc != 0) {
        return rc;
    }
    rc = sql_compile(slice_str(expression), &program, &err);
    if (rc != 0) {
        return last_error_set(rc, "subscribe: %s", err.text);
    }
    sql_free(&program);
    return subscribe(consumer, topic, expression, KIND_SQL);
}

/* Nothing stands for the topic any more but its queues that have not ended. */
static void topic_forget(struct consumer_topic *t)
{
    struct escrow_consumer *k = t->consumer;
    size_t left = 0;

    router_cancel(&t->lookup);
    remote_cancel(&t->members);
    for (size_t i = 0; i < k->assign_count; i++) {
        if (k->assigned[i].topic == t) {
            k->assigned[i].topic = NULL; /* its row stays: who chose queues never shares */
        }
    }
    for (size_t i = 0; i < k->pause_count; i++) {
        if (k->pauses[i].queues.topic != t) {
            k->pauses[left++] = k->pauses[i];
        }
    }
    k->pause_count = left;
    left = 0;
    for (size_t i = 0; i < k->topic_count; i++) {
        if (k->topics[i] != t) {
            k->topics[left++] = k->topics[i];
        }
    }
    k->topic_count = left;
}

static void unsubscribe_run(void *arg)
{
    struct subscribe_call *s = arg;
    struct escrow_consumer *k = s->consumer;
    struct consumer_topic *t = consumer_topic_find(k, s->topic);
    struct list *pos;
    struct list *tmp;

    if (t == NULL || t->is_retry) {
        s->rc = ESCROW_ENOTFOUND;
        return;
    }
    topic_forget(t);
    t->is_gone = true;
    t->queue_count++; /* until here is done with it */
    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->topic == t) {
            queue_drop(q);
        }
    }
    topic_release(t);
    if (k->is_running) {
        heartbeat_send_all(k->client);
    }
}

int escrow_consumer_unsubscribe(struct escrow_consumer *consumer, const char *topic)
{
    struct subscribe_call s = {consumer, topic, NULL, KIND_TAGS, 0};
    int rc = client_call(consumer->client, unsubscribe_run, &s);

    if (rc == 0) {
        rc = s.rc;
    }
    return rc == 0
               ? 0
               : last_error_set(rc, "unsubscribe: topic %.80s: %s", topic,
                                rc == ESCROW_ENOTFOUND ? "is not subscribed" : escrow_strerror(rc));
}

/* ---- queues of one's own choice ---- */

/* The queues that names stand for; broker NULL: of every broker, queue negative: every one. */
static int queues_name(struct queue_set_name *out, const struct consumer_topic *t,
                       const char *broker, int32_t queue)
{
    if (broker != NULL && strlen(broker) >= sizeof out->broker) {
        return ESCROW_EINVAL;
    }
    out->topic = t;
    out->queue = queue < 0 ? -1 : queue;
    (void)snprintf(out->broker, sizeof out->broker, "%s", broker == NULL ? "" : broker); /* fits */
    return 0;
}

static bool queues_have(const struct queue_set_name *s, const struct consumer_topic *t,
                        const char *broker, uint32_t queue_id)
{
    return s->topic == t && (s->broker[0] == '\0' || strcmp(s->broker, broker) == 0) &&
           (s->queue < 0 || (uint32_t)s->queue == queue_id);
}

int escrow_consumer_assign(struct escrow_consumer *consumer, const char *topic, const char *broker,
                           int32_t queue)
{
    const struct consumer_topic *t;

    if (consumer->is_started) {
        return last_error_set(ESCROW_EINVAL, "assign: the consumer is started already");
    }
    t = consumer_topic_find(consumer, topic);
    if (t == NULL) {
        return last_error_set(ESCROW_EINVAL, "assign: topic %.80s is not subscribed", topic);
    }
    if (consumer->assign_count == CONSUMER_ASSIGN_MAX) {
        return last_error_set(ESCROW_ELIMIT, "assign: more than %d times", CONSUMER_ASSIGN_MAX);
    }
    if (consumer->assigned == NULL) {
        consumer->assigned = mem_calloc(CONSUMER_ASSIGN_MAX, sizeof *consumer->assigned);
        if (consumer->assigned == NULL) {
            return last_error_set(ESCROW_ENOMEM, "assign: out of memory");
        }
    }
    if (queues_name(&consumer->assigned[consumer->assign_count], t, broker, queue) != 0) {
        return last_error_set(ESCROW_EINVAL, "assign: %.80s...: too long for a broker's name",
                              broker);
    }
    consumer->assign_count++;
    return 0;
}

bool consumer_has_queue(const struct consumer_topic *t, const char *broker, uint32_t queue_id)
{
    const struct escrow_consumer *k = t->consumer;
    bool has = k->assign_count == 0;

    for (size_t i = 0; i < k->assign_count && !has; i++) {
        has = queues_have(&k->assigned[i], t, broker, queue_id);
    }
    return has;
}

/* ---- pausing ---- */

/* What was said last about a queue counts; what was never spoken of is read. */
bool consumer_is_paused(const struct consumer_topic *t, const char *broker, uint32_t queue_id)
{
    const struct escrow_consumer *k = t->consumer;
    bool is_paused = k->is_paused;

    for (size_t i = 0; i < k->pause_count; i++) {
        if (queues_have(&k->pauses[i].queues, t, broker, queue_id)) {
            is_paused = k->pauses[i].is_paused;
        }
    }
    return is_paused;
}

/* Does the new name stand for all that the old one stands for? */
static bool queues_cover(const struct queue_set_name *new, const struct queue_set_name *old)
{
    return new->topic == old->topic &&
           (new->broker[0] == '\0' || strcmp(new->broker, old->broker) == 0) &&
           (new->queue < 0 || new->queue == old->queue);
}

static int pause_note(struct escrow_consumer *k, const struct consumer_pause *pause)
{
    size_t left = 0;

    if (k->pauses == NULL) {
        k->pauses = mem_calloc(CONSUMER_PAUSES_MAX, sizeof *k->pauses);
        if (k->pauses == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    for (size_t i = 0; i < k->pause_count; i++) {
        if (!queues_cover(&pause->queues, &k->pauses[i].queues)) {
            k->pauses[left++] = k->pauses[i];
        }
    }
    k->pause_count = left;
    if (left == CONSUMER_PAUSES_MAX) {
        return ESCROW_ELIMIT;
    }
    k->pauses[k->pause_count++] = *pause;
    return 0;
}

struct pause_call {
    struct escrow_consumer *consumer;
    const char *topic;
    const char *broker;
    int32_t queue;
    bool is_paused;
    int rc;
};

static void pause_run(void *arg)
{
    struct pause_call *p = arg;
    struct escrow_consumer *k = p->consumer;
    struct consumer_pause pause = {.is_paused = p->is_paused};
    const struct consumer_topic *t = p->topic == NULL ? NULL : consumer_topic_find(k, p->topic);
    struct list *pos;
    struct list *tmp;

    if (p->topic == NULL) {
        k->is_paused = p->is_paused;
        k->pause_count = 0;
    } else {
        p->rc = t == NULL ? ESCROW_ENOTFOUND : queues_name(&pause.queues, t, p->broker, p->queue);
        p->rc = p->rc == 0 ? pause_note(k, &pause) : p->rc;
    }
    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        bool is_paused = consumer_is_paused(q->topic, q->broker, q->queue_id);
        if (is_paused != q->is_paused) {
            queue_set_paused(q, is_paused);
        }
    }
}

static int pause_queues(struct pause_call *p, const char *what)
{
    int rc;

    if (p->topic == NULL && (p->broker != NULL || p->queue >= 0)) {
        return last_error_set(ESCROW_EINVAL, "%s: queues are those of a topic, and there is none",
                              what);
    }
    rc = client_call(p->consumer->client, pause_run, p);
    if (rc == 0) {
        rc = p->rc;
    }
    return rc == 0
               ? 0
               : last_error_set(rc, "%s: topic %.80s: %s", what, p->topic == NULL ? "*" : p->topic,
                                rc == ESCROW_ENOTFOUND ? "is not subscribed" : escrow_strerror(rc));
}

int escrow_consumer_pause(struct escrow_consumer *consumer, const char *topic, const char *broker,
                          int32_t queue)
{
    struct pause_call p = {consumer, topic, broker, queue, true, 0};

    return pause_queues(&p, "pause");
}

int escrow_consumer_resume(struct escrow_consumer *consumer, const char *topic, const char *broker,
                           int32_t queue)
{
    struct pause_call p = {consumer, topic, broker, queue, false, 0};

    return pause_queues(&p, "resume");
}
