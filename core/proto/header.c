/*
 * Reading: a codec walks the bytes and adds fields; look-ups then go over the table. The keys of
 * SEND_MESSAGE_V2 are single letters and have a table of their own; other look-ups start where the
 * last one ended, because handlers ask for fields in the order in which clients write them.
 *
 * Memory: an ordinary header needs none beyond the struct. Unescaped JSON text and the text of
 * MessagePack numbers that somebody asks for go to scratch: first the inline bytes, then one block
 * that is sized, when first needed, for all that this header can still ask for, so that it never
 * has to move.
 *
 * Writing: the fields go straight into the caller's buf, lengths are patched at the end. Errors
 * wait until header_frame_end, which takes the frame out of the buf again.
 */
#include "core/proto/header.h"
#include "core/proto/header_private.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/codes.h"
#include "core/proto/header_json.h"
#include "core/proto/header_msgpack.h"
#include "core/proto/header_rocketmq.h"
#include "escrow/errors.h"

#define BLOCK_KEEP_MAX (64u << 10) /* a larger block is given back with the next header */

_Static_assert(HEADER_FIELDS_INLINE < HEADER_FIELDS_MAX, "the overflow table holds more");
_Static_assert(HEADER_FIELDS_MAX < UINT16_MAX, "an index + 1 fits in letters[]");

/* ---- life ---- */

void header_init(struct header *h)
{
    memset(h, 0, offsetof(struct header, fields_inline));
    h->fields = h->fields_inline;
    h->field_cap = HEADER_FIELDS_INLINE;
    h->scratch = h->scratch_inline;
    h->scratch_cap = HEADER_SCRATCH_INLINE;
}

void header_fini(struct header *h)
{
    mem_free(h->overflow);
    mem_free(h->block);
    header_init(h);
}

static void header_reset(struct header *h)
{
    if (h->block_cap > BLOCK_KEEP_MAX) {
        mem_free(h->block);
        h->block = NULL;
        h->block_cap = 0;
    }
    h->type = HEADER_JSON;
    h->code = 0;
    h->version = 0;
    h->opaque = 0;
    h->flag = 0;
    h->language = LANGUAGE_OTHER;
    h->remark = SLICE_EMPTY;
    h->field_count = 0;
    h->field_cap = HEADER_FIELDS_INLINE;
    h->cursor = 0;
    h->source_len = 0;
    memset(h->seen, 0, sizeof h->seen);
    memset(h->letters, 0, sizeof h->letters);
    h->fields = h->fields_inline;
    h->scratch = h->scratch_inline;
    h->scratch_cap = HEADER_SCRATCH_INLINE;
    h->scratch_used = 0;
}

int header_decode(struct header *h, enum header_type type, struct slice in)
{
    int rc = ESCROW_EPROTO;

    header_reset(h);
    if (in.len > HEADER_SIZE_MAX) {
        return ESCROW_ETOOBIG;
    }
    h->type = type;
    h->source_len = (uint32_t)in.len;
    switch (type) {
    case HEADER_JSON:
        rc = header_json_decode(h, in);
        break;
    case HEADER_ROCKETMQ:
        rc = header_rocketmq_decode(h, in);
        break;
    case HEADER_MSGPACK:
        rc = header_msgpack_decode(h, in);
        break;
    }
    if (rc != 0) {
        header_reset(h);
    }
    h->cursor = 0;
    return rc;
}

/* ---- for the codecs ---- */

uint8_t *header_scratch(struct header *h, size_t len)
{
    uint8_t *piece;

    if (len > h->scratch_cap - h->scratch_used) {
        size_t need = h->source_len + (size_t)HEADER_FIELDS_MAX * HEADER_NUMBER_TEXT_MAX;

        CHECK(h->scratch == h->scratch_inline); /* the block is large enough for everything */
        if (h->block_cap < need) {
            mem_free(h->block);
            h->block = mem_alloc(need);
            h->block_cap = h->block == NULL ? 0 : need;
        }
        if (h->block == NULL) {
            return NULL;
        }
        h->scratch = h->block;
        h->scratch_cap = h->block_cap;
        h->scratch_used = 0;
        CHECK(len <= need);
    }
    piece = h->scratch + h->scratch_used;
    h->scratch_used += len;
    return piece;
}

