/*
 * Messages that commit with a PostgreSQL transaction.
 *
 * Happy path: begin asks for the transaction's id and the database's identity in the round trip of
 * BEGIN; publish sends a half and does not wait; commit waits until every half is durable, then
 * marks them and commits in one round trip, and leaves the decision to the loop: the marker row
 * that committed with the transaction is the truth, the decision only brings it to the broker
 * sooner than check-back would.
 *
 * Failures: before COMMIT is sent everything is rolled back, the database first: halves are decided
 * when its transaction is known to be over. Once COMMIT is sent and the connection is lost nobody
 * knows: the halves are left alone, and check-back finds out from the marker.
 */
#include "escrow/pg.h"

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_inspect.h"
#include "core/proto/properties.h"
#include "src/client/client_private.h"
#include "src/client/pg_end.h"
#include "src/client/pg_session.h"

#include <libpq-fe.h>

#include <stdio.h>
#include <string.h>

#define PG_HALVES_MAX 1024

/* One half of the transaction, on its way or stored. */
struct pg_half {
    struct send_op op;
    struct waiter waiter;
    struct escrow_message *message;       /* copy */
    size_t bytes;                         /* of memory.max.bytes */
    bool is_done;                         /* waited for */
    char broker[BROKER_IDENTITY_MAX + 1]; /* that has it; empty: it did not say who it is */
};

struct escrow_pg_txn {
    struct escrow_producer *producer;
    PGconn *conn;
    bool has_statements; /* pg_session.h */
    struct buf extra; /* properties that say which database and transaction; the halves borrow it */
    struct pg_half **halves;
    size_t count;
    size_t cap;
};

/* ---- PostgreSQL ---- */

static void extra_put(struct escrow_pg_txn *t, enum prop_id id, const char *value)
{
    buf_append_slice(&t->extra, prop_name(id));
    buf_append_u8(&t->extra, PROPS_NAME_VALUE_SEPARATOR);
    buf_append_str(&t->extra, value);
    buf_append_u8(&t->extra, PROPS_PAIR_SEPARATOR);
}

/* "xid/system/timeline/name", as pg_session_begin gives it, into four properties. */
static int identity_put(struct escrow_pg_txn *t, char *text)
{
    char *part[4] = {text};

    if (props_check_text(slice_str(text)) != 0) {
        return last_error_set(ESCROW_EINVAL, "begin: the database's name has a control character");
    }
    for (size_t i = 1; i < 4; i++) {
        char *slash = strchr(part[i - 1], '/');
        if (slash == NULL) {
            return last_error_set(ESCROW_EDB, "begin: somebody changed the session's setting "
                                              "escrow.identity: RESET it");
        }
        *slash = '\0';
        part[i] = slash + 1;
    }
    extra_put(t, PROP_ESCROW_XID, part[0]);
    extra_put(t, PROP_ESCROW_DB_SYSTEM, part[1]);
    extra_put(t, PROP_ESCROW_DB_TIMELINE, part[2]);
    extra_put(t, PROP_ESCROW_DB_NAME, part[3]);
    return buf_failed(&t->extra) ? last_error_set(ESCROW_ENOMEM, "begin: out of memory") : 0;
}

/* BEGIN, and who we are. */
static int pg_identify(struct escrow_pg_txn *t)
{
    struct buf who;
    int rc;

    buf_init(&who, 0);
    rc = pg_session_begin(t->conn, &who, &t->has_statements);
    if (rc == 0) {
        rc = identity_put(t, (char *)who.ptr);
    }
    buf_fini(&who);
    return rc;
}

static void half_free(struct escrow_pg_txn *t, struct pg_half *h)
{
    client_memory_give(t->producer->client, h->bytes);
    buf_fini(&h->op.packed); /* of one that did not even start */
    escrow_message_free(&h->message);
    waiter_fini(&h->waiter);
    mem_free(h);
}

static void txn_free(struct escrow_pg_txn *t)
{
    struct escrow_producer *p = t->producer;

    for (size_t i = 0; i < t->count; i++) {
        half_free(t, t->halves[i]);
    }
    mem_free(t->halves);
    buf_fini(&t->extra);
    mem_free(t);
    atomic_fetch_sub(&p->open, 1); /* it may be freed now */
}

int escrow_pg_begin(struct escrow_producer *producer, struct pg_conn *conn,
                    struct escrow_pg_txn **out)
{
    struct escrow_pg_txn *t;
    int rc;

