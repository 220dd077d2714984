/* The queues of a route are numbered through: those of its first broker, of its second, ... */
#include "src/client/pick.h"

#include "core/proto/tags.h"

#include <string.h>

static uint32_t writable(const struct pick *p, const struct route_target *t)
{
    if (t->addr[0] == '\0') {
        return 0;
    }
    return p->route->is_template && t->write_queues > p->create_queues ? p->create_queues
                                                                       : t->write_queues;
}

/* Queue number n, of as many as there are. */
static const struct route_target *queue_at(const struct pick *p, uint32_t n, uint32_t *queue_id)
{
    const struct route_target *t = p->route->targets;

    for (uint32_t queues; n >= (queues = writable(p, t)); t++) {
        n -= queues;
    }
    *queue_id = n;
    return t;
}

static bool is_avoided(const struct pick *p, const struct route_target *t)
{
    return p->avoid != NULL && strcmp(t->broker, p->avoid) == 0;
}

bool pick_queue(const struct pick *p, struct route_target *target, int32_t *queue_id)
{
    const struct route_target *found;
    uint32_t queues = 0;
    uint32_t elsewhere = 0;
    uint32_t id = 0;

    for (size_t i = 0; i < p->route->target_count; i++) {
        uint32_t here = writable(p, &p->route->targets[i]);
        queues += here;
        elsewhere += is_avoided(p, &p->route->targets[i]) ? 0 : here;
    }
    if (queues == 0) {
        return false;
    }
    if (p->key.len > 0) {
        found = queue_at(p, (uint32_t)java_hash(p->key) % queues, &id);
    } else {
        do { /* ends: there is a queue elsewhere, or all will do */
            found = queue_at(p, (*p->turn)++ % queues, &id);
        } while (elsewhere > 0 && is_avoided(p, found));
    }
    *target = *found;
    *queue_id = (int32_t)id;
    return true;
}
