/*
 * One function reads the first byte of a value and says what follows (struct scan_head); the walk
 * and the reader are both built on it, so there is one place that knows the formats and one place
 * that compares a length with the bytes left.
 *
 * The walk keeps, for each open container, how many values are still to come. It is given counts
 * only after they were compared with the bytes left, so its work is bounded by the input's length
 * and by elements_max, whichever is less.
 */
#include "core/proto/scan.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "escrow/errors.h"

/* Most values are these; the readers take them without a struct scan_head. */
#define FIXSTR      0xa0
#define FIXSTR_MASK 0xe0

struct scan_head {
    enum scan_kind kind;
    uint32_t head_len; /* bytes up to the payload (strings) or the first element (containers) */
    uint32_t len;      /* payload bytes, elements or pairs; 0 for the rest */
    int64_t number;    /* SCAN_INT, SCAN_BOOL */
    bool fits;         /* false: an unsigned integer above INT64_MAX, number has its bits */
};

void scan_init(struct scan *s, struct slice in)
{
    s->ptr = in.ptr;
    s->end = in.len == 0 ? in.ptr : in.ptr + in.len;
}

size_t scan_left(const struct scan *s)
{
    return s->ptr == s->end ? 0 : (size_t)(s->end - s->ptr);
}

static enum scan_kind kind_of(uint8_t c)
{
    static const uint8_t kinds[32] = {
        /* c0 nil, c1 never used, c2/c3 bool, c4-c6 bin, c7-c9 ext, ca/cb float, cc-d3 int */
        SCAN_NIL,
        SCAN_END,
        SCAN_BOOL,
        SCAN_BOOL,
        SCAN_BIN,
        SCAN_BIN,
        SCAN_BIN,
        SCAN_EXT,
        SCAN_EXT,
        SCAN_EXT,
        SCAN_FLOAT,
        SCAN_FLOAT,
        SCAN_INT,
        SCAN_INT,
        SCAN_INT,
        SCAN_INT,
        /* d0-d3 int, d4-d8 ext, d9-db str, dc/dd array, de/df map */
        SCAN_INT,
        SCAN_INT,
        SCAN_INT,
        SCAN_INT,
        SCAN_EXT,
        SCAN_EXT,
        SCAN_EXT,
        SCAN_EXT,
        SCAN_EXT,
        SCAN_STR,
        SCAN_STR,
        SCAN_STR,
        SCAN_ARRAY,
        SCAN_ARRAY,
        SCAN_MAP,
        SCAN_MAP,
    };

    if (c < 0x80 || c >= 0xe0) {
        return SCAN_INT;
    }
    if (c >= 0xc0) {
        return (enum scan_kind)kinds[c - 0xc0];
    }
    return c >= 0xa0 ? SCAN_STR : c >= 0x90 ? SCAN_ARRAY : SCAN_MAP;
}

enum scan_kind scan_peek(const struct scan *s)
{
    return s->ptr == s->end ? SCAN_END : kind_of(*s->ptr);
}

/* Width of what follows the first byte: of the number itself, or of the length. */
static uint32_t width_of(uint8_t c)
{
    static const uint8_t widths[32] = {
        0, 0, 0, 0, 1, 2, 4, 1, 2, 4, 4, 8, 1, 2, 4, 8, /* c0-cf */
        1, 2, 4, 8, 0, 0, 0, 0, 0, 1, 2, 4, 2, 4, 2, 4, /* d0-df */
    };

    return c >= 0xc0 && c < 0xe0 ? widths[c - 0xc0] : 0;
}

static uint64_t read_uint(const uint8_t *ptr, uint32_t width)
{
    switch (width) {
    case 1:
        return ptr[0];
    case 2:
        return get_be16(ptr);
    case 4:
        return get_be32(ptr);
    case 8:
        return get_be64(ptr);
    default:
        UNREACHABLE("width of a number");
    }
}

/* The first byte is the number: 00 to 7f, and e0 to ff for -32 to -1. */
static bool is_fixint(uint8_t c)
{
    return c < 0x80 || c >= 0xe0;
}

static int64_t fixint_of(uint8_t c)
{
    return c < 0x80 ? c : (int64_t)c - 0x100;
}