    *out = NULL;
    rc = client_may_block(producer->client);
    if (rc != 0) {
        return rc;
    }
    if (PQstatus(conn) != CONNECTION_OK) {
        return last_error_set(ESCROW_EDB, "begin: the connection is not open");
    }
    if (PQtransactionStatus(conn) != PQTRANS_IDLE || PQpipelineStatus(conn) != PQ_PIPELINE_OFF) {
        return last_error_set(
            ESCROW_EINVAL,
            "begin: the connection is busy, inside a transaction, or in pipeline mode");
    }
    t = mem_calloc(1, sizeof *t);
    if (t == NULL) {
        return last_error_set(ESCROW_ENOMEM, "begin: out of memory");
    }
    t->producer = producer;
    atomic_fetch_add(&producer->open, 1); /* until txn_free */
    t->conn = conn;
    buf_init(&t->extra, 0);
    rc = pg_identify(t);
    if (rc != 0) {
        if (!pg_end_rollback(conn)) {
            rc = last_error_set(ESCROW_EDB, "begin: what became of it is not known: close the "
                                            "connection");
        }
        txn_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

/* ---- halves ---- */

static void half_done(struct send_op *op)
{
    struct pg_half *h = LIST_ENTRY(op, struct pg_half, op);

    if (op->error == 0) { /* the answer's connection is still open */
        (void)snprintf(h->broker, sizeof h->broker, "%s",
                       remote_identity(&op->producer->client->remote, op->receipt.addr));
    }
    send_fini(op);
    waiter_signal(&h->waiter);
}

static void half_start(struct task *task)
{
    struct pg_half *h = LIST_ENTRY(task, struct pg_half, op.task);
    int rc = send_prepare(&h->op, h->message);

    if (rc != 0) {
        h->op.error = rc;
        half_done(&h->op);
        return;
    }
    send_start(&h->op);
}

static int halves_grow(struct escrow_pg_txn *t)
{
    size_t cap = t->cap == 0 ? 4 : t->cap * 2;
    struct pg_half **halves;

    if (t->count < t->cap) {
        return 0;
    }
    if (t->count == PG_HALVES_MAX) {
        return last_error_set(ESCROW_ELIMIT, "publish: more than %d messages in one transaction",
                              PG_HALVES_MAX);
    }
    halves = mem_realloc(t->halves, cap * sizeof(struct pg_half *));
    if (halves == NULL) {
        return last_error_set(ESCROW_ENOMEM, "publish: out of memory");
    }
    t->halves = halves;
    t->cap = cap;
    return 0;
}

static int half_new(struct escrow_pg_txn *t, const struct escrow_message *message,
                    struct pg_half **out)
{
    struct escrow_client *c = t->producer->client;
    size_t bytes = 2 * send_bytes(message); /* as of an asynchronous send */
    struct pg_half *h;

    if (!client_memory_take(c, bytes)) {
        return last_error_set(ESCROW_ELIMIT, "publish: memory.max.bytes is used up; wait for other "
                                             "sends");
    }
    h = mem_calloc(1, sizeof *h);
    if (h != NULL) {
        h->message = message_copy(message);
    }
    if (h == NULL || h->message == NULL || waiter_init(&h->waiter) != 0) {
        client_memory_give(c, bytes);
        if (h != NULL) {
            escrow_message_free(&h->message);
        }
        mem_free(h);
        return last_error_set(ESCROW_ENOMEM, "publish: out of memory");
    }
    h->bytes = bytes;
    h->op.producer = t->producer;
    h->op.kind = SEND_HALF;
    h->op.topic = h->message->topic;
    h->op.extra = buf_slice(&t->extra);
    h->op.done = half_done;
    h->op.task.run = half_start;
    buf_init(&h->op.properties, 0);
    if (send_pack(&h->op, h->message) != 0) {
        half_free(t, h);
        return last_error_set(ESCROW_ENOMEM, "publish: no memory to compress the body");
    }
    *out = h;
    return 0;
}

int escrow_pg_publish(struct escrow_pg_txn *txn, const struct escrow_message *message)
{
    struct pg_half *h = NULL;
    int rc = message_check(txn->producer, message);

    if (rc == 0) {
        rc = halves_grow(txn);
    }
    if (rc == 0) {
        rc = half_new(txn, message, &h);
    }
    if (rc != 0) {
        return rc;
    }
    CHECK(h != NULL); /* half_new made it */
    rc = client_post(txn->producer->client, &h->op.task);
    if (rc != 0) {
        half_free(txn, h);
        return last_error_set(rc, "publish: %s", escrow_strerror(rc));
    }
    txn->halves[txn->count++] = h;
    return 0;
}

/* Some mean something else to the callers of commit: another one of the same class. */
static int error_of_commit(int error)
{
    switch (error) {
    case ESCROW_EBUSY:
        return ESCROW_EAGAIN;
    case ESCROW_ECLOSED:
    case ESCROW_EDB:
        return ESCROW_ETIMEOUT;
    default:
        return error;
    }
}

/* Wait for every half; the first error, 0 when all are durable. */
static int halves_wait(struct escrow_pg_txn *t)
{
    int rc = 0;

    for (size_t i = 0; i < t->count; i++) {
        struct pg_half *h = t->halves[i];
        if (!h->is_done && waiter_wait(&h->waiter, -1) == 0) {
            h->is_done = true;
        }
        if (rc == 0 && h->op.error != 0) {
            rc = last_error_set(error_of_commit(h->op.error), "publish to topic %s: %s",
                                h->message->topic, escrow_strerror(h->op.error));
        }
    }
    return rc;
}

/* Tell the brokers; what they do not hear now they find out by check-back. */
static void halves_decide(struct escrow_pg_txn *t, enum escrow_txn_state state)
{
    const struct escrow_receipt *group[PG_HALVES_MAX];

    for (size_t i = 0; i < t->count; i++) {
        const char *addr = t->halves[i]->op.receipt.addr;
        size_t n = 0;
        if (t->halves[i]->op.error != 0) {
            continue;
        }
        for (size_t k = i; k < t->count; k++) {
            struct send_op *op = &t->halves[k]->op;
            if (op->error == 0 && strcmp(op->receipt.addr, addr) == 0) {
                group[n++] = &op->receipt;
                op->error = k == i ? 0 : ESCROW_EEXIST; /* decided with this group */
            }
        }
        if (decide_later(t->producer, state, group, n) != 0) {
            /* out of memory: check-back */
        }
    }
}

/* ---- the end ---- */

/* Is there a transaction that can commit? COMMIT has not been sent yet. */
static int pg_check_open(struct escrow_pg_txn *t)
{
    if (PQstatus(t->conn) != CONNECTION_OK) {
        return last_error_set(ESCROW_EROLLEDBACK,
                              "commit: the connection was lost before COMMIT; rolled back");
    }
    switch (PQtransactionStatus(t->conn)) {
    case PQTRANS_INTRANS:
        return 0;
    case PQTRANS_INERROR:
        return last_error_set(ESCROW_EROLLEDBACK,
                              "commit: an earlier statement had failed; rolled back");
    case PQTRANS_IDLE:
    case PQTRANS_ACTIVE: /* it was refused before */
    case PQTRANS_UNKNOWN:
        break;
    }
    return last_error_set(ESCROW_EINVAL, "commit: the transaction was ended by other means; its "
                                         "messages are rolled back");
}

/* Marker rows and COMMIT in one round trip. */
static int pg_commit(struct escrow_pg_txn *t)
{
    struct buf sql;
    bool is_whole = true;
    int rc;

    buf_init(&sql, 0);
    for (size_t i = 0; i < t->count && is_whole; i++) {
        const struct pg_half *h = t->halves[i];
        const struct pg_mark mark = {.txn_id = h->op.receipt.message_id,
                                     .broker = h->broker,
                                     .offset = h->op.receipt.offset};
        is_whole = pg_session_put_mark(&sql, t->conn, t->has_statements, &mark);
    }
    buf_append_str(&sql, "COMMIT");
    buf_append_u8(&sql, '\0');
    if (!is_whole || buf_failed(&sql)) {
        buf_fini(&sql);
        return last_error_set(ESCROW_EROLLEDBACK,
                              "commit: out of memory, or the name of a broker is not text in the "
                              "connection's encoding; rolled back");
    }
    rc = pg_end_commit(t->conn, (const char *)sql.ptr, t->has_statements);
    buf_fini(&sql);
    return rc;
}

int escrow_pg_commit(struct escrow_pg_txn **txn)
{
    struct escrow_pg_txn *t = *txn;
    int rc;

    if (t == NULL) {
        return last_error_set(ESCROW_EINVAL, "commit: no transaction");
    }
    rc = pg_end_check_free(t->conn, "commit", false);
    if (rc != 0) {
        return rc;
    }
    *txn = NULL;
    rc = halves_wait(t);
    if (rc == 0) {
        rc = pg_check_open(t);
    }
    if (rc == 0) {
        rc = pg_commit(t);
    }
    if (rc == 0) {
        halves_decide(t, ESCROW_TXN_COMMIT);
    } else if (rc != ESCROW_ECLOSED && rc != ESCROW_EDB) {
        if (pg_end_rollback(t->conn)) {
            halves_decide(t, ESCROW_TXN_ROLLBACK);
        } else {
            rc = pg_end_not_known("commit");
        }
    }
    txn_free(t);
    return rc;
}

int escrow_pg_rollback(struct escrow_pg_txn **txn)
{
    struct escrow_pg_txn *t = *txn;
    int rc;

    if (t == NULL) {
        return last_error_set(ESCROW_EINVAL, "rollback: no transaction");
    }
    rc = pg_end_check_free(t->conn, "rollback", true);
    if (rc != 0) {
        return rc;
    }
    *txn = NULL;
    if (!pg_end_rollback(t->conn)) {
        rc = ESCROW_EDB;
    }
    if (halves_wait(t) != 0) {
        /* a half that could not be stored needs no decision */
    }
    if (rc == 0) {
        halves_decide(t, ESCROW_TXN_ROLLBACK);
    } else {
        rc = pg_end_not_known("rollback");
    }
    txn_free(t);
    return rc;
}
