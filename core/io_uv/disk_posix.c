/*
 * Files below one root folder. The happy path of every operation is one system call; what is around
 * it is EINTR, short transfers, file systems that cannot do what was asked, and error texts that
 * name the file.
 *
 * Paths come from our own code and from names that passed an allow-list; "..", an absolute path and
 * an empty part are refused all the same, and the last part may not be a symbolic link. A folder on
 * the way may be one: an operator may put `log` on a disk of its own.
 */
#include "core/io_uv/disk_posix.h"

#include "core/base/check.h"
#include "core/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FILE_MODE   0640
#define FOLDER_MODE 0750
#define IOV_BATCH   64 /* iovecs given to the kernel at once */
#define ZERO_CHUNK                                                                                 \
    ((size_t)256 * 1024) /* written at once where the file system cannot zero by itself */

struct posix_disk {
    struct disk base;
    int root_fd;
    char *root; /* for error texts */
};

struct posix_file {
    struct disk_file base;
    int fd;
    char *path; /* relative to the root; for error texts */
};

static struct posix_disk *disk_of(struct disk *d)
{
    return (struct posix_disk *)(void *)d;
}

static struct posix_file *file_of(struct disk_file *f)
{
    return (struct posix_file *)(void *)f;
}

static const char *root_of(const struct posix_file *f)
{
    return disk_of(f->base.disk)->root;
}

/* errno of an operation on an open file. */
static int file_error(struct posix_file *f, const char *what, uint64_t offset, struct err_ctx *err)
{
    int errnum = errno;

    return err_set_errno(err, errnum, "%s %s/%s at offset %llu", what, root_of(f), f->path,
                         (unsigned long long)offset);
}

/* errno of an operation on a path. */
static int path_error(struct disk *d, const char *what, const char *path, struct err_ctx *err)
{
    int errnum = errno;

    return err_set_errno(err, errnum, "%s %s/%s", what, disk_of(d)->root, path);
}

static bool part_is_fine(const char *part, size_t len)
{
    return len > 0 && !(len == 1 && part[0] == '.') &&
           !(len == 2 && part[0] == '.' && part[1] == '.');
}

static int path_check(struct disk *d, const char *path, struct err_ctx *err)
{
    const char *part = path;

    for (;;) {
        size_t len = strcspn(part, "/");

        if (!part_is_fine(part, len)) {
            return err_set(err, ESCROW_EINVAL, "%s/%s: not a path below the folder",
                           disk_of(d)->root, path);
        }
        if (part[len] == '\0') {
            return 0;
        }
        part += len + 1;
    }
}

/* ---- open, close, size ---- */

/*
 * What has our names and is no file (a pipe that somebody made, a device) would never end, or take
 * what is written and forget it.
 */
static int check_regular(struct disk *d, int fd, const char *path, struct err_ctx *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return path_error(d, "stat", path, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ESCROW_EIO, "open %s/%s: not a regular file", disk_of(d)->root, path);
    }
    return 0;
}

static int posix_open(struct disk *d, const char *path, unsigned flags, struct disk_file **out,
                      struct err_ctx *err)
{
    /* O_NONBLOCK: a pipe is opened, and then refused, without waiting for its other end. */
    int oflags =
        O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | ((flags & DISK_WRITE) != 0 ? O_RDWR : O_RDONLY);
    struct posix_file *f;
    int rc = path_check(d, path, err);

    CHECK_IMPLIES((flags & DISK_CREATE) != 0, (flags & DISK_WRITE) != 0);
    CHECK_IMPLIES((flags & DISK_EXCLUSIVE) != 0, (flags & DISK_CREATE) != 0);
    if (rc != 0) {
        return rc;
    }
    oflags |= (flags & DISK_CREATE) != 0 ? O_CREAT : 0;
    oflags |= (flags & DISK_EXCLUSIVE) != 0 ? O_EXCL : 0;
    f = mem_calloc(1, sizeof *f);
    if (f == NULL) {
        return err_set(err, ESCROW_ENOMEM, "open %s: out of memory", path);
    }
    f->path = mem_strdup(path);
    if (f->path == NULL) {
        mem_free(f);
        return err_set(err, ESCROW_ENOMEM, "open %s: out of memory", path);
    }
    do {
        f->fd = openat(disk_of(d)->root_fd, path, oflags, FILE_MODE);
    } while (f->fd < 0 && errno == EINTR);
    rc = f->fd < 0 ? path_error(d, "open", path, err) : check_regular(d, f->fd, path, err);
    if (rc != 0 && f->fd >= 0) {
        (void)close(f->fd); /* nothing was written to it */
    }
    if (rc != 0) {
        mem_free(f->path);
        mem_free(f);
        return rc;
    }
    f->base.disk = d;
    *out = &f->base;
    return 0;
}

