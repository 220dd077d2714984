/*
 * Latency histogram: log-linear buckets, 128 to each doubling, so that any value is kept to within
 * 1 %.
 *
 * Owns:    its counts, inside the struct.
 * Thread:  whoever owns the struct. Pure.
 * Holds:   count is the sum of all buckets; min <= every percentile <= max when count > 0.
 */
#ifndef SRC_TOOLS_HISTOGRAM_H
#define SRC_TOOLS_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 7
#define HISTOGRAM_SUB      (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_BUCKETS  ((64u - HISTOGRAM_SUB_BITS + 1u) * HISTOGRAM_SUB)

struct histogram {
    uint64_t count;
    uint64_t sum; /* of the values; wraps only after centuries of nanoseconds */
    uint64_t min;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_init(struct histogram *h);
void histogram_put(struct histogram *h, uint64_t value);

/* Add what `from` has counted. */
void histogram_merge(struct histogram *h, const struct histogram *from);

/*
 * The smallest value v with at least `permille` thousandths of the values <= v, up to the width of
 * its bucket; 0 when empty. 1000 is the maximum, exactly.
 */
uint64_t histogram_at(const struct histogram *h, uint32_t permille);
double histogram_mean(const struct histogram *h);

#endif
