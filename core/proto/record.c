/*
 * Encoding: the fixed part is laid down front to back, then body, topic, properties; the CRC is
 * taken over the caller's body, so each byte of it is read once for the CRC and once for the copy.
 * Decoding: the same walk with a cursor that refuses to move beyond TOTALSIZE; a record is accepted
 * only if the walk ends exactly there.
 */
#include "core/proto/record.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"

#include <libdeflate.h>

/* Offsets that hold whatever the hosts are. */
enum {
    AT_SIZE = 0,
    AT_MAGIC = 4,
    AT_BODY_CRC = 8,
    AT_QUEUE_ID = 12,
    AT_FLAG = 16,
    AT_QUEUE_OFFSET = 20,
    AT_PHYSICAL_OFFSET = 28,
    AT_SYS_FLAG = 36,
    AT_BORN_MS = 40,
    AT_BORN_HOST = 48
};

#define HOST_SIZE_V4     8
#define HOST_SIZE_V6     20
#define HOST_V6_MORE     (HOST_SIZE_V6 - HOST_SIZE_V4)
#define AFTER_BORN_HOST  8  /* STORETIMESTAMP */
#define AFTER_STORE_HOST 16 /* RECONSUMETIMES, PREPAREDTRANSACTIONOFFSET, BODYLENGTH */
#define TOPIC_LEN_V1_MAX 127
#define CRC_MASK         UINT32_C(0x7FFFFFFF)

_Static_assert(AT_BORN_HOST + HOST_SIZE_V4 + AFTER_BORN_HOST + HOST_SIZE_V4 + AFTER_STORE_HOST ==
                   88,
               "the body of a record with IPv4 hosts begins at 88");
_Static_assert(RECORD_SIZE_MIN == 88 + 1 + 2, "no body, no topic, no properties");
_Static_assert(RECORD_SIZE_MAX >= MESSAGE_BODY_MAX + PROPERTIES_LEN_MAX + RETRY_TOPIC_LEN_MAX + 256,
               "every record that record_check accepts fits");

struct record_host record_host_ipv4(const uint8_t ip[4], uint16_t port)
{
    struct record_host host = {.ip_len = 4, .port = port};

    memcpy(host.ip, ip, 4);
    return host;
}

uint32_t record_body_crc(struct slice body)
{
    return body.len == 0 ? 0 : libdeflate_crc32(0, body.ptr, body.len) & CRC_MASK;
}

/* ---- where the moving fields lie ---- */

static size_t host_size(int32_t sys_flag, int32_t bit)
{
    return (sys_flag & bit) != 0 ? HOST_SIZE_V6 : HOST_SIZE_V4;
}

static size_t at_store_ms(int32_t sys_flag)
{
    return AT_BORN_HOST + host_size(sys_flag, SYSFLAG_BORN_IPV6);
}

static size_t at_store_host(int32_t sys_flag)
{
    return at_store_ms(sys_flag) + AFTER_BORN_HOST;
}

static size_t at_reconsume_times(int32_t sys_flag)
{
    return at_store_host(sys_flag) + host_size(sys_flag, SYSFLAG_STORE_IPV6);
}

static size_t at_prepared_offset(int32_t sys_flag)
{
    return at_reconsume_times(sys_flag) + 4;
}

static size_t at_body(int32_t sys_flag)
{
    return at_reconsume_times(sys_flag) + AFTER_STORE_HOST;
}

/* ---- writing ---- */

static int32_t sys_flag_of(const struct record_fields *f)
{
    uint32_t flag = (uint32_t)f->sys_flag & ~(uint32_t)(SYSFLAG_BORN_IPV6 | SYSFLAG_STORE_IPV6);

    flag |= f->born_host.ip_len == 16 ? SYSFLAG_BORN_IPV6 : 0;
    flag |= f->store_host.ip_len == 16 ? SYSFLAG_STORE_IPV6 : 0;
    return (int32_t)flag;
}

static size_t topic_len_size(size_t topic_len)
{
    return topic_len > TOPIC_LEN_V1_MAX ? 2 : 1;
}

int record_check(const struct record_fields *f)
{
    if ((f->born_host.ip_len != 4 && f->born_host.ip_len != 16) ||
        (f->store_host.ip_len != 4 && f->store_host.ip_len != 16) || f->topic.len == 0) {
        return ESCROW_EINVAL;
    }
    if (f->body.len > MESSAGE_BODY_MAX || f->topic.len > RETRY_TOPIC_LEN_MAX ||
        f->properties.len > PROPERTIES_LEN_MAX) {
        return ESCROW_ETOOBIG;
    }
    return 0;
}

size_t record_size(const struct record_fields *f)
{
    return at_body(sys_flag_of(f)) + f->body.len + topic_len_size(f->topic.len) + f->topic.len + 2 +
           f->properties.len;
}

static uint8_t *put_bytes(uint8_t *at, struct slice s)
{
    if (s.len > 0) {
        memcpy(at, s.ptr, s.len);
    }
    return at + s.len;
}

