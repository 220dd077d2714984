/*
 * Happy path: a message gets a slot when its record is appended, enters the heap of its clock when
 * that is durable, is picked when it is due, and leaves the table when its RELEASE is durable.
 *
 * due_ms of a message is, as long as a half is undecided, what its record says (TIMER_OUT_MS);
 * otherwise a time of the wall clock, or of the steady clock when it is a delay. The steady clock
 * begins with the wall clock's time when recovery is over, so that what was read from the log needs
 * no change; their difference is added where a time leaves the process. A delay begins with a
 * reading of the steady clock alone: it never goes back, and so two messages with one delay keep
 * their order.
 *
 * Why a heap and not the timing wheel of the check-back scanner: a queue keeps the order of due
 * times exactly, also when ten thousand messages are overdue and go out in several records; due
 * times are absolute, so that a wall clock that goes back is only a comparison that fails.
 */
#include "txn/timers.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "core/proto/tags.h"
#include "escrow/errors.h"
#include "txn/half.h"
#include "txn/timers_private.h"

#define WALL_LOOK_MS    1000 /* how soon a step of the wall clock is noticed */
#define DCHECK_HELD_MAX 64
#define TOPICS_GROUP    SLICE_LIT("-")

/* ---- index and heaps ------------------------------------------------------------------------- */

static uint64_t by_offset_hash(void *owner, uint32_t slot)
{
    return hash_u64(timers_at(owner, slot)->offset);
}

static uint32_t *by_offset_link(void *owner, uint32_t slot)
{
    return &timers_at(owner, slot)->offset_next;
}

static bool heap_before(void *owner, uint32_t a, uint32_t b)
{
    const struct held *left = timers_at(owner, a);
    const struct held *right = timers_at(owner, b);

    return left->due_ms != right->due_ms ? left->due_ms < right->due_ms
                                         : left->offset < right->offset;
}

static void heap_placed(void *owner, uint32_t id, uint32_t place)
{
    timers_at(owner, id)->place = place;
}

static const struct hash_index_ops by_offset_ops = {by_offset_hash, by_offset_link};
static const struct heap_ops heap_ops = {heap_before, heap_placed};

int timers_new(const struct timers_config *config, uint64_t seed, struct txn_now now,
               struct timers **out)
{
    struct timers *t = mem_calloc(1, sizeof *t);

    *out = NULL;
    if (t == NULL) {
        return ESCROW_ENOMEM;
    }
    t->config = *config;
    t->start = now;
    slab_init(&t->slab, sizeof(struct held));
    hash_index_init(&t->by_offset, &by_offset_ops, t);
    heap_init(&t->heaps[TIMERS_WALL], &heap_ops, t);
    heap_init(&t->heaps[TIMERS_STEADY], &heap_ops, t);
    routes_init(&t->topics, (struct hash_key){seed, hash_u64(seed)});
    *out = t;
    return 0;
}

void timers_recovered(struct timers *t, struct txn_now now)
{
    t->start = now;
    t->is_live = true;
}

void timers_free(struct timers *t)
{
    if (t == NULL) {
        return;
    }
    slab_fini(&t->slab);
    hash_index_fini(&t->by_offset);
    heap_fini(&t->heaps[TIMERS_WALL]);
    heap_fini(&t->heaps[TIMERS_STEADY]);
    routes_fini(&t->topics);
    mem_free(t);
}

int64_t timers_steady_ms(const struct timers *t, struct txn_now now)
{
    return t->start.wall_ms + (now.mono_ms - t->start.mono_ms);
}

int64_t timers_shift_ms(const struct timers *t, struct txn_now now)
{
    return now.wall_ms - timers_steady_ms(t, now);
}

uint32_t timers_find(const struct timers *t, uint64_t offset)
{
    uint32_t slot = hash_index_head(&t->by_offset, hash_u64(offset));

    while (slot != HASH_INDEX_NONE && timers_at(t, slot)->offset != offset) {
        slot = timers_at(t, slot)->offset_next;
    }
    return slot == HASH_INDEX_NONE ? SLAB_NONE : slot;
}

struct slice timers_topic(const struct timers *t, const struct held *held)
{
    return route_topic(routes_get(&t->topics, held->route));
}

