#include "core/io_uv/clock_system.h"

#include "core/base/check.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

static int64_t read_ns(clockid_t id)
{
    struct timespec ts;

    CHECK(clock_gettime(id, &ts) == 0); /* fails only for a clock that does not exist */
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t system_wall_ms(struct clock *c)
{
    (void)c; /* stateless */
    return read_ns(CLOCK_REALTIME) / 1000000;
}

static int64_t system_mono_ns(struct clock *c)
{
    (void)c; /* stateless */
    return read_ns(CLOCK_MONOTONIC);
}

static int32_t system_utc_offset_s(struct clock *c, int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    (void)c; /* stateless */
    return localtime_r(&seconds, &tm) == NULL ? 0 : (int32_t)tm.tm_gmtoff;
}

static uint64_t system_random_seed(struct clock *c)
{
    uint64_t seed;
    ssize_t got;

    (void)c; /* stateless */
    do {
        got = getrandom(&seed, sizeof seed, 0);
    } while (got < 0 && errno == EINTR);
    CHECK(got == (ssize_t)sizeof seed); /* reads of up to 256 bytes are never cut */
    return seed;
}

struct clock *clock_system(void)
{
    static struct clock c = {
        .wall_ms = system_wall_ms,
        .mono_ns = system_mono_ns,
        .utc_offset_s = system_utc_offset_s,
        .random_seed = system_random_seed,
    };

    return &c;
}
