/*
 * A send is encoded once per queue, with numbers in it that occur nowhere else; where they lie is
 * then known, and a message costs two copies and three patches.
 */
#include "src/tools/bench.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/io/clock.h"
#include "core/proto/codes.h"
#include "core/proto/properties.h"
#include "core/proto/send_request.h"

#include <stdio.h>
#include <string.h>

#define MARK_OPAQUE INT32_C(1987654321)
#define MARK_BORN   INT64_C(1787654321987)
#define MARK_KEY    "A5C35A3C96E1"
#define KEY_DIGITS  12
#define PREFIX_LEN  (BENCH_KEY_LEN - KEY_DIGITS)

static void put_hex(uint8_t *dst, uint64_t n)
{
    static const char digits[] = "0123456789ABCDEF";

    for (int i = KEY_DIGITS - 1; i >= 0; i--) {
        dst[i] = (uint8_t)digits[n & 15];
        n >>= 4;
    }
}

static void put_decimal(uint8_t *dst, int digits, uint64_t n)
{
    for (int i = digits - 1; i >= 0; i--) {
        dst[i] = (uint8_t)('0' + n % 10);
        n /= 10;
    }
}

void bench_key(const struct bench *b, uint64_t seq, char text[BENCH_KEY_LEN + 1])
{
    memcpy(text, b->key, PREFIX_LEN);
    put_hex((uint8_t *)text + PREFIX_LEN, seq);
    text[BENCH_KEY_LEN] = '\0';
}

/* Where `mark` lies in the frame; false: in a name, too. */
static bool find_mark(const struct buf *frame, const void *mark, size_t len, size_t *where)
{
    const uint8_t *at = memmem(frame->ptr, frame->len, mark, len);

    CHECK(at != NULL);
    *where = (size_t)(at - frame->ptr);
    return memmem(at + 1, frame->len - *where - 1, mark, len) == NULL;
}

static bool find_marks(struct bench_frame *f)
{
    uint8_t opaque[4];
    uint8_t born[8];
    bool is_json = f->type == HEADER_JSON;
    bool is_text = f->type != HEADER_MSGPACK;

    put_be32(opaque, (uint32_t)MARK_OPAQUE);
    put_be64(born, (uint64_t)MARK_BORN);
    return find_mark(&f->head, is_json ? (const void *)"1987654321" : opaque, is_json ? 10 : 4,
                     &f->opaque_at) &&
           find_mark(&f->head, is_text ? (const void *)"1787654321987" : born, is_text ? 13 : 8,
                     &f->born_at) &&
           find_mark(&f->head, MARK_KEY, KEY_DIGITS, &f->key_at);
}

static int make_one(struct bench *b, struct bench_frame *f, int32_t queue)
{
    struct header_out head = {.code = REQUEST_SEND_MESSAGE_V2, .opaque = MARK_OPAQUE};
    char key[BENCH_KEY_LEN + 1];
    uint8_t text[512];
    struct props_writer props;
    struct send_request req;
    struct header_writer w;
    int rc;

    memcpy(key, b->key, PREFIX_LEN);
    memcpy(key + PREFIX_LEN, MARK_KEY, KEY_DIGITS + 1);
    props_writer_init(&props, text, sizeof text);
    props_put(&props, prop_name(PROP_UNIQ_KEY), slice_str(key));
    props_put(&props, prop_name(PROP_WAIT), SLICE_LIT("true"));
    if (b->options.mode == BENCH_TXN) {
        props_put(&props, prop_name(PROP_TRAN_MSG), SLICE_LIT("true"));
        props_put(&props, prop_name(PROP_PGROUP), slice_str(b->options.group));
    }
    if (b->options.delay_ms > 0) {
        props_put_i64(&props, prop_name(PROP_TIMER_DELAY_MS), (int64_t)b->options.delay_ms);
    }
    if (props.error != 0) {
        return props.error;
    }
    send_request_init(&req);
    req.producer_group = slice_str(b->options.group);
    req.topic = slice_str(b->options.topic);
    req.queue_id = queue;
    req.born_ms = MARK_BORN;
    req.sys_flag = b->options.mode == BENCH_TXN ? SYSFLAG_TXN_PREPARED : 0;
    req.properties = slice_of(props.ptr, props.len);
    buf_init(&f->head, 0);
    f->type = b->options.header;
    header_begin(&w, &f->head, f->type, &head);
    send_request_encode(&w, &req, true);
    header_end(&w);
    rc = header_frame_end(&w, (size_t)b->options.size_bytes);
    if (rc == 0 && !find_marks(f)) {
        rc = err_set(&b->cli->err, ESCROW_EINVAL,
                     "the name of the topic or the group holds a mark of the generator");
    }
    return rc;
}

