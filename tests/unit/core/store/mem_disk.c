#include "tests/unit/core/store/mem_disk.h"

#include "core/base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 4096
#define PATH_MAX_ 1024

struct node {
    char path[PATH_MAX_];
    bool is_dir;
    bool is_used;
    bool is_unlinked; /* and still open */
    bool is_dirty;
    uint32_t handles;
    uint8_t *bytes;
    size_t len;
    size_t cap;
};

struct mem_disk {
    struct disk base;
    struct node **nodes; /* NODES_MAX, NULL = free */
    uint64_t fault_in;
    int fault_error;
    bool is_fired;
    bool is_cold;
    struct mem_disk_counts counts;
};

struct mem_file {
    struct disk_file base;
    struct node *node;
    bool may_write;
};

/* A disk's memory is not what a test fails with mem_fault_at, nor what it counts. */
static void *plain_resize(void *ptr, size_t size)
{
    void *p = realloc(ptr, size); /* allow(memory): see above */

    CHECK(p != NULL);
    return p;
}

static void *plain_zeroed(size_t size)
{
    return memset(plain_resize(NULL, size), 0, size);
}

static void plain_free(void *ptr)
{
    free(ptr); /* allow(memory): see above */
}

static struct mem_disk *self(const struct disk *d)
{
    return (struct mem_disk *)(uintptr_t)d;
}

static int fault(struct mem_disk *m, struct err_ctx *err, const char *what)
{
    if (m->fault_in == 0 || --m->fault_in > 0) {
        return 0;
    }
    m->is_fired = true;
    return err_set(err, m->fault_error, "%s: fault", what);
}

static struct node *node_find(const struct mem_disk *m, const char *path)
{
    for (size_t i = 0; i < NODES_MAX; i++) {
        struct node *n = m->nodes[i];
        if (n != NULL && !n->is_unlinked && strcmp(n->path, path) == 0) {
            return n;
        }
    }
    return NULL;
}

static struct node *node_new(struct mem_disk *m, const char *path, bool is_dir)
{
    CHECK(strlen(path) < PATH_MAX_);
    for (size_t i = 0; i < NODES_MAX; i++) {
        if (m->nodes[i] == NULL) {
            struct node *n = plain_zeroed(sizeof *n);
            (void)snprintf(n->path, sizeof n->path, "%s", path);
            n->is_dir = is_dir;
            m->nodes[i] = n;
            return n;
        }
    }
    UNREACHABLE("too many files for this disk");
}

static void node_free(struct mem_disk *m, struct node *n)
{
    for (size_t i = 0; i < NODES_MAX; i++) {
        if (m->nodes[i] == n) {
            m->nodes[i] = NULL;
        }
    }
    plain_free(n->bytes);
    plain_free(n);
}

static bool parent_exists(const struct mem_disk *m, const char *path)
{
    char parent[PATH_MAX_];
    const char *slash = strrchr(path, '/');
    const struct node *n;

    if (slash == NULL) {
        return true;
    }
    (void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    n = node_find(m, parent);
    return n != NULL && n->is_dir;
}

static void node_resize(struct node *n, size_t len)
{
    if (len > n->cap) {
        size_t cap = n->cap == 0 ? 4096 : n->cap;
        while (cap < len) {
            cap *= 2;
        }
        n->bytes = plain_resize(n->bytes, cap);
        n->cap = cap;
    }
    if (len > n->len) {
        memset(n->bytes + n->len, 0, len - n->len);
    }
    n->len = len;
}

/* ------------------------------------------------------------------ operations */

static int op_open(struct disk *d, const char *path, unsigned flags, struct disk_file **out,
                   struct err_ctx *err)
{
    struct mem_disk *m = self(d);
    struct node *n = node_find(m, path);
    struct mem_file *f;
    int rc = fault(m, err, path);

    if (rc != 0) {
        return rc;
    }
    if (n == NULL && ((flags & DISK_CREATE) == 0 || !parent_exists(m, path))) {
        return err_set(err, ESCROW_ENOTFOUND, "%s: missing", path);
    }
    if (n != NULL && (flags & DISK_EXCLUSIVE) != 0) {
        return err_set(err, ESCROW_EEXIST, "%s: exists", path);
    }
    if (n == NULL) {
        n = node_new(m, path, false);
    }
    CHECK(!n->is_dir);
    f = plain_zeroed(sizeof *f);
    f->base.disk = d;
    f->node = n;
    f->may_write = (flags & DISK_WRITE) != 0;
    n->handles++;
    m->counts.opens++;
    m->counts.open_files++;
    *out = &f->base;
    return 0;
}

static struct mem_file *file_of(struct disk_file *f)
{
    return (struct mem_file *)f;
}

static void op_close(struct disk_file *f)
{
    struct mem_disk *m = self(f->disk);
    struct node *n = file_of(f)->node;

    n->handles--;
    m->counts.open_files--;
    if (n->handles == 0 && n->is_unlinked) {
        node_free(m, n);
    }
    plain_free(f);
}

static int op_size(struct disk_file *f, uint64_t *size_bytes, struct err_ctx *err)
{
    *size_bytes = file_of(f)->node->len;
    return fault(self(f->disk), err, file_of(f)->node->path);
}

static int op_pread(struct disk_file *f, void *dst, size_t len, uint64_t offset, size_t *got,
                    struct err_ctx *err)
{
    const struct node *n = file_of(f)->node;
    size_t left = offset < n->len ? n->len - (size_t)offset : 0;

    *got = len < left ? len : left;
    if (*got > 0) {
        memcpy(dst, n->bytes + offset, *got);
    }
    return fault(self(f->disk), err, n->path);
}

static int op_pread_nowait(struct disk_file *f, void *dst, size_t len, uint64_t offset, size_t *got)
{
    return self(f->disk)->is_cold ? ESCROW_EAGAIN : op_pread(f, dst, len, offset, got, NULL);
}

static int op_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset,
                      struct err_ctx *err)
{
    struct mem_disk *m = self(f->disk);
    struct node *n = file_of(f)->node;
    int rc = fault(m, err, n->path);

