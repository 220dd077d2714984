#include "core/acl/address.h"

#include "escrow/errors.h"

#include <arpa/inet.h>
#include <string.h>

static void allow(uint8_t set[32], unsigned from, unsigned to)
{
    for (unsigned i = from; i <= to; i++) {
        set[i / 8] |= (uint8_t)(1u << i % 8);
    }
}

/* One to three digits, at most `max`. */
static bool take_number(struct slice *s, unsigned max, unsigned *out)
{
    unsigned n = 0;
    size_t len = 0;

    while (len < s->len && len < 3 && s->ptr[len] >= '0' && s->ptr[len] <= '9') {
        n = n * 10 + (unsigned)(s->ptr[len++] - '0');
    }
    if (len == 0 || n > max) {
        return false;
    }
    *s = slice_of(s->ptr + len, s->len - len);
    *out = n;
    return true;
}

static bool take_char(struct slice *s, char c)
{
    if (s->len == 0 || s->ptr[0] != (uint8_t)c) {
        return false;
    }
    *s = slice_of(s->ptr + 1, s->len - 1);
    return true;
}

/* {1,2,3} behind its brace. */
static bool take_list(struct slice *s, uint8_t set[32])
{
    unsigned n;

    do {
        if (!take_number(s, 255, &n)) {
            return false;
        }
        allow(set, n, n);
    } while (take_char(s, ','));
    return take_char(s, '}');
}

static bool take_part(struct slice *s, bool is_last, uint8_t set[32])
{
    unsigned from;
    unsigned to;

    if (take_char(s, '*')) {
        allow(set, 0, 255);
        return true;
    }
    if (is_last && take_char(s, '{')) {
        return take_list(s, set);
    }
    if (!take_number(s, 255, &from)) {
        return false;
    }
    to = from;
    if (take_char(s, '-') && (!take_number(s, 255, &to) || to < from)) {
        return false;
    }
    allow(set, from, to);
    return true;
}

/* a.b.c.d/bits: every part whose bits the network leaves open takes all that agree in the rest. */
static bool apply_prefix(struct address_pattern *p, const uint8_t ip[4], unsigned bits)
{
    memset(p->parts, 0, sizeof p->parts);
    for (unsigned i = 0; i < 4; i++) {
        unsigned fixed = bits <= i * 8 ? 0 : bits - i * 8 > 8 ? 8 : bits - i * 8;
        unsigned open = 0xffu >> fixed;
        if ((ip[i] & open) != 0) {
            return false; /* bits behind the prefix: most likely a slip */
        }
        allow(p->parts[i], ip[i], ip[i] | open);
    }
    return true;
}

static bool parse_v4(struct slice s, struct address_pattern *out)
{
    uint8_t ip[4];
    unsigned bits;

    for (unsigned i = 0; i < 4; i++) {
        struct slice number = s;
        unsigned n = 0;
        if (!take_part(&s, i == 3, out->parts[i]) || (i < 3 && !take_char(&s, '.'))) {
            return false;
        }
        (void)take_number(&number, 255, &n); /* of a pattern part: not used, see below */
        ip[i] = (uint8_t)n;
    }
    if (take_char(&s, '/')) {
        struct address_pattern plain = {.is_v6 = false};
        for (unsigned i = 0; i < 4; i++) {
            allow(plain.parts[i], ip[i], ip[i]);
        }
        return memcmp(plain.parts, out->parts, sizeof plain.parts) == 0 && /* no * or - in it */
               take_number(&s, 32, &bits) && s.len == 0 && apply_prefix(out, ip, bits);
    }
    return s.len == 0;
}

static bool bits_are_zero_behind(const uint8_t ip[16], unsigned bits)
{
    for (unsigned i = bits; i < 128; i++) {
        if ((ip[i / 8] >> (7 - i % 8) & 1) != 0) {
            return false;
        }
    }
    return true;
}

static bool parse_v6(struct slice s, struct address_pattern *out)
{
    const uint8_t *slash = memchr(s.ptr, '/', s.len);
    size_t len = slash == NULL ? s.len : (size_t)(slash - s.ptr);
    char text[INET6_ADDRSTRLEN];
    unsigned bits = 128;

    if (len >= sizeof text) {
        return false;
    }
    (void)slice_to_cstr(slice_of(s.ptr, len), text, sizeof text);
    if (inet_pton(AF_INET6, text, out->ip) != 1) {
        return false;
    }
    if (slash != NULL) {
        struct slice rest = slice_of(slash + 1, s.len - len - 1);
        if (!take_number(&rest, 128, &bits) || rest.len != 0) {
            return false;
        }
    }
    out->is_v6 = true;
    out->prefix_bits = (uint8_t)bits;
    return bits_are_zero_behind(out->ip, bits);
}

int address_parse(struct slice text, struct address_pattern *out)
{
    memset(out, 0, sizeof *out);
    if (text.len == 0 || memchr(text.ptr, '\0', text.len) != NULL) {
        return ESCROW_EINVAL;
    }
    if (slice_eq_str(text, "*")) {
        out->is_any = true;
        return 0;
    }
    if (memchr(text.ptr, ':', text.len) != NULL) {
        return parse_v6(text, out) ? 0 : ESCROW_EINVAL;
    }
    return parse_v4(text, out) ? 0 : ESCROW_EINVAL;
}

static bool matches_v6(const struct address_pattern *p, const uint8_t ip[16])
{
    unsigned bytes = p->prefix_bits / 8;
    unsigned rest = p->prefix_bits % 8;

    return memcmp(p->ip, ip, bytes) == 0 &&
           (rest == 0 || (p->ip[bytes] ^ ip[bytes]) >> (8 - rest) == 0);
}

bool address_matches(const struct address_pattern *pattern, const uint8_t *ip, size_t ip_len)
{
    if (pattern->is_any) {
        return true;
    }
    if (pattern->is_v6) {
        return ip_len == 16 && matches_v6(pattern, ip);
    }
    for (unsigned i = 0; ip_len == 4 && i < 4; i++) {
        if ((pattern->parts[i][ip[i] / 8] >> ip[i] % 8 & 1) == 0) {
            return false;
        }
    }
    return ip_len == 4;
}