int bench_frames_make(struct bench *b)
{
    size_t size = (size_t)b->options.size_bytes + BENCH_BODY_SPREAD;
    uint64_t salt = rand_u64(&b->rand);

    /* 127.0.0.1, sixteen bits of process, a random salt: no two runs share a key. */
    (void)snprintf(b->key, sizeof b->key, "7F000001%04X%08X", (unsigned)(salt & 0xFFFF),
                   (unsigned)(salt >> 32)); /* fits */
    b->bodies = mem_alloc(size);
    b->frames = mem_calloc((size_t)b->queues + 1, sizeof *b->frames);
    if (b->bodies == NULL || b->frames == NULL) {
        return ESCROW_ENOMEM;
    }
    for (size_t i = 0; i < size; i++) {
        b->bodies[i] = (uint8_t)rand_u64(&b->rand);
    }
    for (int32_t q = 0; q < b->queues; q++) {
        int rc = make_one(b, &b->frames[q], q);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

void bench_frames_free(struct bench *b)
{
    for (int32_t q = 0; b->frames != NULL && q < b->queues; q++) {
        buf_fini(&b->frames[q].head);
    }
    mem_free(b->frames);
    mem_free(b->bodies);
    b->frames = NULL;
    b->bodies = NULL;
}

static const uint8_t *body_of(const struct bench *b, uint64_t seq)
{
    return b->bodies + (seq * 61) % BENCH_BODY_SPREAD;
}

void bench_frame_put(struct bench *b, struct buf *out, int32_t queue, uint32_t slot, uint64_t seq)
{
    const struct bench_frame *f = &b->frames[queue];
    size_t size = (size_t)b->options.size_bytes;
    uint8_t *dst = buf_reserve(out, f->head.len + size);
    int64_t now_ms = loop_wall_ms(b->loop);

    if (dst == NULL) {
        return; /* the connection's end says so */
    }
    memcpy(dst, f->head.ptr, f->head.len);
    memcpy(dst + f->head.len, body_of(b, seq), size);
    if (f->type == HEADER_JSON) {
        put_decimal(dst + f->opaque_at, 10, BENCH_OPAQUE + slot);
    } else {
        put_be32(dst + f->opaque_at, BENCH_OPAQUE + slot);
    }
    if (f->type == HEADER_MSGPACK) {
        put_be64(dst + f->born_at, (uint64_t)now_ms);
    } else {
        put_decimal(dst + f->born_at, 13, (uint64_t)now_ms);
    }
    put_hex(dst + f->key_at, seq);
    buf_commit(out, f->head.len + size);
}

void bench_put_redis(struct bench *b, struct buf *out, uint64_t seq)
{
    size_t size = (size_t)b->options.size_bytes;

    buf_append_fmt(out, "*5\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$1\r\nb\r\n$%zu\r\n",
                   strlen(b->options.topic), b->options.topic, size);
    buf_append(out, body_of(b, seq), size);
    buf_append(out, "\r\n", 2);
}

void bench_put_beanstalkd(struct bench *b, struct buf *out, uint64_t seq)
{
    size_t size = (size_t)b->options.size_bytes;

    buf_append_fmt(out, "put 0 0 60 %zu\r\n", size);
    buf_append(out, body_of(b, seq), size);
    buf_append(out, "\r\n", 2);
}

void bench_put_pull(struct bench *b, struct buf *out, const struct bench_slot *slot, uint32_t index)
{
    struct header_out head = {.code = REQUEST_PULL_MESSAGE,
                              .opaque = BENCH_OPAQUE + (int32_t)index};
    struct header_writer w;

    header_begin(&w, out, b->options.header, &head);
    header_put_str(&w, "consumerGroup", slice_str(b->options.group));
    header_put_str(&w, "topic", slice_str(b->options.topic));
    header_put_i64(&w, "queueId", slot->queue);
    header_put_i64(&w, "queueOffset", slot->offset);
    header_put_i64(&w, "maxMsgNums", (int64_t)b->options.pull_max);
    header_put_i64(&w, "sysFlag", 2 | 4); /* may be held; the subscription is here */
    header_put_i64(&w, "commitOffset", 0);
    header_put_i64(&w, "suspendTimeoutMillis", 1000);
    header_put_str(&w, "subscription", SLICE_LIT("*"));
    header_put_i64(&w, "subVersion", 0);
    header_put_str(&w, "expressionType", SLICE_LIT("TAG"));
    header_end(&w);
    if (header_frame_end(&w, 0) != 0) {
        out->failed = true; /* only memory can be missing: the connection's end says so */
    }
}
