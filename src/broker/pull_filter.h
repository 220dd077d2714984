/*
 * The filter of a pull: found by what the request names, then asked entry by entry, with a bound on
 * the work that one pull may cause.
 *
 * Owns:    nothing; a filter that was found is a reference of the caller's.
 * Thread:  loop.
 */
#ifndef SRC_BROKER_PULL_FILTER_H
#define SRC_BROKER_PULL_FILTER_H

#include "core/base/attr.h"
#include "core/base/slice.h"
#include "core/filter/filter.h"
#include "core/store/store.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct request;

/* What a pull says of its subscription. */
struct pull_subscription {
    struct slice group;
    struct slice topic;
    struct slice expression; /* with is_included: counts, whatever the group's heartbeat said */
    struct slice type;
    int64_t version;
    bool is_included;
};

/*
 * The filter that this pull wants; NULL in *filter is every message, anything else a reference of
 * the caller's. false: the request was answered with an error.
 */
ESCROW_MUST_USE bool pull_filter_find(struct request *req, const struct pull_subscription *in,
                                      struct filter **filter);

/*
 * Bytes that one pull may look at for nothing else than to filter: records read, property strings
 * walked. About a millisecond; the consumer goes on at nextBeginOffset.
 */
#define PULL_SCAN_MAX ((uint64_t)2 << 20)

struct pull_scan {
    const struct filter *filter;
    uint64_t spent;
};

/* Set the request's filter, match and argument. *scan lives until the pull has been made. */
void pull_scan_begin(struct pull_scan *scan, const struct filter *filter,
                     struct store_pull_request *query);

#endif
