/*
 * Address patterns of an allow-list.
 *
 *   *                     any address
 *   10.1.2.3, fd00::1     one address
 *   10.0.0.0/8, fd00::/8  a network
 *   10.1.*.*              RocketMQ's: per part a number, *, a range a-b,
 *   10.1.2-9.*            or, as the last part, a list in braces
 *   10.1.2.{3,7,9}
 *
 * Owns: nothing.    Thread: any. Pure.
 */
#ifndef CORE_ACL_ADDRESS_H
#define CORE_ACL_ADDRESS_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct address_pattern {
    bool is_v6;  /* the prefix below; else one set of values per byte of an IPv4 address */
    bool is_any; /* both families */
    uint8_t parts[4][32];
    uint8_t ip[16];
    uint8_t prefix_bits;
};

/* ESCROW_EINVAL: not a pattern; *out is undefined. */
ESCROW_MUST_USE int address_parse(struct slice text, struct address_pattern *out);

/* ip_len is 4 or 16; anything else matches nothing but '*'. */
bool address_matches(const struct address_pattern *pattern, const uint8_t *ip, size_t ip_len);

#endif
