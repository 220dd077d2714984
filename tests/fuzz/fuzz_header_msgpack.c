/*
 * The MessagePack header, from a stranger; and the walk that guards msgpack-c: what scan_check lets
 * pass, msgpack_unpack reads to its last byte, and a header we accept is one such object.
 */
#include "core/proto/scan.h"
#include "tests/fuzz/fuzz_header.h"

#include <msgpack.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct header h;
    int rc = scan_check(in, SCAN_LIMITS_BODY);

    CHECK(rc == 0 || rc == ESCROW_EPROTO || rc == ESCROW_ELIMIT);
    if (rc == 0) {
        msgpack_unpacked result;
        size_t at = 0;

        msgpack_unpacked_init(&result);
        CHECK(msgpack_unpack_next(&result, (const char *)data, size, &at) ==
              MSGPACK_UNPACK_SUCCESS);
        CHECK(at == size);
        msgpack_unpacked_destroy(&result);
    }
    header_init(&h);
    CHECK_IMPLIES(header_decode(&h, HEADER_MSGPACK, in) == 0, rc == 0);
    header_fini(&h);
    fuzz_header(HEADER_MSGPACK, data, size);
    return 0;
}
