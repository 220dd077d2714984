/*
 * libescrow against any broker that speaks RocketMQ's protocol: the same cases, whoever answers.
 *
 * usage: cases NAMESRV CASE...               prints "ok CASE" or "FAIL CASE: why" for each
 *        cases NAMESRV ROLE TOPIC GROUP      a process that a case kills (run_role)
 *
 * Each case runs in a process of its own, with a topic and a group of its own.
 */
#include "tests/interop/c/kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LONG_LEN 100000
#define BODY_MAX ((size_t)4 << 20)

static void end(struct escrow_consumer **k, struct escrow_producer **p, struct escrow_client **c)
{
    escrow_consumer_free(k);
    escrow_producer_free(p);
    escrow_client_free(c);
}

static void on_sent(int error, const struct escrow_receipt *receipt, void *arg)
{
    (void)arg;
    (void)receipt;
    if (error != 0) {
        fail("asynchronous send: %s", escrow_strerror(error));
    }
}

/* Every way to send arrives. */
static void case_send(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;
    struct escrow_message *m[4];
    struct escrow_receipt *receipt = NULL;

    for (int i = 0; i < 4; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "batch %d", i);
        m[i] = message_new(text);
    }
    send_text(p, "sync");
    OK(escrow_send_batch(p, (const struct escrow_message *const *)m, 4, &receipt));
    NEED(escrow_receipt_offset(receipt) >= 0);
    NEED(strlen(escrow_receipt_message_id(receipt)) == 32);
    for (int i = 0; i < 4; i++) {
        escrow_message_free(&m[i]);
    }
    m[0] = message_new("async");
    m[1] = message_new("one-way");
    OK(escrow_send_async(p, m[0], on_sent, NULL));
    OK(escrow_send_oneway(p, m[1]));
    k = consume(c, "*", NULL, to_inbox);
    inbox_wait_distinct(7);
    escrow_receipt_free(&receipt);
    escrow_message_free(&m[0]);
    escrow_message_free(&m[1]);
    end(&k, &p, &c);
}

static enum escrow_consume_result describes(const struct escrow_delivery *message, void *arg)
{
    const char *color = escrow_delivery_property(message, "color");
    char line[200];

    (void)snprintf(line, sizeof line, "%s %s %s", escrow_delivery_tag(message),
                   escrow_delivery_keys(message), color == NULL ? "-" : color);
    inbox_add(line);
    (void)arg;
    return ESCROW_CONSUME_OK;
}

static void send_coloured(struct escrow_producer *p)
{
    static const char *const tags[] = {"Red", "Green", "Blue"};

    for (int i = 0; i < 12; i++) {
        struct escrow_message *m = message_new("x");
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        OK(escrow_message_set_tag(m, tags[i % 3]));
        OK(escrow_message_set_keys(m, key));
        OK(escrow_message_set_property(m, "color", i < 6 ? "old" : "new"));
        OK(escrow_send(p, m, NULL));
        escrow_message_free(&m);
    }
}

/* Tags filter; tag, keys and properties come as they were sent. */
static void case_tags(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;

    send_coloured(p);
    k = consume(c, "Red || Blue", NULL, describes);
    inbox_wait_distinct(8);
    NEED(inbox_count_of("Red k0 old") == 1);
    NEED(inbox_count_of("Blue k11 new") == 1);
    NEED(inbox_count() == 8);
    end(&k, &p, &c);
}

/* SQL92 filters. */
static void case_sql(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k = NULL;

    send_coloured(p);
    OK(escrow_consumer_new(c, group, NULL, &k));
    OK(escrow_consumer_subscribe_sql(k, topic, "color = 'new' AND TAGS IN ('Red', 'Green')"));
    OK(escrow_consumer_start(k, describes, NULL));
    inbox_wait_distinct(4);
    NEED(inbox_count_of("Green k7 new") == 1);
    NEED(inbox_count() == 4);
    end(&k, &p, &c);
}

static enum escrow_consume_result notes_delay(const struct escrow_delivery *message, void *arg)
{
    int64_t late_ms = escrow_delivery_stored_ms(message) - escrow_delivery_born_ms(message);
    char line[64];
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)snprintf(line, sizeof line, "%.*s %s", (int)len, body, late_ms >= 700 ? "late" : "early");
    inbox_add(line);
    (void)arg;
    return ESCROW_CONSUME_OK;
}

