/*
 * Fields of END_TRANSACTION 37, written by decisions (decide.c) and by answers to check-backs
 * (check.c). Thread: loop.
 */
#ifndef SRC_CLIENT_END_FIELDS_H
#define SRC_CLIENT_END_FIELDS_H

#include "core/proto/header.h"

#include <stdbool.h>
#include <stdint.h>

struct end_fields {
    struct slice group;
    struct slice txn_id;
    int64_t log_offset;
    int64_t table_offset;
    int32_t state; /* 0 unknown, 8 commit, 12 rollback */
    bool from_check;
};

/* A remote_fields_fn; arg is the struct. */
static inline void end_fields_write(struct header_writer *w, void *arg)
{
    const struct end_fields *f = arg;

    header_put_str(w, "producerGroup", f->group);
    header_put_i64(w, "tranStateTableOffset", f->table_offset);
    header_put_i64(w, "commitLogOffset", f->log_offset);
    header_put_i64(w, "commitOrRollback", f->state);
    header_put_bool(w, "fromTransactionCheck", f->from_check);
    header_put_str(w, "msgId", f->txn_id);
    header_put_str(w, "transactionId", f->txn_id);
}

#endif
