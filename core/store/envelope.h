/*
 * The envelope: 40 bytes in front of every record of the commit log, and the rule that says whether
 * a record is valid. FORMAT.md has the byte table; this file and that table change together.
 *
 * Owns:    nothing.
 * Thread:  any. Pure.
 * Holds:   envelope_decode(envelope_encode(e)) == e; a record is accepted by envelope_verify only
 *          if every byte of it, its padding included, is what was written.
 */
#ifndef CORE_STORE_ENVELOPE_H
#define CORE_STORE_ENVELOPE_H

#include "core/base/attr.h"

#include "core/base/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENVELOPE_SIZE  40u
#define ENVELOPE_MAGIC UINT32_C(0x45534331) /* "1CSE" in the file */
#define ENVELOPE_ALIGN 8u

/* Where the checksum stands, for who knows what it has to be. */
#define ENVELOPE_AT_CRC 32u

/* Longest record, so that a damaged length never makes a reader ask for a gigabyte. */
#define ENVELOPE_LENGTH_MAX RECORD_SIZE_MAX

/* X(name, number, may be written in this version) */
#define STORE_TYPES(X)                                                                             \
    X(MESSAGE, 1, true)  /* visible in its queue once durable */                                   \
    X(HALF, 2, true)     /* held until a DECISION */                                               \
    X(DECISION, 3, true) /* commit, rollback or expiry of halves */                                \
    X(CHECK, 4, true)    /* a check-back was sent */                                               \
    X(RELEASE, 5, true)  /* held messages are due, or recalled */                                  \
    X(TOPIC, 6, true)    /* topic configuration */                                                 \
    X(OFFSETS, 7, true)  /* consumer offsets */                                                    \
    X(POSITION, 8, true) /* how far an outbox source has been read */                              \
    X(START, 9, true)    /* first record of every epoch */                                         \
    X(FILLER, 10, true)  /* the log goes on in the next segment */                                 \
    X(GROUP, 11, true)   /* consumer group configuration */                                        \
    X(HELD, 12, true)    /* held until a RELEASE */                                                \
    X(WITNESS, 13, true) /* says only that everything before it was durable */                     \
    X(SKIPPED, 14, true) /* readers may go on behind damage in a range of a queue */               \
    X(MODE, 16, true)    /* how a consumer group asks for the messages of a topic */

enum store_type {
#define X(name, number, known) STORE_##name = (number),
    STORE_TYPES(X)
#undef X
};

enum envelope_flags {
    ENVELOPE_MORE = 1, /* the next record belongs to the same atomic group */
};

struct envelope {
    uint32_t length; /* envelope and payload, without padding */
    uint64_t offset; /* physical offset: where in the log it stands */
    uint64_t synced; /* everything below was durable before this record was written */
    uint32_t epoch;  /* grows by one with every start */
    uint32_t crc;    /* as verified; envelope_encode computes its own */
    uint8_t type;    /* enum store_type, or a number this version does not know */
    uint8_t flags;   /* enum envelope_flags */
};

/* Bytes a record of `length` takes in the log. */
static inline uint64_t envelope_padded(uint64_t length)
{
    return (length + (ENVELOPE_ALIGN - 1)) & ~(uint64_t)(ENVELOPE_ALIGN - 1);
}

/* What every checksum of a store begins with, from the salt in its format file. */
uint32_t envelope_seed(uint32_t salt);

/*
 * Write the envelope of a record whose payload already stands at dst + ENVELOPE_SIZE, compute its
 * checksum, zero its padding. dst has envelope_padded(e->length) bytes.
 */
void envelope_encode(uint8_t *dst, const struct envelope *e, uint32_t seed);

/* Change the flags of an encoded record and compute its checksum again. */
void envelope_set_flags(uint8_t *record, uint8_t flags, uint32_t seed);

enum envelope_verdict {
    ENVELOPE_VALID = 0,
    ENVELOPE_SHORT,    /* more bytes are needed; envelope_verify's *need says how many */
    ENVELOPE_NO_MAGIC, /* no record begins here */
    /* length below ENVELOPE_SIZE, above the maximum, or more than the segment has left */
    ENVELOPE_LENGTH,
    ENVELOPE_OFFSET,   /* says it stands somewhere else */
    ENVELOPE_RESERVED, /* a byte that must be zero is not, or an unknown flag */
    ENVELOPE_CHECKSUM
};

/* Words for an error line; static storage. */
const char *envelope_verdict_text(enum envelope_verdict verdict);

/*
 * Is a valid record at `bytes`, which stands at `offset` of the log? room: bytes from `offset` to
 * the end of its segment. have: bytes that are at hand (have <= room). On ENVELOPE_VALID *e is
 * filled. On ENVELOPE_SHORT *need > have is the number of bytes that decide. The type is not
 * judged: a valid record of an unknown type is for the caller to refuse.
 */
struct envelope_source {
    const uint8_t *bytes;
    size_t have;
    uint64_t offset;
    uint64_t room;
    uint32_t seed;
};
ESCROW_MUST_USE enum envelope_verdict envelope_verify(const struct envelope_source *src,
                                                      struct envelope *e, size_t *need);

/* Name of a type ("MESSAGE"), "?" for an unknown number; static storage. */
const char *store_type_name(unsigned type);

/* Is its payload a message record? */
static inline bool store_type_is_message(enum store_type type)
{
    return type == STORE_MESSAGE || type == STORE_HALF || type == STORE_HELD;
}

/* ... that has no place in its queue until another record gives it one? */
static inline bool store_type_is_held(enum store_type type)
{
    return type == STORE_HALF || type == STORE_HELD;
}

/* May a record of this type be in a log of this version? */
bool store_type_is_known(unsigned type);

#endif