/* By level, and by time: not at once, and once. */
static void case_delay(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_message *level = message_new("level");
    struct escrow_message *timed = message_new("timed");
    struct escrow_consumer *k;

    OK(escrow_message_set_delay_level(level, 1));
    OK(escrow_message_set_delay(timed, 2000));
    OK(escrow_send(p, level, NULL));
    OK(escrow_send(p, timed, NULL));
    k = consume(c, "*", NULL, notes_delay);
    inbox_wait_for("level late", 1);
    inbox_wait_for("timed late", 1);
    NEED(inbox_count() == 2);
    escrow_message_free(&level);
    escrow_message_free(&timed);
    end(&k, &p, &c);
}

static enum escrow_consume_result notes_time(const struct escrow_delivery *message, void *arg)
{
    const int64_t *due_ms = arg;
    size_t len;
    const char *body = escrow_delivery_body(message, &len);
    char line[64];

    (void)snprintf(line, sizeof line, "%.*s %s", (int)len, body,
                   escrow_delivery_stored_ms(message) >= *due_ms ? "when due" : "before");
    inbox_add(line);
    return ESCROW_CONSUME_OK;
}

/* At a time of day: not before it; one that has passed is now. */
static void case_at(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_message *later = message_new("later");
    struct escrow_message *past = message_new("past");
    struct escrow_consumer *k = NULL;
    struct timespec now;
    int64_t due_ms;

    NEED(clock_gettime(CLOCK_REALTIME, &now) == 0);
    due_ms = ((int64_t)now.tv_sec + 4) * 1000;
    OK(escrow_message_set_deliver_at(later, due_ms));
    OK(escrow_message_set_deliver_at(past, due_ms - 3600000));
    OK(escrow_send(p, later, NULL));
    OK(escrow_send(p, past, NULL));
    OK(escrow_consumer_new(c, group, NULL, &k));
    OK(escrow_consumer_subscribe(k, topic, "*"));
    OK(escrow_consumer_start(k, notes_time, &due_ms));
    inbox_wait_for("later when due", 1);
    NEED(inbox_count_of("past before") + inbox_count_of("past when due") == 1);
    NEED(inbox_count() == 2);
    escrow_message_free(&later);
    escrow_message_free(&past);
    end(&k, &p, &c);
}

/* Long bodies are compressed on their way, and arrive as they were. */
static void compressed_as(const char *type)
{
    const struct escrow_option options[] = {{"compress.type", type}, {NULL, NULL}};
    static char text[LONG_LEN + 1];
    struct escrow_client *c = client_new();
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", options, &p));
    for (size_t i = 0; i < LONG_LEN; i++) {
        text[i] = "a line of text, and again. "[i % 27];
    }
    send_text(p, text);
    k = consume(c, "*", NULL, to_inbox);
    inbox_wait_for(text, 1);
    end(&k, &p, &c);
}

static void case_compress(void)
{
    compressed_as("zlib");
}

static void case_lz4(void)
{
    compressed_as("lz4");
}

static void case_zstd(void)
{
    compressed_as("zstd");
}

static char body[BODY_MAX + 1];

static enum escrow_consume_result compares_body(const struct escrow_delivery *message, void *arg)
{
    size_t len;
    const void *got = escrow_delivery_body(message, &len);

    inbox_add(len == BODY_MAX && memcmp(got, body, len) == 0 ? "the same" : "another");
    (void)arg;
    return ESCROW_CONSUME_OK;
}

/*
 * A body of 4 MiB arrives whole; one byte more, none, and names that are the broker's own are
 * refused.
 */
static void case_sizes(void)
{
    const char *const names[] = {"SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC"};
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;
    struct escrow_message *m;
    uint32_t random = 1; /* nothing that compression makes shorter */

    for (size_t i = 0; i <= BODY_MAX; i++) {
        random = random * 1664525u + 1013904223u;
        body[i] = (char)(random >> 24);
    }
    m = escrow_message_new(topic, body, BODY_MAX + 1);
    NEED(m == NULL || escrow_send(p, m, NULL) != 0);
    escrow_message_free(&m);
    m = escrow_message_new(topic, body, 0);
    NEED(m == NULL || escrow_send(p, m, NULL) != 0);
    escrow_message_free(&m);
    for (int i = 0; i < 2; i++) {
        m = escrow_message_new(names[i], body, 1);
        NEED(m == NULL || escrow_send(p, m, NULL) != 0);
        escrow_message_free(&m);
    }
    m = escrow_message_new(topic, body, BODY_MAX);
    OK(escrow_send(p, m, NULL));
    escrow_message_free(&m);
    k = consume(c, "*", NULL, compares_body);
    inbox_wait_for("the same", 1);
    end(&k, &p, &c);
}

