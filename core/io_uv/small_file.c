#include "core/io_uv/small_file.h"

#include "core/base/log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(int fd, size_t size_max, const char *path, struct buf *out, struct err_ctx *err)
{
    size_t start = out->len;

    for (;;) {
        uint8_t *room = buf_reserve(out, 4096);
        ssize_t n = room == NULL ? 0 : read(fd, room, 4096);
        if (room == NULL) {
            return err_set(err, ESCROW_ENOMEM, "%s: out of memory", path);
        }
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_set_errno(err, errno, "%s", path);
        }
        if (n == 0) {
            return 1;
        }
        buf_commit(out, (size_t)n);
        if (out->len - start > size_max) {
            return err_set(err, ESCROW_ETOOBIG, "%s: larger than %zu bytes", path, size_max);
        }
    }
}

static struct file_stamp stamp_of(const struct stat *st)
{
    return (struct file_stamp){.device = (uint64_t)st->st_dev,
                               .inode = (uint64_t)st->st_ino,
                               .size = (uint64_t)st->st_size,
                               .changed_s = (int64_t)st->st_mtim.tv_sec,
                               .changed_ns = (int64_t)st->st_mtim.tv_nsec,
                               .mode = (uint32_t)st->st_mode & 0777};
}

static bool is_same(const struct file_stamp *a, const struct file_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed_s == b->changed_s && a->changed_ns == b->changed_ns && a->mode == b->mode;
}

int small_file_read(const char *path, size_t size_max, bool force, struct file_stamp *stamp,
                    struct buf *out, struct err_ctx *err)
{
    struct file_stamp before = *stamp;
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int rc = 1;

    *stamp = (struct file_stamp){.size = 0};
    if (fd < 0) {
        return err_set_errno(err, errno, "%s", path);
    }
    if (fstat(fd, &st) != 0) {
        rc = err_set_errno(err, errno, "%s", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(err, ESCROW_EINVAL, "%s: not a regular file", path);
    }
    if (rc == 1) {
        *stamp = stamp_of(&st);
        rc = !force && is_same(stamp, &before) ? 0 : read_all(fd, size_max, path, out, err);
    }
    (void)close(fd); /* only read */
    return rc;
}

/* The one line of a text; false when it is not one. */
static bool one_line(struct slice text, char *out, size_t size)
{
    size_t len = text.len;

    if (len > 0 && text.ptr[len - 1] == '\n') {
        len--;
    }
    if (len > 0 && text.ptr[len - 1] == '\r') {
        len--;
    }
    for (size_t i = 0; i < len; i++) {
        if (iscntrl(text.ptr[i])) {
            return false;
        }
    }
    if (len == 0 || len >= size) {
        return false;
    }
    (void)slice_to_cstr(slice_of(text.ptr, len), out, size);
    return true;
}

int secret_file_read(const char *path, char *out, size_t size, struct err_ctx *err)
{
    struct file_stamp stamp = {.size = 0};
    struct buf text;
    int rc;

    buf_init(&text, 0);
    rc = small_file_read(path, size + 2, true, &stamp, &text, err);
    if (rc == 1) {
        rc = one_line(buf_slice(&text), out, size)
                 ? 0
                 : err_set(err, ESCROW_ECONFIG, "%s: expected one line with the secret key", path);
    }
    if (text.cap > 0) {
        explicit_bzero(text.ptr, text.cap);
    }
    buf_fini(&text);
    if (rc == 0 && small_file_is_open_to_others(&stamp)) {
        log_warn("secret.mode", "%s: mode %04o: others can get at the secret; chmod 600", path,
                 stamp.mode);
    }
    return rc;
}
