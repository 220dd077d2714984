/*
 * A transaction: half sent, half answered, decision sent, decision answered. The slot is busy all
 * the while. Halves that were answered in one loop iteration are decided together, up to end_batch
 * in one request; a batch is known by its first slot.
 */
#include "src/tools/bench.h"

#include "core/base/attr.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/body_end_txn.h"
#include "core/proto/codes.h"
#include "core/proto/msgid.h"
#include "core/proto/send_request.h"

#define COMMIT_OR_ROLLBACK(is_rollback) ((is_rollback) ? 12 : 8)

void bench_txn_half(struct bench_conn *c, uint32_t index, struct header *answer)
{
    struct bench *b = c->bench;
    struct bench_slot *slot = &c->slots[index];
    uint64_t draw = slot->seq * 37 % 100; /* spread evenly */
    struct send_answer sent;
    struct record_host host;
    uint32_t which;

    if (send_answer_decode(answer, &sent) != 0 ||
        msgid_decode(sent.msg_id, &host, &slot->offset) != 0) {
        bench_slot_done(c, index, ESCROW_EPROTO, SLICE_LIT("malformed answer to a half"));
        return;
    }
    if (draw < b->options.leave_percent) {
        b->left++;
        bench_slot_done(c, index, 0, SLICE_EMPTY);
        return;
    }
    slot->table_offset = sent.queue_offset;
    which = draw < b->options.leave_percent + b->options.rollback_percent;
    slot->next = c->end_head[which];
    c->end_head[which] = index;
    if (!c->has_ends) {
        c->has_ends = true;
        list_push(&b->ending, &c->ending);
    }
}

static void decided(struct bench_conn *c, uint32_t index, bool is_rollback, int32_t code,
                    struct slice text)
{
    struct bench *b = c->bench;

    if (code == 0) {
        b->rolled_back += is_rollback;
        b->committed += !is_rollback;
    }
    bench_slot_done(c, index, code, text);
}

void bench_txn_end(struct bench_conn *c, uint32_t first, struct header *answer, struct slice body)
{
    bool is_rollback = c->slots[first].is_rollback;
    struct end_txn_answer results = {.count = 0};
    struct end_txn_result result;
    uint32_t index = first;
    bool has_results = answer->code == 0 && c->bench->options.end == BENCH_END_CONFIRMED;

    if (has_results && end_txn_answer_decode(body, &results) != 0) {
        bench_note_error(c->bench, ESCROW_EPROTO, SLICE_LIT("malformed answer to a decision"));
        has_results = false;
    }
    while (index != BENCH_SLOT_NONE) {
        uint32_t next = c->slots[index].next; /* bench_slot_done uses it */
        int32_t code = answer->code;
        struct slice text = answer->remark;
        if (has_results) {
            code = end_txn_next_result(&results, &result) ? result.error : ESCROW_EPROTO;
            text = slice_str(escrow_strerror(code));
        }
        decided(c, index, is_rollback, code, text);
        index = next;
    }
}

/* 37, one half. */
static void put_end(struct bench_conn *c, struct buf *out, uint32_t index, bool is_rollback)
{
    struct bench *b = c->bench;
    const struct bench_slot *slot = &c->slots[index];
    struct header_out head = {.code = REQUEST_END_TRANSACTION,
                              .opaque = BENCH_OPAQUE_END + (int32_t)index,
                              .flag = b->options.end == BENCH_END_ONEWAY ? HEADER_FLAG_ONEWAY : 0};
    char key[BENCH_KEY_LEN + 1];
    struct header_writer w;

    bench_key(b, slot->seq, key);
    header_begin(&w, out, b->options.header, &head);
    header_put_str(&w, "producerGroup", slice_str(b->options.group));
    header_put_i64(&w, "tranStateTableOffset", slot->table_offset);
    header_put_i64(&w, "commitLogOffset", slot->offset);
    header_put_i64(&w, "commitOrRollback", COMMIT_OR_ROLLBACK(is_rollback));
    header_put_bool(&w, "fromTransactionCheck", false);
    header_put_str(&w, "msgId", slice_str(key));
    header_put_str(&w, "transactionId", slice_str(key));
    header_end(&w);
    if (header_frame_end(&w, 0) != 0) {
        out->failed = true; /* only memory can be missing */
    }
}

/* 30001, the halves of a list. */
static void put_confirmed(struct bench_conn *c, struct buf *out, uint32_t first, bool is_rollback)
{
    struct bench *b = c->bench;
    struct header_out head = {.code = REQUEST_ESCROW_END_TRANSACTION,
                              .opaque = BENCH_OPAQUE_END + (int32_t)first};
    struct end_txn_request req = {.producer_group = slice_str(b->options.group),
                                  .decision = is_rollback ? TXN_ROLLBACK : TXN_COMMIT};
    ESCROW_UNINITIALIZED struct end_txn_half halves[END_TXN_HALVES_MAX]; /* [0, count) are set */
    ESCROW_UNINITIALIZED char keys[END_TXN_HALVES_MAX][BENCH_KEY_LEN + 1];
    struct header_writer w;
    uint32_t count = 0;

    for (uint32_t i = first; i != BENCH_SLOT_NONE; i = c->slots[i].next) {
        CHECK(count < END_TXN_HALVES_MAX);
        bench_key(b, c->slots[i].seq, keys[count]);
        halves[count].transaction_id = slice_of(keys[count], BENCH_KEY_LEN);
        halves[count].offset = c->slots[i].offset;
        count++;
    }
    header_begin(&w, out, b->options.header, &head);
    header_end(&w);
    end_txn_request_encode(out, &req, halves, count);
    if (header_frame_end(&w, 0) != 0) {
        out->failed = true; /* only memory can be missing */
    }
}

/* Cut the first end_batch slots of the list off and send their decision. */
static int send_batch(struct bench_conn *c, uint32_t which)
{
    struct bench *b = c->bench;
    uint32_t first = c->end_head[which];
    uint32_t last = first;
    uint32_t count = 1;
    struct buf *out = tcp_conn_begin(&c->conn);

    while (c->slots[last].next != BENCH_SLOT_NONE && count < b->options.end_batch) {
        last = c->slots[last].next;
        count++;
    }
    c->end_head[which] = c->slots[last].next;
    c->slots[last].next = BENCH_SLOT_NONE;
    c->slots[first].is_rollback = which != 0;
    if (b->options.end == BENCH_END_CONFIRMED) {
        put_confirmed(c, out, first, which != 0);
    } else {
        put_end(c, out, first, which != 0);
    }
    return tcp_conn_end(&c->conn);
}

static void flush_one(struct bench_conn *c)
{
    for (uint32_t which = 0; which < 2 && c->is_open; which++) {
        while (c->end_head[which] != BENCH_SLOT_NONE) {
            uint32_t first = c->end_head[which];
            int rc = send_batch(c, which);
            if (rc != 0) {
                tcp_conn_close(&c->conn, rc);
                return;
            }
            if (c->bench->options.end == BENCH_END_ONEWAY) {
                decided(c, first, which != 0, 0, SLICE_EMPTY); /* nobody will answer */
            }
        }
    }
}

void bench_txn_flush(void *arg)
{
    struct bench *b = arg;

    while (!list_is_empty(&b->ending)) {
        struct bench_conn *c = LIST_ENTRY(b->ending.next, struct bench_conn, ending);
        list_remove(&c->ending);
        c->has_ends = false;
        flush_one(c);
    }
}
