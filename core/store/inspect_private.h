/* What inspect.c and inspect_verify.c share. */
#ifndef CORE_STORE_INSPECT_PRIVATE_H
#define CORE_STORE_INSPECT_PRIVATE_H

#include "core/store/checkpoint.h"
#include "core/store/folder_check.h"
#include "core/store/inspect.h"
#include "core/store/recovery.h"
#include "core/store/store_format.h"

struct inspect {
    struct disk *disk;
    struct disk_file *lock;
    struct store_format format;
    struct segments segs;
    struct log_scan scan;
    struct checkpoint checkpoint;
    int checkpoint_rc; /* of reading it, or it is another store's; ESCROW_ENOTFOUND is fine */
    struct err_ctx checkpoint_err;
    uint64_t group;       /* where the group under way began; == pos when none is */
    uint64_t group_count; /* its records so far */
    uint64_t tail;
};

#endif
