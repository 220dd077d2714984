#include "src/broker/delay.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#define LEVEL_MS_MAX INT64_C(31536000000) /* a year */

/* Milliseconds of a unit, 0 for none. */
static int64_t unit_ms(struct slice unit)
{
    static const struct {
        const char *text;
        int64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};

    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (slice_eq_str(unit, units[i].text)) {
            return units[i].ms;
        }
    }
    return 0;
}

static bool level_parse(struct slice word, int64_t *ms)
{
    size_t digits = 0;
    int64_t count;
    int64_t unit;

    while (digits < word.len && word.ptr[digits] >= '0' && word.ptr[digits] <= '9') {
        digits++;
    }
    unit = unit_ms(slice_of(word.ptr + digits, word.len - digits));
    if (digits == 0 || unit == 0 || !slice_to_i64(slice_of(word.ptr, digits), &count) ||
        count > LEVEL_MS_MAX / unit) {
        return false;
    }
    *ms = count * unit;
    return true;
}

int delay_levels_parse(struct slice text, struct delay_levels *out)
{
    struct slice word;

    out->count = 0;
    while (props_next_key(&text, &word)) { /* words between blanks */
        if (out->count == DELAY_LEVELS_MAX || !level_parse(word, &out->ms[out->count])) {
            return ESCROW_EINVAL;
        }
        out->count++;
    }
    return out->count == 0 ? ESCROW_EINVAL : 0;
}

int32_t delay_level_bound(const struct delay_levels *levels, int64_t level)
{
    CHECK(level >= 1);
    CHECK(levels->count >= 1);
    return level > (int64_t)levels->count ? (int32_t)levels->count : (int32_t)level;
}

int64_t delay_level_ms(const struct delay_levels *levels, int32_t level)
{
    size_t index = (size_t)level - 1;

    CHECK(level >= 1);
    CHECK(levels->count >= 1);
    return levels->ms[index < levels->count ? index : levels->count - 1];
}

/* The time that the TIMER_ properties name, as a distance from now. 1, 0 for none, or an error. */
static int timer_distance(const struct props_known *props, int64_t now_ms, int64_t *distance_ms,
                          bool *is_relative)
{
    struct slice text = props->timer_delay_s.len > 0    ? props->timer_delay_s
                        : props->timer_delay_ms.len > 0 ? props->timer_delay_ms
                                                        : props->timer_deliver_ms;
    int64_t value;

    if (text.len == 0 || props->timer_out_ms.len > 0) {
        return 0;
    }
    if (!slice_to_i64(text, &value)) {
        return ESCROW_EINVAL;
    }
    *is_relative = props->timer_delay_s.len > 0 || props->timer_delay_ms.len > 0;
    if (value <= 0) {
        *distance_ms = 0;
    } else if (props->timer_delay_s.len > 0) {
        *distance_ms = value > INT64_MAX / 1000 ? INT64_MAX : value * 1000;
    } else {
        *distance_ms = *is_relative ? value : value - now_ms;
    }
    return 1;
}

int delay_of(const struct delay_rules *rules, const struct props_known *props, int64_t now_ms,
             struct delay *out)
{
    int64_t level = 0;
    int64_t distance_ms = 0;
    int rc;

    *out = (struct delay){.is_held = false};
    if (props->delay.len > 0 && !slice_to_i64(props->delay, &level)) {
        return ESCROW_EINVAL;
    }
    if (level > 0) {
        *out = (struct delay){.is_held = true,
                              .is_relative = true,
                              .level = delay_level_bound(&rules->levels, level)};
        distance_ms = delay_level_ms(&rules->levels, out->level);
        out->due_ms = now_ms + distance_ms;
        return 0;
    }
    rc = timer_distance(props, now_ms, &distance_ms, &out->is_relative);
    if (rc != 1 || distance_ms <= 0) {
        return rc == 1 ? 0 : rc;
    }
    if (distance_ms > rules->max_ms) {
        return ESCROW_ETOOBIG;
    }
    out->is_held = true;
    out->due_ms = now_ms + distance_ms;
    return 0;
}
