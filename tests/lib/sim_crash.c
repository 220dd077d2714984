/*
 * Trees, pending changes, clones and power cuts. A pending change of content or size is applied to
 * a copy of the durable content, in the order in which it was made; which ones are applied is what
 * the kinds of crash differ in. Names follow the same rule, and whatever lies in a folder that did
 * not survive is gone.
 */
#include "core/base/check.h"
#include "core/base/rand.h"
#include "tests/lib/sim_disk_private.h"

#include <string.h>

char *sim_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = sim_alloc(size);

    memcpy(copy, text, size);
    return copy;
}

/* ------------------------------------------------------------------ trees */

static size_t tree_position(const struct sim_tree *tree, const char *path)
{
    size_t low = 0;
    size_t high = tree->count;

    while (low < high) {
        size_t mid = (low + high) / 2;
        if (strcmp(tree->names[mid].path, path) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

struct sim_name *sim_tree_find(const struct sim_tree *tree, const char *path)
{
    size_t at = tree_position(tree, path);

    return at < tree->count && strcmp(tree->names[at].path, path) == 0 ? &tree->names[at] : NULL;
}

void sim_tree_put(struct sim_tree *tree, const char *path, struct sim_inode *inode)
{
    size_t at = tree_position(tree, path);
    struct sim_name *found = sim_tree_find(tree, path);

    if (inode != NULL) {
        sim_inode_ref(inode);
    }
    if (found != NULL) {
        if (found->inode != NULL) {
            sim_inode_unref(found->inode);
        }
        found->inode = inode;
        return;
    }
    if (tree->count == tree->cap) {
        tree->cap = tree->cap == 0 ? 16 : tree->cap * 2;
        tree->names = sim_grow(tree->names, tree->cap * sizeof *tree->names);
    }
    memmove(tree->names + at + 1, tree->names + at, (tree->count - at) * sizeof *tree->names);
    tree->names[at] = (struct sim_name){.path = sim_strdup(path), .inode = inode};
    tree->count++;
}

void sim_tree_remove(struct sim_tree *tree, const char *path)
{
    struct sim_name *name = sim_tree_find(tree, path);

    if (name != NULL) {
        size_t at = (size_t)(name - tree->names);
        if (name->inode != NULL) {
            sim_inode_unref(name->inode);
        }
        sim_free(name->path);
        tree->count--;
        memmove(name, name + 1, (tree->count - at) * sizeof *name);
    }
}

void sim_tree_fini(struct sim_tree *tree)
{
    for (size_t i = 0; i < tree->count; i++) {
        if (tree->names[i].inode != NULL) {
            sim_inode_unref(tree->names[i].inode);
        }
        sim_free(tree->names[i].path);
    }
    sim_free(tree->names);
    *tree = (struct sim_tree){.count = 0};
}

/* ------------------------------------------------------------------ pending changes */

void sim_inode_ref(struct sim_inode *inode)
{
    inode->refs++;
}

void sim_inode_unref(struct sim_inode *inode)
{
    CHECK(inode->refs > 0);
    if (--inode->refs == 0) {
        sim_inode_clear(inode);
        sim_free(inode->changes);
        sim_image_fini(&inode->now);
        sim_image_fini(&inode->durable);
        sim_free(inode);
    }
}

void sim_change_apply(struct sim_image *img, const struct sim_change *change)
{
    if (change->is_size) {
        sim_image_resize(img, change->offset);
    } else {
        sim_image_write(img, change->offset, change->data == NULL ? NULL : change->data->bytes,
                        (size_t)change->len);
    }
}

static void inode_note(struct sim_inode *inode, const struct sim_change *change)
{
    if (inode->change_count == inode->change_cap) {
        inode->change_cap = inode->change_cap == 0 ? 8 : inode->change_cap * 2;
        inode->changes = sim_grow(inode->changes, inode->change_cap * sizeof *inode->changes);
    }
    if (change->data != NULL) {
        change->data->refs++;
    }
    inode->changes[inode->change_count++] = *change;
}

void sim_inode_add(struct sim_inode *inode, const struct sim_change *change)
{
    sim_change_apply(&inode->now, change);
    inode_note(inode, change);
}

void sim_inode_clear(struct sim_inode *inode)
{
    for (size_t i = 0; i < inode->change_count; i++) {
        struct sim_data *data = inode->changes[i].data;
        if (data != NULL && --data->refs == 0) {
            sim_free(data);
        }
    }
    inode->change_count = 0;
}

void sim_entry_apply(struct sim_tree *tree, const struct sim_entry *entry)
{
    if (entry->is_removal) {
        sim_tree_remove(tree, entry->path);
    } else {
        sim_tree_put(tree, entry->path, entry->inode);
    }
    if (entry->gone != NULL) {
        sim_tree_remove(tree, entry->gone);
    }
}

void sim_entry_fini(struct sim_entry *entry)
{
    sim_free(entry->folder);
    sim_free(entry->path);
    sim_free(entry->gone);
    if (entry->inode != NULL) {
        sim_inode_unref(entry->inode);
    }
}

void sim_disk_add_entry(struct sim_disk *s, const struct sim_entry *entry)
{
    if (s->entry_count == s->entry_cap) {
        s->entry_cap = s->entry_cap == 0 ? 8 : s->entry_cap * 2;
        s->entries = sim_grow(s->entries, s->entry_cap * sizeof *s->entries);
    }
    s->entries[s->entry_count++] = *entry;
}

/* ------------------------------------------------------------------ copies */

/* The copy of an inode in the disk that is being made; made once. */
static struct sim_inode *inode_copy(struct sim_inode *inode)
{
    if (inode->copy == NULL) {
        struct sim_inode *copy = sim_alloc(sizeof *copy);
        sim_image_copy(&copy->now, &inode->now);
        sim_image_copy(&copy->durable, &inode->durable);
        copy->is_lossy = inode->is_lossy;
        for (size_t i = 0; i < inode->change_count; i++) {
            inode_note(copy, &inode->changes[i]);
        }
        inode->copy = copy;
    }
    return inode->copy;
}

static void tree_forget_copies(const struct sim_tree *tree)
{
    for (size_t i = 0; i < tree->count; i++) {
        if (tree->names[i].inode != NULL) {
            tree->names[i].inode->copy = NULL;
        }
    }
}

static void forget_copies(const struct sim_disk *s)
{
    tree_forget_copies(&s->now);
    tree_forget_copies(&s->durable);
    for (size_t i = 0; i < s->entry_count; i++) {
        if (s->entries[i].inode != NULL) {
            s->entries[i].inode->copy = NULL;
        }
    }
}

static void tree_copy(struct sim_tree *dst, const struct sim_tree *src)
{
    for (size_t i = 0; i < src->count; i++) {
        struct sim_inode *inode = src->names[i].inode;
        sim_tree_put(dst, src->names[i].path, inode == NULL ? NULL : inode_copy(inode));
    }
}

struct disk *sim_disk_clone(const struct disk *d)
{
    const struct sim_disk *s = sim_of(d);
    struct disk *clone = sim_disk_new();
    struct sim_disk *c = sim_of(clone);

    c->capacity = s->capacity;
    c->is_read_only = s->is_read_only;
    c->is_cold = s->is_cold;
    tree_copy(&c->now, &s->now);
    tree_copy(&c->durable, &s->durable);
    for (size_t i = 0; i < s->entry_count; i++) {
        const struct sim_entry *entry = &s->entries[i];
        struct sim_entry copy = {
            .folder = sim_strdup(entry->folder),
            .path = sim_strdup(entry->path),
            .gone = entry->gone == NULL ? NULL : sim_strdup(entry->gone),
            .inode = entry->inode == NULL ? NULL : inode_copy(entry->inode),
            .is_removal = entry->is_removal,
        };
        if (copy.inode != NULL) {
            sim_inode_ref(copy.inode);
        }
        sim_disk_add_entry(c, &copy);
    }
    forget_copies(s);
    return clone;
}

/* ------------------------------------------------------------------ power cuts */

const char *sim_crash_name(enum sim_crash how)
{
    static const char *const names[] = {"drop unsynced", "keep all",     "keep some",
                                        "tear at 512",   "tear at 4096", "reorder"};
    return names[how];
}

struct cut {
    enum sim_crash how;
    struct rand rand;
    uint64_t keep_of_256; /* SIM_REORDER: this share of all changes */
};

static bool cut_keeps(struct cut *cut)
{
    switch (cut->how) {
    case SIM_DROP_UNSYNCED:
        return false;
    case SIM_KEEP_ALL:
        return true;
    case SIM_KEEP_SOME:
    case SIM_TEAR_512:
    case SIM_TEAR_4096:
        return rand_below(&cut->rand, 2) == 1;
    case SIM_REORDER:
        return rand_below(&cut->rand, 256) < cut->keep_of_256;
    case SIM_CRASH_COUNT:
        break;
    }
    UNREACHABLE("no such crash");
}

/* Some of the sectors of a write reach the platter. */
static void cut_tear(struct cut *cut, struct sim_image *img, const struct sim_change *change)
{
    uint64_t unit = cut->how == SIM_TEAR_512 ? 512 : 4096;
    uint64_t end = change->offset + change->len;
    uint64_t at = change->offset;

    while (at < end) {
        uint64_t stop = (at / unit + 1) * unit;
        stop = stop < end ? stop : end;
        if (cut_keeps(cut)) {
            const uint8_t *src =
                change->data == NULL ? NULL : change->data->bytes + (at - change->offset);
            sim_image_write(img, at, src, (size_t)(stop - at));
        }
        at = stop;
    }
}

static void cut_inode(struct cut *cut, struct sim_inode *inode)
{
    bool is_torn = cut->how == SIM_TEAR_512 || cut->how == SIM_TEAR_4096;

    sim_image_fini(&inode->now);
    for (size_t i = 0; i < inode->change_count; i++) {
        const struct sim_change *change = &inode->changes[i];
        if (is_torn && !change->is_size) {
            cut_tear(cut, &inode->durable, change);
        } else if (cut_keeps(cut)) {
            sim_change_apply(&inode->durable, change);
        }
    }
    sim_inode_clear(inode);
    sim_image_copy(&inode->now, &inode->durable);
    inode->is_lossy = false;
}

/* What lies in a folder that is not there is not there either. */
static void drop_orphans(struct sim_tree *tree)
{
    for (size_t i = 0; i < tree->count;) {
        char folder[512];
        const char *slash = strrchr(tree->names[i].path, '/');
        size_t len = slash == NULL ? 0 : (size_t)(slash - tree->names[i].path);

        CHECK(len < sizeof folder);
        memcpy(folder, tree->names[i].path, len);
        folder[len] = '\0';
        if (len > 0 && sim_tree_find(tree, folder) == NULL) {
            char *path = sim_strdup(tree->names[i].path);
            sim_tree_remove(tree, path);
            sim_free(path);
        } else {
            i++; /* folders sort before what is in them, so they were judged before */
        }
    }
}

struct disk *sim_disk_crash(const struct disk *d, enum sim_crash how, uint64_t seed)
{
    struct disk *after = sim_disk_clone(d);
    struct sim_disk *s = sim_of(after);
    struct cut cut = {.how = how};

    rand_init(&cut.rand, seed);
    cut.keep_of_256 = rand_below(&cut.rand, 257);
    for (size_t i = 0; i < s->entry_count; i++) {
        if (cut_keeps(&cut)) {
            sim_entry_apply(&s->durable, &s->entries[i]);
        }
        sim_entry_fini(&s->entries[i]);
    }
    s->entry_count = 0;
    drop_orphans(&s->durable);
    for (size_t i = 0; i < s->durable.count; i++) {
        if (s->durable.names[i].inode != NULL) {
            cut_inode(&cut, s->durable.names[i].inode);
        }
    }
    sim_tree_fini(&s->now);
    for (size_t i = 0; i < s->durable.count; i++) {
        sim_tree_put(&s->now, s->durable.names[i].path, s->durable.names[i].inode);
    }
    return after;
}

bool sim_disk_has_pending(const struct disk *d)
{
    const struct sim_disk *s = sim_of(d);

    for (size_t i = 0; i < s->now.count; i++) {
        const struct sim_inode *inode = s->now.names[i].inode;
        if (inode != NULL && (inode->change_count > 0 || inode->is_lossy)) {
            return true;
        }
    }
    return s->entry_count > 0;
}
