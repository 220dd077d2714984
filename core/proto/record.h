/*
 * The message record of RocketMQ's commit log: what a PULL answers, and the payload of our own
 * MESSAGE and HALF records.
 *
 * All integers big-endian. With two IPv4 hosts the fields lie at
 *   0 TOTALSIZE 4 | 4 MAGIC 4 | 8 BODYCRC 4 | 12 QUEUEID 4 | 16 FLAG 4 | 20 QUEUEOFFSET 8 | 28
 * PHYSICALOFFSET 8 | 36 SYSFLAG 4 | 40 BORNTIMESTAMP 8 | 48 BORNHOST 8 | 56 STORETIMESTAMP 8 | 64
 * STOREHOST 8 | 72 RECONSUMETIMES 4 | 76 PREPAREDTRANSACTIONOFFSET 8 | 84 BODYLENGTH 4 | 88 body |
 * TOPICLENGTH 1 | topic | PROPERTIESLENGTH 2 | properties An IPv6 host (SYSFLAG bits 16, 32) is 12
 * bytes longer and moves what follows. A topic of more than 127 bytes needs the second version,
 * whose TOPICLENGTH has 2 bytes and whose magic differs. BODYCRC is the CRC-32 of the body without
 * its sign bit.
 *
 * Owns:    nothing. Views are borrowed from the bytes they were decoded from.
 * Thread:  any.
 * Pure:    no allocation, no clock.
 * Errors:  record_decode and the walk reject hostile bytes with ESCROW_EPROTO. The peek and patch
 *          functions take a record that record_decode (or our own encoder behind a checksum) has
 *          accepted: other bytes are a bug.
 * Holds:   record_size(f) == what record_encode(dst, f) writes == TOTALSIZE.
 */
#ifndef CORE_PROTO_RECORD_H
#define CORE_PROTO_RECORD_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_MAGIC_V1 UINT32_C(0xDAA320A7)
#define RECORD_MAGIC_V2 UINT32_C(0xDAA320AB)

/* Smallest record: two IPv4 hosts, no body, no topic, no properties. */
#define RECORD_SIZE_MIN 91

/* SYSFLAG */
#define SYSFLAG_COMPRESSED    0x1
#define SYSFLAG_MULTI_TAGS    0x2
#define SYSFLAG_TXN_MASK      0xC
#define SYSFLAG_TXN_NONE      0x0
#define SYSFLAG_TXN_PREPARED  0x4
#define SYSFLAG_TXN_COMMIT    0x8
#define SYSFLAG_TXN_ROLLBACK  0xC
#define SYSFLAG_BORN_IPV6     0x10
#define SYSFLAG_STORE_IPV6    0x20
#define SYSFLAG_NEED_UNWRAP   0x40
#define SYSFLAG_INNER_BATCH   0x80
#define SYSFLAG_COMPRESS_MASK 0x700
#define SYSFLAG_COMPRESS_ZLIB 0x300 /* 0 means zlib too */
#define SYSFLAG_COMPRESS_LZ4  0x100
#define SYSFLAG_COMPRESS_ZSTD 0x200

/* An address and port as records and message ids carry it. */
struct record_host {
    uint8_t ip[16]; /* network order; the first ip_len bytes count */
    uint8_t ip_len; /* 4 or 16 */
    uint16_t port;
};

/* IPv4 host from its four bytes in network order. */
struct record_host record_host_ipv4(const uint8_t ip[4], uint16_t port);

/* What the writer of a record says. sys_flag's two IPv6 bits are set from the hosts, whatever the
 * caller gave. */
struct record_fields {
    int32_t queue_id;
    int32_t flag; /* the user's, stored as it came */
    int64_t queue_offset;
    int64_t physical_offset;
    int32_t sys_flag;
    int32_t reconsume_times;
    int64_t born_ms;
    int64_t store_ms;
    int64_t prepared_offset; /* commit-log offset of the half, 0 for an ordinary message */
    struct record_host born_host;
    struct record_host store_host;
    struct slice body;
    struct slice topic;
    struct slice properties;
};

