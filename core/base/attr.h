/* Compiler attributes used across the tree. */
#ifndef CORE_BASE_ATTR_H
#define CORE_BASE_ATTR_H

/* The result carries an error: ignoring it needs a (void) and a comment that says why. */
#define ESCROW_MUST_USE __attribute__((warn_unused_result))

/* fmt and args are the positions (from 1) of the format string and of its first argument. */
#define ESCROW_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/*
 * A large buffer on the stack of a hot path, written before it is read: release builds clear every
 * other variable (-ftrivial-auto-var-init=zero), which for such a buffer costs more than the work
 * done with it.
 */
#define ESCROW_UNINITIALIZED __attribute__((uninitialized))

#define ESCROW_LIKELY(x)   __builtin_expect(!!(x), 1)
#define ESCROW_UNLIKELY(x) __builtin_expect(!!(x), 0)

#endif
