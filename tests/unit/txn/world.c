#include "tests/unit/txn/world.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

#define WORLD_EPOCH_MS INT64_C(1700000000000)

void world_config(struct txn_config *config)
{
    txn_config_default(config);
    config->checks_max = 3;
}

void world_init(struct world *w, const struct txn_config *config, uint64_t seed)
{
    int rc;

    memset(w, 0, sizeof *w);
    w->config = *config;
    w->seed = seed;
    w->now = (struct txn_now){.mono_ms = 5000, .wall_ms = WORLD_EPOCH_MS};
    w->next_offset = 4096;
    txn_update_init(&w->u);
    buf_init(&w->checkpoint, 0);
    buf_init(&w->save, 0);
    buf_init(&w->save_whole, 0);
    rc = txn_new(config, seed, w->now, &w->t);
    CHECK(rc == 0);
}

void world_fini(struct world *w)
{
    txn_free(w->t);
    txn_update_fini(&w->u);
    buf_fini(&w->checkpoint);
    buf_fini(&w->save);
    buf_fini(&w->save_whole);
    for (size_t i = 0; i < w->log_count; i++) {
        buf_fini(&w->log[i].payload);
    }
    mem_free(w->log);
    mem_free(w->releases);
    mem_free(w->asks);
}

void world_pass(struct world *w, int64_t ms)
{
    w->now.mono_ms += ms;
    w->now.wall_ms += ms;
}

/* Room for one more element of an array. */
static void *grow(void *array, size_t count, size_t *cap, size_t size)
{
    if (count < *cap) {
        return array;
    }
    *cap = *cap == 0 ? 64 : *cap * 2;
    array = mem_realloc(array, *cap * size);
    CHECK(array != NULL);
    return array;
}

static struct world_record *append(struct world *w, enum world_type type, struct slice payload)
{
    struct world_record *rec;

    w->log = grow(w->log, w->log_count, &w->log_cap, sizeof *w->log);
    rec = &w->log[w->log_count++];
    memset(rec, 0, sizeof *rec);
    rec->type = type;
    rec->offset = w->next_offset;
    buf_init(&rec->payload, 0);
    buf_append_slice(&rec->payload, payload);
    CHECK(!buf_failed(&rec->payload));
    w->next_offset += 1024;
    return rec;
}

static struct txn_half_info info_of(const struct world_record *rec)
{
    return (struct txn_half_info){.group = slice_str(rec->group),
                                  .txn_id = slice_str(rec->id),
                                  .topic = slice_str(rec->topic),
                                  .queue = (uint32_t)(rec->offset / 1024 % 4),
                                  .size_bytes = 500,
                                  .tag_hash = (int32_t)(rec->offset / 1024),
                                  .store_ms = rec->store_ms,
                                  .immunity_ms = rec->immunity_ms};
}

uint64_t world_half(struct world *w, const char *group, const char *id, const char *topic,
                    struct txn_prepare_result *result)
{
    struct world_record rec = {
        .offset = w->next_offset, .store_ms = w->now.wall_ms, .immunity_ms = -1};
    struct txn_prepare_result verdict;
    struct txn_half_info info;
    int rc;

    (void)snprintf(rec.group, sizeof rec.group, "%s", group);
    (void)snprintf(rec.id, sizeof rec.id, "%s", id);
    (void)snprintf(rec.topic, sizeof rec.topic, "%s", topic);
    info = info_of(&rec);
    rc = txn_prepare(w->t, &info, &verdict);
    CHECK(rc == 0);
    if (result != NULL) {
        *result = verdict;
    }
    if (verdict.verdict != TXN_NEW || w->refuses_halves) {
        return verdict.offset;
    }
    rec.payload = append(w, WORLD_HALF, SLICE_EMPTY)->payload;
    w->log[w->log_count - 1] = rec;
    txn_half_appended(w->t, &info, rec.offset);
    return rec.offset;
}

static int on_release(void *arg, const struct txn_release *release)
{
    struct world *w = arg;
    struct world_release *out;

    w->releases = grow(w->releases, w->release_count, &w->release_cap, sizeof *w->releases);
    out = &w->releases[w->release_count++];
    out->offset = release->offset;
    out->kind = release->kind;
    (void)slice_to_cstr(release->topic, out->topic, sizeof out->topic);
    CHECK(release->size_bytes == 500);
    CHECK(release->tag_hash == (int32_t)(release->offset / 1024));
    CHECK(release->store_ms >= WORLD_EPOCH_MS);
    CHECK(release->queue == (release->kind == DECISION_EXPIRE ? 0 : release->offset / 1024 % 4));
    return 0;
}

