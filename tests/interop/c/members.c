/*
 * Several processes of one group, one of which is killed, and an administrator who resets it.
 */
#include "tests/interop/c/kit.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- another process ---- */

struct child {
    pid_t pid;
    FILE *said;
};

/* This program again, as ROLE. */
static void child_start(struct child *ch, const char *role)
{
    int fds[2];

    NEED(pipe(fds) == 0);
    ch->pid = fork();
    NEED(ch->pid >= 0);
    if (ch->pid == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)close(fds[0]);
        (void)close(fds[1]);
        (void)alarm(CASE_SECONDS);
        (void)execl("/proc/self/exe", "cases", name_server, role, topic, group, (char *)NULL);
        _exit(1);
    }
    (void)close(fds[1]);
    ch->said = fdopen(fds[0], "r");
    NEED(ch->said != NULL);
}

/* Wait until it has said something. */
static void child_await(struct child *ch)
{
    char line[200];

    NEED(fgets(line, sizeof line, ch->said) != NULL);
}

static void child_kill(struct child *ch)
{
    NEED(kill(ch->pid, SIGKILL) == 0);
    NEED(waitpid(ch->pid, NULL, 0) == ch->pid);
    (void)fclose(ch->said);
}

static enum escrow_consume_result says(const struct escrow_delivery *message, void *arg)
{
    (void)message;
    (void)arg;
    (void)printf("got\n");
    (void)fflush(stdout);
    return ESCROW_CONSUME_OK;
}

/* Consumes until it is killed. */
static void member(void)
{
    struct escrow_client *c = client_new();

    (void)consume(c, "*", NULL, says);
    for (;;) {
        (void)pause();
    }
}

static enum escrow_txn_state unknown(const struct escrow_message *message, const char *id,
                                     void *arg)
{
    (void)message;
    (void)id;
    (void)arg;
    return ESCROW_TXN_UNKNOWN;
}

static enum escrow_txn_state never_knows(const struct escrow_delivery *message, const char *id,
                                         void *arg)
{
    (void)message;
    (void)id;
    (void)arg;
    return ESCROW_TXN_UNKNOWN;
}

/* Leaves a transaction undecided, and waits to be killed. */
static void silent_producer(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = NULL;
    struct escrow_message *m = message_new("left behind");

    OK(escrow_txn_producer_new(c, group, NULL, never_knows, NULL, &p));
    OK(escrow_txn_send(p, m, unknown, NULL, NULL, NULL));
    escrow_message_free(&m);
    (void)printf("sent\n");
    (void)fflush(stdout);
    for (;;) {
        (void)pause();
    }
}

void run_role(const char *role)
{
    if (strcmp(role, "member") == 0) {
        member();
    } else if (strcmp(role, "silent-producer") == 0) {
        silent_producer();
    }
}

/* A member that is killed says nothing; what was its share comes to who is left. */
void case_killed(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;
    struct child other;
    int sent = 0;

    send_numbers(p, sent++, 1);
    k = consume(c, "*", NULL, to_inbox);
    inbox_wait_distinct(1);
    child_start(&other, "member");
    for (pid_t pid = 0; pid == 0;) { /* until the other one has a queue */
        fd_set set;
        struct timeval moment = {.tv_usec = 20000};
        FD_ZERO(&set);
        FD_SET(fileno(other.said), &set);
        send_numbers(p, sent++, 1);
        pid = select(fileno(other.said) + 1, &set, NULL, NULL, &moment) == 1 ? other.pid : 0;
    }
    child_await(&other);
    child_kill(&other);
    for (int i = 0; i < 40; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "after %d", i);
        send_text(p, text);
    }
    for (int i = 0; i < 40; i++) {
        char text[32];
        (void)snprintf(text, sizeof text, "after %d", i);
        inbox_wait_for(text, 1);
    }
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}

static enum escrow_txn_state asked(const struct escrow_delivery *message, const char *id, void *arg)
{
    (void)message;
    (void)id;
    (void)arg;
    inbox_add("asked");
    return ESCROW_TXN_COMMIT;
}

/* A transaction of a process that is gone: another instance of its group is asked. */
void case_instance(void)
{
    struct escrow_client *c = client_new();
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct child first;

    child_start(&first, "silent-producer");
    child_await(&first);
    child_kill(&first);
    OK(escrow_txn_producer_new(c, group, NULL, asked, NULL, &p));
    k = consume(c, "*", NULL, to_inbox);
    inbox_wait_for("asked", 1);
    inbox_wait_for("left behind", 1);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}

/* ---- an administrator ---- */

/* The group begins with the first message again: what mqadmin's resetOffsetByTime asks a broker. */
static void reset_offsets(void)
{
    static const char format[] =
        "{\"code\":222,\"opaque\":1,\"flag\":0,\"version\":477,\"language\":\"JAVA\",\"extFields\":"
        "{\"topic\":\"%s\",\"group\":\"%s\",\"timestamp\":\"0\",\"isForce\":\"true\"}}";
    struct sockaddr_in addr = {.sin_family = AF_INET};
    const char *broker = getenv("INTEROP_BROKER");
    char frame[600];
    uint32_t lens[2];
    char answer[8192];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int len = snprintf(frame + sizeof lens, sizeof frame - sizeof lens, format, topic, group);
    ssize_t got;

    NEED(broker != NULL && strchr(broker, ':') != NULL && fd >= 0);
    NEED(len > 0 && (size_t)len < sizeof frame - sizeof lens);
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr.sin_port = htons((uint16_t)strtoul(strrchr(broker, ':') + 1, NULL, 10));
    lens[0] = htonl((uint32_t)len + sizeof lens[1]);
    lens[1] = htonl((uint32_t)len);
    memcpy(frame, lens, sizeof lens);
    NEED(connect(fd, (struct sockaddr *)(void *)&addr, sizeof addr) == 0);
    NEED(write(fd, frame, (size_t)len + sizeof lens) == (ssize_t)((size_t)len + sizeof lens));
    got = read(fd, answer, sizeof answer - 1);
    NEED(got > (ssize_t)sizeof lens);
    answer[got] = '\0';
    NEED(strstr(answer + sizeof lens, "\"code\":0") != NULL);
    (void)close(fd);
}

/* What was consumed comes again to a consumer that runs. */
void case_reset(void)
{
    const struct escrow_option quick[] = {{"commit.ms", "50"}, {NULL, NULL}};
    struct escrow_client *c = client_new();
    struct escrow_producer *p = producer_new(c);
    struct escrow_consumer *k;

    send_numbers(p, 0, 20);
    k = consume(c, "*", quick, to_inbox);
    inbox_wait_distinct(20);
    reset_offsets();
    for (int i = 0; i < 20; i++) {
        char text[16];
        (void)snprintf(text, sizeof text, "%d", i);
        inbox_wait_for(text, 2);
    }
    NEED(inbox_count() == 40);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
