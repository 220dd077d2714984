/* The production clock: clock_gettime and getrandom. Thread: any. */
#ifndef CORE_IO_UV_CLOCK_SYSTEM_H
#define CORE_IO_UV_CLOCK_SYSTEM_H

#include "core/io/clock.h"

struct clock *clock_system(void); /* static storage */

#endif