void header_scratch_trim(struct header *h, size_t len, size_t used)
{
    CHECK(used <= len);
    CHECK(len <= h->scratch_used);
    h->scratch_used -= len - used;
}

size_t header_number_text(int64_t number, uint8_t text[HEADER_NUMBER_TEXT_MAX])
{
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    uint8_t digits[HEADER_NUMBER_TEXT_MAX];
    size_t at = sizeof digits;
    size_t len;

    do {
        digits[--at] = (uint8_t)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (number < 0) {
        digits[--at] = '-';
    }
    len = sizeof digits - at;
    memcpy(text, digits + at, len);
    return len;
}

static struct header_field *find_from(struct header *h, struct slice key, uint32_t from)
{
    uint32_t i = from;
    uint32_t left;

    for (left = h->field_count; left > 0; left--) {
        if (i >= h->field_count) {
            i = 0;
        }
        if (slice_eq(h->fields[i].key, key)) {
            h->cursor = i + 1;
            return &h->fields[i];
        }
        i++;
    }
    return NULL;
}

/* May a field with this key be there already? false is certain. Marks the key. */
static bool mark_seen(struct header *h, struct slice key)
{
    uint32_t sum = (uint32_t)key.len;
    uint64_t bit;
    uint64_t *word;
    bool was_seen;

    if (key.len > 0) {
        sum += key.ptr[0] * 5u + key.ptr[key.len / 2] * 19u + key.ptr[key.len - 1] * 71u;
    }
    word = &h->seen[(sum >> 6) & 3];
    bit = UINT64_C(1) << (sum & 63);
    was_seen = (*word & bit) != 0;
    *word |= bit;
    return was_seen;
}

static bool is_letter(struct slice key)
{
    return key.len == 1 && key.ptr[0] >= 'a' && key.ptr[0] <= 'z';
}

static int grow_fields(struct header *h)
{
    if (h->field_cap == HEADER_FIELDS_MAX) {
        return ESCROW_ETOOBIG;
    }
    if (h->overflow == NULL) {
        h->overflow = mem_alloc(HEADER_FIELDS_MAX * sizeof *h->overflow);
        if (h->overflow == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    memcpy(h->overflow, h->fields_inline, sizeof h->fields_inline);
    h->fields = h->overflow;
    h->field_cap = HEADER_FIELDS_MAX;
    return 0;
}

/* The field with this key if there is one, else a new one at the end of the table. */
static int slot_for(struct header *h, struct slice key, struct header_field **slot)
{
    uint16_t *letter = NULL;

    if (is_letter(key)) {
        letter = &h->letters[key.ptr[0] - 'a'];
        if (*letter != 0) {
            *slot = &h->fields[*letter - 1];
            return 0;
        }
    } else if (mark_seen(h, key)) {
        *slot = find_from(h, key, 0);
        if (*slot != NULL) {
            return 0;
        }
    }
    if (h->field_count == h->field_cap) {
        int rc = grow_fields(h);
        if (rc != 0) {
            return rc;
        }
    }
    *slot = &h->fields[h->field_count++];
    if (letter != NULL) {
        *letter = (uint16_t)h->field_count;
    }
    return 0;
}

int header_add_text(struct header *h, struct slice key, struct slice value)
{
    struct header_field *field;
    int rc = slot_for(h, key, &field);

    if (rc == 0) {
        field->key = key;
        field->value = value;
        field->kind = HEADER_TEXT;
    }
    return rc;
}

int header_add_number(struct header *h, struct slice key, int64_t number, enum header_kind kind)
{
    struct header_field *field;
    int rc = slot_for(h, key, &field);

    if (rc == 0) {
        field->key = key;
        field->value = SLICE_EMPTY;
        field->number = number;
        field->kind = kind;
    }
    return rc;
}

/* ---- look-ups ---- */

struct header_field *header_find(struct header *h, struct slice key)
{
    if (is_letter(key)) {
        uint16_t place = h->letters[key.ptr[0] - 'a'];
        return place == 0 ? NULL : &h->fields[place - 1];
    }
    return find_from(h, key, h->cursor);
}

/* Make sure that value holds the text. ESCROW_ENOMEM. */
static int make_text(struct header *h, struct header_field *field)
{
    uint8_t *text;

    if (field->kind == HEADER_TEXT || field->value.len != 0) {
        return 0;
    }
    if (field->kind == HEADER_BOOL) {
        field->value = field->number != 0 ? SLICE_LIT("true") : SLICE_LIT("false");
        return 0;
    }
    text = header_scratch(h, HEADER_NUMBER_TEXT_MAX);
    if (text == NULL) {
        return ESCROW_ENOMEM;
    }
    field->value = slice_of(text, header_number_text(field->number, text));
    header_scratch_trim(h, HEADER_NUMBER_TEXT_MAX, field->value.len);
    return 0;
}

const struct header_field *header_field_at(struct header *h, uint32_t i)
{
    CHECK(i < h->field_count);
    return make_text(h, &h->fields[i]) == 0 ? &h->fields[i] : NULL;
}

int header_get_str(struct header *h, const char *key, struct slice *out)
{
    struct header_field *field = header_find(h, slice_str(key));
    int rc;

    if (field == NULL) {
        return ESCROW_ENOTFOUND;
    }
    rc = make_text(h, field);
    if (rc == 0) {
        *out = field->value;
    }
    return rc;
}

int header_get_i64(struct header *h, const char *key, int64_t *out)
{
    struct header_field *field = header_find(h, slice_str(key));

    if (field == NULL) {
        return ESCROW_ENOTFOUND;
    }
    switch (field->kind) {
    case HEADER_I64:
        *out = field->number;
        return 0;
    case HEADER_BOOL:
        return ESCROW_EINVAL;
    case HEADER_TEXT:
        break;
    }
    if (field->value.len == 0) {
        return ESCROW_ENOTFOUND;
    }
    return slice_to_i64(field->value, out) ? 0 : ESCROW_EINVAL;
}

int header_get_i32(struct header *h, const char *key, int32_t *out)
{
    int64_t wide;
    int rc = header_get_i64(h, key, &wide);

    if (rc != 0) {
        return rc;
    }
    if (wide < INT32_MIN || wide > INT32_MAX) {
        return ESCROW_EINVAL;
    }
    *out = (int32_t)wide;
    return 0;
}

/* ASCII, any case; lower is lower case. */
static bool is_word(struct slice text, struct slice lower)
{
    size_t i;

    if (text.len != lower.len) {
        return false;
    }
    for (i = 0; i < text.len; i++) {
        if ((text.ptr[i] | 0x20) != lower.ptr[i]) {
            return false;
        }
    }
    return true;
}

int header_get_bool(struct header *h, const char *key, bool *out)
{
    struct header_field *field = header_find(h, slice_str(key));
    struct slice text;

    if (field == NULL) {
        return ESCROW_ENOTFOUND;
    }
    if (field->kind != HEADER_TEXT) {
        if (field->number != 0 && field->number != 1) {
            return ESCROW_EINVAL;
        }
        *out = field->number != 0;
        return 0;
    }
    text = field->value;
    if (text.len == 0) {
        return ESCROW_ENOTFOUND;
    }
    if (is_word(text, SLICE_LIT("true")) || slice_eq(text, SLICE_LIT("1"))) {
        *out = true;
        return 0;
    }
    if (is_word(text, SLICE_LIT("false")) || slice_eq(text, SLICE_LIT("0"))) {
        *out = false;
        return 0;
    }
    return ESCROW_EINVAL;
}

static int absent_is_fine(int rc)
{
    return rc == ESCROW_ENOTFOUND ? 0 : rc;
}

int header_opt_str(struct header *h, const char *key, struct slice *out)
{
    return absent_is_fine(header_get_str(h, key, out));
}

int header_opt_i64(struct header *h, const char *key, int64_t *out)
{
    return absent_is_fine(header_get_i64(h, key, out));
}

int header_opt_i32(struct header *h, const char *key, int32_t *out)
{
    return absent_is_fine(header_get_i32(h, key, out));
}

int header_opt_bool(struct header *h, const char *key, bool *out)
{
    return absent_is_fine(header_get_bool(h, key, out));
}

struct slice header_str(struct header *h, const char *key)
{
    struct slice text = SLICE_EMPTY;

    return header_get_str(h, key, &text) == 0 ? text : SLICE_EMPTY;
}
