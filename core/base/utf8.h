/*
 * Well-formed UTF-8, as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF.
 *
 * Owns:    nothing.
 * Thread:  any.
 */
#ifndef CORE_BASE_UTF8_H
#define CORE_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the well-formed sequence at `at`, of `left` >= 1 bytes; 0 when it is malformed. */
size_t utf8_len(const uint8_t *at, size_t left);

/* Copy text, cut to fit, each malformed byte as '?'. size >= 1. Returns `to`. */
const char *utf8_clean(const char *text, char *to, size_t size);

#endif
