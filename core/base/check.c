#include "core/base/check.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static void (*_Atomic check_hook)(void);

void check_set_hook(void (*hook)(void))
{
    atomic_store(&check_hook, hook);
}

_Noreturn void check_failed(const char *file, int line, const char *func, const char *expr)
{
    /* A check that fails inside the hook must not call it again. */
    void (*hook)(void) = atomic_exchange(&check_hook, NULL);

    (void)fprintf(stderr, "%s:%d: %s: CHECK failed: %s\n", file, line, func, expr);
    if (hook != NULL) {
        hook();
    }
    abort();
}
