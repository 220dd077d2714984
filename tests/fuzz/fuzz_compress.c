/*
 * A compressed body from another client; the first byte says how. Whatever it is, the output keeps
 * within its bound; zlib that is accepted can be packed again, and is then the same.
 */
#include "core/base/check.h"
#include "core/proto/compress.h"
#include "escrow/errors.h"

#define OUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(struct slice out)
{
    struct buf packed;
    struct buf again;

    buf_init(&packed, 0);
    buf_init(&again, 0);
    CHECK(compress_as(&packed, COMPRESSION_ZLIB, out, 1) == 0);
    CHECK(decompress(&again, COMPRESSION_ZLIB, buf_slice(&packed), OUT_MAX) == 0);
    CHECK(slice_eq(buf_slice(&again), out));
    buf_fini(&again);
    buf_fini(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum compression ways[] = {COMPRESSION_ZLIB, COMPRESSION_LZ4, COMPRESSION_ZSTD,
                                            COMPRESSION_UNKNOWN};
    struct buf out;
    enum compression how;
    int error;

    if (size == 0) {
        return 0;
    }
    how = ways[data[0] % (sizeof ways / sizeof ways[0])];
    buf_init(&out, 0);
    error = decompress(&out, how, slice_of(data + 1, size - 1), OUT_MAX);
    CHECK(error == 0 || error == ESCROW_EPROTO || error == ESCROW_ETOOBIG ||
          error == ESCROW_ENOTSUP || error == ESCROW_ENOMEM);
    CHECK(out.len <= OUT_MAX);
    CHECK(error == 0 || out.len == 0);
    if (error == 0) {
        check_again(buf_slice(&out));
    }
    buf_fini(&out);
    return 0;
}