/* A group that asks for the end gets what comes later. */
static void case_latest(void)
{
    const struct escrow_option last[] = {{"from", "last"}, {NULL, NULL}};
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;

    send_text(p, "before");
    k = consume(c, "*", last, to_inbox);
    while (inbox_count_of("after") == 0) { /* the case's alarm ends it */
        send_text(p, "after");
    }
    end(&k, &p, &c);
}

/* A pull is answered when a message comes: one that is not would be held for 15 seconds. */
static void case_waiting(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k = consume(c, "*", NULL, to_inbox);

    send_text(p, "first");
    inbox_wait_for("first", 1);
    for (int i = 0; i < 5; i++) {
        time_t sent = time(NULL);
        send_numbers(p, i, 1);
        inbox_wait_distinct((size_t)i + 2);
        NEED(time(NULL) - sent < 10);
    }
    end(&k, &p, &c);
}

/* Two members share, one leaves, nothing is lost; the group goes on where it was. */
static void case_group(void)
{
    const struct escrow_option quick[] = {{"commit.ms", "50"}, {NULL, NULL}};
    struct escrow_client *c1 = client_new();
    struct escrow_client *c2 = client_new();
    struct escrow_producer *p = producer_new(c1);
    struct escrow_consumer *k1;
    struct escrow_consumer *k2;

    send_numbers(p, 0, 40);
    k1 = consume(c1, "*", quick, to_inbox);
    inbox_wait_distinct(40);
    k2 = consume(c2, "*", quick, to_inbox);
    send_numbers(p, 40, 40);
    inbox_wait_distinct(80);
    escrow_consumer_free(&k1);
    send_numbers(p, 80, 40);
    inbox_wait_distinct(120);
    escrow_consumer_free(&k2);
    send_numbers(p, 1000, 1);
    k1 = consume(c1, "*", quick, describes);
    inbox_wait_distinct(121); /* "(null) (null) -", and nothing older */
    escrow_client_free(&c2);
    end(&k1, &p, &c1);
}

static enum escrow_consume_result fails(const struct escrow_delivery *message, void *arg)
{
    char line[128];

    (void)snprintf(line, sizeof line, "%s %d",
                   strcmp(escrow_delivery_topic(message), topic) == 0 ? "mine" : "another's",
                   (int)escrow_delivery_attempt(message));
    inbox_add(line);
    (void)arg;
    return ESCROW_CONSUME_RETRY;
}

/* A message that fails comes again, and ends in the dead-letter queue. */
static void case_retry(void)
{
    const struct escrow_option quick[] = {{"retry.level", "1"}, {"retries.max", "2"}, {NULL, NULL}};
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;
    struct escrow_consumer *dead = NULL;
    char dlq[128];
    char undertaker[128];

    send_text(p, "poison");
    k = consume(c, "*", quick, fails);
    inbox_wait_for("mine 2", 1);
    (void)snprintf(dlq, sizeof dlq, "%%DLQ%%%s", group);
    (void)snprintf(undertaker, sizeof undertaker, "%s-dead", group);
    OK(escrow_consumer_new(c, undertaker, NULL, &dead));
    OK(escrow_consumer_subscribe(dead, dlq, "*"));
    OK(escrow_consumer_start(dead, to_inbox, NULL));
    inbox_wait_for("poison", 1);
    NEED(inbox_count_of("mine 0") == 1 && inbox_count_of("mine 1") == 1);
    escrow_consumer_free(&dead);
    end(&k, &p, &c);
}

/* Every member gets everything. */
static void case_broadcast(void)
{
    char folder[] = "/tmp/escrow-offsets-XXXXXX";
    char files[2][64];
    struct escrow_client *c[2] = {client_new(), client_new()};
    struct escrow_producer *p = producer_new(c[0]);
    struct escrow_consumer *k[2];

    NEED(mkdtemp(folder) != NULL);
    send_numbers(p, 0, 10);
    for (int i = 0; i < 2; i++) {
        const struct escrow_option options[] = {
            {"model", "broadcast"}, {"offsets.file", files[i]}, {NULL, NULL}};
        (void)snprintf(files[i], sizeof files[i], "%s/%d", folder, i);
        k[i] = consume(c[i], "*", options, to_inbox);
    }
    inbox_wait_distinct(10);
    for (int i = 0; i < 10; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        inbox_wait_for(text, 2);
    }
    NEED(inbox_count() == 20);
    for (int i = 0; i < 2; i++) {
        char lock[80];
        escrow_consumer_free(&k[i]);
        NEED(unlink(files[i]) == 0);
        (void)snprintf(lock, sizeof lock, "%s.lock", files[i]);
        NEED(unlink(lock) == 0);
    }
    NEED(rmdir(folder) == 0);
    escrow_producer_free(&p);
    escrow_client_free(&c[0]);
    escrow_client_free(&c[1]);
}