    CHECK(file_of(f)->may_write);
    m->counts.writes++;
    n->is_dirty = true;
    for (int i = 0; i < count; i++) {
        size_t len = rc == 0 ? iov[i].iov_len : iov[i].iov_len / 2; /* a failed write is torn */
        if (offset + len > n->len) {
            node_resize(n, (size_t)offset + len);
        }
        memcpy(n->bytes + offset, iov[i].iov_base, len);
        offset += iov[i].iov_len;
        if (rc != 0) {
            break;
        }
    }
    return rc;
}

static int op_allocate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err)
{
    int rc = fault(self(f->disk), err, file_of(f)->node->path);

    if (rc == 0 && size_bytes > file_of(f)->node->len) {
        node_resize(file_of(f)->node, (size_t)size_bytes);
    }
    return rc;
}

static int op_zero(struct disk_file *f, uint64_t offset, uint64_t len, struct err_ctx *err)
{
    int rc = fault(self(f->disk), err, file_of(f)->node->path);

    if (rc == 0) {
        memset(file_of(f)->node->bytes + offset, 0, (size_t)len);
    }
    return rc;
}

static int op_truncate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err)
{
    int rc = fault(self(f->disk), err, file_of(f)->node->path);

    CHECK(file_of(f)->may_write);
    if (rc == 0) {
        node_resize(file_of(f)->node, (size_t)size_bytes);
        file_of(f)->node->is_dirty = true;
    }
    return rc;
}

static int op_sync(struct disk_file *f, struct err_ctx *err)
{
    int rc = fault(self(f->disk), err, file_of(f)->node->path);

    self(f->disk)->counts.syncs++;
    if (rc == 0) {
        file_of(f)->node->is_dirty = false;
    }
    return rc;
}

static int op_lock(struct disk_file *f, struct err_ctx *err)
{
    return fault(self(f->disk), err, file_of(f)->node->path);
}

static int op_unlink(struct disk *d, const char *path, struct err_ctx *err)
{
    struct mem_disk *m = self(d);
    struct node *n = node_find(m, path);
    int rc = fault(m, err, path);

    if (rc != 0) {
        return rc;
    }
    if (n == NULL || n->is_dir) {
        return err_set(err, ESCROW_ENOTFOUND, "%s: missing", path);
    }
    if (n->handles == 0) {
        node_free(m, n);
    } else {
        n->is_unlinked = true;
    }
    return 0;
}

static int op_rename(struct disk *d, const char *from, const char *to, struct err_ctx *err)
{
    struct mem_disk *m = self(d);
    struct node *n = node_find(m, from);
    int rc = fault(m, err, from);

    if (rc != 0) {
        return rc;
    }
    if (n == NULL) {
        return err_set(err, ESCROW_ENOTFOUND, "%s: missing", from);
    }
    if (node_find(m, to) != NULL) {
        struct node *old = node_find(m, to);
        if (old->handles == 0) {
            node_free(m, old);
        } else {
            old->is_unlinked = true;
        }
    }
    (void)snprintf(n->path, sizeof n->path, "%s", to);
    return 0;
}

static int op_mkdir(struct disk *d, const char *path, struct err_ctx *err)
{
    struct mem_disk *m = self(d);
    int rc = fault(m, err, path);

    if (rc != 0) {
        return rc;
    }
    if (!parent_exists(m, path)) {
        return err_set(err, ESCROW_ENOTFOUND, "%s: no such folder above", path);
    }
    if (node_find(m, path) == NULL) {
        (void)node_new(m, path, true);
    }
    return 0;
}

static int op_rmdir(struct disk *d, const char *path, struct err_ctx *err)
{
    struct mem_disk *m = self(d);
    int rc = fault(m, err, path);

    if (rc == 0 && node_find(m, path) != NULL) {
        node_free(m, node_find(m, path));
    }
    return rc;
}

