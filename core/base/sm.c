#include "core/base/sm.h"

#include "core/base/check.h"

#include <inttypes.h>
#include <stdio.h>

struct sm_trace {
    const struct sm_table *table;
    const char *event;
    uint64_t id;
    uint8_t from;
    uint8_t to;
};

static _Thread_local struct sm_trace trace_ring[SM_TRACE_MAX];
static _Thread_local uint64_t trace_count;

bool sm_can(const struct sm_table *t, int from, int to)
{
    CHECK(t->count > 0 && t->count <= 64);
    CHECK(from >= 0 && from < t->count);
    CHECK(to >= 0 && to < t->count);
    return (t->states[from].next & SM_BIT(to)) != 0;
}

void sm_move(const struct sm_table *t, uint8_t *state, int to, uint64_t id, const char *event)
{
    struct sm_trace *entry = &trace_ring[trace_count % SM_TRACE_MAX];

    *entry =
        (struct sm_trace){.table = t, .event = event, .id = id, .from = *state, .to = (uint8_t)to};
    if (trace_count++ == 0) {
        check_set_hook(sm_trace_print);
    }
    CHECK(sm_can(t, *state, to));
    *state = (uint8_t)to;
}

const char *sm_name(const struct sm_table *t, int state)
{
    CHECK(state >= 0 && state < t->count);
    return t->states[state].name;
}

bool sm_is_final(const struct sm_table *t, int state)
{
    CHECK(state >= 0 && state < t->count);
    return t->states[state].final;
}

void sm_trace_print(void)
{
    uint64_t first = trace_count > SM_TRACE_MAX ? trace_count - SM_TRACE_MAX : 0;

    for (uint64_t i = first; i < trace_count; i++) {
        const struct sm_trace *e = &trace_ring[i % SM_TRACE_MAX];
        (void)fprintf(stderr, "  %s %" PRIu64 ": %s -> %s (%s)\n", e->table->object, e->id,
                      sm_name(e->table, e->from), sm_name(e->table, e->to), e->event);
    }
}
