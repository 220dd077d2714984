#include "core/proto/allocate.h"

#include "core/base/check.h"

struct allocation allocate_average(size_t queues, size_t members, size_t index)
{
    size_t rest = queues % members;
    size_t size;
    size_t first;

    CHECK(members > 0 && index < members);
    if (queues <= members) {
        size = 1;
    } else {
        size = queues / members + (index < rest ? 1 : 0);
    }
    first = index < rest || queues <= members ? index * size : index * size + rest;
    if (first >= queues) {
        return (struct allocation){queues, 0};
    }
    return (struct allocation){first, first + size > queues ? queues - first : size};
}
