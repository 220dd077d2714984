#include "outbox/snapshot.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <inttypes.h>
#include <string.h>

#define SNAPSHOT_FIRST_XID 1

void snapshot_init(struct snapshot *s)
{
    *s = (struct snapshot){.xmin = SNAPSHOT_FIRST_XID, .xmax = SNAPSHOT_FIRST_XID};
}

void snapshot_fini(struct snapshot *s)
{
    mem_free(s->xip);
    snapshot_init(s);
}

int snapshot_set(struct snapshot *s, uint64_t xmin, uint64_t xmax, const uint64_t *xip,
                 size_t count)
{
    uint64_t *copy = NULL;

    if (count > SNAPSHOT_XIP_MAX) {
        return ESCROW_ELIMIT;
    }
    if (xmin == 0 || xmax < xmin || xmax > INT64_MAX) {
        return ESCROW_EPROTO;
    }
    for (size_t i = 0; i < count; i++) {
        if (xip[i] < xmin || xip[i] >= xmax || (i > 0 && xip[i] <= xip[i - 1])) {
            return ESCROW_EPROTO;
        }
    }
    while (count > 0 && xip[count - 1] == xmax - 1) { /* running: the same as not begun */
        count--;
        xmax--;
    }
    if (count > 0) {
        copy = mem_alloc(count * sizeof *copy);
        if (copy == NULL) {
            return ESCROW_ENOMEM;
        }
        memcpy(copy, xip, count * sizeof *copy);
    }
    mem_free(s->xip);
    *s = (struct snapshot){
        .xmin = count > 0 ? copy[0] : xmax, .xmax = xmax, .xip = copy, .xip_count = count};
    return 0;
}

int snapshot_copy(struct snapshot *dst, const struct snapshot *src)
{
    return snapshot_set(dst, src->xmin, src->xmax, src->xip, src->xip_count);
}

/* Decimal digits at *p up to `end`, at least one, value at most INT64_MAX. */
static bool parse_xid(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
    uint64_t value = 0;
    const uint8_t *start = *p;

    while (*p < end && **p >= '0' && **p <= '9') {
        uint64_t digit = (uint64_t)(**p - '0');
        if (value > ((uint64_t)INT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
        (*p)++;
    }
    *out = value;
    return *p > start;
}

static bool parse_char(const uint8_t **p, const uint8_t *end, uint8_t c)
{
    if (*p < end && **p == c) {
        (*p)++;
        return true;
    }
    return false;
}

int snapshot_parse(struct snapshot *s, struct slice text)
{
    uint64_t xip[SNAPSHOT_XIP_MAX];
    uint64_t xmin;
    uint64_t xmax;
    size_t count = 0;
    const uint8_t *p = text.ptr;
    const uint8_t *end = text.len == 0 ? p : p + text.len;

    if (!parse_xid(&p, end, &xmin) || !parse_char(&p, end, ':') || !parse_xid(&p, end, &xmax) ||
        !parse_char(&p, end, ':')) {
        return ESCROW_EPROTO;
    }
    while (p < end) {
        if (count > 0 && !parse_char(&p, end, ',')) {
            return ESCROW_EPROTO;
        }
        if (count == SNAPSHOT_XIP_MAX) {
            return ESCROW_ELIMIT;
        }
        if (!parse_xid(&p, end, &xip[count++])) {
            return ESCROW_EPROTO;
        }
    }
    return snapshot_set(s, xmin, xmax, xip, count);
}

void snapshot_format(const struct snapshot *s, struct buf *out)
{
    buf_append_fmt(out, "%" PRIu64 ":%" PRIu64 ":", s->xmin, s->xmax);
    for (size_t i = 0; i < s->xip_count; i++) {
        buf_append_fmt(out, "%s%" PRIu64, i == 0 ? "" : ",", s->xip[i]);
    }
}

static bool has_xip(const struct snapshot *s, uint64_t xid)
{
    size_t low = 0;
    size_t high = s->xip_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->xip[middle] == xid) {
            return true;
        }
        if (s->xip[middle] < xid) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

bool snapshot_sees(const struct snapshot *s, uint64_t xid)
{
    return xid < s->xmin || (xid < s->xmax && !has_xip(s, xid));
}

bool snapshot_contains(const struct snapshot *later, const struct snapshot *earlier)
{
    if (later->xmax < earlier->xmax) {
        return false;
    }
    for (size_t i = 0; i < later->xip_count && later->xip[i] < earlier->xmax; i++) {
        if (!has_xip(earlier, later->xip[i])) {
            return false;
        }
    }
    return true;
}

bool snapshot_equal(const struct snapshot *a, const struct snapshot *b)
{
    return a->xmax == b->xmax && a->xip_count == b->xip_count &&
           (a->xip_count == 0 || memcmp(a->xip, b->xip, a->xip_count * sizeof *a->xip) == 0);
}

void snapshot_check(const struct snapshot *s)
{
    CHECK(s->xmin > 0);
    CHECK(s->xmin <= s->xmax);
    CHECK(s->xip_count <= SNAPSHOT_XIP_MAX);
    CHECK(s->xmin == (s->xip_count > 0 ? s->xip[0] : s->xmax));
    for (size_t i = 0; i < s->xip_count; i++) {
        CHECK(s->xip[i] + 1 < s->xmax);
        CHECK(i == 0 || s->xip[i] > s->xip[i - 1]);
    }
}
