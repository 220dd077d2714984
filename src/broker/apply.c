/*
 * The store's owner: what each record does to the tables, live and in recovery alike, and what a
 * checkpoint keeps of them.
 *
 * One function per record type. None of them may fail for a record that this version wrote; a
 * failure stops the process (or the start), because going on would mean to know less than the log.
 */
#include "src/broker/broker.h"

#include "core/base/check.h"
#include "core/proto/names.h"
#include "src/broker/damage.h"
#include "src/broker/delays.h"
#include "src/broker/transactions.h"

/* A message became visible in its queue: count it, wake who waits for it. */
static void arrived(struct broker *b, const struct hold_arrival *arrival)
{
    traffic_put(&b->traffic, arrival->topic, broker_traffic_now(b));
    hold_notify(b, arrival);
}

static int apply_half(struct broker *b, const struct store_record *rec, struct err_ctx *err)
{
    struct txn_half_info info = {
        .topic = rec->topic,
        .queue = rec->queue_id,
        .size_bytes = (uint32_t)rec->payload.len,
        .tag_hash = (int32_t)rec->tag_code,
        .store_ms = rec->store_ms,
    };
    int rc;

    if (rec->first != 0) {
        return carry_apply(b, rec, err);
    }
    rc = txn_half_info_props(&info, rec->properties);
    if (rc != 0) {
        return err_set(err, ESCROW_ECORRUPT, "HALF record without group or transaction id");
    }
    rc = txn_apply_half(b->txn, &info, rec->offset, broker_txn_now(b), err);
    if (rc == 0) {
        transactions_half_applied(b);
    }
    if (rc == 0 && info.is_held) {
        rc = delays_apply_message(b, rec, err);
    }
    return rc;
}

int held_enter_queue(struct broker *b, const struct store_release *release, struct err_ctx *err)
{
    struct hold_arrival arrival = {
        .topic = release->topic, .queue_id = release->queue_id, .tag_code = release->tag_code};
    int rc = store_release(b->store, release, &arrival.queue_offset, err);

    if (rc == 0) {
        arrived(b, &arrival);
    }
    return rc;
}

struct release_arg {
    struct broker *broker;
    struct err_ctx *err;
};

/* A half that is held for a time: its delay begins, or it is forgotten. */
static int decide_held(struct broker *b, const struct txn_release *r, struct err_ctx *err)
{
    int rc = timers_apply_decided(b->timers, r->offset, r->kind == DECISION_COMMIT, r->at_ms,
                                  broker_txn_now(b), err);

    delays_changed(b);
    return rc;
}

/* A committed half enters its own queue, an expired one the queue where people look for it. */
static int release_half(void *arg, const struct txn_release *r)
{
    struct release_arg *a = arg;
    struct store_release release = {.topic = r->topic,
                                    .queue_id = r->queue,
                                    .half_offset = carry_where(a->broker, r->offset),
                                    .payload_size = r->size_bytes,
                                    .tag_code = r->tag_hash,
                                    .store_ms = r->store_ms,
                                    .at_ms = r->at_ms};

    if (r->is_held) {
        return decide_held(a->broker, r, a->err);
    }
    if (r->kind == DECISION_EXPIRE) {
        release.topic = SLICE_LIT(TOPIC_EXPIRED);
        release.queue_id = 0;
    }
    return held_enter_queue(a->broker, &release, a->err);
}

static int apply_decision(struct broker *b, const struct store_record *rec, struct err_ctx *err)
{
    struct release_arg arg = {.broker = b, .err = err};
    int rc = txn_apply_decision(b->txn, rec->payload, release_half, &arg, err);

    if (rc == 0 && !rec->is_replay) {
        transactions_sync_reserve(b); /* a message that was held needs no RELEASE any more */
    }
    return rc;
}

static int apply_topic(struct broker *b, const struct store_record *rec, struct err_ctx *err)
{
    struct slice deleted = SLICE_EMPTY;
    int rc = topics_apply(&b->topics, rec->payload, &deleted, err);

    if (rc == 0 && deleted.len > 0) {
        store_drop_topic(b->store, deleted);
        request_modes_remove(&b->request_modes, SLICE_EMPTY, deleted);
    }
    if (rc == 0 && !rec->is_replay) {
        register_soon(b);
    }
    return rc;
}

static int apply_group(struct broker *b, const struct store_record *rec, struct err_ctx *err)
{
    struct group_applied applied;
    int rc = groups_apply(&b->groups, rec->payload, &applied, err);

    if (rc == 0 && applied.change != GROUP_SET) {
        request_modes_remove(&b->request_modes, applied.name, SLICE_EMPTY);
    }
    /* live, the table of offsets was changed when the record was appended */
    if (rc == 0 && applied.change == GROUP_DELETE_AND_OFFSETS && rec->is_replay) {
        offsets_remove_group(&b->offsets, applied.name);
    }
    return rc;
}

static int apply_message(struct broker *b, const struct store_record *rec)
{
    struct hold_arrival arrival = {.topic = rec->topic,
                                   .queue_id = rec->queue_id,
                                   .queue_offset = rec->queue_offset,
                                   .tag_code = rec->tag_code,
                                   .has_properties = true,
                                   .properties = rec->properties};

    arrived(b, &arrival);
    return 0;
}

