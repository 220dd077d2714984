#include "core/io_uv/standard_fds.h"

#include "core/base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int standard_fds_open(struct err_ctx *err)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        int got;

        if (fcntl(fd, F_GETFD) >= 0) {
            continue;
        }
        /* Kept over exec, as the standard descriptors are. */
        got = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
        if (got < 0) {
            return err_set_errno(err, errno, "open /dev/null");
        }
        CHECK(got == fd); /* the lowest that is free, and those below are open */
    }
    return 0;
}
