/*
 * Always-on assertions.
 *
 * A false condition is a bug in this program, never a fact about the outside world: input from a
 * socket, a file, an environment variable or a command line is rejected with an error and can never
 * trip one. CHECK is compiled into every build. DCHECK is for expensive walks and thread checks, on
 * in debug, sanitizer and fuzz builds (ESCROW_DCHECK). A failed check prints where and what, the
 * last state changes (see sm.h), and aborts: recovery is the log's job.
 */
#ifndef CORE_BASE_CHECK_H
#define CORE_BASE_CHECK_H

_Noreturn void check_failed(const char *file, int line, const char *func, const char *expr);

/*
 * Called by check_failed before it aborts; set once by the state machine tracer. NULL removes it.
 */
void check_set_hook(void (*hook)(void));

#define CHECK(expr)                                                                                \
    do {                                                                                           \
        if (!(expr)) {                                                                             \
            check_failed(__FILE__, __LINE__, __func__, #expr);                                     \
        }                                                                                          \
    } while (0)

/* a implies b; evaluates b only when a holds. */
#define CHECK_IMPLIES(a, b) CHECK(!(a) || (b))

#define UNREACHABLE(why) check_failed(__FILE__, __LINE__, __func__, "unreachable: " why)

#ifdef ESCROW_DCHECK
#define DCHECK(expr) CHECK(expr)
#else
#define DCHECK(expr)                                                                               \
    do {                                                                                           \
        (void)sizeof(expr);                                                                        \
    } while (0)
#endif

#endif
