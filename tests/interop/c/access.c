/*
 * Servers that want requests signed, and servers that take nothing but TLS: what a service does,
 * and who is refused. INTEROP_KEYS and INTEROP_TLS say where they are (name server and broker),
 * users are those of users.conf, certificates are in $INTEROP_WORK/certificates.
 */
#include "tests/interop/c/kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The name server of a variable: its first word. */
static const char *servers(const char *variable)
{
    static char names[2][128];
    char *name = names[strcmp(variable, "INTEROP_TLS") == 0];
    const char *both = getenv(variable);

    NEED(both != NULL && both[0] != '\0');
    (void)snprintf(name, sizeof names[0], "%s", both);
    name[strcspn(name, " ")] = '\0';
    return name;
}

/* A client of the server with access keys; user NULL: it signs nothing. */
static struct escrow_client *client_as(const char *user, const char *secret)
{
    char access[32];
    const struct escrow_option keys[] = {
        {"access.key", access}, {"secret.key", secret}, {NULL, NULL}};
    struct escrow_client *c = NULL;

    (void)snprintf(access, sizeof access, "%s-access", user == NULL ? "" : user);
    OK(escrow_client_new(servers("INTEROP_KEYS"), user == NULL ? NULL : keys, &c));
    return c;
}

static struct escrow_client *client_in_tls(void)
{
    char files[3][512];
    const char *const names[] = {"ca.pem", "client.pem", "client.key"};
    const struct escrow_option options[] = {{"tls", "on"},
                                            {"tls.ca.file", files[0]},
                                            {"tls.cert.file", files[1]},
                                            {"tls.key.file", files[2]},
                                            {NULL, NULL}};
    const char *work = getenv("INTEROP_WORK");
    struct escrow_client *c = NULL;

    NEED(work != NULL);
    for (int i = 0; i < 3; i++) {
        (void)snprintf(files[i], sizeof files[i], "%s/certificates/%s", work, names[i]);
    }
    OK(escrow_client_new(servers("INTEROP_TLS"), options, &c));
    return c;
}

/* Its first message makes the topic, which takes an administrator. */
static void make_topic(struct escrow_client *c)
{
    struct escrow_producer *p = producer_new(c);

    send_text(p, "first");
    escrow_producer_free(&p);
}

static enum escrow_consume_result fails_once(const struct escrow_delivery *message, void *arg)
{
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    if (len == 1 && body[0] == '3' && escrow_delivery_attempt(message) == 0) {
        inbox_add("failed");
        return ESCROW_CONSUME_RETRY;
    }
    return to_inbox(message, arg);
}

static enum escrow_txn_state commits(const struct escrow_delivery *message, const char *id,
                                     void *arg)
{
    (void)message;
    (void)id;
    (void)arg;
    return ESCROW_TXN_COMMIT;
}

static enum escrow_txn_state does_not_know(const struct escrow_message *message, const char *id,
                                           void *arg)
{
    (void)message;
    (void)id;
    (void)arg;
    return ESCROW_TXN_UNKNOWN;
}

/*
 * Sends, a decision that is asked for, a message that fails and comes again, offsets, a queue in
 * order: all requests of a service. The topic is there.
 */
static void serve(struct escrow_client *c)
{
    const struct escrow_option quick[] = {{"retry.level", "1"}, {NULL, NULL}};
    const struct escrow_option in_order[] = {{"order", "queue"}, {NULL, NULL}};
    struct escrow_producer *p = producer_new(c);
    struct escrow_producer *txn = NULL;
    struct escrow_consumer *k;
    struct escrow_message *m = message_new("decided");

    send_numbers(p, 0, 10);
    OK(escrow_txn_producer_new(c, group, NULL, commits, NULL, &txn));
    OK(escrow_txn_send(txn, m, does_not_know, NULL, NULL, NULL));
    escrow_message_free(&m);
    k = consume(c, "*", quick, fails_once);
    inbox_wait_distinct(13); /* "first", "failed", "decided" and the numbers */
    NEED(inbox_count() == 13);
    escrow_consumer_free(&k);
    send_text(p, "in order");
    k = consume(c, "*", in_order, to_inbox);
    inbox_wait_for("in order", 1);
    NEED(inbox_count() == 14); /* and nothing that was consumed before */
    escrow_consumer_free(&k);
    escrow_producer_free(&txn);
    escrow_producer_free(&p);
}