static int op_sync_dir(struct disk *d, const char *path, struct err_ctx *err)
{
    struct mem_disk *m = self(d);

    m->counts.dir_syncs++;
    if (path[0] != '\0' && (node_find(m, path) == NULL || !node_find(m, path)->is_dir)) {
        return err_set(err, ESCROW_ENOTFOUND, "%s: missing", path);
    }
    return fault(m, err, path);
}

static int op_list(struct disk *d, const char *path, disk_list_fn *fn, void *arg,
                   struct err_ctx *err)
{
    struct mem_disk *m = self(d);
    size_t len = strlen(path);
    int rc = fault(m, err, path);

    if (rc == 0 && len > 0 && node_find(m, path) == NULL) {
        rc = err_set(err, ESCROW_ENOTFOUND, "%s: missing", path);
    }
    for (size_t i = 0; rc == 0 && i < NODES_MAX; i++) {
        const struct node *n = m->nodes[i];
        if (n != NULL && !n->is_unlinked && strlen(n->path) > len + 1 &&
            memcmp(n->path, path, len) == 0 && n->path[len] == '/' &&
            strchr(n->path + len + 1, '/') == NULL) {
            rc = fn(arg, n->path + len + 1, n->is_dir);
        }
    }
    return rc;
}

static int op_free_bytes(struct disk *d, uint64_t *free_bytes, struct err_ctx *err)
{
    *free_bytes = UINT64_C(1) << 40;
    return fault(self(d), err, "free");
}

static void op_free(struct disk *d)
{
    struct mem_disk *m = self(d);

    CHECK(m->counts.open_files == 0);
    for (size_t i = 0; i < NODES_MAX; i++) {
        if (m->nodes[i] != NULL) {
            node_free(m, m->nodes[i]);
        }
    }
    plain_free((void *)m->nodes);
    plain_free(m);
}

static const struct disk_ops mem_disk_ops = {
    .open = op_open,
    .close = op_close,
    .size = op_size,
    .pread = op_pread,
    .pread_nowait = op_pread_nowait,
    .pwritev = op_pwritev,
    .allocate = op_allocate,
    .zero = op_zero,
    .truncate = op_truncate,
    .sync = op_sync,
    .lock = op_lock,
    .rename = op_rename,
    .unlink = op_unlink,
    .mkdir = op_mkdir,
    .rmdir = op_rmdir,
    .sync_dir = op_sync_dir,
    .list = op_list,
    .free_bytes = op_free_bytes,
    .free = op_free,
};

/* ------------------------------------------------------------------ control */

struct disk *mem_disk_new(void)
{
    struct mem_disk *m = plain_zeroed(sizeof *m);

    m->base.ops = &mem_disk_ops;
    m->nodes = plain_zeroed(NODES_MAX * sizeof(struct node *));
    return &m->base;
}

void mem_disk_fail_at(struct disk *d, uint64_t n, int error)
{
    self(d)->fault_in = n;
    self(d)->fault_error = error;
    self(d)->is_fired = false;
}

bool mem_disk_fault_fired(const struct disk *d)
{
    return self(d)->is_fired;
}

void mem_disk_set_cold(struct disk *d, bool is_cold)
{
    self(d)->is_cold = is_cold;
}

struct mem_disk_counts mem_disk_counts(const struct disk *d)
{
    const struct mem_disk *m = self(d);
    struct mem_disk_counts counts = m->counts;

    for (size_t i = 0; i < NODES_MAX; i++) {
        if (m->nodes[i] != NULL && !m->nodes[i]->is_dir && !m->nodes[i]->is_unlinked) {
            counts.files++;
            counts.unsynced += m->nodes[i]->is_dirty ? 1 : 0;
        }
    }
    return counts;
}

uint8_t *mem_disk_bytes(struct disk *d, const char *path, size_t *len)
{
    struct node *n = node_find(self(d), path);

    *len = n == NULL ? 0 : n->len;
    return n == NULL ? NULL : n->bytes;
}

void mem_disk_put(struct disk *d, const char *path, const void *bytes, size_t len)
{
    struct mem_disk *m = self(d);
    struct node *n;
    char folder[PATH_MAX_];

    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - path), path);
        if (node_find(m, folder) == NULL) {
            (void)node_new(m, folder, true);
        }
    }
    n = node_find(m, path);
    if (n == NULL) {
        n = node_new(m, path, false);
    }
    node_resize(n, 0);
    node_resize(n, len);
    if (len > 0) {
        memcpy(n->bytes, bytes, len);
    }
}

struct disk *mem_disk_copy(const struct disk *d)
{
    const struct mem_disk *m = self(d);
    struct disk *copy = mem_disk_new();

    for (size_t i = 0; i < NODES_MAX; i++) {
        const struct node *n = m->nodes[i];
        if (n != NULL && !n->is_unlinked) {
            struct node *c = node_new(self(copy), n->path, n->is_dir);
            node_resize(c, n->len);
            if (n->len > 0) {
                memcpy(c->bytes, n->bytes, n->len);
            }
        }
    }
    return copy;
}