static void posix_close(struct disk_file *file)
{
    struct posix_file *f = file_of(file);

    (void)close(f->fd); /* what had to be durable was synced; nothing can be done about the rest */
    mem_free(f->path);
    mem_free(f);
}

static int posix_size(struct disk_file *file, uint64_t *size_bytes, struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    struct stat st;

    if (fstat(f->fd, &st) != 0) {
        return file_error(f, "stat", 0, err);
    }
    *size_bytes = (uint64_t)st.st_size;
    return 0;
}

/* ---- transfers ---- */

static int posix_pread(struct disk_file *file, void *dst, size_t len, uint64_t offset, size_t *got,
                       struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(f->fd, (uint8_t *)dst + done, len - done, (off_t)(offset + done));

        if (n == 0) {
            break;
        }
        if (n > 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            return file_error(f, "read", offset + done, err);
        }
    }
    *got = done;
    return 0;
}

static int posix_pread_nowait(struct disk_file *file, void *dst, size_t len, uint64_t offset,
                              size_t *got)
{
    struct posix_file *f = file_of(file);
    struct iovec iov = {.iov_base = dst, .iov_len = len};
    struct stat st;
    ssize_t n;

    do {
        n = preadv2(f->fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        /*
         * Where the file system cannot tell, every read may wait. A real error is found by the read
         * that may.
         */
        return ESCROW_EAGAIN;
    }
    *got = (size_t)n;
    if ((size_t)n == len) {
        return 0;
    }
    /* Short: the end of the file, or the first page that is not in memory. */
    if (fstat(f->fd, &st) != 0 || offset + (uint64_t)n < (uint64_t)st.st_size) {
        return ESCROW_EAGAIN;
    }
    return 0;
}

/*
 * What is left of the caller's array after `done` bytes, in a copy. Returns how many of `dst` are
 * filled.
 */
static int iov_rest(const struct iovec *iov, int count, size_t done, struct iovec *dst)
{
    int used = 0;

    for (int i = 0; i < count && used < IOV_BATCH; i++) {
        if (done >= iov[i].iov_len) {
            done -= iov[i].iov_len;
        } else {
            dst[used].iov_base = (uint8_t *)iov[i].iov_base + done;
            dst[used].iov_len = iov[i].iov_len - done;
            done = 0;
            used++;
        }
    }
    return used;
}

static int posix_pwritev(struct disk_file *file, const struct iovec *iov, int count,
                         uint64_t offset, struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    struct iovec batch[IOV_BATCH];
    size_t done = 0;
    int used;

    while ((used = iov_rest(iov, count, done, batch)) > 0) {
        ssize_t n = pwritev(f->fd, batch, used, (off_t)(offset + done));

        if (n > 0) {
            done += (size_t)n;
        } else if (n == 0) {
            errno = ENOSPC; /* nothing written and no reason given */
            return file_error(f, "write", offset + done, err);
        } else if (errno != EINTR) {
            return file_error(f, "write", offset + done, err);
        }
    }
    return 0;
}

static int write_zeros(struct posix_file *f, uint64_t offset, uint64_t len, struct err_ctx *err)
{
    static const uint8_t zeros[ZERO_CHUNK] = {0};

    while (len > 0) {
        size_t n = len < ZERO_CHUNK ? (size_t)len : ZERO_CHUNK;
        struct iovec iov = {.iov_base = (void *)(uintptr_t)zeros, .iov_len = n};
        int rc = posix_pwritev(&f->base, &iov, 1, offset, err);

        if (rc != 0) {
            return rc;
        }
        offset += n;
        len -= n;
    }
    return 0;
}

static int fallocate_retry(int fd, int mode, uint64_t offset, uint64_t len)
{
    int rc;

    do {
        rc = fallocate(fd, mode, (off_t)offset, (off_t)len);
    } while (rc != 0 && errno == EINTR);
    return rc;
}

static int posix_allocate(struct disk_file *file, uint64_t size_bytes, struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    uint64_t before = 0;
    int rc = posix_size(file, &before, err);

    if (rc != 0) {
        return rc;
    }
    if (size_bytes == 0) {
        return 0;
    }
    if (fallocate_retry(f->fd, 0, 0, size_bytes) == 0) {
        return 0;
    }
    if (errno == EOPNOTSUPP) {
        /*
         * Blocks below the old size are there unless somebody made holes, which nobody here does.
         */
        rc = before < size_bytes ? write_zeros(f, before, size_bytes - before, err) : 0;
    } else {
        rc = file_error(f, "allocate", size_bytes, err);
    }
    if (rc != 0) {
        (void)!ftruncate(
            f->fd, (off_t)before); /* give back what was taken; the error is reported either way */
    }
    return rc;
}

static int posix_zero(struct disk_file *file, uint64_t offset, uint64_t len, struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    uint64_t size = 0;
    int rc;

    if (len == 0) {
        return 0;
    }
    if (fallocate_retry(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, len) == 0) {
        return 0;
    }
    if (errno != EOPNOTSUPP) {
        return file_error(f, "zero", offset, err);
    }
    rc = posix_size(file, &size, err);
    if (rc != 0 || offset >= size) {
        return rc;
    }
    return write_zeros(f, offset, len < size - offset ? len : size - offset, err);
}

static int posix_truncate(struct disk_file *file, uint64_t size_bytes, struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    int rc;

    do {
        rc = ftruncate(f->fd, (off_t)size_bytes);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 ? 0 : file_error(f, "truncate", size_bytes, err);
}

/*
 * Whatever the kernel calls it (ENOSPC of a delayed allocation, too): what was written may be lost,
 * and none of the codes that allow another try may come out.
 */
static int sync_error(int code, struct err_ctx *err)
{
    code = code == ESCROW_EROFS ? code : ESCROW_EIO;
    if (err != NULL) {
        err->code = code;
    }
    return code;
}

static int posix_sync(struct disk_file *file, struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    int rc;

    do {
        rc = fdatasync(f->fd);
    } while (rc != 0 && errno == EINTR); /* interrupted before it began; no page was touched */
    if (rc == 0) {
        return 0;
    }
    return sync_error(file_error(f, "sync", 0, err), err);
}

static int posix_lock(struct disk_file *file, struct err_ctx *err)
{
    struct posix_file *f = file_of(file);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(f->fd, F_OFD_SETLK, &lock) == 0) {
        return 0;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return err_set(err, ESCROW_ELOCKED, "lock %s/%s: in use by another process", root_of(f),
                       f->path);
    }
    return file_error(f, "lock", 0, err);
}

/* ---- folders ---- */

static int posix_rename(struct disk *d, const char *from, const char *to, struct err_ctx *err)
{
    int root = disk_of(d)->root_fd;
    int rc = path_check(d, from, err);

    rc = rc == 0 ? path_check(d, to, err) : rc;
    if (rc == 0 && renameat(root, from, root, to) != 0) {
        rc = path_error(d, "rename", from, err);
    }
    return rc;
}

static int posix_unlink(struct disk *d, const char *path, struct err_ctx *err)
{
    int rc = path_check(d, path, err);

    if (rc == 0 && unlinkat(disk_of(d)->root_fd, path, 0) != 0) {
        rc = path_error(d, "unlink", path, err);
    }
    return rc;
}

static int posix_mkdir(struct disk *d, const char *path, struct err_ctx *err)
{
    int rc = path_check(d, path, err);
    struct stat st;

    if (rc != 0 || mkdirat(disk_of(d)->root_fd, path, FOLDER_MODE) == 0) {
        return rc;
    }
    if (errno == EEXIST && fstatat(disk_of(d)->root_fd, path, &st, 0) == 0) {
        if (S_ISDIR(st.st_mode)) {
            return 0;
        }
        errno = EEXIST;
    }
    return path_error(d, "mkdir", path, err);
}

static int posix_rmdir(struct disk *d, const char *path, struct err_ctx *err)
{
    int rc = path_check(d, path, err);

    if (rc == 0 && unlinkat(disk_of(d)->root_fd, path, AT_REMOVEDIR) != 0) {
        rc = path_error(d, "rmdir", path, err);
    }
    return rc;
}

/* Descriptor of a folder; "" is the root. -1 and *rc. */
static int folder_open(struct disk *d, const char *path, int *rc, struct err_ctx *err)
{
    int fd;

    *rc = path[0] == '\0' ? 0 : path_check(d, path, err);
    if (*rc != 0) {
        return -1;
    }
    fd = openat(disk_of(d)->root_fd, path[0] == '\0' ? "." : path,
                O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        *rc = path_error(d, "open folder", path, err);
    }
    return fd;
}

static int posix_sync_dir(struct disk *d, const char *path, struct err_ctx *err)
{
    int rc;
    int fd = folder_open(d, path, &rc, err);

    if (fd < 0) {
        return rc;
    }
    if (fsync(fd) != 0) {
        rc = sync_error(path_error(d, "sync folder", path, err), err);
    }
    (void)close(fd); /* nothing was written through it */
    return rc;
}

static bool entry_is_dir(int folder_fd, const struct dirent *entry)
{
    struct stat st;

    if (entry->d_type == DT_DIR) {
        return true;
    }
    if (entry->d_type != DT_UNKNOWN && entry->d_type != DT_LNK) {
        return false;
    }
    return fstatat(folder_fd, entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static int posix_list(struct disk *d, const char *path, disk_list_fn *fn, void *arg,
                      struct err_ctx *err)
{
    int rc;
    int fd = folder_open(d, path, &rc, err);
    DIR *dir;

    if (fd < 0) {
        return rc;
    }
    dir = fdopendir(fd);
    if (dir == NULL) {
        rc = path_error(d, "list", path, err);
        (void)close(fd); /* nothing was written through it */
        return rc;
    }
    while (rc == 0) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe): the stream is this call's own */
        if (entry == NULL) {
            rc = errno == 0 ? 0 : path_error(d, "list", path, err);
            break;
        }
        if (part_is_fine(entry->d_name, strlen(entry->d_name))) {
            rc = fn(arg, entry->d_name, entry_is_dir(fd, entry));
        }
    }
    (void)closedir(dir); /* nothing was written through it */
    return rc;
}

static int posix_usage(struct disk *d, struct disk_usage *usage, struct err_ctx *err)
{
    struct statvfs st;

    if (fstatvfs(disk_of(d)->root_fd, &st) != 0) {
        return path_error(d, "statvfs", "", err);
    }
    usage->used_bytes = (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
    usage->available_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

/* ---- life ---- */

static void posix_free(struct disk *d)
{
    struct posix_disk *p = disk_of(d);

    (void)close(p->root_fd); /* a folder: nothing was written through it */
    mem_free(p->root);
    mem_free(p);
}

static const struct disk_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .size = posix_size,
    .pread = posix_pread,
    .pread_nowait = posix_pread_nowait,
    .pwritev = posix_pwritev,
    .allocate = posix_allocate,
    .zero = posix_zero,
    .truncate = posix_truncate,
    .sync = posix_sync,
    .lock = posix_lock,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .mkdir = posix_mkdir,
    .rmdir = posix_rmdir,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .usage = posix_usage,
    .free = posix_free,
};

int disk_posix_new(const char *root, struct disk **out, struct err_ctx *err)
{
    struct posix_disk *p;
    int errnum;

    *out = NULL;
    if (mkdir(root, FOLDER_MODE) != 0 && errno != EEXIST) {
        errnum = errno;
        return err_set_errno(err, errnum, "mkdir %s", root);
    }
    p = mem_calloc(1, sizeof *p);
    if (p == NULL) {
        return err_set(err, ESCROW_ENOMEM, "open folder %s: out of memory", root);
    }
    p->base.ops = &posix_ops;
    p->root = mem_strdup(root);
    if (p->root == NULL) {
        mem_free(p);
        return err_set(err, ESCROW_ENOMEM, "open folder %s: out of memory", root);
    }
    p->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (p->root_fd < 0) {
        int rc;

        errnum = errno;
        rc = err_set_errno(err, errnum, "open folder %s", root);
        mem_free(p->root);
        mem_free(p);
        return rc;
    }
    *out = &p->base;
    return 0;
}
