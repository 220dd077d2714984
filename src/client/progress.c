/*
 * A window of bits over the queue. Its front moves with `first`; the words it leaves behind are
 * dropped when they are half of the memory, so that finishing costs the same whatever the window's
 * length.
 */
#include "src/client/progress.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

#define WORD_BITS 64
#define CAP_MIN   256

void progress_init(struct progress *p, int64_t offset)
{
    *p = (struct progress){.first = offset, .next = offset, .base = offset};
}

void progress_fini(struct progress *p)
{
    mem_free(p->bits);
    p->bits = NULL;
    p->cap = 0;
}

static bool bit_get(const struct progress *p, int64_t offset)
{
    size_t i = (size_t)(offset - p->base);

    return (p->bits[i / WORD_BITS] & (UINT64_C(1) << (i % WORD_BITS))) != 0;
}

static void bit_set(struct progress *p, int64_t offset)
{
    size_t i = (size_t)(offset - p->base);

    p->bits[i / WORD_BITS] |= UINT64_C(1) << (i % WORD_BITS);
}

void progress_check(const struct progress *p)
{
    CHECK(p->base <= p->first);
    CHECK(p->first <= p->next);
    CHECK((uint64_t)(p->next - p->base) <= p->cap || progress_is_idle(p));
    if (!progress_is_idle(p)) {
        CHECK(!bit_get(p, p->first));
    }
}

/* Room for the bits of [base, end). */
static int progress_grow(struct progress *p, int64_t end)
{
    uint64_t need = (uint64_t)(end - p->base);
    size_t cap = p->cap == 0 ? CAP_MIN : p->cap;
    uint64_t *bits;

    while (cap < need && cap <= SIZE_MAX / 4) {
        cap *= 2;
    }
    if (cap < need) {
        return ESCROW_ENOMEM;
    }
    if (cap == p->cap) {
        return 0;
    }
    bits = mem_realloc(p->bits, cap / 8);
    if (bits == NULL) {
        return ESCROW_ENOMEM;
    }
    memset(bits + p->cap / WORD_BITS, 0, (cap - p->cap) / 8);
    p->bits = bits;
    p->cap = cap;
    return 0;
}

/* Drop the words that lie wholly below `first`. */
static void progress_drop(struct progress *p)
{
    size_t words = p->cap / WORD_BITS;
    size_t gone = (size_t)(p->first - p->base) / WORD_BITS;

    memmove(p->bits, p->bits + gone, (words - gone) * sizeof *p->bits);
    memset(p->bits + (words - gone), 0, gone * sizeof *p->bits);
    p->base += (int64_t)(gone * WORD_BITS);
}

/* Nothing is in progress: go on at `offset`. */
static void progress_restart(struct progress *p, int64_t offset)
{
    size_t used = (size_t)(p->next - p->base);

    if (p->bits != NULL) {
        memset(p->bits, 0, (used + WORD_BITS - 1) / WORD_BITS * sizeof *p->bits);
    }
    p->first = p->next = p->base = offset;
}

static void progress_advance(struct progress *p)
{
    while (p->first < p->next && bit_get(p, p->first)) {
        p->first++;
    }
    if (progress_is_idle(p)) {
        progress_restart(p, p->first);
    } else if ((size_t)(p->first - p->base) >= p->cap / 2) {
        progress_drop(p);
    }
}

/* [next, offset) counts as finished. There is room. */
static void progress_fill(struct progress *p, int64_t offset)
{
    for (; p->next < offset; p->next++) {
        bit_set(p, p->next);
    }
}

int progress_begin(struct progress *p, int64_t offset)
{
    bool was_idle = progress_is_idle(p);
    int rc;

    CHECK(offset >= p->next);
    if (was_idle) {
        progress_restart(p, p->first);
    }
    rc = progress_grow(p, was_idle ? p->base + 1 : offset + 1);
    if (rc != 0) {
        return rc;
    }
    if (was_idle) {
        progress_restart(p, offset);
    }
    progress_fill(p, offset);
    p->next = offset + 1;
    DCHECK(p->first < p->next);
    return 0;
}

bool progress_finish(struct progress *p, int64_t offset)
{
    if (offset < p->first || offset >= p->next || bit_get(p, offset)) {
        return false;
    }
    bit_set(p, offset);
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
        progress_restart(p, offset);
        return 0;
    }
    rc = progress_grow(p, offset);
    if (rc == 0) {
        progress_fill(p, offset);
    }
    return rc;
}