static void apply_next(struct world *w)
{
    struct world_record *rec = &w->log[w->applied++];
    struct txn_half_info info = info_of(rec);
    struct err_ctx err = {0};
    int rc = 0;

    switch (rec->type) {
    case WORLD_HALF:
        rc = txn_apply_half(w->t, &info, rec->offset, w->now, &err);
        break;
    case WORLD_DECISION:
        rc = txn_apply_decision(w->t, buf_slice(&rec->payload), on_release, w, &err);
        break;
    case WORLD_CHECK:
        rc = txn_apply_check(w->t, buf_slice(&rec->payload), w->now, &err);
        break;
    }
    if (rc != 0) {
        (void)fprintf(stderr, "apply of record %zu: %s\n", w->applied - 1, err.text);
    }
    CHECK(rc == 0);
}

void world_sync_some(struct world *w, size_t count)
{
    while (count-- > 0 && w->applied < w->log_count) {
        if (w->durable <= w->applied) {
            w->durable = w->applied + 1;
        }
        apply_next(w);
    }
}

void world_sync(struct world *w)
{
    world_sync_some(w, SIZE_MAX);
}

void world_obey(struct world *w)
{
    if (w->u.decision.len > 0 && !w->refuses_decisions) {
        (void)append(w, WORLD_DECISION, buf_slice(&w->u.decision)); /* nothing to fill in */
        txn_decision_appended(w->t, buf_slice(&w->u.decision));
    }
    if (w->u.check.len > 0 && !w->refuses_checks) {
        (void)append(w, WORLD_CHECK, buf_slice(&w->u.check)); /* nothing to fill in */
    }
    for (size_t i = 0; i < w->u.ask_count; i++) {
        w->asks = grow(w->asks, w->ask_count, &w->ask_cap, sizeof *w->asks);
        w->asks[w->ask_count] = w->u.asks[i];
        w->asks[w->ask_count].group = SLICE_EMPTY; /* borrowed: gone after the next call */
        w->asks[w->ask_count++].topic = SLICE_EMPTY;
    }
}

void world_end_many(struct world *w, const struct txn_end *end, struct txn_end_result *results)
{
    int rc = txn_end(w->t, end, w->now, results, &w->u);

    CHECK(rc == 0);
    world_obey(w);
}

struct txn_end_result world_end(struct world *w, enum decision_kind kind, enum decision_by by,
                                const char *group, uint64_t offset, const char *id)
{
    struct txn_end_item item = {.offset = offset, .txn_id = slice_str(id)};
    struct txn_end end = {
        .kind = kind, .by = by, .group = slice_str(group), .items = &item, .count = 1};
    struct txn_end_result result;

    world_end_many(w, &end, &result);
    return result;
}

size_t world_tick(struct world *w)
{
    size_t before = w->ask_count;

    do {
        int rc = txn_tick(w->t, w->now, &w->u);
        CHECK(rc == 0);
        world_obey(w);
    } while (w->u.more);
    return w->ask_count - before;
}

const struct txn_ask *world_last_ask(const struct world *w)
{
    CHECK(w->ask_count > 0);
    return &w->asks[w->ask_count - 1];
}

const struct txn_ask *world_next_ask(struct world *w, int64_t limit_ms)
{
    int64_t end_ms = w->now.mono_ms + limit_ms;

    while (world_tick(w) == 0) {
        int64_t next_ms = txn_next_ms(w->t);
        if (next_ms > end_ms) {
            world_pass(w, end_ms - w->now.mono_ms);
            return NULL;
        }
        CHECK(next_ms > w->now.mono_ms); /* everything that was due is done */
        world_pass(w, next_ms - w->now.mono_ms);
    }
    return world_last_ask(w);
}

int world_answer(struct world *w, const struct txn_ask *ask, enum txn_answer answer)
{
    int rc = txn_check_answered(w->t, ask->offset, ask->nonce, answer, w->now, &w->u);

    if (rc == 0) {
        world_obey(w);
    }
    return rc;
}

