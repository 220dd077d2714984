/*
 * The checkpoint section of the messages that are held for a time. What is accepted is a consistent
 * table that works: it can be saved and loaded again, and what is due is released.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"
#include "txn/timers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define YEAR_MS (INT64_C(365) * 24 * 3600 * 1000)

static int load(struct slice section, struct txn_now now, struct timers **t)
{
    struct timers_config config = {.held_max = 10000};
    int rc;

    CHECK(timers_new(&config, 1, now, t) == 0);
    rc = timers_load(*t, section, NULL);
    CHECK(rc == 0 || rc == ESCROW_ECORRUPT || rc == ESCROW_EVERSION || rc == ESCROW_ELIMIT);
    return rc;
}

static void check_again(struct timers *t, struct txn_now now)
{
    struct timers_gauges before;
    struct timers_gauges after;
    struct timers *again;
    struct buf section;

    buf_init(&section, 0);
    timers_save(t, now, &section);
    CHECK(!buf_failed(&section));
    CHECK(timers_save_more(t, section.ptr, UINT32_MAX) == 0);
    CHECK(load(buf_slice(&section), now, &again) == 0);
    timers_check(again);
    timers_gauges(t, now, &before);
    timers_gauges(again, now, &after);
    CHECK(before.held == after.held);
    CHECK(timers_oldest_from(t, 0) == timers_oldest_from(again, 0));
    CHECK(timers_reserve_bytes(t) == timers_reserve_bytes(again));
    timers_free(again);
    buf_fini(&section);
}

static int on_release(void *arg, const struct release_entry *entry)
{
    size_t *released = arg;

    CHECK(entry->topic.len > 0);
    (*released)++;
    return 0;
}

static void release_what_is_due(struct timers *t, struct txn_now now)
{
    struct timers_update u;

    timers_update_init(&u);
    do {
        size_t released = 0;
        CHECK(timers_tick(t, now, &u) == 0);
        if (u.payload.len == 0) {
            CHECK(!u.more);
            break;
        }
        timers_release_appended(t);
        CHECK(timers_apply_release(t, buf_slice(&u.payload), on_release, &released, NULL) == 0);
        CHECK(released == u.count);
    } while (u.more);
    timers_check(t);
    timers_update_fini(&u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct txn_now now = {.mono_ms = 1000, .wall_ms = 1700000000000};
    struct timers *t;

    if (load(slice_of(data, size), now, &t) == 0) {
        timers_check(t);
        check_again(t, now);
        timers_recovered(t, now);
        for (int round = 0; round < 4; round++) {
            uint64_t oldest = timers_oldest_from(t, 0);
            int rc = timers_apply_decided(t, oldest, round % 2 == 0, now.wall_ms, now, NULL);
            CHECK(rc == 0 || rc == ESCROW_ECORRUPT); /* not an undecided half */
            now.mono_ms += YEAR_MS;
            now.wall_ms += YEAR_MS;
            release_what_is_due(t, now);
            check_again(t, now);
        }
    }
    timers_free(t);
    return 0;
}
