/*
 * Tags: their hash, and the expression "a || b" of a subscription.
 *
 * The hash is Java's String.hashCode (h = 31 * h + c over UTF-16 code units, wrapping), because
 * consume queues, clients and code sets in heartbeats carry it. The broker filters by hash; a
 * client that wants exactness compares the text again.
 *
 * Owns:    nothing; a filter holds only numbers.
 * Thread:  any. Pure: no allocation.
 */
#ifndef CORE_PROTO_TAGS_H
#define CORE_PROTO_TAGS_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

/* Tags of one expression; Java sets no bound, real subscriptions have a handful. */
#define TAG_FILTER_MAX 128

/* Java's String.hashCode of UTF-8 text. Each malformed sequence counts as one U+FFFD, as Java's
 * decoder has it. */
int32_t java_hash(struct slice utf8);

/* Tag code as the consume queue stores it: the hash, sign-extended; 0 for no tag. */
static inline int64_t tag_code(struct slice tag)
{
    return tag.len == 0 ? 0 : (int64_t)java_hash(tag);
}

struct tag_filter {
    bool is_all; /* matches every message, with or without tag */
    uint16_t count;
    int32_t codes[TAG_FILTER_MAX];
};

/*
 * Parse an expression: "*" or nothing is every message; otherwise tags separated by "||", blanks
 * around them ignored. ESCROW_EINVAL: only separators and blanks. ESCROW_ELIMIT: more than
 * TAG_FILTER_MAX tags. *filter then matches nothing.
 */
ESCROW_MUST_USE int tag_filter_parse(struct slice expression, struct tag_filter *filter);

/* Does a message with this tag code pass? A code is an int32 in 8 bytes; anything else matches only
 * is_all. */
bool tag_filter_match(const struct tag_filter *filter, int64_t code);

/* Does the expression name exactly this tag (or every message)? For clients; allocates nothing. */
bool tag_expression_match(struct slice expression, struct slice tag);

/* Next tag of an expression, without blanks. *rest starts as the expression; false at the end. */
bool tag_expression_next(struct slice *rest, struct slice *tag);

#endif