static void read_int_head(uint8_t c, const uint8_t *ptr, uint32_t width, struct scan_head *out)
{
    uint64_t raw;

    if (width == 0) {
        out->number = fixint_of(c);
        return;
    }
    raw = read_uint(ptr, width);
    if (c < 0xd0) {
        out->fits = raw <= INT64_MAX;
        out->number = (int64_t)raw;
    } else {
        uint32_t unused_bits = 64 - width * 8;
        out->number = (int64_t)(raw << unused_bits) >> unused_bits;
    }
}

/* Payload length or count of a str, bin, ext, array or map. */
static uint32_t read_len(uint8_t c, const uint8_t *ptr, uint32_t width)
{
    if (width != 0) {
        return (uint32_t)read_uint(ptr, width);
    }
    if (c >= 0xd4) {
        return UINT32_C(1) << (c - 0xd4); /* fixext 1 .. 16 */
    }
    return c >= 0xa0 ? (c & 0x1fu) : (c & 0x0fu);
}

/*
 * Read the head of the next value. After 0 the payload (strings) is there whole, and a count is at
 * most what the bytes left can hold.
 */
static int read_head(const struct scan *s, struct scan_head *out)
{
    size_t left = scan_left(s);
    uint32_t width;
    uint8_t c;

    if (left == 0) {
        return ESCROW_EPROTO;
    }
    c = *s->ptr;
    width = width_of(c);
    *out = (struct scan_head){.kind = kind_of(c), .head_len = 1 + width, .fits = true};
    if (left < out->head_len) {
        return ESCROW_EPROTO;
    }
    left -= out->head_len;
    switch (out->kind) {
    case SCAN_NIL:
    case SCAN_FLOAT:
        return 0;
    case SCAN_BOOL:
        out->number = c & 1;
        return 0;
    case SCAN_INT:
        read_int_head(c, s->ptr + 1, width, out);
        return 0;
    case SCAN_EXT:
        if (left == 0) {
            return ESCROW_EPROTO;
        }
        out->head_len++; /* the type of the extension */
        left--;
        out->len = read_len(c, s->ptr + 1, width);
        return out->len <= left ? 0 : ESCROW_EPROTO;
    case SCAN_STR:
    case SCAN_BIN:
    case SCAN_ARRAY:
        out->len = read_len(c, s->ptr + 1, width);
        return out->len <= left ? 0 : ESCROW_EPROTO;
    case SCAN_MAP:
        out->len = read_len(c, s->ptr + 1, width);
        return out->len <= left / 2 ? 0 : ESCROW_EPROTO;
    case SCAN_END:
        break;
    }
    return ESCROW_EPROTO;
}

static size_t payload_of(const struct scan_head *head)
{
    return head->kind == SCAN_STR || head->kind == SCAN_BIN || head->kind == SCAN_EXT ? head->len
                                                                                      : 0;
}

static uint64_t children_of(const struct scan_head *head)
{
    switch (head->kind) {
    case SCAN_ARRAY:
        return head->len;
    case SCAN_MAP:
        return (uint64_t)head->len * 2;
    case SCAN_NIL:
    case SCAN_BOOL:
    case SCAN_INT:
    case SCAN_FLOAT:
    case SCAN_STR:
    case SCAN_BIN:
    case SCAN_EXT:
    case SCAN_END:
        break;
    }
    return 0;
}

int scan_skip(struct scan *s, struct scan_limits limits)
{
    uint64_t
        open[HEADER_DEPTH_MAX + 1]; /* values still to come, per level; level 0 is the caller's */
    struct scan at = *s;
    uint64_t budget = limits.elements_max;
    uint32_t depth = 0;

    CHECK(limits.depth_max <= HEADER_DEPTH_MAX);
    open[0] = 1;
    while (open[depth] > 0 || depth > 0) {
        struct scan_head head;
        int rc;

        if (open[depth] == 0) {
            depth--;
            continue;
        }
        rc = read_head(&at, &head);
        if (rc != 0) {
            return rc;
        }
        if (budget == 0) {
            return ESCROW_ELIMIT;
        }
        budget--;
        open[depth]--;
        at.ptr += head.head_len + payload_of(&head);
        if (head.kind == SCAN_ARRAY || head.kind == SCAN_MAP) {
            if (depth == limits.depth_max) {
                return ESCROW_ELIMIT;
            }
            open[++depth] = children_of(&head);
        }
    }
    s->ptr = at.ptr;
    return 0;
}

int scan_check(struct slice in, struct scan_limits limits)
{
    struct scan s;
    int rc;

    scan_init(&s, in);
    rc = scan_skip(&s, limits);
    if (rc != 0) {
        return rc;
    }
    return scan_left(&s) == 0 ? 0 : ESCROW_EPROTO;
}

