/*
 * The calls of core/io/disk.h. Each mutating one counts itself, shows itself to the hook, lets a
 * fault fire, then changes what the program sees and notes the change as pending; sync and sync_dir
 * make pending changes durable.
 */
#include "tests/lib/sim_disk.h"

#include "core/base/check.h"
#include "tests/lib/sim_disk_private.h"

#include <stdio.h>
#include <string.h>

struct sim_file {
    struct disk_file base;
    struct sim_inode *inode;
    char *path;
    bool is_writable;
};

static struct sim_file *file_of(struct disk_file *f)
{
    return (struct sim_file *)(void *)f;
}

static struct sim_disk *disk_of(struct disk_file *f)
{
    return sim_of(f->disk);
}

const char *sim_op_name(enum sim_op_kind kind)
{
    static const char *const names[] = {"create", "write",  "allocate", "zero",  "truncate", "sync",
                                        "rename", "unlink", "mkdir",    "rmdir", "sync_dir"};
    return names[kind];
}

static void folder_of(const char *path, char *folder, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);

    CHECK(len < size);
    memcpy(folder, path, len);
    folder[len] = '\0';
}

static int fail(struct err_ctx *err, int code, const char *verb, const char *path)
{
    return err_set(err, code, "%s %s: %s (simulated)", verb, path, escrow_strerror(code));
}

/* Count, show, and perhaps fail. A short write is left to the write: *is_short. */
static int begin_op(struct sim_disk *s, enum sim_op_kind kind, const char *path, uint64_t offset,
                    uint64_t len, struct err_ctx *err)
{
    struct sim_op op = {
        .number = ++s->op_count, .kind = kind, .path = path, .offset = offset, .len = len};
    bool may_lack_space = kind == SIM_OP_CREATE || kind == SIM_OP_WRITE ||
                          kind == SIM_OP_ALLOCATE || kind == SIM_OP_ZERO || kind == SIM_OP_RENAME ||
                          kind == SIM_OP_MKDIR;

    if (s->is_dead) {
        return fail(err, ESCROW_EIO, sim_op_name(kind), path);
    }
    if (s->is_read_only) {
        return fail(err, ESCROW_EROFS, sim_op_name(kind), path);
    }
    if (s->hook != NULL) {
        s->hook(s->hook_arg, &op);
    }
    if (s->fault_at == 0 || --s->fault_at > 0) {
        return 0;
    }
    s->has_fired = true;
    s->is_dead = s->fault == SIM_FAULT_DEAD;
    if (s->fault == SIM_FAULT_ENOSPC) {
        return may_lack_space ? fail(err, ESCROW_ENOSPC, sim_op_name(kind), path) : 0;
    }
    return fail(err, ESCROW_EIO, sim_op_name(kind), path);
}

static int add_size(struct sim_disk *s, struct sim_inode *inode, uint64_t size, const char *path,
                    struct err_ctx *err)
{
    struct sim_change change = {.is_size = true, .offset = size};

    if (size > inode->now.size_bytes &&
        size - inode->now.size_bytes > s->capacity - sim_disk_used(&s->base)) {
        return fail(err, ESCROW_ENOSPC, "extend", path);
    }
    sim_inode_add(inode, &change);
    return 0;
}

/* ------------------------------------------------------------------ files */

static int sim_create(struct sim_disk *s, const char *path, struct sim_name **name,
                      struct err_ctx *err)
{
    char folder[512];
    struct sim_entry entry;
    struct sim_inode *inode;
    int rc;

    folder_of(path, folder, sizeof folder);
    if (folder[0] != '\0' && sim_tree_find(&s->now, folder) == NULL) {
        return fail(err, ESCROW_ENOTFOUND, "create", path);
    }
    rc = begin_op(s, SIM_OP_CREATE, path, 0, 0, err);
    if (rc != 0) {
        return rc;
    }
    inode = sim_alloc(sizeof *inode);
    sim_tree_put(&s->now, path, inode);
    entry =
        (struct sim_entry){.folder = sim_strdup(folder), .path = sim_strdup(path), .inode = inode};
    sim_inode_ref(inode);
    sim_disk_add_entry(s, &entry);
    *name = sim_tree_find(&s->now, path);
    return 0;
}

static int sim_open(struct disk *d, const char *path, unsigned flags, struct disk_file **out,
                    struct err_ctx *err)
{
    struct sim_disk *s = sim_of(d);
    struct sim_name *name = sim_tree_find(&s->now, path);
    struct sim_file *file;
    int rc;