static uint8_t *put_host(uint8_t *at, const struct record_host *host)
{
    memcpy(at, host->ip, host->ip_len);
    put_be32(at + host->ip_len, host->port);
    return at + host->ip_len + 4;
}

uint8_t *record_begin(uint8_t *dst, const struct record_fields *f)
{
    bool is_v2 = topic_len_size(f->topic.len) == 2;
    uint8_t *at;

    CHECK(f->born_host.ip_len == 4 || f->born_host.ip_len == 16);
    CHECK(f->store_host.ip_len == 4 || f->store_host.ip_len == 16);
    CHECK(f->body.len <= MESSAGE_BODY_MAX);
    CHECK(f->topic.len <= RETRY_TOPIC_LEN_MAX);

    put_be32(dst + AT_MAGIC, is_v2 ? RECORD_MAGIC_V2 : RECORD_MAGIC_V1);
    put_be32(dst + AT_BODY_CRC, record_body_crc(f->body));
    put_be32(dst + AT_QUEUE_ID, (uint32_t)f->queue_id);
    put_be32(dst + AT_FLAG, (uint32_t)f->flag);
    put_be64(dst + AT_QUEUE_OFFSET, (uint64_t)f->queue_offset);
    put_be64(dst + AT_PHYSICAL_OFFSET, (uint64_t)f->physical_offset);
    put_be32(dst + AT_SYS_FLAG, (uint32_t)sys_flag_of(f));
    put_be64(dst + AT_BORN_MS, (uint64_t)f->born_ms);
    at = put_host(dst + AT_BORN_HOST, &f->born_host);
    put_be64(at, (uint64_t)f->store_ms);
    at = put_host(at + 8, &f->store_host);
    put_be32(at, (uint32_t)f->reconsume_times);
    put_be64(at + 4, (uint64_t)f->prepared_offset);
    put_be32(at + 12, (uint32_t)f->body.len);
    at = put_bytes(at + 16, f->body);
    if (is_v2) {
        put_be16(at, (uint16_t)f->topic.len);
        at += 2;
    } else {
        *at++ = (uint8_t)f->topic.len;
    }
    return put_bytes(at, f->topic) + 2;
}

size_t record_end(uint8_t *dst, uint8_t *properties, size_t properties_len)
{
    size_t size = (size_t)(properties - dst) + properties_len;

    CHECK(properties_len <= PROPERTIES_LEN_MAX);
    CHECK(size <= RECORD_SIZE_MAX);
    put_be16(properties - 2, (uint16_t)properties_len);
    put_be32(dst + AT_SIZE, (uint32_t)size);
    return size;
}

size_t record_encode(uint8_t *dst, const struct record_fields *f)
{
    uint8_t *properties = record_begin(dst, f);
    size_t size;

    (void)put_bytes(properties, f->properties); /* where it ends follows from the length */
    size = record_end(dst, properties, f->properties.len);
    DCHECK(size == record_size(f));
    return size;
}

/* ---- reading ---- */

/* Take n bytes off the front of *rest; false when it has fewer. */
static bool take(struct slice *rest, size_t n, struct slice *out)
{
    if (rest->len < n) {
        return false;
    }
    *out = slice_of(rest->ptr, n);
    *rest = slice_of(rest->ptr + n, rest->len - n);
    return true;
}

static struct record_host get_host(const uint8_t *at, size_t size)
{
    struct record_host host = {.ip_len = size == HOST_SIZE_V6 ? 16 : 4};

    memcpy(host.ip, at, host.ip_len);
    host.port = (uint16_t)get_be32(at + host.ip_len); /* a port above 16 bits is kept modulo 2^16 */
    return host;
}

static void get_fixed(const uint8_t *rec, struct record_view *view)
{
    struct record_fields *f = &view->f;
    int32_t sys_flag = record_peek_sys_flag(rec);

    view->magic = get_be32(rec + AT_MAGIC);
    view->body_crc = get_be32(rec + AT_BODY_CRC);
    f->queue_id = record_peek_queue_id(rec);
    f->flag = record_peek_flag(rec);
    f->queue_offset = record_peek_queue_offset(rec);
    f->physical_offset = record_peek_physical_offset(rec);
    f->sys_flag = sys_flag;
    f->born_ms = record_peek_born_ms(rec);
    f->born_host = get_host(rec + AT_BORN_HOST, host_size(sys_flag, SYSFLAG_BORN_IPV6));
    f->store_ms = record_peek_store_ms(rec);
    f->store_host =
        get_host(rec + at_store_host(sys_flag), host_size(sys_flag, SYSFLAG_STORE_IPV6));
    f->reconsume_times = record_peek_reconsume_times(rec);
    f->prepared_offset = record_peek_prepared_offset(rec);
}

