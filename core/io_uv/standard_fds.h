/*
 * Standard descriptors: 0, 1 and 2 are open before anything else of a program is.
 *
 * Whoever starts a program with one of them closed would have the next file, socket or pipe get
 * its number: what is printed would go there, and libuv aborts when it closes one below 3.
 *
 * Owns:    nothing; what it opens stays open to the end.
 * Thread:  main's, before any other and before anything is opened.
 */
#ifndef CORE_IO_UV_STANDARD_FDS_H
#define CORE_IO_UV_STANDARD_FDS_H

#include "core/base/attr.h"
#include "core/base/err.h"

/*
 * Open those of them that are closed, on /dev/null and the wrong way round: reading standard input,
 * and writing the other two, fails as it did before, and is noticed as a full disk is. The errno's
 * ESCROW_E... when /dev/null cannot be opened.
 */
ESCROW_MUST_USE int standard_fds_open(struct err_ctx *err);

#endif