/* ---- arrival --------------------------------------------------------------------------------- */

int timer_info_decode(struct slice payload, bool is_half, struct timer_info *info)
{
    struct record_view view;
    struct slice tags = SLICE_EMPTY;
    struct slice value;
    bool is_absolute;

    if (record_decode(payload, &view) != 0) {
        return ESCROW_EPROTO;
    }
    if (!props_find(view.f.properties, prop_name(PROP_TIMER_OUT_MS), &value)) {
        return ESCROW_ENOTFOUND;
    }
    (void)props_find(view.f.properties, prop_name(PROP_TAGS), &tags); /* none: code 0 */
    is_absolute = props_find(view.f.properties, prop_name(PROP_TIMER_DELIVER_MS), &value) &&
                  !props_find(view.f.properties, prop_name(PROP_TIMER_DELAY_SEC), &value) &&
                  !props_find(view.f.properties, prop_name(PROP_TIMER_DELAY_MS), &value);
    *info = (struct timer_info){
        .topic = view.f.topic,
        .queue = (uint32_t)view.f.queue_id, /* negative: too large, refused where it is used */
        .size_bytes = (uint32_t)view.record.len,
        .tag_hash = (int32_t)tag_code(tags),
        .store_ms = view.f.store_ms,
        .due_ms = props_find_i64(view.f.properties, prop_name(PROP_TIMER_OUT_MS), view.f.store_ms),
        .is_relative = !is_absolute,
        .is_half = is_half,
    };
    return 0;
}

bool timers_info_is_valid(const struct timer_info *info)
{
    return info->topic.len >= 1 && info->topic.len <= RETRY_TOPIC_LEN_MAX &&
           info->queue < QUEUES_PER_TOPIC_MAX;
}

/* Forget a message that was accepted and not appended. */
static void drop_pending(struct timers *t)
{
    if (t->is_pending) {
        routes_unref(&t->topics, t->pending_route);
        t->is_pending = false;
    }
}

int timers_reserve(struct timers *t, struct slice topic, enum timers_clock clock, uint32_t *route)
{
    int rc = slab_reserve(&t->slab);

    if (rc == 0) {
        rc = hash_index_reserve(&t->by_offset);
    }
    if (rc == 0) {
        rc = heap_reserve(&t->heaps[clock], t->by_clock[clock] + 1);
    }
    return rc != 0 ? rc : routes_intern(&t->topics, TOPICS_GROUP, topic, route);
}

int timers_accept(struct timers *t, const struct timer_info *info)
{
    uint32_t route;
    int rc;

    drop_pending(t);
    if (!timers_info_is_valid(info)) {
        return ESCROW_EINVAL;
    }
    rc = t->slab.used >= t->config.held_max
             ? ESCROW_ELIMIT
             : timers_reserve(t, info->topic, info->is_relative ? TIMERS_STEADY : TIMERS_WALL,
                              &route);
    if (rc != 0) {
        t->counters.held_refused += rc == ESCROW_ELIMIT;
        return rc;
    }
    routes_ref(&t->topics, route); /* another message may give back the last other one */
    t->is_pending = true;
    t->pending_route = route;
    return 0;
}

static int64_t clamp_time(int64_t ms)
{
    return ms < 0 ? 0 : ms > TIMERS_TIME_MAX ? TIMERS_TIME_MAX : ms;
}

uint32_t timers_insert(struct timers *t, const struct timer_info *info, uint64_t offset,
                       uint32_t route)
{
    uint32_t slot = slab_take(&t->slab);
    struct held *held = timers_at(t, slot);

    CHECK(timers_info_is_valid(info));
    *held = (struct held){
        .offset = offset,
        .due_ms = clamp_time(info->due_ms),
        .store_queue = half_pack_store(info->store_ms, info->queue),
        .size_bytes = info->size_bytes,
        .tag_hash = info->tag_hash,
        .route = route,
        .place = HEAP_NONE,
        .state = HELD_APPENDING,
        .flags = (uint8_t)((info->is_relative ? HELD_F_RELATIVE : 0) |
                           (info->is_half ? HELD_F_HALF : 0)),
        .topic_len = (uint16_t)info->topic.len,
    };
    routes_ref(&t->topics, route);
    hash_index_insert(&t->by_offset, slot);
    t->by_clock[timers_clock_of(held)]++;
    t->by_state[HELD_APPENDING]++;
    t->reserve_bytes += store_release_reserve(held->topic_len);
    return slot;
}

