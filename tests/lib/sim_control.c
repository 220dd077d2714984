/*
 * What tests do to a simulated disk from outside: faults, limits, looking at bytes and changing
 * them.
 */
#include "tests/lib/sim_disk_private.h"

#include <string.h>

void sim_disk_set_hook(struct disk *d, sim_hook_fn *hook, void *arg)
{
    sim_of(d)->hook = hook;
    sim_of(d)->hook_arg = arg;
}

uint64_t sim_disk_op_count(const struct disk *d)
{
    return sim_of(d)->op_count;
}

void sim_disk_fault_at(struct disk *d, uint64_t n, enum sim_fault fault)
{
    struct sim_disk *s = sim_of(d);

    s->fault_at = n;
    s->fault = fault;
    s->has_fired = false;
    s->is_dead = false;
}

void sim_disk_read_fault_at(struct disk *d, uint64_t n)
{
    sim_of(d)->read_fault_at = n;
    sim_of(d)->has_fired = false;
}

bool sim_disk_fault_fired(const struct disk *d)
{
    return sim_of(d)->has_fired;
}

void sim_disk_set_capacity(struct disk *d, uint64_t bytes)
{
    sim_of(d)->capacity = bytes;
}

uint64_t sim_disk_used(const struct disk *d)
{
    const struct sim_disk *s = sim_of(d);
    uint64_t used = 0;

    for (size_t i = 0; i < s->now.count; i++) {
        used += s->now.names[i].inode == NULL ? 0 : s->now.names[i].inode->now.size_bytes;
    }
    return used < s->capacity ? used : s->capacity;
}

void sim_disk_set_read_only(struct disk *d, bool is_read_only)
{
    sim_of(d)->is_read_only = is_read_only;
}

void sim_disk_set_cold(struct disk *d, bool is_cold)
{
    sim_of(d)->is_cold = is_cold;
}

static struct sim_inode *inode_at(const struct disk *d, const char *path)
{
    struct sim_name *name = sim_tree_find(&sim_of(d)->now, path);

    return name == NULL ? NULL : name->inode;
}

bool sim_disk_file_size(const struct disk *d, const char *path, uint64_t *size_bytes)
{
    const struct sim_inode *inode = inode_at(d, path);

    if (inode != NULL) {
        *size_bytes = inode->now.size_bytes;
    }
    return inode != NULL;
}

bool sim_disk_peek(const struct disk *d, const char *path, uint64_t offset, void *dst, size_t len)
{
    const struct sim_inode *inode = inode_at(d, path);

    return inode != NULL && sim_image_read(&inode->now, offset, dst, len) == len;
}

bool sim_disk_poke(struct disk *d, const char *path, uint64_t offset, const void *src, size_t len)
{
    struct sim_inode *inode = inode_at(d, path);

    if (inode == NULL || offset + len > inode->now.size_bytes) {
        return false;
    }
    sim_image_write(&inode->now, offset, src, len);
    sim_image_write(&inode->durable, offset, src, len);
    return true;
}

bool sim_disk_cut(struct disk *d, const char *path, uint64_t size_bytes)
{
    struct sim_inode *inode = inode_at(d, path);

    if (inode != NULL) {
        sim_image_resize(&inode->now, size_bytes);
        sim_image_resize(&inode->durable, size_bytes);
    }
    return inode != NULL;
}

bool sim_disk_remove(struct disk *d, const char *path)
{
    bool was_there = sim_tree_find(&sim_of(d)->now, path) != NULL;

    sim_tree_remove(&sim_of(d)->now, path);
    sim_tree_remove(&sim_of(d)->durable, path);
    return was_there;
}

void sim_disk_visit(const struct disk *d, sim_visit_fn *fn, void *arg)
{
    const struct sim_disk *s = sim_of(d);

    for (size_t i = 0; i < s->now.count; i++) {
        if (s->now.names[i].inode != NULL) {
            fn(arg, s->now.names[i].path, s->now.names[i].inode->now.size_bytes);
        }
    }
}

bool sim_disk_equal(const struct disk *a, const struct disk *b)
{
    const struct sim_tree *x = &sim_of(a)->now;
    const struct sim_tree *y = &sim_of(b)->now;

    if (x->count != y->count) {
        return false;
    }
    for (size_t i = 0; i < x->count; i++) {
        const struct sim_inode *p = x->names[i].inode;
        const struct sim_inode *q = y->names[i].inode;
        if (strcmp(x->names[i].path, y->names[i].path) != 0 || (p == NULL) != (q == NULL) ||
            (p != NULL && !sim_image_equal(&p->now, &q->now))) {
            return false;
        }
    }
    return true;
}
