/* A message that waits for the decision of its transaction. */
#include "core/proto/names.h"
#include "core/proto/tags.h"
#include "src/broker/dispatch.h"
#include "src/broker/half_again.h"
#include "src/broker/send.h"
#include "src/broker/transactions.h"

/* A half that is there already is answered with where it is. */
static void send_is_same(struct broker *b, struct deferred *d, const struct pending_send *first)
{
    send_answer(b, d, first, SLICE_EMPTY);
}

/* There is a half under this transaction id, or was. */
static void send_half_again(struct send *s, const struct txn_prepare_result *prep)
{
    struct pending_send first;

    send_note(s, &first, prep->offset, (int64_t)prep->offset);
    if (prep->verdict == TXN_DECIDED) {
        request_fail(s->req, -1, ESCROW_ECONFLICT, "transaction %.*s was decided before: %s by %s",
                     SLICE_ARGS(s->props.uniq_key), decision_kind_name(prep->fact.kind),
                     decision_by_name(prep->fact.by));
    } else if (prep->verdict == TXN_OTHER) {
        struct deferred d = request_defer(s->req);
        half_refuse_other(&d, &first);
    } else {
        half_again(s->req, &first, send_is_same);
    }
}

void send_half(struct send *s, struct slice properties)
{
    struct broker *b = s->broker;
    struct record_fields fields = send_fields(s, s->req->body, properties);
    struct txn_half_info info = {.group = s->props.pgroup,
                                 .txn_id = s->props.uniq_key,
                                 .topic = slice_str(s->topic->name),
                                 .queue = (uint32_t)s->in.queue_id,
                                 .tag_hash = (int32_t)tag_code(s->props.tags),
                                 .store_ms = fields.store_ms,
                                 .immunity_ms = -1};
    struct txn_prepare_result prep;
    struct store_receipt receipt;
    struct timer_info timer;
    int64_t immunity_s =
        props_find_i64(properties, prop_name(PROP_CHECK_IMMUNITY_TIME_IN_SECONDS), -1);
    int rc;

    if (s->props.pgroup.len == 0) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_EINVAL,
                     "a half message needs the property PGROUP: nobody could be asked about it");
        return;
    }
    if (name_check_group(s->props.pgroup) != 0) {
        request_fail(s->req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "the property PGROUP is not the name of a group: nobody could be asked about "
                     "the half message");
        return;
    }
    fields.sys_flag |= SYSFLAG_TXN_PREPARED;
    info.size_bytes = (uint32_t)record_size(&fields);
    info.immunity_ms = immunity_s < 0 || immunity_s > INT32_MAX ? -1 : immunity_s * 1000;
    info.is_held = s->delay.is_held;
    rc = txn_prepare(b->txn, &info, &prep);
    if (rc == 0 && prep.verdict != TXN_NEW) {
        send_half_again(s, &prep);
        return;
    }
    if (rc == 0 && info.is_held) {
        timer = delays_info(&fields, s->props.tags, &s->delay);
        timer.is_half = true;
        rc = timers_accept(b->timers, &timer);
    }
    if (rc == 0) {
        rc = store_append_message(b->store, STORE_HALF, &fields, NULL, &receipt);
    }
    if (rc != 0) {
        send_refused(s, rc);
        return;
    }
    txn_half_appended(b->txn, &info, receipt.offset);
    if (info.is_held) {
        timers_appended(b->timers, &timer, receipt.offset, broker_txn_now(b));
    }
    transactions_sync_reserve(b);
    b->metrics.halves_in++;
    send_wait(s, receipt.wait_for, false, receipt.offset, (int64_t)receipt.offset);
}
