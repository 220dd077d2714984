#include "core/base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t fault_countdown;
static _Atomic int fault_fired;
static _Atomic int64_t live_count;

static int fault_fires(void)
{
    if (atomic_load_explicit(&fault_countdown, memory_order_relaxed) == 0) {
        return 0;
    }
    if (atomic_fetch_sub_explicit(&fault_countdown, 1, memory_order_relaxed) != 1) {
        return 0;
    }
    atomic_store_explicit(&fault_fired, 1, memory_order_relaxed);
    return 1;
}

static void *count_in(void *ptr)
{
    if (ptr != NULL) {
        atomic_fetch_add_explicit(&live_count, 1, memory_order_relaxed);
    }
    return ptr;
}

void *mem_alloc(size_t size_bytes)
{
    return fault_fires() ? NULL : count_in(malloc(size_bytes == 0 ? 1 : size_bytes));
}

void *mem_calloc(size_t count, size_t size_bytes)
{
    if (fault_fires() || (count != 0 && size_bytes > SIZE_MAX / count)) {
        return NULL; /* the overflow is tested here because sanitizers abort on it */
    }
    return count_in(count == 0 || size_bytes == 0 ? calloc(1, 1) : calloc(count, size_bytes));
}

void *mem_realloc(void *ptr, size_t size_bytes)
{
    void *grown;

    if (fault_fires()) {
        return NULL;
    }
    grown = realloc(ptr, size_bytes == 0 ? 1 : size_bytes);
    return ptr == NULL ? count_in(grown) : grown;
}

char *mem_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);

    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

void mem_free(void *ptr)
{
    if (ptr != NULL) {
        atomic_fetch_sub_explicit(&live_count, 1, memory_order_relaxed);
        free(ptr);
    }
}

void mem_trim(void)
{
    (void)malloc_trim(0); /* 1 or 0: whether there was any */
}

void mem_map_large(void)
{
    /*
     * Either call fails only in an allocator that has no such setting, which is no loss. The second
     * is here because setting the first stops its default from following.
     */
    /* NOLINTBEGIN(concurrency-mt-unsafe): called before there are threads */
    (void)mallopt(M_MMAP_THRESHOLD, (int)MEM_LARGE_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, (int)(2 * MEM_LARGE_BYTES));
    /* NOLINTEND(concurrency-mt-unsafe) */
}

void mem_fault_at(uint64_t n)
{
    atomic_store(&fault_fired, 0);
    atomic_store(&fault_countdown, n);
}

int mem_fault_fired(void)
{
    return atomic_load(&fault_fired);
}

int64_t mem_live_count(void)
{
    return atomic_load(&live_count);
}
