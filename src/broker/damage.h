/*
 * What the broker says of damaged messages: one line in its log for each place that a reader meets,
 * and the remark of every answer that damage stopped. core/store/store.h, "damage", has the rules.
 *
 * Thread: loop.
 */
#ifndef SRC_BROKER_DAMAGE_H
#define SRC_BROKER_DAMAGE_H

#include "core/base/err.h"
#include "core/store/store.h"

#include <stdbool.h>

/* store_owner.damaged; arg is the struct broker. */
void damage_tell(void *arg, const struct store_damage *damage);

/* store_owner.index_lost. */
void damage_tell_index(void *arg, const char *text);

/* store_owner.rebuilt; arg is not used. */
void damage_rebuilt(void *arg, const struct store_rebuilt *rebuilt);

/* Is this the error of a reader that met damage? It has been told then. */
static inline bool damage_is_error(int error)
{
    return error == ESCROW_ECORRUPT || error == ESCROW_EIO;
}

/*
 * A pull of this queue stops at `entry`: put into err->text, behind which file it is, what can be
 * done.
 */
void damage_advise(struct err_ctx *err, const struct store_entry_ref *entry);

#endif
