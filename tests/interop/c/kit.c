#include "tests/interop/c/kit.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define INBOX_MAX 10000

const char *name_server;
const char *case_name;
char topic[64];
char group[64];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char *items[INBOX_MAX];
static size_t count;

void fail(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)printf("\n");
    (void)fflush(stdout);
    _exit(1); /* threads are at work */
}

void note(const char *what, const char *value)
{
    (void)printf("note %s %s: %s\n", case_name, what, value);
    (void)fflush(stdout);
}

struct escrow_client *client_new(void)
{
    struct escrow_client *c = NULL;

    OK(escrow_client_new(name_server, NULL, &c));
    return c;
}

struct escrow_producer *producer_new(struct escrow_client *c)
{
    struct escrow_producer *p = NULL;

    OK(escrow_producer_new(c, "shop", NULL, &p));
    return p;
}

struct escrow_message *message_new(const char *text)
{
    struct escrow_message *m = escrow_message_new(topic, text, strlen(text));

    NEED(m != NULL);
    return m;
}

void send_text(struct escrow_producer *p, const char *text)
{
    struct escrow_message *m = message_new(text);

    OK(escrow_send(p, m, NULL));
    escrow_message_free(&m);
}

void send_numbers(struct escrow_producer *p, int first, int n)
{
    for (int i = first; i < first + n; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        send_text(p, text);
    }
}

/* ---- inbox ---- */

static void add(const char *text, size_t len)
{
    (void)pthread_mutex_lock(&lock);
    if (count == INBOX_MAX) {
        fail("more than %d messages", INBOX_MAX);
    }
    items[count] = strndup(text, len);
    NEED(items[count] != NULL);
    count++;
    (void)pthread_cond_broadcast(&changed);
    (void)pthread_mutex_unlock(&lock);
}

void inbox_add(const char *text)
{
    add(text, strlen(text));
}

enum escrow_consume_result to_inbox(const struct escrow_delivery *message, void *arg)
{
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)arg;
    add(body, len);
    return ESCROW_CONSUME_OK;
}

static size_t count_of(const char *text)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        n += strcmp(items[i], text) == 0 ? 1 : 0;
    }
    return n;
}

static size_t distinct(void)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        size_t k = 0;
        while (k < i && strcmp(items[k], items[i]) != 0) {
            k++;
        }
        n += k == i ? 1 : 0;
    }
    return n;
}

size_t inbox_count(void)
{
    size_t n;

    (void)pthread_mutex_lock(&lock);
    n = count;
    (void)pthread_mutex_unlock(&lock);
    return n;
}

size_t inbox_count_of(const char *text)
{
    size_t n;

    (void)pthread_mutex_lock(&lock);
    n = count_of(text);
    (void)pthread_mutex_unlock(&lock);
    return n;
}

size_t inbox_distinct(void)
{
    size_t n;

    (void)pthread_mutex_lock(&lock);
    n = distinct();
    (void)pthread_mutex_unlock(&lock);
    return n;
}

const char *inbox_at(size_t i)
{
    return items[i]; /* never changes once it is there */
}

/* Wait until `done` says so, with the lock. */
static void wait_until(size_t (*measure)(const char *text), const char *text, size_t least)
{
    struct timespec end;

    (void)clock_gettime(CLOCK_REALTIME, &end); /* cannot fail */
    end.tv_sec += WAIT_S;
    (void)pthread_mutex_lock(&lock);
    while (measure(text) < least) {
        if (pthread_cond_timedwait(&changed, &lock, &end) == ETIMEDOUT) {
            fail("%zu messages (%zu different) have come, and not what was waited for: %s %zu",
                 count, distinct(), text, least);
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

static size_t measure_distinct(const char *text)
{
    (void)text;
    return distinct();
}

void inbox_wait_distinct(size_t least)
{
    wait_until(measure_distinct, "different", least);
}

void inbox_wait_for(const char *text, size_t least)
{
    wait_until(count_of, text, least);
}

/* ---- consumers ---- */

struct escrow_consumer *consume(struct escrow_client *c, const char *expression,
                                const struct escrow_option *options, escrow_handler_fn *handler)
{
    struct escrow_consumer *k = NULL;

    OK(escrow_consumer_new(c, group, options, &k));
    OK(escrow_consumer_subscribe(k, topic, expression));
    OK(escrow_consumer_start(k, handler, NULL));
    return k;
}
