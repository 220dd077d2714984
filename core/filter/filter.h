/*
 * Filter: which messages of a topic a consumer wants, as its subscription says it.
 *
 * Two languages, as RocketMQ has them: TAG ("a || b", "*" or nothing for every message) and SQL92
 * (sql.h). Looking at a message has two stages, because the first needs no message: the consume
 * queue's entry carries the tag's hash, and only what passes there is read and asked again.
 *
 * Owns:    its copy of the expression and, for SQL92, the program. References are counted, so that
 *          a pull that waits keeps the filter it came with when its group subscribes anew.
 * Thread:  whoever owns the references, one thread at a time. Never changes once compiled.
 * Pure:    no clock, no I/O. Matching allocates nothing; filter_cost bounds its time.
 */
#ifndef CORE_FILTER_FILTER_H
#define CORE_FILTER_FILTER_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

enum filter_type {
    FILTER_ALL, /* every message: "*" or nothing, of type TAG */
    FILTER_TAG,
    FILTER_SQL,
};

struct filter;

/*
 * Compile an expression of a type: "TAG" or nothing, or "SQL92". err gets one line without a line
 * end, made of printable ASCII; in SQL92 it begins with the place ("column 14: ...").
 *
 * 0, and *out has one reference; ESCROW_EINVAL (the expression is wrong), ESCROW_ELIMIT (too long,
 * too deep, too many terms), ESCROW_ENOTSUP (another type), ESCROW_ENOMEM. On an error *out is
 * NULL.
 */
ESCROW_MUST_USE int filter_compile(struct slice type, struct slice expression, struct filter **out,
                                   struct err_ctx *err);

/* One more reference. */
struct filter *filter_hold(struct filter *filter);

/* Give a reference back and set *filter NULL; NULL inside is fine. */
void filter_free(struct filter **filter);

enum filter_type filter_type_of(const struct filter *filter);

/* The expression it was compiled from; borrowed. */
struct slice filter_text(const struct filter *filter);

/*
 * First stage: may an entry with this tag code (core/proto/tags.h) be wanted? false is certain;
 * true is, of a SQL92 filter, no answer at all, and of a TAG filter as good as the hash.
 */
bool filter_may_match(const struct filter *filter, int64_t tag_code);

/*
 * Does asking the second stage make sense? RocketMQ's brokers trust the hash of a tag and let the
 * consumer compare the text; so does this one: only SQL92 says yes.
 */
bool filter_needs_properties(const struct filter *filter);

/* Second stage, exact: is a message with these properties wanted? Texts of tags are compared. */
bool filter_match(const struct filter *filter, struct slice properties);

/*
 * Upper bound of the work of filter_match, in bytes looked at: what the broker adds up, so that one
 * pull can not keep the loop for long.
 */
uint64_t filter_cost(const struct filter *filter, struct slice properties);

#endif