static enum escrow_consume_result fails_often(const struct escrow_delivery *message, void *arg)
{
    static int tries; /* only one of a queue at a time, and no matter which */

    if (__atomic_fetch_add(&tries, 1, __ATOMIC_RELAXED) % 5 == 4) {
        return ESCROW_CONSUME_RETRY;
    }
    return to_inbox(message, arg);
}

/* By key, in order, also when some fail, and when a second member takes queues over. */
static void case_order(void)
{
    const struct escrow_option in_order[] = {
        {"order", "queue"}, {"retry.pause.ms", "10"}, {"commit.ms", "50"}, {NULL, NULL}};
    struct escrow_client *c1 = client_new();
    struct escrow_client *c2 = client_new();
    struct escrow_producer *p = producer_new(c1);
    struct escrow_consumer *k1 = NULL;
    struct escrow_consumer *k2 = NULL;
    int next[3] = {0};

    for (int i = 0; i < 60; i++) {
        static const char *const keys[] = {"a", "b", "c"};
        char text[16];
        struct escrow_message *m;
        (void)snprintf(text, sizeof text, "%d %d", i % 3, i / 3);
        m = message_new(text);
        OK(escrow_message_set_ordering_key(m, keys[i % 3]));
        OK(escrow_send(p, m, NULL));
        escrow_message_free(&m);
        if (i == 20) {
            k1 = consume(c1, "*", in_order, fails_often);
            inbox_wait_distinct(21);
        } else if (i == 40) {
            k2 = consume(c2, "*", in_order, fails_often);
        }
    }
    inbox_wait_distinct(60);
    NEED(inbox_count() == 60);
    for (size_t i = 0; i < 60; i++) {
        char *rest = NULL;
        long key = strtol(inbox_at(i), &rest, 10);
        NEED(key >= 0 && key < 3 && strtol(rest, NULL, 10) == next[key]);
        next[key]++;
    }
    escrow_consumer_free(&k2);
    escrow_client_free(&c2);
    end(&k1, &p, &c1);
}

static void poll_until(struct escrow_consumer *k, size_t count)
{
    struct escrow_delivery *m[8];
    size_t n = 0;

    while (inbox_count() < count) {
        OK(escrow_consumer_poll(k, WAIT_S * 1000, m, 8, &n));
        NEED(n > 0);
        for (size_t i = 0; i < n; i++) {
            (void)to_inbox(m[i], NULL);
            escrow_delivery_free(&m[i]);
        }
    }
}

/* Polled: everything once, a commit that holds, and seeking back. */
static void case_poll(void)
{
    const struct escrow_option manual[] = {{"commit", "manual"}, {NULL, NULL}};
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;

    send_numbers(p, 0, 20);
    k = consume(c, "*", manual, NULL);
    poll_until(k, 20);
    NEED(inbox_distinct() == 20);
    OK(escrow_consumer_commit(k));
    escrow_consumer_free(&k);
    send_numbers(p, 20, 5);
    k = consume(c, "*", manual, NULL);
    poll_until(k, 25);
    NEED(inbox_distinct() == 25);
    OK(escrow_consumer_seek(k, topic, NULL, -1, ESCROW_SEEK_FIRST, 0));
    poll_until(k, 50);
    NEED(inbox_distinct() == 25);
    OK(escrow_consumer_seek(k, topic, NULL, -1, ESCROW_SEEK_TIME, 0));
    poll_until(k, 75);
    end(&k, &p, &c);
}

static enum escrow_txn_state as_said(const struct escrow_message *message, const char *id,
                                     void *arg)
{
    (void)message;
    (void)id;
    return *(enum escrow_txn_state *)arg;
}

static enum escrow_txn_state checked(const struct escrow_delivery *message, const char *id,
                                     void *arg)
{
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)id;
    (void)arg;
    inbox_add("asked");
    return len > 0 && body[0] == 'l' ? ESCROW_TXN_COMMIT : ESCROW_TXN_ROLLBACK;
}

