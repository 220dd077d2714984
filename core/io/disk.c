/* Dispatch to the implementation, and the two operations every implementation shares. */
#include "core/io/disk.h"

#include "core/base/check.h"
#include "core/base/mem.h"

#include <stdio.h>
#include <string.h>

#define DISK_PATH_MAX 1024

int disk_open(struct disk *d, const char *path, unsigned flags, struct disk_file **out,
              struct err_ctx *err)
{
    CHECK(strstr(path, "..") == NULL);
    *out = NULL;
    return d->ops->open(d, path, flags, out, err);
}

void disk_close(struct disk_file **f)
{
    if (*f != NULL) {
        (*f)->disk->ops->close(*f);
        *f = NULL;
    }
}

int disk_size(struct disk_file *f, uint64_t *size_bytes, struct err_ctx *err)
{
    return f->disk->ops->size(f, size_bytes, err);
}

int disk_pread(struct disk_file *f, void *dst, size_t len, uint64_t offset, size_t *got,
               struct err_ctx *err)
{
    return f->disk->ops->pread(f, dst, len, offset, got, err);
}

int disk_pread_nowait(struct disk_file *f, void *dst, size_t len, uint64_t offset, size_t *got)
{
    return f->disk->ops->pread_nowait(f, dst, len, offset, got);
}

int disk_pwritev(struct disk_file *f, const struct iovec *iov, int count, uint64_t offset,
                 struct err_ctx *err)
{
    return f->disk->ops->pwritev(f, iov, count, offset, err);
}

int disk_allocate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err)
{
    return f->disk->ops->allocate(f, size_bytes, err);
}

int disk_zero(struct disk_file *f, uint64_t offset, uint64_t len, struct err_ctx *err)
{
    return f->disk->ops->zero(f, offset, len, err);
}

int disk_truncate(struct disk_file *f, uint64_t size_bytes, struct err_ctx *err)
{
    return f->disk->ops->truncate(f, size_bytes, err);
}

int disk_sync(struct disk_file *f, struct err_ctx *err)
{
    return f->disk->ops->sync(f, err);
}

int disk_lock(struct disk_file *f, struct err_ctx *err)
{
    return f->disk->ops->lock(f, err);
}

int disk_rename(struct disk *d, const char *from, const char *to, struct err_ctx *err)
{
    return d->ops->rename(d, from, to, err);
}

int disk_unlink(struct disk *d, const char *path, struct err_ctx *err)
{
    return d->ops->unlink(d, path, err);
}

int disk_mkdir(struct disk *d, const char *path, struct err_ctx *err)
{
    return d->ops->mkdir(d, path, err);
}

int disk_rmdir(struct disk *d, const char *path, struct err_ctx *err)
{
    return d->ops->rmdir(d, path, err);
}

int disk_sync_dir(struct disk *d, const char *path, struct err_ctx *err)
{
    return d->ops->sync_dir(d, path, err);
}

int disk_list(struct disk *d, const char *path, disk_list_fn *fn, void *arg, struct err_ctx *err)
{
    return d->ops->list(d, path, fn, arg, err);
}

int disk_usage(struct disk *d, struct disk_usage *usage, struct err_ctx *err)
{
    return d->ops->usage(d, usage, err);
}

void disk_free(struct disk **d)
{
    if (*d != NULL) {
        (*d)->ops->free(*d);
        *d = NULL;
    }
}

/* Folder part of a path: everything before the last '/', "" when there is none. */
static void path_folder(const char *path, char *folder, size_t size)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);

    CHECK(len < size);
    memcpy(folder, path, len);
    folder[len] = '\0';
}

int disk_replace(struct disk *d, const char *path, const void *data, size_t len,
                 struct err_ctx *err)
{
    char tmp[DISK_PATH_MAX];
    char folder[DISK_PATH_MAX];
    struct disk_file *f = NULL;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    int rc;

    CHECK(strlen(path) + sizeof ".tmp" <= sizeof tmp);
    (void)snprintf(tmp, sizeof tmp, "%s.tmp", path); /* fits: checked above */
    path_folder(path, folder, sizeof folder);
    rc = disk_open(d, tmp, DISK_WRITE | DISK_CREATE, &f, err);
    if (rc == 0) {
        rc = disk_truncate(f, 0, err);
    }
    if (rc == 0) {
        rc = disk_pwritev(f, &iov, 1, 0, err);
    }
    if (rc == 0) {
        rc = disk_sync(f, err);
    }
    disk_close(&f);
    if (rc == 0) {
        rc = disk_rename(d, tmp, path, err);
    }
    if (rc == 0) {
        rc = disk_sync_dir(d, folder, err);
    }
    return rc;
}

int disk_read_all(struct disk *d, const char *path, size_t limit, uint8_t **data, size_t *len,
                  struct err_ctx *err)
{
    struct disk_file *f = NULL;
    uint64_t size = 0;
    int rc = disk_open(d, path, DISK_READ, &f, err);

    *data = NULL;
    *len = 0;
    if (rc == 0) {
        rc = disk_size(f, &size, err);
    }
    if (rc == 0 && size > limit) {
        rc = err_set(err, ESCROW_ETOOBIG, "%s: %llu bytes, more than the %zu allowed", path,
                     (unsigned long long)size, limit);
    }
    if (rc == 0) {
        *data = mem_alloc((size_t)size);
        rc = *data == NULL ? err_set(err, ESCROW_ENOMEM, "%s: out of memory", path) : 0;
    }
    if (rc == 0) {
        rc = disk_pread(f, *data, (size_t)size, 0, len, err);
    }
    disk_close(&f);
    if (rc != 0) {
        mem_free(*data);
        *data = NULL;
        *len = 0;
    }
    return rc;
}
