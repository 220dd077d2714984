/* A slab of items, found by id, listed by place. */
#include "txn/carried.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/hash.h"
#include "escrow/errors.h"

#include <inttypes.h>

#define SAVE_VERSION    1u
#define SAVE_HEAD_BYTES 24u
#define SAVE_ITEM_BYTES 24u

static struct carried_item *item_at(const struct carried *c, uint32_t slot)
{
    return slab_at(&c->slab, slot);
}

static uint64_t by_id_hash(void *owner, uint32_t slot)
{
    return hash_u64(item_at(owner, slot)->id);
}

static uint32_t *by_id_link(void *owner, uint32_t slot)
{
    return &item_at(owner, slot)->next;
}

static const struct hash_index_ops by_id_ops = {by_id_hash, by_id_link};

void carried_init(struct carried *c)
{
    *c = (struct carried){.upto = 0};
    slab_init(&c->slab, sizeof(struct carried_item));
    hash_index_init(&c->by_id, &by_id_ops, c);
    list_init(&c->order);
}

void carried_fini(struct carried *c)
{
    slab_fini(&c->slab);
    hash_index_fini(&c->by_id);
    list_init(&c->order);
}

static uint32_t find(const struct carried *c, uint64_t id)
{
    uint32_t slot = c->slab.used == 0 ? HASH_INDEX_NONE : hash_index_head(&c->by_id, hash_u64(id));

    while (slot != HASH_INDEX_NONE && item_at(c, slot)->id != id) {
        slot = item_at(c, slot)->next;
    }
    return slot;
}

uint64_t carried_where(const struct carried *c, uint64_t id)
{
    uint32_t slot = find(c, id);

    return slot == HASH_INDEX_NONE ? id : item_at(c, slot)->at;
}

static int insert(struct carried *c, uint64_t id, uint32_t *slot)
{
    int rc = slab_reserve(&c->slab);

    if (rc == 0) {
        rc = hash_index_reserve(&c->by_id);
    }
    if (rc != 0) {
        return rc;
    }
    *slot = slab_take(&c->slab);
    item_at(c, *slot)->id = id;
    list_init(&item_at(c, *slot)->order);
    hash_index_insert(&c->by_id, *slot);
    return 0;
}

static uint64_t last_place(const struct carried *c)
{
    return list_is_empty(&c->order) ? 0 : LIST_ENTRY(c->order.prev, struct carried_item, order)->at;
}

int carried_put(struct carried *c, uint64_t id, uint64_t at, uint32_t size_bytes)
{
    uint32_t slot = find(c, id);
    struct carried_item *item;

    if (at <= id || at <= last_place(c) || (slot == HASH_INDEX_NONE && id < c->upto)) {
        return ESCROW_ECORRUPT;
    }
    if (slot == HASH_INDEX_NONE) {
        int rc = insert(c, id, &slot);
        if (rc != 0) {
            return rc;
        }
        c->upto = id + 1;
    }
    item = item_at(c, slot);
    item->at = at;
    item->size_bytes = size_bytes;
    list_remove(&item->order);
    list_push(&c->order, &item->order);
    return 0;
}

const struct carried_item *carried_first(const struct carried *c)
{
    return list_is_empty(&c->order) ? NULL : LIST_ENTRY(c->order.next, struct carried_item, order);
}

const struct carried_item *carried_after(const struct carried *c, const struct carried_item *item)
{
    return item->order.next == &c->order ? NULL
                                         : LIST_ENTRY(item->order.next, struct carried_item, order);
}

void carried_drop_first(struct carried *c)
{
    struct carried_item *item = LIST_ENTRY(c->order.next, struct carried_item, order);
    uint32_t slot;

    CHECK(!list_is_empty(&c->order));
    slot = find(c, item->id);
    list_remove(&item->order);
    hash_index_remove(&c->by_id, slot);
    slab_put(&c->slab, slot);
}

/* ---- checkpoint ------------------------------------------------------------------------------ */

void carried_save(const struct carried *c, struct buf *out)
{
    buf_append_le32(out, SAVE_VERSION);
    buf_append_le32(out, 0);
    buf_append_le64(out, c->upto);
    buf_append_le64(out, c->slab.used);
    for (const struct carried_item *item = carried_first(c); item != NULL;
         item = carried_after(c, item)) {
        buf_append_le64(out, item->id);
        buf_append_le64(out, item->at);
        buf_append_le32(out, item->size_bytes);
        buf_append_le32(out, 0);
    }
}

static int load_item(struct carried *c, const uint8_t *p, uint64_t upto)
{
    uint64_t id = get_le64(p);

    if (id >= upto || get_le32(p + 20) != 0 || find(c, id) != HASH_INDEX_NONE) {
        return ESCROW_ECORRUPT;
    }
    c->upto = 0; /* they stand in the order of their places, not of their ids */
    return carried_put(c, id, get_le64(p + 8), get_le32(p + 16));
}

int carried_load(struct carried *c, struct slice section, struct err_ctx *err)
{
    const uint8_t *p = section.ptr;
    uint64_t upto;
    int rc = 0;

    CHECK(c->slab.used == 0);
    if (section.len < SAVE_HEAD_BYTES) {
        return err_set(err, ESCROW_ECORRUPT, "carried messages: section too short");
    }
    if (get_le32(p) != SAVE_VERSION) {
        return err_set(err, ESCROW_EVERSION, "carried messages: version %u is not known",
                       (unsigned)get_le32(p));
    }
    upto = get_le64(p + 8);
    if (get_le32(p + 4) != 0 || (section.len - SAVE_HEAD_BYTES) % SAVE_ITEM_BYTES != 0 ||
        (section.len - SAVE_HEAD_BYTES) / SAVE_ITEM_BYTES != get_le64(p + 16)) {
        return err_set(err, ESCROW_ECORRUPT, "carried messages: the section's head is wrong");
    }
    for (size_t at = SAVE_HEAD_BYTES; rc == 0 && at < section.len; at += SAVE_ITEM_BYTES) {
        rc = load_item(c, p + at, upto);
        if (rc != 0) {
            return err_set(err, rc, "carried messages: section cannot be loaded, at byte %zu", at);
        }
    }
    c->upto = upto;
    return 0;
}

void carried_check(const struct carried *c)
{
    uint64_t place = 0;
    size_t count = 0;

    slab_check(&c->slab);
    hash_index_check(&c->by_id);
    for (const struct carried_item *item = carried_first(c); item != NULL;
         item = carried_after(c, item)) {
        CHECK(item->at > place && item->at > item->id);
        CHECK(item->id < c->upto);
        CHECK(item_at(c, find(c, item->id)) == item);
        place = item->at;
        count++;
    }
    CHECK(count == c->slab.used);
}