void timers_appended(struct timers *t, const struct timer_info *info, uint64_t offset,
                     struct txn_now now)
{
    struct held *held;

    CHECK(t->is_pending);
    CHECK(timers_find(t, offset) == SLAB_NONE);
    held = timers_at(t, timers_insert(t, info, offset, t->pending_route));
    if (!info->is_half) {
        held->due_ms = timers_begin(t, held, info->due_ms - info->store_ms, now);
    }
    drop_pending(t);
    t->counters.held_accepted++;
    timers_dcheck(t);
}

/* ---- moves ----------------------------------------------------------------------------------- */

void timers_move(struct timers *t, struct held *held, enum held_state to, const char *event)
{
    bool kept = held->state != HELD_LEAVING;
    bool keeps = to != HELD_LEAVING && to != HELD_GONE;

    CHECK(t->by_state[held->state] > 0);
    t->by_state[held->state]--;
    held_move(held, to, event);
    t->by_state[to]++;
    if (kept && !keeps) {
        uint64_t share = store_release_reserve(held->topic_len);
        CHECK(t->reserve_bytes >= share);
        t->reserve_bytes -= share;
    }
}

int64_t timers_begin(const struct timers *t, const struct held *held, int64_t delay_ms,
                     struct txn_now now)
{
    return timers_clock_of(held) == TIMERS_STEADY ? timers_steady_ms(t, now) + delay_ms
                                                  : held->due_ms;
}

void timers_arm(struct timers *t, uint32_t slot, int64_t due_ms, const char *event)
{
    struct held *held = timers_at(t, slot);

    held->due_ms = clamp_time(due_ms);
    timers_move(t, held, HELD_WAITING, event);
    heap_push(&t->heaps[timers_clock_of(held)], slot);
}

void timers_remove(struct timers *t, uint32_t slot)
{
    struct held *held = timers_at(t, slot);
    enum timers_clock clock = timers_clock_of(held);

    CHECK(held->state == HELD_GONE);
    CHECK(held->place == HEAP_NONE);
    t->by_state[HELD_GONE]--;
    hash_index_remove(&t->by_offset, slot);
    routes_unref(&t->topics, held->route);
    CHECK(t->by_clock[clock] > 0);
    t->by_clock[clock]--;
    heap_trim(&t->heaps[clock], t->by_clock[clock]);
    slab_put(&t->slab, slot);
}

/* ---- releases -------------------------------------------------------------------------------- */

void timers_update_init(struct timers_update *u)
{
    buf_init(&u->payload, 0);
    u->count = 0;
    u->more = false;
}

void timers_update_fini(struct timers_update *u)
{
    buf_fini(&u->payload);
}

static void update_clear(struct timers *t, struct timers_update *u)
{
    timers_release_refused(t); /* what was proposed before and never settled */
    buf_clear(&u->payload);
    u->count = 0;
    u->more = false;
}

/* The message that is due first, or SLAB_NONE: of two clocks, by what each says it is late. */
static uint32_t due_first(const struct timers *t, struct txn_now now)
{
    int64_t shift = timers_shift_ms(t, now);
    uint32_t wall = heap_top(&t->heaps[TIMERS_WALL]);
    uint32_t steady = heap_top(&t->heaps[TIMERS_STEADY]);
    const struct held *a = wall == HEAP_NONE ? NULL : timers_at(t, wall);
    const struct held *b = steady == HEAP_NONE ? NULL : timers_at(t, steady);

    if (a != NULL && a->due_ms > now.wall_ms) {
        a = NULL;
    }
    if (b != NULL && b->due_ms + shift > now.wall_ms) {
        b = NULL;
    }
    if (a == NULL || b == NULL) {
        return a != NULL ? wall : b != NULL ? steady : SLAB_NONE;
    }
    if (a->due_ms != b->due_ms + shift) {
        return a->due_ms < b->due_ms + shift ? wall : steady;
    }
    return a->offset < b->offset ? wall : steady;
}