static int broker_apply(void *arg, const struct store_record *rec, struct err_ctx *err)
{
    struct broker *b = arg;

    switch (rec->type) {
    case STORE_MESSAGE:
        return apply_message(b, rec);
    case STORE_HALF:
        return apply_half(b, rec, err);
    case STORE_DECISION:
        return apply_decision(b, rec, err);
    case STORE_HELD:
        return rec->first != 0 ? carry_apply(b, rec, err) : delays_apply_message(b, rec, err);
    case STORE_RELEASE:
        return delays_apply_release(b, rec, err);
    case STORE_CHECK:
        return txn_apply_check(b->txn, rec->payload, broker_txn_now(b), err);
    case STORE_TOPIC:
        return apply_topic(b, rec, err);
    case STORE_OFFSETS:
        /* Live, the table is ahead of the log: it was changed when the offset was noted. */
        return rec->is_replay ? offsets_apply(&b->offsets, rec->payload, err) : 0;
    case STORE_POSITION:
        return sources_apply(&b->sources, rec->payload, err);
    case STORE_MODE:
        return request_modes_apply(&b->request_modes, rec->payload, err);
    case STORE_GROUP:
        return apply_group(b, rec, err);
    case STORE_START:
    case STORE_FILLER:
    case STORE_WITNESS:
    case STORE_SKIPPED: /* the store's own */
        break;
    }
    return err_set(err, ESCROW_EVERSION, "record type %d is of a newer version", (int)rec->type);
}

static int broker_checkpoint_save(void *arg, struct store_sections *sections)
{
    struct broker *b = arg;
    struct buf *out = store_section(sections, "txn");

    b->is_txn_saved = false;
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    txn_save(b->txn, broker_txn_now(b), out);
    out = store_section(sections, "timers");
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    timers_save(b->timers, broker_txn_now(b), out);
    out = store_section(sections, "carried");
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    carried_save(&b->carry.table, out);
    out = store_section(sections, "topics");
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    topics_save(&b->topics, out);
    out = store_section(sections, "offsets");
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    offsets_save(&b->offsets, out);
    out = store_section(sections, "groups");
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    groups_save(&b->groups, out);
    out = store_section(sections, "sources");
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    sources_save(&b->sources, out);
    out = store_section(sections, "modes");
    if (out == NULL) {
        return ESCROW_ENOMEM;
    }
    request_modes_save(&b->request_modes, out);
    return buf_failed(out) ? ESCROW_ENOMEM : 0;
}

static int broker_checkpoint_more(void *arg, uint8_t *bytes)
{
    struct broker *b = arg;

    int rc = timers_save_more(b->timers, bytes, b->is_txn_saved ? TXN_SAVE_PIECE : 0);

    if (b->is_txn_saved) {
        return rc;
    }
    rc = txn_save_more(b->txn, bytes, TXN_SAVE_PIECE);
    if (rc < 0) {
        timers_save_stop(b->timers);
    }
    b->is_txn_saved = rc == 0;
    return rc == 0 ? 1 : rc;
}

static int broker_checkpoint_load(void *arg, struct slice name, struct slice data,
                                  struct err_ctx *err)
{
    struct broker *b = arg;

    if (slice_eq_str(name, "txn")) {
        return txn_load(b->txn, data, broker_txn_now(b), err);
    }
    if (slice_eq_str(name, "timers")) {
        return timers_load(b->timers, data, err);
    }
    if (slice_eq_str(name, "carried")) {
        return carried_load(&b->carry.table, data, err);
    }
    if (slice_eq_str(name, "topics")) {
        return topics_load(&b->topics, data, err);
    }
    if (slice_eq_str(name, "offsets")) {
        return offsets_load(&b->offsets, data, err);
    }
    if (slice_eq_str(name, "groups")) {
        return groups_load(&b->groups, data, err);
    }
    if (slice_eq_str(name, "sources")) {
        return sources_load(&b->sources, data, err);
    }
    if (slice_eq_str(name, "modes")) {
        return request_modes_load(&b->request_modes, data, err);
    }
    return err_set(err, ESCROW_EVERSION, "checkpoint: section '%.*s' is of a newer version",
                   SLICE_ARGS(name));
}

static int broker_list_releases(void *arg, enum store_type type, struct slice payload,
                                store_release_fn *fn, void *fn_arg)
{
    (void)arg;
    return type == STORE_RELEASE ? release_each_due(payload, fn, fn_arg)
                                 : decision_each_shown(payload, fn, fn_arg);
}

const struct store_owner broker_store_owner = {
    .apply = broker_apply,
    .checkpoint_save = broker_checkpoint_save,
    .checkpoint_more = broker_checkpoint_more,
    .checkpoint_load = broker_checkpoint_load,
    .damaged = damage_tell,
    .index_lost = damage_tell_index,
    .rebuilt = damage_rebuilt,
    .list_releases = broker_list_releases,
};
