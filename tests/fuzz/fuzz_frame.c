/*
 * A stream of bytes as a session sees it: frames one behind the other, each decoded, its header
 * too, until the stream ends or is refused. Fed in pieces and as a whole: the result is the same.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/frame.h"
#include "core/proto/header.h"
#include "escrow/errors.h"

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first frame of `in` fed byte by byte must be told in the same way as all at once. */
static void check_in_pieces(struct slice in, int rc, size_t frame_size)
{
    struct frame part;
    size_t len;

    for (len = 0; len <= in.len && len <= FRAME_PREFIX_BYTES; len++) {
        int part_rc = frame_decode(slice_of(in.ptr, len), &part);
        CHECK(part_rc == ESCROW_EAGAIN || part_rc == rc);
        if (part_rc != ESCROW_EAGAIN) {
            return;
        }
        CHECK(part.size > len);
        CHECK_IMPLIES(rc == 0, part.size <= frame_size);
    }
}

/*
 * The header of a frame that is refused: what a whole frame says, and no byte more than it needs.
 */
static void check_header_alone(struct slice in, int rc, const struct frame *whole)
{
    struct frame alone;
    int alone_rc = frame_decode_header(in, &alone);

    CHECK(alone_rc == 0 || alone_rc == ESCROW_EAGAIN || alone_rc == ESCROW_EPROTO ||
          alone_rc == ESCROW_ETOOBIG);
    CHECK_IMPLIES(alone_rc == 0, alone.size <= in.len && alone.header.len <= HEADER_SIZE_MAX);
    if (rc == 0) {
        CHECK(alone_rc == 0);
        CHECK(alone.type == whole->type);
        CHECK(alone.header.ptr == whole->header.ptr && alone.header.len == whole->header.len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size);
    struct header h;

    header_init(&h);
    for (;;) {
        struct frame frame;
        int rc = frame_decode(rest, &frame);

        check_in_pieces(rest, rc, rc == 0 ? frame.size : 0);
        check_header_alone(rest, rc, &frame);
        if (rc != 0) {
            CHECK(rc == ESCROW_EAGAIN || rc == ESCROW_EPROTO || rc == ESCROW_ETOOBIG);
            CHECK_IMPLIES(rc == ESCROW_EAGAIN,
                          frame.size > rest.len && frame.size <= FRAME_SIZE_MAX);
            break;
        }
        CHECK(frame.size <= rest.len);
        CHECK(frame.header.ptr == rest.ptr + FRAME_PREFIX_BYTES);
        CHECK(FRAME_PREFIX_BYTES + frame.header.len + frame.body.len == frame.size);
        rc = header_decode(&h, frame.type, frame.header);
        CHECK(rc == 0 || rc == ESCROW_EPROTO || rc == ESCROW_ETOOBIG);
        rest = slice_of(rest.ptr + frame.size, rest.len - frame.size);
    }
    header_fini(&h);
    return 0;
}