static void pick(struct timers *t, uint32_t slot)
{
    struct held *held = timers_at(t, slot);

    CHECK(t->picked_count < RELEASE_COUNT_MAX);
    heap_remove(&t->heaps[timers_clock_of(held)], held->place);
    held->flags |= HELD_F_PICKED;
    t->picked[t->picked_count++] = slot;
}

/* One RELEASE for all that is picked. */
static int encode_picked(struct timers *t, enum release_kind kind, struct txn_now now,
                         struct timers_update *u)
{
    struct release_head head = {
        .kind = kind, .count = t->picked_count, .at_ms = now.wall_ms < 0 ? 0 : now.wall_ms};

    t->picked_kind = kind;
    release_encode_head(&u->payload, &head);
    for (uint32_t i = 0; i < t->picked_count; i++) {
        const struct held *held = timers_at(t, t->picked[i]);
        struct release_entry entry = {
            .offset = held->offset,
            .size_bytes = held->size_bytes,
            .tag_hash = held->tag_hash,
            .store_ms = held_store_ms(held),
            .queue = held_queue(held),
            .topic = timers_topic(t, held),
        };
        release_encode_entry(&u->payload, kind, &entry);
        if (kind == RELEASE_DUE) {
            u->queues[u->count++] = (struct store_queue_ref){entry.topic, entry.queue};
        }
    }
    if (buf_failed(&u->payload)) {
        update_clear(t, u);
        return ESCROW_ENOMEM;
    }
    return 0;
}

int timers_tick(struct timers *t, struct txn_now now, struct timers_update *u)
{
    uint32_t slot;
    int rc = 0;

    CHECK(t->is_live);
    update_clear(t, u);
    while (t->picked_count < RELEASE_COUNT_MAX && (slot = due_first(t, now)) != SLAB_NONE) {
        pick(t, slot);
    }
    if (t->picked_count > 0) {
        u->more = due_first(t, now) != SLAB_NONE;
        rc = encode_picked(t, RELEASE_DUE, now, u);
    }
    timers_dcheck(t);
    return rc;
}

int timers_recall(struct timers *t, uint64_t offset, struct slice topic, struct txn_now now,
                  struct timers_update *u)
{
    uint32_t slot;

    update_clear(t, u);
    slot = timers_find(t, offset);
    if (slot == SLAB_NONE || timers_at(t, slot)->state != HELD_WAITING ||
        !slice_eq(timers_topic(t, timers_at(t, slot)), topic)) {
        return ESCROW_ENOTFOUND;
    }
    pick(t, slot);
    return encode_picked(t, RELEASE_RECALLED, now, u);
}

void timers_release_appended(struct timers *t)
{
    CHECK(t->picked_count > 0);
    for (uint32_t i = 0; i < t->picked_count; i++) {
        struct held *held = timers_at(t, t->picked[i]);

        held->flags &= (uint8_t)~HELD_F_PICKED;
        timers_move(t, held, HELD_LEAVING, t->picked_kind == RELEASE_DUE ? "due" : "recalled");
    }
    t->picked_count = 0;
    timers_dcheck(t);
}

void timers_release_refused(struct timers *t)
{
    for (uint32_t i = 0; i < t->picked_count; i++) {
        struct held *held = timers_at(t, t->picked[i]);

        held->flags &= (uint8_t)~HELD_F_PICKED;
        heap_push(&t->heaps[timers_clock_of(held)], t->picked[i]);
    }
    t->picked_count = 0;
}

int64_t timers_next_ms(const struct timers *t, struct txn_now now)
{
    uint32_t wall = heap_top(&t->heaps[TIMERS_WALL]);
    uint32_t steady = heap_top(&t->heaps[TIMERS_STEADY]);
    int64_t next_ms = INT64_MAX;

    if (wall != HEAP_NONE) {
        int64_t wait_ms = timers_at(t, wall)->due_ms - now.wall_ms;
        next_ms = now.mono_ms + (wait_ms < WALL_LOOK_MS ? wait_ms : WALL_LOOK_MS);
    }
    if (steady != HEAP_NONE) {
        int64_t at_ms = now.mono_ms + (timers_at(t, steady)->due_ms - timers_steady_ms(t, now));
        next_ms = at_ms < next_ms ? at_ms : next_ms;
    }
    return next_ms;
}