    if (s->is_dead) {
        return fail(err, ESCROW_EIO, "open", path);
    }
    if ((flags & DISK_WRITE) != 0 && s->is_read_only) {
        return fail(err, ESCROW_EROFS, "open", path);
    }
    if (name != NULL && (flags & DISK_EXCLUSIVE) != 0) {
        return fail(err, ESCROW_EEXIST, "open", path);
    }
    if (name == NULL && (flags & DISK_CREATE) == 0) {
        return fail(err, ESCROW_ENOTFOUND, "open", path);
    }
    if (name == NULL) {
        rc = sim_create(s, path, &name, err);
        if (rc != 0) {
            return rc;
        }
    }
    if (name->inode == NULL) {
        return fail(err, ESCROW_EINVAL, "open folder", path);
    }
    file = sim_alloc(sizeof *file);
    *file = (struct sim_file){.base = {.disk = d},
                              .inode = name->inode,
                              .path = sim_strdup(path),
                              .is_writable = (flags & DISK_WRITE) != 0};
    sim_inode_ref(name->inode);
    s->open_count++;
    *out = &file->base;
    return 0;
}

static void sim_close(struct disk_file *f)
{
    struct sim_file *file = file_of(f);

    disk_of(f)->open_count--;
    if (file->inode->locked_by == file) {
        file->inode->locked_by = NULL;
    }
    sim_inode_unref(file->inode);
    sim_free(file->path);
    sim_free(file);
}

static int sim_size(struct disk_file *f, uint64_t *size_bytes, struct err_ctx *err)
{
    if (disk_of(f)->is_dead) {
        return fail(err, ESCROW_EIO, "size", file_of(f)->path);
    }
    *size_bytes = file_of(f)->inode->now.size_bytes;
    return 0;
}

static int sim_pread(struct disk_file *f, void *dst, size_t len, uint64_t offset, size_t *got,
                     struct err_ctx *err)
{
    struct sim_disk *s = disk_of(f);

    if (s->read_fault_at > 0 && --s->read_fault_at == 0) {
        s->has_fired = true;
        return fail(err, ESCROW_EIO, "read", file_of(f)->path);
    }
    if (s->is_dead) {
        return fail(err, ESCROW_EIO, "read", file_of(f)->path);
    }
    *got = sim_image_read(&file_of(f)->inode->now, offset, dst, len);
    return 0;
}

static int sim_pread_nowait(struct disk_file *f, void *dst, size_t len, uint64_t offset,
                            size_t *got)
{
    if (disk_of(f)->is_cold) {
        return ESCROW_EAGAIN;
    }
    *got = sim_image_read(&file_of(f)->inode->now, offset, dst, len);
    return 0;
}

static struct sim_data *data_of(const struct iovec *iov, int count, size_t limit)
{
    struct sim_data *data;
    size_t total = 0;

    for (int i = 0; i < count; i++) {
        total += iov[i].iov_len;
    }
    total = total < limit ? total : limit;
    data = sim_alloc(sizeof *data + total);
    data->refs = 1;
    for (int i = 0; i < count && data->len < total; i++) {
        size_t part = iov[i].iov_len < total - data->len ? iov[i].iov_len : total - data->len;
        memcpy(data->bytes + data->len, iov[i].iov_base, part);
        data->len += part;
    }
    return data;
}

static int sim_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset,
                       struct err_ctx *err)
{
    struct sim_file *file = file_of(f);
    struct sim_disk *s = disk_of(f);
    struct sim_change change = {.offset = offset};
    bool is_short = s->fault == SIM_FAULT_SHORT && s->fault_at == 1;
    size_t total = 0;
    int rc;
    int size_rc = 0;

    CHECK(file->is_writable);
    for (int i = 0; i < count; i++) {
        total += iov[i].iov_len;
    }
    rc = begin_op(s, SIM_OP_WRITE, file->path, offset, total, err);
    if (rc != 0 && !is_short) {
        return rc;
    }
    change.data = data_of(iov, count, is_short ? total / 2 : total);
    change.len = change.data->len;
    if (change.len > 0 && offset + change.len > file->inode->now.size_bytes) {
        size_rc = add_size(s, file->inode, offset + change.len, file->path, err);
    }
    if (size_rc == 0 && change.len > 0) {
        sim_inode_add(file->inode, &change);
    }
    if (--change.data->refs == 0) {
        sim_free(change.data);
    }
    return rc != 0 ? rc : size_rc;
}

