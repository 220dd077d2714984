#include "src/broker/descriptors.h"

#include "core/base/log.h"
#include "src/broker/session.h"

#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#define PORTS 3 /* broker, its VIP port, name server */
/* Log, queues, index, callbacks, name servers, the loop; and connections too many. */
#define DESCRIPTORS_OWN (256 + PORTS * SESSIONS_OVER_MAX)

void descriptors_prepare(struct config *c)
{
    uint64_t wanted = DESCRIPTORS_OWN + PORTS * c->connections_max;
    uint64_t fits;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
        return;
    }
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 && getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    if (limit.rlim_cur >= wanted) {
        return;
    }
    fits =
        limit.rlim_cur < DESCRIPTORS_OWN + PORTS ? 1 : (limit.rlim_cur - DESCRIPTORS_OWN) / PORTS;
    log_warn("limits.descriptors",
             "only %" PRIu64 " files may be open: connections.max is %" PRIu64 ", not %" PRIu64
             "; raise LimitNOFILE= of the unit, or ulimit -n",
             (uint64_t)limit.rlim_cur, fits, c->connections_max);
    c->connections_max = fits;
}
