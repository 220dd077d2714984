/* The JSON header, from a stranger. */
#include "tests/fuzz/fuzz_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_header(HEADER_JSON, data, size);
    return 0;
}
