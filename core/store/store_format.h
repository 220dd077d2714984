/*
 * The file "format": version, segment size, salt and id of a store. FORMAT.md, "format", has the
 * line.
 *
 * Owns:    nothing.
 * Thread:  any one thread.
 * Errors:  ESCROW_EVERSION another version; ESCROW_ECORRUPT the line is damaged.
 */
#ifndef CORE_STORE_STORE_FORMAT_H
#define CORE_STORE_STORE_FORMAT_H

#include "core/base/err.h"
#include "core/io/disk.h"

#include <stdint.h>

#define STORE_FORMAT_PATH    "format"
#define STORE_FORMAT_VERSION 1u
#define STORE_LOCK_PATH      "lock"

struct store_format {
    uint32_t version;
    uint32_t salt; /* of checksums: not for anyone who can send */
    uint32_t id;   /* tells the store from every other: for everyone */
    uint64_t segment_bytes;
};

/* ESCROW_ENOTFOUND: there is no such file. */
ESCROW_MUST_USE int store_format_read(struct disk *d, struct store_format *out,
                                      struct err_ctx *err);

/* Create the file; after an error there is none. */
ESCROW_MUST_USE int store_format_create(struct disk *d, const struct store_format *format,
                                        struct err_ctx *err);

/* Is this a segment size that a store may have? */
bool store_format_is_segment_size(uint64_t segment_bytes);

#endif
