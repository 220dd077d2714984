/*
 * How large the output is, is not said, or said by a stranger: room is guessed, and four times as
 * much taken until it is enough or too much.
 */
#include "core/proto/compress.h"

#include "core/base/check.h"
#include "core/proto/record.h"
#include "escrow/errors.h"

#include <libdeflate.h>

#ifdef ESCROW_LZ4
#include <lz4frame.h>
#endif
#ifdef ESCROW_ZSTD
#include <zstd.h>
#endif

#define ROOM_FIRST      8  /* times the input */
#define ZSTD_WINDOW_LOG 23 /* what every decoder should accept: RFC 8878, 3.1.1.1.2 */

const char *compression_name(enum compression how)
{
    static const char *const names[] = {
#define X(id, text) [COMPRESSION_##id] = (text),
        COMPRESSIONS(X)
#undef X
    };

    return names[how];
}

enum compression compression_of(int32_t sys_flag)
{
    if ((sys_flag & SYSFLAG_COMPRESSED) == 0) {
        return COMPRESSION_NONE;
    }
    switch (sys_flag & SYSFLAG_COMPRESS_MASK) {
    case 0: /* before there was a choice */
    case SYSFLAG_COMPRESS_ZLIB:
        return COMPRESSION_ZLIB;
    case SYSFLAG_COMPRESS_LZ4:
        return COMPRESSION_LZ4;
    case SYSFLAG_COMPRESS_ZSTD:
        return COMPRESSION_ZSTD;
    default:
        return COMPRESSION_UNKNOWN;
    }
}

int32_t compression_flags(enum compression how)
{
    static const int32_t flags[] = {
        [COMPRESSION_NONE] = 0,
        [COMPRESSION_ZLIB] = SYSFLAG_COMPRESSED, /* as clients say it that know of no other */
        [COMPRESSION_LZ4] = SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_LZ4,
        [COMPRESSION_ZSTD] = SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_ZSTD,
        [COMPRESSION_UNKNOWN] = SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_MASK,
    };

    return flags[how];
}

/* ---- zlib ---- */

static int zlib_append(struct buf *out, struct slice in, int level)
{
    struct libdeflate_compressor *z = libdeflate_alloc_compressor(level);
    size_t bound;
    size_t used;
    uint8_t *dst;

    if (z == NULL) {
        return ESCROW_ENOMEM;
    }
    bound = libdeflate_zlib_compress_bound(z, in.len);
    dst = buf_reserve(out, bound);
    used = dst == NULL ? 0 : libdeflate_zlib_compress(z, in.ptr, in.len, dst, bound);
    libdeflate_free_compressor(z);
    if (dst == NULL) {
        return ESCROW_ENOMEM;
    }
    CHECK(used > 0); /* the bound is enough for every input */
    buf_commit(out, used);
    return 0;
}

/* Into dst[room]. ESCROW_ELIMIT: it needs more. */
static int zlib_into(struct slice in, uint8_t *dst, size_t room, size_t *used)
{
    struct libdeflate_decompressor *z = libdeflate_alloc_decompressor();
    enum libdeflate_result result;

    if (z == NULL) {
        return ESCROW_ENOMEM;
    }
    result = libdeflate_zlib_decompress(z, in.ptr, in.len, dst, room, used);
    libdeflate_free_decompressor(z);
    if (result == LIBDEFLATE_INSUFFICIENT_SPACE) {
        return ESCROW_ELIMIT;
    }
    return result == LIBDEFLATE_SUCCESS ? 0 : ESCROW_EPROTO;
}

/* ---- the others ---- */

#ifdef ESCROW_LZ4
static int lz4_append(struct buf *out, struct slice in)
{
    size_t bound = LZ4F_compressFrameBound(in.len, NULL);
    uint8_t *dst = buf_reserve(out, bound);
    size_t used = dst == NULL ? 0 : LZ4F_compressFrame(dst, bound, in.ptr, in.len, NULL);

    if (dst == NULL || LZ4F_isError(used)) {
        return ESCROW_ENOMEM; /* the bound is enough for every input */
    }
    buf_commit(out, used);
    return 0;
}

