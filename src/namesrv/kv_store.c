/*
 * Happy path: a change waits for its turn; the file as it will be is encoded on the loop, written
 * in the pool, and then the registry is changed and the change is answered.
 *
 * A write that fails changes nothing: the error is answered, and the next change is tried. A change
 * that is durable but finds no memory for the registry is answered as an error, too: the next one
 * writes a file without it.
 */
#include "src/namesrv/kv_store.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"

#include <string.h>

struct kv_waiting {
    struct list node; /* in waiting */
    struct kv_change change;
    kv_done_fn *done;
    void *arg;
    uint8_t bytes[];
};

static void write_next(struct kv_store *s);

int kv_store_open(struct kv_store *s, struct loop *l, struct registry *registry, struct disk *disk,
                  struct err_ctx *err)
{
    *s = (struct kv_store){.loop = l, .registry = registry, .disk = disk};
    list_init(&s->waiting);
    buf_init(&s->file, KV_FILE_BYTES_MAX);
    pool_init(&s->pool, l, 1);
    return disk == NULL ? 0 : kv_file_open(disk, registry, &s->lock, err);
}

static struct slice copy_text(uint8_t **at, struct slice text)
{
    struct slice copy = slice_of(*at, text.len);

    if (text.len > 0) {
        memcpy(*at, text.ptr, text.len);
        *at += text.len;
    }
    return copy;
}

static struct kv_waiting *waiting_new(const struct kv_change *change)
{
    size_t value_len = change->is_delete ? 0 : change->value.len;
    struct kv_waiting *w = mem_alloc(sizeof *w + change->ns.len + change->key.len + value_len);
    uint8_t *at;

    if (w != NULL) {
        at = w->bytes;
        *w = (struct kv_waiting){.change.is_delete = change->is_delete};
        w->change.ns = copy_text(&at, change->ns);
        w->change.key = copy_text(&at, change->key);
        w->change.value = copy_text(&at, slice_of(change->value.ptr, value_len));
    }
    return w;
}

int kv_store_change(struct kv_store *s, const struct kv_change *change, kv_done_fn *done, void *arg)
{
    struct kv_waiting *w;
    int rc = registry_kv_check(s->registry, change->ns, change->key,
                               change->is_delete ? SLICE_EMPTY : change->value);

    if (rc != 0 && !(change->is_delete && rc == ESCROW_ELIMIT)) {
        return rc;
    }
    if (s->is_closing) {
        return ESCROW_ESHUTDOWN;
    }
    if (s->disk == NULL) {
        return ESCROW_ENOTSUP;
    }
    if (s->waiting_count >= KV_WAITING_MAX) {
        return ESCROW_EBUSY;
    }
    w = waiting_new(change);
    if (w == NULL) {
        return ESCROW_ENOMEM;
    }
    w->done = done;
    w->arg = arg;
    list_push(&s->waiting, &w->node);
    s->waiting_count++;
    write_next(s);
    return 0;
}

static struct kv_waiting *waiting_first(struct kv_store *s)
{
    return LIST_ENTRY(s->waiting.next, struct kv_waiting, node);
}

static void waiting_end(struct kv_store *s, struct kv_waiting *w, int error, const char *text)
{
    list_remove(&w->node);
    s->waiting_count--;
    w->done(w->arg, error, text);
    mem_free(w);
}

/* ---- writing ---- */

/* In the pool. */
static void write_run(struct pool_job *job)
{
    struct kv_store *s = LIST_ENTRY(job, struct kv_store, job);

    kv_file_seal(&s->file);
    s->error = kv_file_write(s->disk, buf_slice(&s->file), &s->lock, &s->err);
}

static int change_apply(struct kv_store *s, const struct kv_change *c)
{
    return c->is_delete ? registry_kv_delete(s->registry, c->ns, c->key)
                        : registry_kv_put(s->registry, c->ns, c->key, c->value);
}

static void write_done(struct pool_job *job)
{
    struct kv_store *s = LIST_ENTRY(job, struct kv_store, job);
    int rc = s->error;

    s->is_writing = false;
    buf_clear(&s->file);
    if (rc != 0) {
        log_warn("namesrv.kv", "the key-value configuration was not written: %s", s->err.text);
        waiting_end(s, waiting_first(s), rc, s->err.text);
    } else {
        rc = change_apply(s, &waiting_first(s)->change);
        waiting_end(s, waiting_first(s), rc, rc == 0 ? NULL : escrow_strerror(rc));
    }
    write_next(s);
}

/* Can the first that waits be written? What came before it may have changed that. */
static int first_encode(struct kv_store *s)
{
    const struct kv_change *c = &waiting_first(s)->change;
    struct slice value;
    int rc;

    if (c->is_delete) {
        rc = registry_kv_get(s->registry, c->ns, c->key, &value);
    } else {
        rc = registry_kv_check(s->registry, c->ns, c->key, c->value);
    }
    if (rc == 0) {
        kv_file_encode(s->registry, c, &s->file);
        rc = buf_failed(&s->file) ? ESCROW_ENOMEM : 0;
    }
    return rc;
}

/* What cannot be written goes through the pool, too: its answer comes later, like every other. */
static void nothing_run(struct pool_job *job)
{
    (void)job;
}

static void nothing_done(struct pool_job *job)
{
    struct kv_store *s = LIST_ENTRY(job, struct kv_store, job);

    s->is_writing = false;
    buf_clear(&s->file);
    waiting_end(s, waiting_first(s), s->error, s->err.text);
    write_next(s);
}

static void write_next(struct kv_store *s)
{
    if (s->is_writing || list_is_empty(&s->waiting)) {
        return;
    }
    s->err = (struct err_ctx){.code = 0};
    s->error = first_encode(s);
    if (s->error != 0) {
        (void)err_set(&s->err, s->error, "%s", escrow_strerror(s->error));
    }
    s->job.run = s->error == 0 ? write_run : nothing_run;
    s->job.done = s->error == 0 ? write_done : nothing_done;
    s->is_writing = true;
    if (pool_submit(&s->pool, &s->job) != 0) {
        UNREACHABLE("one job, and the pool takes one");
    }
}

/* ---- the end ---- */

void kv_store_drain(struct kv_store *s)
{
    struct list *pos;
    struct list *tmp;

    s->is_closing = true;
    LIST_FOREACH(pos, tmp, &s->waiting) {
        if (!s->is_writing || pos != s->waiting.next) {
            waiting_end(s, LIST_ENTRY(pos, struct kv_waiting, node), ESCROW_ESHUTDOWN,
                        escrow_strerror(ESCROW_ESHUTDOWN));
        }
    }
    while (s->is_writing) {
        loop_run_once(s->loop, true);
    }
}

void kv_store_close(struct kv_store *s)
{
    if (s->loop != NULL) {
        CHECK(list_is_empty(&s->waiting));
        pool_fini(&s->pool);
        disk_close(&s->lock);
        buf_fini(&s->file);
        *s = (struct kv_store){.loop = NULL};
    }
}