void case_access_keys(void)
{
    struct escrow_client *owner = client_as("owner", "owner-secret");
    struct escrow_client *service = client_as("service", "service-secret");

    make_topic(owner);
    serve(service);
    escrow_client_free(&service);
    escrow_client_free(&owner);
}

/* What one who may not send is told; it is noted. */
static void send_refused(struct escrow_client *c, const char *to, const char *who)
{
    struct escrow_producer *p = producer_new(c);
    struct escrow_message *m = escrow_message_new(to, "refused", 7);
    int rc = escrow_send(p, m, NULL);

    NEED(rc != 0);
    note(who, escrow_strerror(rc));
    escrow_message_free(&m);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}

void case_access_keys_refused(void)
{
    struct escrow_client *owner = client_as("owner", "owner-secret");
    struct escrow_consumer *k;

    make_topic(owner);
    send_refused(client_as("service", "another"), topic, "wrong secret");
    send_refused(client_as("unknown", "unknown-secret"), topic, "unknown access key");
    send_refused(client_as(NULL, ""), topic, "no signature");
    k = consume(owner, "*", NULL, to_inbox);
    inbox_wait_for("first", 1);
    NEED(inbox_count() == 1);
    escrow_consumer_free(&k);
    escrow_client_free(&owner);
}

/* A writer may not read, a reader may not write, and one topic is neither's. */
void case_access_keys_permissions(void)
{
    struct escrow_client *owner = client_as("owner", "owner-secret");
    struct escrow_client *writer = client_as("writer", "writer-secret");
    struct escrow_client *reader = client_as("reader", "reader-secret");
    struct escrow_producer *p = producer_new(owner);
    struct escrow_consumer *may_not;
    struct escrow_consumer *may;
    struct escrow_message *m;
    char hidden[128];

    make_topic(owner);
    (void)snprintf(hidden, sizeof hidden, "access-keys-permissions-hidden-%s", topic);
    m = escrow_message_new(hidden, "secret", 6);
    OK(escrow_send(p, m, NULL));
    escrow_message_free(&m);
    escrow_producer_free(&p);
    p = producer_new(writer);
    send_text(p, "second");
    escrow_producer_free(&p);
    send_refused(client_as("writer", "writer-secret"), hidden, "a topic that is denied");
    send_refused(client_as("reader", "reader-secret"), topic, "one who may read");
    may_not = consume(writer, "*", NULL, to_inbox);
    may = consume(reader, "*", NULL, to_inbox);
    inbox_wait_distinct(2);
    NEED(inbox_count() == 2);
    escrow_consumer_free(&may_not);
    escrow_consumer_free(&may);
    escrow_client_free(&reader);
    escrow_client_free(&writer);
    escrow_client_free(&owner);
}

void case_tls(void)
{
    struct escrow_client *c = client_in_tls();

    make_topic(c);
    serve(c);
    escrow_client_free(&c);
}

/* Who does not speak TLS, and who has no certificate. */
void case_tls_refused(void)
{
    const struct escrow_option nobody[] = {{"tls", "insecure"}, {NULL, NULL}};
    struct escrow_client *secure = client_in_tls();
    struct escrow_client *other = NULL;
    struct escrow_consumer *k;

    make_topic(secure);
    OK(escrow_client_new(servers("INTEROP_TLS"), NULL, &other));
    send_refused(other, topic, "a plain connection");
    OK(escrow_client_new(servers("INTEROP_TLS"), nobody, &other));
    send_refused(other, topic, "no certificate");
    k = consume(secure, "*", NULL, to_inbox);
    inbox_wait_for("first", 1);
    NEED(inbox_count() == 1);
    escrow_consumer_free(&k);
    escrow_client_free(&secure);
}
