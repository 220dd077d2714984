/*
 * The production disk: core/io/disk.h on the kernel's files, below one root folder.
 *
 * Every path is opened relative to the root's descriptor; "..", absolute paths and empty parts are
 * refused (ESCROW_EINVAL), and a file may not be a symbolic link. Error texts name the file (root
 * included) and the offset.
 *
 * Owns:    the root's descriptor. Free after the last file was closed.
 * Thread:  as core/io/disk.h says.
 */
#ifndef CORE_IO_UV_DISK_POSIX_H
#define CORE_IO_UV_DISK_POSIX_H

#include "core/io/disk.h"

/* Creates the root folder (mode 0750, one level) when it is missing. The result is freed with
 * disk_free. */
ESCROW_MUST_USE int disk_posix_new(const char *root, struct disk **out, struct err_ctx *err);

#endif