static int sim_allocate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err)
{
    struct sim_file *file = file_of(f);
    int rc = begin_op(disk_of(f), SIM_OP_ALLOCATE, file->path, 0, size_bytes, err);

    if (rc == 0 && size_bytes > file->inode->now.size_bytes) {
        rc = add_size(disk_of(f), file->inode, size_bytes, file->path, err);
    }
    return rc;
}

static int sim_zero(struct disk_file *f, uint64_t offset, uint64_t len, struct err_ctx *err)
{
    struct sim_file *file = file_of(f);
    struct sim_change change = {.offset = offset, .len = len};
    int rc = begin_op(disk_of(f), SIM_OP_ZERO, file->path, offset, len, err);

    if (rc == 0) {
        sim_inode_add(file->inode, &change);
    }
    return rc;
}

static int sim_truncate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err)
{
    struct sim_file *file = file_of(f);
    int rc = begin_op(disk_of(f), SIM_OP_TRUNCATE, file->path, 0, size_bytes, err);

    return rc != 0 ? rc : add_size(disk_of(f), file->inode, size_bytes, file->path, err);
}

static int sim_sync(struct disk_file *f, struct err_ctx *err)
{
    struct sim_file *file = file_of(f);
    struct sim_inode *inode = file->inode;
    int rc = begin_op(disk_of(f), SIM_OP_SYNC, file->path, 0, 0, err);

    if (rc != 0) {
        /*
         * The kernel marks the pages clean: what was pending is in memory, will never be written,
         * and nobody will know.
         */
        inode->is_lossy = inode->is_lossy || inode->change_count > 0;
    } else if (inode->is_lossy) {
        for (size_t i = 0; i < inode->change_count; i++) {
            sim_change_apply(&inode->durable, &inode->changes[i]);
        }
    } else if (inode->change_count > 0) {
        sim_image_fini(&inode->durable);
        sim_image_copy(&inode->durable, &inode->now);
    }
    sim_inode_clear(inode);
    return rc;
}

static int sim_lock(struct disk_file *f, struct err_ctx *err)
{
    struct sim_file *file = file_of(f);

    if (file->inode->locked_by != NULL && file->inode->locked_by != file) {
        return fail(err, ESCROW_ELOCKED, "lock", file->path);
    }
    file->inode->locked_by = file;
    return 0;
}

/* ------------------------------------------------------------------ names */

static int sim_rename(struct disk *d, const char *from, const char *to, struct err_ctx *err)
{
    struct sim_disk *s = sim_of(d);
    struct sim_name *name = sim_tree_find(&s->now, from);
    struct sim_entry entry = {.path = NULL};
    char folder[512];
    int rc;

    if (name == NULL || name->inode == NULL) {
        return fail(err, ESCROW_ENOTFOUND, "rename", from);
    }
    rc = begin_op(s, SIM_OP_RENAME, to, 0, 0, err);
    if (rc != 0) {
        return rc;
    }
    folder_of(to, folder, sizeof folder);
    entry = (struct sim_entry){.folder = sim_strdup(folder),
                               .path = sim_strdup(to),
                               .gone = sim_strdup(from),
                               .inode = name->inode};
    sim_inode_ref(entry.inode);
    sim_entry_apply(&s->now, &entry);
    sim_disk_add_entry(s, &entry);
    return 0;
}

static int remove_name(struct sim_disk *s, enum sim_op_kind kind, const char *path,
                       struct err_ctx *err)
{
    struct sim_entry entry = {.is_removal = true};
    char folder[512];
    int rc = begin_op(s, kind, path, 0, 0, err);

    if (rc != 0) {
        return rc;
    }
    folder_of(path, folder, sizeof folder);
    entry.folder = sim_strdup(folder);
    entry.path = sim_strdup(path);
    sim_entry_apply(&s->now, &entry);
    sim_disk_add_entry(s, &entry);
    return 0;
}

static int sim_unlink(struct disk *d, const char *path, struct err_ctx *err)
{
    struct sim_name *name = sim_tree_find(&sim_of(d)->now, path);

    if (name == NULL || name->inode == NULL) {
        return fail(err, ESCROW_ENOTFOUND, "unlink", path);
    }
    return remove_name(sim_of(d), SIM_OP_UNLINK, path, err);
}

static bool folder_is_empty(const struct sim_tree *tree, const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < tree->count; i++) {
        if (strncmp(tree->names[i].path, path, len) == 0 && tree->names[i].path[len] == '/') {
            return false;
        }
    }
    return true;
}

