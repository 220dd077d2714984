/*
 * Table-driven state machines: a state change that is not in the table is a bug.
 *
 * Owns:    nothing; the table is static and borrowed.
 * Thread:  each struct sm belongs to the thread that owns the object around it; the trace ring is
 *          per thread.
 * Holds:   state < count; every move was allowed by table[state].next.
 *
 * Every move is kept in a ring of the last SM_TRACE_MAX moves of this thread, which a failed CHECK
 * prints.
 */
#ifndef CORE_BASE_SM_H
#define CORE_BASE_SM_H

#include <stdbool.h>
#include <stdint.h>

#define SM_TRACE_MAX 64

#define SM_BIT(state) (UINT64_C(1) << (unsigned)(state))

struct sm_state {
    const char *name;
    uint64_t next; /* Set of SM_BIT() of the states reachable from here. */
    bool final;
};

/* One kind of object: its name (for the trace) and its states. Static storage. */
struct sm_table {
    const char *object;
    const struct sm_state *states;
    int count; /* 1..64 */
};

/*
 * May an object in state `from` move to `to`? An illegal request from outside is tested with this
 * first.
 */
bool sm_can(const struct sm_table *t, int from, int to);

/*
 * Move *state to `to`; traces "object id: FROM -> TO (event)". The state lives in one byte of the
 * caller's struct, so that millions of small objects can have one. CHECKs that the move is in the
 * table. `event` is a string literal.
 */
void sm_move(const struct sm_table *t, uint8_t *state, int to, uint64_t id, const char *event);

/* Name of a state; static storage. */
const char *sm_name(const struct sm_table *t, int state);

bool sm_is_final(const struct sm_table *t, int state);

/*
 * Print this thread's last moves to stderr, oldest first. Installed as the hook of check_failed by
 * the first move.
 */
void sm_trace_print(void);

#endif
