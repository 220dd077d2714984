#include "core/base/check.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static void (*check_hook)(void);

void check_set_hook(void (*hook)(void))
{
    check_hook = hook;
}

_Noreturn void check_failed(const char *file, int line, const char *func, const char *expr)
{
    void (*hook)(void) = check_hook;

    (void)fprintf(stderr, "%s:%d: %s: CHECK failed: %s\n", file, line, func, expr);
    check_hook = NULL; /* A check that fails inside the hook must not call it again. */
    if (hook != NULL) {
        hook();
    }
    abort();
}