static int sim_rmdir(struct disk *d, const char *path, struct err_ctx *err)
{
    struct sim_disk *s = sim_of(d);
    struct sim_name *name = sim_tree_find(&s->now, path);

    if (name == NULL || name->inode != NULL) {
        return fail(err, ESCROW_ENOTFOUND, "rmdir", path);
    }
    if (!folder_is_empty(&s->now, path)) {
        return fail(err, ESCROW_EIO, "rmdir", path);
    }
    return remove_name(s, SIM_OP_RMDIR, path, err);
}

static int sim_mkdir(struct disk *d, const char *path, struct err_ctx *err)
{
    struct sim_disk *s = sim_of(d);
    struct sim_entry entry;
    char folder[512];
    int rc;

    if (sim_tree_find(&s->now, path) != NULL) {
        return 0;
    }
    folder_of(path, folder, sizeof folder);
    if (folder[0] != '\0' && sim_tree_find(&s->now, folder) == NULL) {
        return fail(err, ESCROW_ENOTFOUND, "mkdir", path);
    }
    rc = begin_op(s, SIM_OP_MKDIR, path, 0, 0, err);
    if (rc != 0) {
        return rc;
    }
    entry = (struct sim_entry){.folder = sim_strdup(folder), .path = sim_strdup(path)};
    sim_entry_apply(&s->now, &entry);
    sim_disk_add_entry(s, &entry);
    return 0;
}

static int sim_sync_dir(struct disk *d, const char *path, struct err_ctx *err)
{
    struct sim_disk *s = sim_of(d);
    size_t kept = 0;
    int rc;

    if (path[0] != '\0' && sim_tree_find(&s->now, path) == NULL) {
        return fail(err, ESCROW_ENOTFOUND, "sync folder", path);
    }
    rc = begin_op(s, SIM_OP_SYNC_DIR, path, 0, 0, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < s->entry_count; i++) {
        if (strcmp(s->entries[i].folder, path) == 0) {
            sim_entry_apply(&s->durable, &s->entries[i]);
            sim_entry_fini(&s->entries[i]);
        } else {
            s->entries[kept++] = s->entries[i];
        }
    }
    s->entry_count = kept;
    return 0;
}

static int sim_list(struct disk *d, const char *path, disk_list_fn *fn, void *arg,
                    struct err_ctx *err)
{
    struct sim_disk *s = sim_of(d);
    size_t len = strlen(path);

    if (s->is_dead) {
        return fail(err, ESCROW_EIO, "list", path);
    }
    if (len > 0 && sim_tree_find(&s->now, path) == NULL) {
        return fail(err, ESCROW_ENOTFOUND, "list", path);
    }
    for (size_t i = 0; i < s->now.count; i++) {
        const char *name = s->now.names[i].path;
        int rc;
        if (len > 0) {
            if (strncmp(name, path, len) != 0 || name[len] != '/') {
                continue;
            }
            name += len + 1;
        }
        if (strchr(name, '/') != NULL) {
            continue;
        }
        rc = fn(arg, name, s->now.names[i].inode == NULL);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int sim_usage(struct disk *d, struct disk_usage *usage, struct err_ctx *err)
{
    (void)err;
    usage->used_bytes = sim_disk_used(d);
    usage->available_bytes = sim_of(d)->capacity - usage->used_bytes;
    return 0;
}

static void sim_disk_free(struct disk *d)
{
    struct sim_disk *s = sim_of(d);

    CHECK(s->open_count == 0);
    for (size_t i = 0; i < s->entry_count; i++) {
        sim_entry_fini(&s->entries[i]);
    }
    sim_free(s->entries);
    sim_tree_fini(&s->now);
    sim_tree_fini(&s->durable);
    sim_free(s);
}

static const struct disk_ops sim_ops = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .pread = sim_pread,
    .pread_nowait = sim_pread_nowait,
    .pwritev = sim_pwritev,
    .allocate = sim_allocate,
    .zero = sim_zero,
    .truncate = sim_truncate,
    .sync = sim_sync,
    .lock = sim_lock,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .rmdir = sim_rmdir,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .usage = sim_usage,
    .free = sim_disk_free,
};

struct sim_disk *sim_of(const struct disk *d)
{
    CHECK(d->ops == &sim_ops);
    return (struct sim_disk *)(uintptr_t)d;
}

struct disk *sim_disk_new(void)
{
    struct sim_disk *s = sim_alloc(sizeof *s);

    s->base.ops = &sim_ops;
    s->capacity = UINT64_MAX;
    return &s->base;
}