static int lz4_into(struct slice in, uint8_t *dst, size_t room, size_t *used)
{
    LZ4F_dctx *ctx = NULL;
    size_t taken = 0;
    size_t rest = 1;

    *used = 0;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&ctx, LZ4F_VERSION))) {
        return ESCROW_ENOMEM;
    }
    while (rest != 0) {
        size_t src_len = in.len - taken;
        size_t dst_len = room - *used;
        rest = LZ4F_decompress(ctx, dst + *used, &dst_len, in.ptr + taken, &src_len, NULL);
        if (LZ4F_isError(rest) || (src_len == 0 && dst_len == 0)) {
            break;
        }
        taken += src_len;
        *used += dst_len;
    }
    (void)LZ4F_freeDecompressionContext(ctx); /* of an unfinished frame it says so */
    if (rest == 0) {
        return 0;
    }
    return LZ4F_isError(rest) || *used < room ? ESCROW_EPROTO : ESCROW_ELIMIT;
}
#endif

#ifdef ESCROW_ZSTD
static int zstd_append(struct buf *out, struct slice in, int level)
{
    size_t bound = ZSTD_compressBound(in.len);
    uint8_t *dst = buf_reserve(out, bound);
    size_t used = dst == NULL ? 0 : ZSTD_compress(dst, bound, in.ptr, in.len, level);

    if (dst == NULL || ZSTD_isError(used)) {
        return ESCROW_ENOMEM; /* the bound is enough for every input */
    }
    buf_commit(out, used);
    return 0;
}

static int zstd_into(struct slice in, uint8_t *dst, size_t room, size_t *used)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer src = {in.ptr, in.len, 0};
    ZSTD_outBuffer to = {dst, room, 0};
    size_t rest = 1;

    if (z == NULL) {
        return ESCROW_ENOMEM;
    }
    /* A frame says how much memory it wants; without this it may want 128 MiB. */
    CHECK(!ZSTD_isError(ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)));
    while (rest != 0 && !ZSTD_isError(rest)) {
        size_t before = src.pos + to.pos;
        rest = ZSTD_decompressStream(z, &to, &src);
        if (src.pos + to.pos == before) {
            break;
        }
    }
    (void)ZSTD_freeDStream(z); /* cannot fail */
    *used = to.pos;
    if (rest == 0) {
        return 0;
    }
    return ZSTD_isError(rest) || to.pos < room ? ESCROW_EPROTO : ESCROW_ELIMIT;
}
#endif

int compress_as(struct buf *out, enum compression how, struct slice in, int level)
{
    switch (how) {
    case COMPRESSION_ZLIB:
        return zlib_append(out, in, level);
    case COMPRESSION_LZ4:
#ifdef ESCROW_LZ4
        return lz4_append(out, in);
#else
        return ESCROW_ENOTSUP;
#endif
    case COMPRESSION_ZSTD:
#ifdef ESCROW_ZSTD
        return zstd_append(out, in, level);
#else
        return ESCROW_ENOTSUP;
#endif
    case COMPRESSION_NONE:
    case COMPRESSION_UNKNOWN:
        break;
    }
    return ESCROW_ENOTSUP;
}

static int into(enum compression how, struct slice in, uint8_t *dst, size_t room, size_t *used)
{
    switch (how) {
    case COMPRESSION_ZLIB:
        return zlib_into(in, dst, room, used);
    case COMPRESSION_LZ4:
#ifdef ESCROW_LZ4
        return lz4_into(in, dst, room, used);
#else
        return ESCROW_ENOTSUP;
#endif
    case COMPRESSION_ZSTD:
#ifdef ESCROW_ZSTD
        return zstd_into(in, dst, room, used);
#else
        return ESCROW_ENOTSUP;
#endif
    case COMPRESSION_NONE:
    case COMPRESSION_UNKNOWN:
        break;
    }
    return ESCROW_ENOTSUP;
}

int decompress(struct buf *out, enum compression how, struct slice in, size_t max)
{
    size_t room = in.len < max / ROOM_FIRST ? in.len * ROOM_FIRST + 256 : max;

    for (;;) {
        size_t used = 0;
        uint8_t *dst;
        int rc;

        room = room > max ? max : room;
        dst = buf_reserve(out, room);
        if (dst == NULL) {
            return ESCROW_ENOMEM;
        }
        rc = into(how, in, dst, room, &used);
        if (rc == 0) {
            buf_commit(out, used);
        }
        if (rc != ESCROW_ELIMIT) {
            return rc;
        }
        if (room == max) {
            return ESCROW_ETOOBIG;
        }
        room *= 4;
    }
}
