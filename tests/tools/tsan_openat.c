/*
 * openat() for builds with ThreadSanitizer, which does not know that call.
 *
 * ThreadSanitizer keeps for each descriptor number who used it last, and begins anew when open() or
 * accept() hands the number out. libuv closes descriptors without libc, unseen. When the next to
 * get such a number gets it from openat(), its use looks like a race with the connection that had
 * the number before. So in these builds openat() is an open() through the folder's entry in /proc,
 * which ThreadSanitizer sees.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/types.h>

int openat(int folder_fd, const char *path, int flags, ...)
{
    char full[PATH_MAX];
    mode_t mode = 0;
    int len;

    if ((flags & O_CREAT) != 0) {
        va_list args;
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if (folder_fd == AT_FDCWD || path[0] == '/') {
        return open(path, flags, mode);
    }
    len = snprintf(full, sizeof full, "/proc/self/fd/%d/%s", folder_fd, path);
    if (len < 0 || (size_t)len >= sizeof full) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(full, flags, mode);
}
