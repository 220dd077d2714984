/* The binary header of RocketMQ, from a stranger. */
#include "tests/fuzz/fuzz_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_header(HEADER_ROCKETMQ, data, size);
    return 0;
}
