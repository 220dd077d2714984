#include "src/client/progress.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

void progress_init(struct progress *p, int64_t offset)
{
    *p = (struct progress){.first = offset, .next = offset};
}

void progress_fini(struct progress *p)
{
    mem_free(p->bits);
    p->bits = NULL;
    p->cap = 0;
}

static bool bit_get(const struct progress *p, size_t i)
{
    return (p->bits[i / 64] & (UINT64_C(1) << (i % 64))) != 0;
}

static void bit_set(struct progress *p, size_t i)
{
    p->bits[i / 64] |= UINT64_C(1) << (i % 64);
}

static int progress_grow(struct progress *p, size_t need)
{
    size_t cap = p->cap == 0 ? 256 : p->cap;
    uint64_t *bits;

    while (cap < need) {
        cap *= 2;
    }
    if (cap == p->cap) {
        return 0;
    }
    bits = mem_realloc(p->bits, cap / 8);
    if (bits == NULL) {
        return ESCROW_ENOMEM;
    }
    memset(bits + p->cap / 64, 0, (cap - p->cap) / 8);
    p->bits = bits;
    p->cap = cap;
    return 0;
}

/* Drop the finished run at the front. */
static void progress_advance(struct progress *p)
{
    size_t span = (size_t)(p->next - p->first);
    size_t done = 0;

    while (done < span && bit_get(p, done)) {
        done++;
    }
    if (done == 0) {
        return;
    }
    for (size_t i = done; i < span; i++) {
        size_t to = i - done;
        p->bits[to / 64] &= ~(UINT64_C(1) << (to % 64));
        if (bit_get(p, i)) {
            bit_set(p, to);
        }
    }
    for (size_t i = span - done; i < span; i++) {
        p->bits[i / 64] &= ~(UINT64_C(1) << (i % 64));
    }
    p->first += (int64_t)done;
}

int progress_begin(struct progress *p, int64_t offset)
{
    size_t span;
    int rc;

    CHECK(offset >= p->next);
    if (progress_is_idle(p)) {
        p->first = p->next = offset;
    }
    span = (size_t)(offset + 1 - p->first);
    rc = progress_grow(p, span + 1);
    if (rc != 0) {
        return rc;
    }
    for (int64_t o = p->next; o < offset; o++) {
        bit_set(p, (size_t)(o - p->first));
    }
    p->next = offset + 1;
    return 0;
}

bool progress_finish(struct progress *p, int64_t offset)
{
    size_t i = (size_t)(offset - p->first);

    if (offset < p->first || offset >= p->next || bit_get(p, i)) {
        return false;
    }
    bit_set(p, i);
    progress_advance(p);
    return true;
}

int progress_skip_to(struct progress *p, int64_t offset)
{
    int rc;

    if (offset <= p->next) {
        return 0;
    }
    if (progress_is_idle(p)) {
        p->first = p->next = offset;
        return 0;
    }
    rc = progress_grow(p, (size_t)(offset - p->first) + 1);
    if (rc != 0) {
        return rc;
    }
    for (int64_t o = p->next; o < offset; o++) {
        bit_set(p, (size_t)(o - p->first));
    }
    p->next = offset;
    return 0;
}