int world_fail(struct world *w, const struct txn_ask *ask, enum txn_ask_failure why)
{
    int rc = txn_ask_failed(w->t, ask->offset, ask->nonce, why, w->now, &w->u);

    if (rc == 0) {
        world_obey(w);
    }
    return rc;
}

/* Back-off step and time of the next check are of no record: as of when each half was written. */
static void forget_times(struct buf *section)
{
    uint8_t *p = section->ptr + 40;
    uint64_t halves = get_le64(section->ptr + 8);

    for (uint32_t routes = get_le32(section->ptr + 4); routes > 0; routes--) {
        p += 4;        /* id */
        p += 1 + p[0]; /* group */
        p += 1 + p[0]; /* topic */
    }
    for (; halves > 0; halves--, p += 56) {
        p[45] = 0;
        memset(p + 48, 0, 8);
    }
}

static void save_complete(struct world *w)
{
    struct buf old = w->checkpoint;

    w->checkpoint = w->save;
    w->checkpoint_applied = w->save_applied;
    w->checkpoint_releases = w->save_releases;
    w->save = old;
    buf_clear(&w->save);
    buf_append_slice(&w->save, buf_slice(&w->checkpoint));
    forget_times(&w->save);
    forget_times(&w->save_whole);
    CHECK(slice_eq(buf_slice(&w->save), buf_slice(&w->save_whole)));
    buf_clear(&w->save);
}

bool world_save_some(struct world *w, uint32_t max)
{
    int rc;

    if (w->save.len == 0) {
        buf_clear(&w->save_whole);
        txn_save(w->t, w->now, &w->save_whole);
        CHECK(txn_save_more(w->t, w->save_whole.ptr, UINT32_MAX) == 0);
        txn_save(w->t, w->now, &w->save);
        CHECK(!buf_failed(&w->save));
        w->save_applied = w->applied;
        w->save_releases = w->release_count;
    }
    rc = txn_save_more(w->t, w->save.ptr, max);
    CHECK(rc == 0 || rc == 1);
    if (rc == 0) {
        save_complete(w);
    }
    return rc == 0;
}

void world_checkpoint(struct world *w)
{
    if (w->save.len > 0) {
        CHECK(world_save_some(w, UINT32_MAX));
    }
    CHECK(world_save_some(w, UINT32_MAX));
}

void world_crash(struct world *w, size_t kept, int64_t down_ms)
{
    struct err_ctx err = {0};
    size_t end = w->durable + kept < w->log_count ? w->durable + kept : w->log_count;
    int rc;

    txn_free(w->t);
    w->t = NULL;
    buf_clear(&w->save);
    while (w->log_count > end) {
        buf_fini(&w->log[--w->log_count].payload);
    }
    w->next_offset = w->log_count == 0 ? 4096 : w->log[w->log_count - 1].offset + 1024;
    w->durable = w->log_count;
    w->applied = w->checkpoint_applied;
    w->release_count = w->checkpoint_releases;
    w->now.wall_ms += down_ms;
    w->now.mono_ms = (int64_t)(w->seed % 7) * 1000; /* the monotonic clock starts anywhere */
    w->seed = w->seed * 6364136223846793005u + 1;
    rc = txn_new(&w->config, w->seed, w->now, &w->t);
    CHECK(rc == 0);
    if (w->checkpoint.len > 0) {
        rc = txn_load(w->t, buf_slice(&w->checkpoint), w->now, &err);
        if (rc != 0) {
            (void)fprintf(stderr, "load: %s\n", err.text);
        }
        CHECK(rc == 0);
    }
    while (w->applied < w->log_count) {
        apply_next(w);
    }
    txn_counters_reset(w->t);
    txn_check(w->t);
}

int world_state(const struct world *w, uint64_t offset)
{
    struct txn_row row;
    struct decided_fact fact;

    if (txn_find(w->t, offset, &row, &fact)) {
        return (int)row.state;
    }
    switch (fact.kind) {
    case DECISION_COMMIT:
        return HALF_COMMITTED;
    case DECISION_ROLLBACK:
        return HALF_ROLLED_BACK;
    case DECISION_NONE:
    case DECISION_EXPIRE:
        break;
    }
    return -1;
}

size_t world_released(const struct world *w, uint64_t offset, enum decision_kind kind)
{
    size_t n = 0;

    for (size_t i = 0; i < w->release_count; i++) {
        n += w->releases[i].offset == offset && w->releases[i].kind == kind;
    }
    return n;
}