/* ---- looking at it --------------------------------------------------------------------------- */

uint64_t timers_reserve_bytes(const struct timers *t)
{
    return t->reserve_bytes;
}

uint64_t timers_oldest_from(const struct timers *t, uint64_t from)
{
    uint64_t oldest = UINT64_MAX;
    uint32_t cursor = 0;
    uint32_t slot;

    while ((slot = slab_next(&t->slab, &cursor)) != SLAB_NONE) {
        uint64_t offset = timers_at(t, slot)->offset;
        oldest = offset < oldest && offset >= from ? offset : oldest;
    }
    return oldest;
}

void timers_each_between(const struct timers *t, uint64_t from, uint64_t to, held_fn *fn, void *arg)
{
    uint32_t cursor = 0;
    uint32_t slot;

    while ((slot = slab_next(&t->slab, &cursor)) != SLAB_NONE) {
        const struct held *held = timers_at(t, slot);

        if (held->offset >= from && held->offset < to && held->state != HELD_UNDECIDED &&
            held->state != HELD_APPENDING) {
            fn(arg, held->offset, held->size_bytes);
        }
    }
}

bool timers_holds(const struct timers *t, uint64_t offset)
{
    return timers_find(t, offset) != SLAB_NONE;
}

const struct timers_counters *timers_counters(const struct timers *t)
{
    return &t->counters;
}

void timers_counters_reset(struct timers *t)
{
    t->counters = (struct timers_counters){0};
}

void timers_gauges(const struct timers *t, struct txn_now now, struct timers_gauges *gauges)
{
    uint32_t slot = due_first(t, now);

    *gauges = (struct timers_gauges){.held = t->slab.used};
    memcpy(gauges->by_state, t->by_state, sizeof gauges->by_state);
    gauges->bytes = sizeof *t + slab_bytes(&t->slab) + hash_index_bytes(&t->by_offset) +
                    heap_bytes(&t->heaps[0]) + heap_bytes(&t->heaps[1]) + t->topics.bytes;
    if (slot != SLAB_NONE) {
        const struct held *held = timers_at(t, slot);
        int64_t clock_ms =
            timers_clock_of(held) == TIMERS_STEADY ? timers_steady_ms(t, now) : now.wall_ms;
        gauges->late_ms = clock_ms - held->due_ms;
    }
}

void timers_check(const struct timers *t)
{
    size_t by_state[HELD_STATE_COUNT] = {0};
    uint32_t by_clock[2] = {0, 0};
    uint32_t waiting[2] = {0, 0};
    uint64_t reserve = 0;
    uint32_t cursor = 0;
    uint32_t slot;

    slab_check(&t->slab);
    hash_index_check(&t->by_offset);
    heap_check(&t->heaps[0]);
    heap_check(&t->heaps[1]);
    while ((slot = slab_next(&t->slab, &cursor)) != SLAB_NONE) {
        const struct held *held = timers_at(t, slot);
        enum timers_clock clock = timers_clock_of(held);

        held_check(held);
        CHECK(timers_find(t, held->offset) == slot);
        CHECK(timers_topic(t, held).len == held->topic_len);
        by_state[held->state]++;
        by_clock[clock]++;
        waiting[clock] += held->place != HEAP_NONE;
        reserve += held->state == HELD_LEAVING ? 0 : store_release_reserve(held->topic_len);
    }
    CHECK(memcmp(by_state, t->by_state, sizeof by_state) == 0);
    CHECK(reserve == t->reserve_bytes);
    for (int i = 0; i < 2; i++) {
        CHECK(by_clock[i] == t->by_clock[i]);
        CHECK(waiting[i] == t->heaps[i].count);
    }
}

void timers_dcheck(const struct timers *t)
{
#ifdef ESCROW_DCHECK
    if (t->slab.used <= DCHECK_HELD_MAX) {
        timers_check(t);
    }
#else
    (void)t;
#endif
}
