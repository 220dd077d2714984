/*
 * The checkpoint section of the half table. What is accepted is a consistent table that works: it
 * can be ticked, decided, saved and loaded again.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "txn/txn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS 64

static int load(struct slice section, struct txn_now now, struct txn **t)
{
    struct txn_config config;

    txn_config_default(&config);
    config.halves_max = 10000;
    config.decided_max = 100;
    CHECK(txn_new(&config, 1, now, t) == 0);
    return txn_load(*t, section, now, NULL);
}

static int on_release(void *arg, const struct txn_release *release)
{
    (void)arg;
    CHECK(release->topic.len > 0);
    return 0;
}

/* Ask about what is due, then roll everything back that there is. */
static void use(struct txn *t, struct txn_now now)
{
    struct txn_update u;
    struct txn_row rows[ROWS];
    struct txn_filter all = {.states = 0};
    uint64_t cursor = 0;
    size_t count;
    bool is_end;

    txn_update_init(&u);
    now.mono_ms += 1000000;
    now.wall_ms += 1000000;
    CHECK(txn_tick(t, now, &u) == 0);
    count = txn_list(t, &all, &cursor, rows, ROWS, &is_end);
    for (size_t i = 0; i < count; i++) {
        struct txn_end_item item = {.offset = rows[i].offset};
        struct txn_end end = {
            .kind = DECISION_COMMIT, .by = DECISION_BY_OPERATOR, .items = &item, .count = 1};
        struct txn_end_result result;
        CHECK(txn_end(t, &end, now, &result, &u) == 0);
        CHECK(result.code == TXN_END_PERSIST);
        txn_decision_appended(t, buf_slice(&u.decision));
        CHECK(txn_apply_decision(t, buf_slice(&u.decision), on_release, NULL, NULL) == 0);
    }
    txn_check(t);
    txn_update_fini(&u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct txn_now now = {.mono_ms = 1000, .wall_ms = 1700000000000};
    struct txn *t;
    struct txn *again;
    struct buf section;

    if (load(slice_of(data, size), now, &t) == 0) {
        txn_check(t);
        buf_init(&section, 0);
        txn_save(t, now, &section);
        CHECK(!buf_failed(&section));
        CHECK(txn_save_more(t, section.ptr, UINT32_MAX) == 0);
        CHECK(load(buf_slice(&section), now, &again) == 0);
        txn_free(again);
        buf_fini(&section);
        use(t, now);
    }
    txn_free(t);
    return 0;
}