/* What record_decode found. Slices point into the record. */
struct record_view {
    struct slice record; /* all of it, TOTALSIZE bytes */
    uint32_t magic;
    uint32_t body_crc;
    struct record_fields f;
};

/*
 * May these fields become a record? 0; ESCROW_EINVAL: no topic, or a host that is neither 4 nor 16
 * bytes; ESCROW_ETOOBIG: body over MESSAGE_BODY_MAX, topic over RETRY_TOPIC_LEN_MAX or properties
 * over PROPERTIES_LEN_MAX.
 */
ESCROW_MUST_USE int record_check(const struct record_fields *f);

/* Bytes record_encode will write. Looks only at the hosts and at the lengths of the slices. */
size_t record_size(const struct record_fields *f);

/*
 * Write the record at dst (record_size(f) bytes of room), computing BODYCRC. Returns the size. The
 * fields must have passed record_check.
 */
size_t record_encode(uint8_t *dst, const struct record_fields *f);

/*
 * The same in two steps, for a caller that composes the properties in place: record_begin writes
 * everything before the properties (f->properties is ignored) and returns where they go; record_end
 * takes how many bytes (at most PROPERTIES_LEN_MAX) were put there, fills in both lengths and
 * returns the size of the record.
 */
uint8_t *record_begin(uint8_t *dst, const struct record_fields *f);
size_t record_end(uint8_t *dst, uint8_t *properties, size_t properties_len);

/*
 * Decode the record at the start of `in`, which may be longer. Every length is checked against
 * TOTALSIZE and against `in`; the parts must fill TOTALSIZE exactly. BODYCRC is not verified
 * (record_body_crc does). Returns 0, or ESCROW_EPROTO; then *view is unspecified.
 */
ESCROW_MUST_USE int record_decode(struct slice in, struct record_view *view);

/* CRC-32 of a body as BODYCRC stores it. */
uint32_t record_body_crc(struct slice body);

/* Walks records that lie back to back, as in the body of a PULL answer. */
struct record_walk {
    struct slice rest;
};

/* 1 and *view; 0 at the end; ESCROW_EPROTO when what follows is no record (the walk then stays
 * where it is). */
ESCROW_MUST_USE int record_walk_next(struct record_walk *walk, struct record_view *view);

/* Fields of an accepted record. */
uint32_t record_peek_size(const uint8_t *rec);
int32_t record_peek_queue_id(const uint8_t *rec);
int32_t record_peek_flag(const uint8_t *rec);
int64_t record_peek_queue_offset(const uint8_t *rec);
int64_t record_peek_physical_offset(const uint8_t *rec);
int32_t record_peek_sys_flag(const uint8_t *rec);
int64_t record_peek_born_ms(const uint8_t *rec);
int64_t record_peek_store_ms(const uint8_t *rec);
int32_t record_peek_reconsume_times(const uint8_t *rec);
int64_t record_peek_prepared_offset(const uint8_t *rec);

/*
 * Set a field in a copy of an accepted record, as delivery does with a released half. The IPv6 bits
 * of SYSFLAG decide where fields lie: record_patch_sys_flag keeps them whatever is passed.
 */
void record_patch_queue_id(uint8_t *rec, int32_t queue_id);
void record_patch_queue_offset(uint8_t *rec, int64_t queue_offset);
void record_patch_physical_offset(uint8_t *rec, int64_t physical_offset);
void record_patch_sys_flag(uint8_t *rec, int32_t sys_flag);
void record_patch_store_ms(uint8_t *rec, int64_t store_ms);
void record_patch_reconsume_times(uint8_t *rec, int32_t reconsume_times);
void record_patch_prepared_offset(uint8_t *rec, int64_t prepared_offset);

#endif
