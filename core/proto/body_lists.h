/*
 * Bodies that are one list or one table: consumer ids (38), topics (206, 224, 305, 343), groups
 * (300), key-value tables (28, 219, the answer to 103).
 *
 * Owns:    a decoded list owns its array and the parsed text; *_fini frees both.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode the struct is empty; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_LISTS_H
#define CORE_PROTO_BODY_LISTS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_tree.h"

#include <stddef.h>

/* The key under which a body carries its list. */
#define LIST_CONSUMER_IDS "consumerIdList"
#define LIST_TOPICS       "topicList"
#define LIST_GROUPS       "groupList"

struct name_list {
    struct slice *names;
    size_t count;
    struct body_tree tree; /* private */
};

/* Append {"<key>":["a","b"]}; the key is there even when the list is empty (Java demands it).
 * Errors: buf_failed. */
void name_list_encode(struct buf *out, const char *key, const struct slice *names, size_t count);

/* Read it. ESCROW_EPROTO, ESCROW_ELIMIT, ESCROW_ENOMEM. An absent key is an empty list. */
ESCROW_MUST_USE int name_list_decode(struct slice body, const char *key, struct name_list *list);
void name_list_fini(struct name_list *list);

struct kv_pair {
    struct slice key;
    struct slice value;
};

struct kv_table {
    struct kv_pair *pairs;
    size_t count;
    struct body_tree tree; /* private */
};

/* {"table":{"k":"v"}} */
void kv_table_encode(struct buf *out, const struct kv_pair *pairs, size_t count);
ESCROW_MUST_USE int kv_table_decode(struct slice body, struct kv_table *table);
void kv_table_fini(struct kv_table *table);

#endif