/* Read the head of a value that must be of this kind. */
static int expect(const struct scan *s, enum scan_kind kind, struct scan_head *head)
{
    int rc = read_head(s, head);

    if (rc != 0) {
        return rc;
    }
    return head->kind == kind ? 0 : ESCROW_EPROTO;
}

int scan_array(struct scan *s, uint32_t *count)
{
    struct scan_head head;
    int rc = expect(s, SCAN_ARRAY, &head);

    if (rc == 0) {
        *count = head.len;
        s->ptr += head.head_len;
    }
    return rc;
}

int scan_map(struct scan *s, uint32_t *pairs)
{
    struct scan_head head;
    int rc = expect(s, SCAN_MAP, &head);

    if (rc == 0) {
        *pairs = head.len;
        s->ptr += head.head_len;
    }
    return rc;
}

int scan_i64(struct scan *s, int64_t *out)
{
    struct scan_head head;
    int rc;

    if (s->ptr < s->end && is_fixint(*s->ptr)) {
        *out = fixint_of(*s->ptr++);
        return 0;
    }
    rc = expect(s, SCAN_INT, &head);
    if (rc != 0) {
        return rc;
    }
    if (!head.fits) {
        return ESCROW_EPROTO;
    }
    *out = head.number;
    s->ptr += head.head_len;
    return 0;
}

int scan_u64(struct scan *s, uint64_t *out)
{
    struct scan_head head;
    int rc = expect(s, SCAN_INT, &head);

    if (rc != 0) {
        return rc;
    }
    if (head.fits && head.number < 0) {
        return ESCROW_EPROTO;
    }
    *out = (uint64_t)head.number;
    s->ptr += head.head_len;
    return 0;
}

int scan_u32(struct scan *s, uint32_t *out)
{
    struct scan at = *s;
    uint64_t wide;
    int rc = scan_u64(&at, &wide);

    if (rc != 0) {
        return rc;
    }
    if (wide > UINT32_MAX) {
        return ESCROW_EPROTO;
    }
    *out = (uint32_t)wide;
    *s = at;
    return 0;
}

int scan_i32(struct scan *s, int32_t *out)
{
    struct scan_head head;
    int rc = expect(s, SCAN_INT, &head);

    if (rc != 0) {
        return rc;
    }
    if (!head.fits || head.number < INT32_MIN || head.number > INT32_MAX) {
        return ESCROW_EPROTO;
    }
    *out = (int32_t)head.number;
    s->ptr += head.head_len;
    return 0;
}

int scan_bool(struct scan *s, bool *out)
{
    struct scan_head head;
    int rc = expect(s, SCAN_BOOL, &head);

    if (rc == 0) {
        *out = head.number != 0;
        s->ptr += head.head_len;
    }
    return rc;
}

int scan_nil(struct scan *s)
{
    struct scan_head head;
    int rc = expect(s, SCAN_NIL, &head);

    if (rc == 0) {
        s->ptr += head.head_len;
    }
    return rc;
}

static void take_payload(struct scan *s, const struct scan_head *head, struct slice *out)
{
    *out = slice_of(s->ptr + head->head_len, head->len);
    s->ptr += head->head_len + head->len;
}

int scan_str(struct scan *s, struct slice *out)
{
    struct scan_head head;
    int rc;

    if (s->ptr < s->end && (*s->ptr & FIXSTR_MASK) == FIXSTR) {
        size_t len = *s->ptr & (uint8_t)~FIXSTR_MASK;
        if (len >= scan_left(s)) {
            return ESCROW_EPROTO;
        }
        *out = slice_of(s->ptr + 1, len);
        s->ptr += 1 + len;
        return 0;
    }
    rc = expect(s, SCAN_STR, &head);
    if (rc == 0) {
        take_payload(s, &head, out);
    }
    return rc;
}

int scan_bin(struct scan *s, struct slice *out)
{
    struct scan_head head;
    int rc = expect(s, SCAN_BIN, &head);

    if (rc == 0) {
        take_payload(s, &head, out);
    }
    return rc;
}

int scan_bytes(struct scan *s, struct slice *out)
{
    struct scan_head head;
    int rc = read_head(s, &head);

    if (rc != 0) {
        return rc;
    }
    if (head.kind != SCAN_STR && head.kind != SCAN_BIN) {
        return ESCROW_EPROTO;
    }
    take_payload(s, &head, out);
    return 0;
}
