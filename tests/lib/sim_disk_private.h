/* What sim_disk.c (the calls) and sim_crash.c (clones and power cuts) share. */
#ifndef TESTS_LIB_SIM_DISK_PRIVATE_H
#define TESTS_LIB_SIM_DISK_PRIVATE_H

#include "tests/lib/sim_disk.h"
#include "tests/lib/sim_image.h"

/* Bytes of a pending write, shared between copies. */
struct sim_data {
    uint32_t refs;
    size_t len;
    uint8_t bytes[];
};

/* A change of a file's content or size that is not durable. */
struct sim_change {
    bool is_size;
    uint64_t offset; /* or the new size */
    uint64_t len;
    struct sim_data *data; /* NULL = zeros */
};

struct sim_inode {
    struct sim_image now;
    struct sim_image durable;
    struct sim_change *changes;
    size_t change_count;
    size_t change_cap;
    uint32_t refs;
    bool is_lossy;          /* a sync failed: now is not durable plus changes any more */
    struct sim_inode *copy; /* while a disk is being copied */
    void *locked_by;
};

/* A name: file or folder (inode NULL). */
struct sim_name {
    char *path;
    struct sim_inode *inode;
};

struct sim_tree {
    struct sim_name *names; /* sorted by path */
    size_t count;
    size_t cap;
};

/*
 * A change of a folder that is not durable: after it, `path` is inode, or a folder, or nothing; and
 * `gone` is nothing.
 */
struct sim_entry {
    char *folder;
    char *path;
    char *gone; /* NULL = none */
    struct sim_inode *inode;
    bool is_removal;
};

struct sim_disk {
    struct disk base;
    struct sim_tree now;
    struct sim_tree durable;
    struct sim_entry *entries;
    size_t entry_count;
    size_t entry_cap;
    uint64_t op_count;
    sim_hook_fn *hook;
    void *hook_arg;
    uint64_t fault_at;
    enum sim_fault fault;
    uint64_t read_fault_at;
    bool has_fired;
    bool is_dead;
    bool is_read_only;
    bool is_cold;
    uint64_t capacity;
    uint32_t open_count;
};

struct sim_disk *sim_of(const struct disk *d);

struct sim_name *sim_tree_find(const struct sim_tree *tree, const char *path);
void sim_tree_put(struct sim_tree *tree, const char *path, struct sim_inode *inode);
void sim_tree_remove(struct sim_tree *tree, const char *path);
void sim_tree_fini(struct sim_tree *tree);

void sim_inode_ref(struct sim_inode *inode);
void sim_inode_unref(struct sim_inode *inode);
void sim_inode_add(struct sim_inode *inode, const struct sim_change *change);
void sim_inode_clear(struct sim_inode *inode); /* forget the changes */
void sim_change_apply(struct sim_image *img, const struct sim_change *change);

void sim_entry_apply(struct sim_tree *tree, const struct sim_entry *entry);
void sim_entry_fini(struct sim_entry *entry);
void sim_disk_add_entry(struct sim_disk *s, const struct sim_entry *entry);

char *sim_strdup(const char *text);

#endif
