/*
 * Names of producer groups that had a half decided: the newest 4,096 of them. A decided half is
 * remembered by a hash of group and id; whoever knows only the id finds it by trying these names.
 *
 * Owns:    the names.
 * Thread:  loop.
 * Errors:  none: when memory is short a name is not kept.
 * Holds:   at most GROUP_NAMES_MAX names, each once.
 */
#ifndef TXN_GROUP_NAMES_H
#define TXN_GROUP_NAMES_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/base/strmap.h"

#include <stdint.h>

#define GROUP_NAMES_MAX 4096u /* about 1 MiB of the longest names */

struct group_names {
    struct strmap by_name;
    struct group_name_kept *ring[GROUP_NAMES_MAX]; /* oldest first, from `first` on */
    uint32_t first;
    uint32_t count;
};

void group_names_init(struct group_names *n, struct hash_key key);
void group_names_fini(struct group_names *n);

/* Keep a name of 1 to GROUP_LEN_MAX bytes; the oldest is forgotten when there are too many. */
void group_names_note(struct group_names *n, struct slice name);

/* The i-th name, i < count, oldest first. */
struct slice group_names_at(const struct group_names *n, uint32_t i);

/* For the checkpoint: count u32, then for each a length byte and the name. */
void group_names_save(const struct group_names *n, struct buf *out);

/*
 * Takes what it reads from *in. ESCROW_ECORRUPT: cut off, too many, an empty name, one twice.
 * ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int group_names_load(struct group_names *n, struct slice *in);

void group_names_check(const struct group_names *n);

#endif
