/*
 * Check-backs: CHECK_TRANSACTION_STATE arrives on the loop, the callback runs on a worker, and its
 * answer goes back to the broker as an END_TRANSACTION. IN_PROGRESS is not sent: the broker asks
 * again, and a question without an answer does not count.
 */
#include "src/client/client_private.h"

#include "core/base/mem.h"
#include "core/proto/codes.h"
#include "core/proto/properties.h"
#include "src/client/end_fields.h"

#include <stdio.h>
#include <string.h>

struct check_job {
    struct task task;
    struct escrow_producer *producer;
    struct escrow_delivery *message;
    enum escrow_txn_state state;
    int64_t log_offset;
    int64_t table_offset;
    char addr[REMOTE_ADDR_MAX];
    char txn_id[256];
};

static void check_free(struct check_job *job)
{
    struct escrow_producer *p = job->producer;

    delivery_free(&job->message);
    mem_free(job);
    producer_unref(p);
}

static void check_answer(struct task *task)
{
    struct check_job *job = LIST_ENTRY(task, struct check_job, task);
    struct end_fields fields = {.group = slice_str(job->producer->group),
                                .txn_id = slice_str(job->txn_id),
                                .log_offset = job->log_offset,
                                .table_offset = job->table_offset,
                                .state = (int32_t)job->state,
                                .from_check = true};
    struct remote_request req = {.addr = job->addr,
                                 .code = REQUEST_END_TRANSACTION,
                                 .fields = end_fields_write,
                                 .fields_arg = &fields};

    if (remote_oneway(&job->producer->client->remote, &req) != 0) {
        /* The broker asks again: nothing is lost by a lost answer. */
    }
    check_free(job);
}

static void check_ask(struct task *task)
{
    struct check_job *job = LIST_ENTRY(task, struct check_job, task);
    struct escrow_producer *p = job->producer;

    job->state = ESCROW_TXN_IN_PROGRESS; /* no memory now: the broker asks again */
    if (delivery_open(job->message) == 0) {
        job->state = p->check(job->message, job->txn_id, p->check_arg);
    }
    job->task.run = check_answer;
    if (job->state == ESCROW_TXN_IN_PROGRESS || client_post(p->client, &job->task) != 0) {
        check_free(job);
    }
}

static struct escrow_producer *find_producer(struct escrow_client *c, const char *group)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &c->producers) {
        struct escrow_producer *p = LIST_ENTRY(pos, struct escrow_producer, node);
        if (p->check != NULL && group != NULL && strcmp(p->group, group) == 0) {
            return p;
        }
    }
    return NULL;
}

void check_on_push(struct escrow_client *c, const char *addr, struct header *header,
                   struct slice body)
{
    struct escrow_delivery *message = NULL;
    struct escrow_producer *p;
    struct check_job *job;
    struct slice txn_id = SLICE_EMPTY;
    int64_t log_offset = -1;
    int64_t table_offset = 0;

    if (header_get_i64(header, "commitLogOffset", &log_offset) != 0 ||
        header_opt_i64(header, "tranStateTableOffset", &table_offset) != 0 ||
        header_opt_str(header, "transactionId", &txn_id) != 0 ||
        delivery_new(body, "", &message) != 0) {
        return; /* not a question we can answer; the broker asks somebody else */
    }
    p = find_producer(c, escrow_delivery_property(message, "PGROUP"));
    job = p == NULL ? NULL : mem_calloc(1, sizeof *job);
    if (job == NULL) {
        delivery_free(&message);
        return;
    }
    producer_ref(p);
    job->producer = p;
    job->message = message;
    job->log_offset = log_offset;
    job->table_offset = table_offset;
    (void)snprintf(job->addr, sizeof job->addr, "%s", addr); /* same size */
    (void)slice_to_cstr(txn_id.len > 0 ? txn_id : slice_str(message->message_id), job->txn_id,
                        sizeof job->txn_id);
    job->task.run = check_ask;
    if (client_work(c, &job->task) != 0) {
        check_free(job);
    }
}
