/* What loop.c and loop_timer.c share. */
#ifndef CORE_IO_UV_LOOP_PRIVATE_H
#define CORE_IO_UV_LOOP_PRIVATE_H

#include "core/io_uv/loop.h"

/* Call every timer that is due. Timers started meanwhile wait for the next iteration. */
void loop_timers_run(struct loop *l);

#endif
