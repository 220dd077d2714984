#include "src/namesrv/namesrv.h"

#include "core/base/log.h"

#define NAMESRV_SCAN_MS     5000
#define NAMESRV_CONFLICT_MS 60000

static void namesrv_expire(void *arg)
{
    struct namesrv *n = arg;
    size_t count = registry_expire(&n->registry, loop_mono_ms(n->loop));

    if (count > 0) {
        log_warn("namesrv.expired", "%zu broker addresses were silent for too long", count);
    }
}

void namesrv_start(struct namesrv *n, struct loop *l, struct hash_key key)
{
    *n = (struct namesrv){.loop = l};
    registry_init(&n->registry, key);
    loop_timer_start(l, &n->expiry, NAMESRV_SCAN_MS, NAMESRV_SCAN_MS, namesrv_expire, n);
}

int namesrv_load(struct namesrv *n, struct disk *disk, struct err_ctx *err)
{
    int rc = kv_store_open(&n->kv, n->loop, &n->registry, disk, err);

    if (rc == 0 && n->registry.kv.count > 0) {
        log_info("namesrv.kv", "%zu entries of key-value configuration, %zu bytes",
                 n->registry.kv.count, n->registry.kv_bytes);
    }
    return rc;
}

void namesrv_drain(struct namesrv *n)
{
    if (n->kv.loop != NULL) {
        kv_store_drain(&n->kv);
    }
}

void namesrv_log_conflict(struct namesrv *n, const char *text)
{
    int64_t now_ms = loop_mono_ms(n->loop);

    if (now_ms >= n->conflict_due_ms) {
        log_warn("namesrv.conflict", "%s", text);
        n->conflict_due_ms = now_ms + NAMESRV_CONFLICT_MS;
    }
}

void namesrv_stop(struct namesrv *n)
{
    if (n->loop != NULL) {
        kv_store_close(&n->kv);
        loop_timer_stop(n->loop, &n->expiry);
        registry_fini(&n->registry);
    }
}
