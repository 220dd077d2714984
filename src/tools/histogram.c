#include "src/tools/histogram.h"

#include "core/base/check.h"

#include <string.h>

void histogram_init(struct histogram *h)
{
    memset(h, 0, sizeof *h);
    h->min = UINT64_MAX;
}

/* Values below 2 x SUB have a bucket each; above, each doubling has SUB buckets. */
static uint32_t bucket_of(uint64_t value)
{
    uint32_t shift;

    if (value < UINT64_C(2) * HISTOGRAM_SUB) {
        return (uint32_t)value;
    }
    shift = 63u - (uint32_t)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return shift * HISTOGRAM_SUB + (uint32_t)(value >> shift);
}

/* The largest value of a bucket. */
static uint64_t bucket_top(uint32_t bucket)
{
    uint32_t shift;
    uint64_t first;

    if (bucket < 2 * HISTOGRAM_SUB) {
        return bucket;
    }
    shift = bucket / HISTOGRAM_SUB - 1;
    first = (uint64_t)(bucket - shift * HISTOGRAM_SUB) << shift;
    return first + ((UINT64_C(1) << shift) - 1);
}

void histogram_put(struct histogram *h, uint64_t value)
{
    uint32_t bucket = bucket_of(value);

    CHECK(bucket < HISTOGRAM_BUCKETS);
    h->buckets[bucket]++;
    h->count++;
    h->sum += value;
    h->min = value < h->min ? value : h->min;
    h->max = value > h->max ? value : h->max;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        h->buckets[i] += from->buckets[i];
    }
    h->count += from->count;
    h->sum += from->sum;
    h->min = from->min < h->min ? from->min : h->min;
    h->max = from->max > h->max ? from->max : h->max;
}

uint64_t histogram_at(const struct histogram *h, uint32_t permille)
{
    uint64_t wanted;
    uint64_t seen = 0;

    CHECK(permille <= 1000);
    if (h->count == 0 || permille == 1000) {
        return h->max;
    }
    wanted = (h->count / 1000) * permille + (h->count % 1000 * permille + 999) / 1000;
    wanted = wanted == 0 ? 1 : wanted;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= wanted) {
            uint64_t top = bucket_top(i);
            top = top > h->max ? h->max : top;
            return top < h->min ? h->min : top;
        }
    }
    return h->max;
}

double histogram_mean(const struct histogram *h)
{
    return h->count == 0 ? 0.0 : (double)h->sum / (double)h->count;
}
