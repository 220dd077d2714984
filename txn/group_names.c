#include "txn/group_names.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

/* Whatever bytes a producer called its group. */
struct group_name_kept {
    uint8_t len;
    uint8_t text[];
};

_Static_assert(GROUP_LEN_MAX <= UINT8_MAX, "a length byte is enough");

void group_names_init(struct group_names *n, struct hash_key key)
{
    n->first = 0;
    n->count = 0;
    strmap_init(&n->by_name, key);
}

static struct group_name_kept **slot_of(struct group_names *n, uint32_t i)
{
    return &n->ring[(n->first + i) % GROUP_NAMES_MAX];
}

struct slice group_names_at(const struct group_names *n, uint32_t i)
{
    CHECK(i < n->count);
    return slice_of(n->ring[(n->first + i) % GROUP_NAMES_MAX]->text,
                    n->ring[(n->first + i) % GROUP_NAMES_MAX]->len);
}

static void forget_oldest(struct group_names *n)
{
    struct group_name_kept *name = *slot_of(n, 0);

    CHECK(strmap_take(&n->by_name, slice_of(name->text, name->len)) == name);
    mem_free(name);
    n->first = (n->first + 1) % GROUP_NAMES_MAX;
    n->count--;
}

void group_names_fini(struct group_names *n)
{
    while (n->count > 0) {
        forget_oldest(n);
    }
    strmap_fini(&n->by_name);
}

/* 0 also for a name that is there. ESCROW_ENOMEM. */
static int keep(struct group_names *n, struct slice name)
{
    struct group_name_kept *kept;

    CHECK(name.len >= 1 && name.len <= GROUP_LEN_MAX);
    if (strmap_find(&n->by_name, name) != NULL) {
        return 0;
    }
    kept = mem_alloc(sizeof *kept + name.len);
    if (kept == NULL) {
        return ESCROW_ENOMEM;
    }
    kept->len = (uint8_t)name.len;
    memcpy(kept->text, name.ptr, name.len);
    if (n->count == GROUP_NAMES_MAX) {
        forget_oldest(n);
    }
    if (strmap_put(&n->by_name, name, kept) != 0) {
        mem_free(kept);
        return ESCROW_ENOMEM;
    }
    *slot_of(n, n->count) = kept;
    n->count++;
    return 0;
}

void group_names_note(struct group_names *n, struct slice name)
{
    (void)keep(n, name); /* not kept: its decided halves are found with the name only */
}

void group_names_save(const struct group_names *n, struct buf *out)
{
    buf_append_le32(out, n->count);
    for (uint32_t i = 0; i < n->count; i++) {
        struct slice name = group_names_at(n, i);
        buf_append_u8(out, (uint8_t)name.len);
        buf_append_slice(out, name);
    }
}

int group_names_load(struct group_names *n, struct slice *in)
{
    struct slice rest = *in;
    uint32_t count;

    CHECK(n->count == 0);
    if (rest.len < 4 || get_le32(rest.ptr) > GROUP_NAMES_MAX) {
        return ESCROW_ECORRUPT;
    }
    count = get_le32(rest.ptr);
    rest = slice_of(rest.ptr + 4, rest.len - 4);
    for (uint32_t i = 0; i < count; i++) {
        size_t len = rest.len == 0 ? 0 : rest.ptr[0];
        struct slice name;
        if (len < 1 || len > GROUP_LEN_MAX || len > rest.len - 1) {
            return ESCROW_ECORRUPT;
        }
        name = slice_of(rest.ptr + 1, len);
        if (strmap_find(&n->by_name, name) != NULL) {
            return ESCROW_ECORRUPT;
        }
        if (keep(n, name) != 0) {
            return ESCROW_ENOMEM;
        }
        rest = slice_of(name.ptr + len, rest.len - 1 - len);
    }
    *in = rest;
    return 0;
}

void group_names_check(const struct group_names *n)
{
    CHECK(n->count <= GROUP_NAMES_MAX);
    CHECK(n->first < GROUP_NAMES_MAX);
    CHECK(n->by_name.count == n->count);
    for (uint32_t i = 0; i < n->count; i++) {
        struct slice name = group_names_at(n, i);
        CHECK(strmap_find(&n->by_name, name) == n->ring[(n->first + i) % GROUP_NAMES_MAX]);
    }
}