int record_decode(struct slice in, struct record_view *view)
{
    struct slice rest, part;
    uint32_t size, magic, body_len;
    size_t fixed, topic_len;

    if (in.len < RECORD_SIZE_MIN) {
        return ESCROW_EPROTO;
    }
    size = get_be32(in.ptr + AT_SIZE);
    magic = get_be32(in.ptr + AT_MAGIC);
    fixed = at_body(record_peek_sys_flag(in.ptr));
    if (size < RECORD_SIZE_MIN || size > in.len || size < fixed ||
        (magic != RECORD_MAGIC_V1 && magic != RECORD_MAGIC_V2)) {
        return ESCROW_EPROTO;
    }
    view->record = slice_of(in.ptr, size);
    get_fixed(in.ptr, view);

    body_len = get_be32(in.ptr + fixed - 4);
    rest = slice_of(in.ptr + fixed, size - fixed);
    if (!take(&rest, body_len, &view->f.body) ||
        !take(&rest, magic == RECORD_MAGIC_V2 ? 2 : 1, &part)) {
        return ESCROW_EPROTO;
    }
    topic_len = part.len == 2 ? get_be16(part.ptr) : part.ptr[0];
    if (part.len == 1 && topic_len > TOPIC_LEN_V1_MAX) { /* negative for Java */
        return ESCROW_EPROTO;
    }
    if (!take(&rest, topic_len, &view->f.topic) || !take(&rest, 2, &part)) {
        return ESCROW_EPROTO;
    }
    view->f.properties = rest;
    return rest.len == get_be16(part.ptr) && rest.len <= PROPERTIES_LEN_MAX ? 0 : ESCROW_EPROTO;
}

int record_walk_next(struct record_walk *walk, struct record_view *view)
{
    int error;

    if (walk->rest.len == 0) {
        return 0;
    }
    error = record_decode(walk->rest, view);
    if (error != 0) {
        return error;
    }
    walk->rest = slice_of(walk->rest.ptr + view->record.len, walk->rest.len - view->record.len);
    return 1;
}

uint32_t record_peek_size(const uint8_t *rec)
{
    return get_be32(rec + AT_SIZE);
}

int32_t record_peek_queue_id(const uint8_t *rec)
{
    return (int32_t)get_be32(rec + AT_QUEUE_ID);
}

int32_t record_peek_flag(const uint8_t *rec)
{
    return (int32_t)get_be32(rec + AT_FLAG);
}

int64_t record_peek_queue_offset(const uint8_t *rec)
{
    return (int64_t)get_be64(rec + AT_QUEUE_OFFSET);
}

int64_t record_peek_physical_offset(const uint8_t *rec)
{
    return (int64_t)get_be64(rec + AT_PHYSICAL_OFFSET);
}

int32_t record_peek_sys_flag(const uint8_t *rec)
{
    return (int32_t)get_be32(rec + AT_SYS_FLAG);
}

int64_t record_peek_born_ms(const uint8_t *rec)
{
    return (int64_t)get_be64(rec + AT_BORN_MS);
}

int64_t record_peek_store_ms(const uint8_t *rec)
{
    return (int64_t)get_be64(rec + at_store_ms(record_peek_sys_flag(rec)));
}

int32_t record_peek_reconsume_times(const uint8_t *rec)
{
    return (int32_t)get_be32(rec + at_reconsume_times(record_peek_sys_flag(rec)));
}

int64_t record_peek_prepared_offset(const uint8_t *rec)
{
    return (int64_t)get_be64(rec + at_prepared_offset(record_peek_sys_flag(rec)));
}

/* ---- patching ---- */

static void check_is_record(const uint8_t *rec)
{
    uint32_t magic = get_be32(rec + AT_MAGIC);

    CHECK(magic == RECORD_MAGIC_V1 || magic == RECORD_MAGIC_V2);
}

void record_patch_queue_id(uint8_t *rec, int32_t queue_id)
{
    check_is_record(rec);
    put_be32(rec + AT_QUEUE_ID, (uint32_t)queue_id);
}

void record_patch_queue_offset(uint8_t *rec, int64_t queue_offset)
{
    check_is_record(rec);
    put_be64(rec + AT_QUEUE_OFFSET, (uint64_t)queue_offset);
}

void record_patch_physical_offset(uint8_t *rec, int64_t physical_offset)
{
    check_is_record(rec);
    put_be64(rec + AT_PHYSICAL_OFFSET, (uint64_t)physical_offset);
}

void record_patch_sys_flag(uint8_t *rec, int32_t sys_flag)
{
    const uint32_t hosts = SYSFLAG_BORN_IPV6 | SYSFLAG_STORE_IPV6;

    check_is_record(rec);
    put_be32(rec + AT_SYS_FLAG,
             ((uint32_t)sys_flag & ~hosts) | ((uint32_t)record_peek_sys_flag(rec) & hosts));
}

void record_patch_store_ms(uint8_t *rec, int64_t store_ms)
{
    check_is_record(rec);
    put_be64(rec + at_store_ms(record_peek_sys_flag(rec)), (uint64_t)store_ms);
}

void record_patch_reconsume_times(uint8_t *rec, int32_t reconsume_times)
{
    check_is_record(rec);
    put_be32(rec + at_reconsume_times(record_peek_sys_flag(rec)), (uint32_t)reconsume_times);
}

void record_patch_prepared_offset(uint8_t *rec, int64_t prepared_offset)
{
    check_is_record(rec);
    put_be64(rec + at_prepared_offset(record_peek_sys_flag(rec)), (uint64_t)prepared_offset);
}