/* Committed, rolled back, and asked about later. */
static void case_transaction(void)
{
    static enum escrow_txn_state states[] = {ESCROW_TXN_COMMIT, ESCROW_TXN_ROLLBACK,
                                             ESCROW_TXN_UNKNOWN};
    static const char *const texts[] = {"committed", "rolled back", "later"};
    struct escrow_client *c = client_new();
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_txn_producer_new(c, group, NULL, checked, NULL, &p));
    for (int i = 0; i < 3; i++) {
        struct escrow_message *m = message_new(texts[i]);
        OK(escrow_txn_send(p, m, as_said, &states[i], NULL, NULL));
        escrow_message_free(&m);
    }
    k = consume(c, "*", NULL, to_inbox);
    inbox_wait_for("committed", 1);
    inbox_wait_for("asked", 1);
    inbox_wait_for("later", 1);
    NEED(inbox_count_of("rolled back") == 0);
    end(&k, &p, &c);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"send", case_send},
    {"tags", case_tags},
    {"sql", case_sql},
    {"delay", case_delay},
    {"compress", case_compress},
    {"lz4", case_lz4},
    {"zstd", case_zstd},
    {"sizes", case_sizes},
    {"latest", case_latest},
    {"waiting", case_waiting},
    {"group", case_group},
    {"retry", case_retry},
    {"broadcast", case_broadcast},
    {"order", case_order},
    {"poll", case_poll},
    {"transaction", case_transaction},
    {"at", case_at},
    {"reset", case_reset},
    {"killed", case_killed},
    {"instance", case_instance},
    {"access-keys", case_access_keys},
    {"access-keys-refused", case_access_keys_refused},
    {"access-keys-permissions", case_access_keys_permissions},
    {"tls", case_tls},
    {"tls-refused", case_tls_refused},
};

/* Prints the facts that a case said, and leaves why it failed: the line behind them. */
static void pass_notes_on(char *said)
{
    char *rest = said;

    while (strncmp(rest, "note ", 5) == 0 && strchr(rest, '\n') != NULL) {
        int len = (int)strcspn(rest, "\n");
        (void)printf("%.*s\n", len, rest);
        rest += len + 1;
    }
    memmove(said, rest, strlen(rest) + 1);
    said[strcspn(said, "\n")] = '\0';
}

/* In a process of its own; what it says goes into why. */
static int run_case(size_t n, char *why, size_t size)
{
    int fds[2];
    int status = 0;
    ssize_t len;
    size_t used = 0;
    pid_t pid;

    (void)fflush(stdout);
    if (pipe(fds) != 0 || (pid = fork()) < 0) {
        return -1;
    }
    if (pid == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)close(fds[0]);
        (void)close(fds[1]);
        (void)alarm(CASE_SECONDS);
        case_name = cases[n].name;
        (void)snprintf(topic, sizeof topic, "C_%s_%d", cases[n].name, (int)getpid());
        (void)snprintf(group, sizeof group, "c_%s_%d", cases[n].name, (int)getpid());
        cases[n].run();
        exit(0); /* at which a sanitizer looks for leaks */
    }
    (void)close(fds[1]);
    while (used < size - 1 && (len = read(fds[0], why + used, size - 1 - used)) > 0) {
        used += (size_t)len;
    }
    why[used] = '\0';
    pass_notes_on(why);
    (void)close(fds[0]);
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

int main(int argc, char **argv)
{
    int failed = 0;

    if (argc < 3) {
        (void)fprintf(stderr, "usage: cases NAMESRV CASE...\n");
        return 2;
    }
    name_server = argv[1];
    if (argc == 5) {
        (void)snprintf(topic, sizeof topic, "%s", argv[3]);
        (void)snprintf(group, sizeof group, "%s", argv[4]);
        run_role(argv[2]);
    }
    for (int i = 2; i < argc; i++) {
        char why[4000] = "no such case";
        size_t n = 0;
        int status = -1;
        while (n < sizeof cases / sizeof cases[0] && strcmp(cases[n].name, argv[i]) != 0) {
            n++;
        }
        if (n < sizeof cases / sizeof cases[0]) {
            status = run_case(n, why, sizeof why);
        }
        if (status == 0) {
            (void)printf("ok %s\n", argv[i]);
        } else {
            failed++;
            (void)printf("FAIL %s: status %d %s\n", argv[i], status, why);
        }
        (void)fflush(stdout);
    }
    return failed == 0 ? 0 : 1;
}
