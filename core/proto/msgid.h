/*
 * Message ids.
 *
 * Offset message id: uppercase hex of the store host's address (4 or 16 bytes), port (int32) and
 * commit-log offset (int64): 32 or 56 characters. SEND answers it as msgId; VIEW_MESSAGE_BY_ID and
 * tools take it back.
 *
 * UNIQ_KEY: the client's id of a message: uppercase hex of address (4 or 16), process id (low 16
 * bits), salt (4, Java's class-loader hash), milliseconds since the first of the month (4) and a
 * counter (2): 32 or 56 characters. Our transaction ids are UNIQ_KEYs. Others treat it as opaque
 * text, except that tools estimate the time from it.
 *
 * Owns:    nothing. Texts go to memory of the caller and end with NUL.
 * Thread:  msgid functions any; a struct uniq_key_gen belongs to whoever owns it.
 * Pure:    no clock, no randomness, no globals.
 * Holds:   one generator never issues a key twice within a month's milliseconds, even when the
 * clock goes back.
 */
#ifndef CORE_PROTO_MSGID_H
#define CORE_PROTO_MSGID_H

#include "core/base/attr.h"
#include "core/base/slice.h"
#include "core/proto/record.h"

#include <stdint.h>

#define MSGID_TEXT_MAX 56

/* Writes 32 or 56 characters and a NUL; returns the number of characters. */
size_t msgid_encode(const struct record_host *host, int64_t offset, char text[MSGID_TEXT_MAX + 1]);

/* Accepts both cases. ESCROW_EINVAL when it is not 32 or 56 hex digits, or port or offset cannot
 * be. */
ESCROW_MUST_USE int msgid_decode(struct slice text, struct record_host *host, int64_t *offset);

struct uniq_key_gen {
    uint8_t ip[16];
    uint8_t ip_len; /* 4 or 16 */
    uint16_t pid;
    uint16_t counter;
    uint32_t salt; /* random per process, so that a reused pid makes other keys */
    int32_t
        utc_offset_s; /* local time zone, east positive: tools read the time with the local month */
    int64_t last_ms;  /* time of the last key; the next is never earlier */
    int64_t month_begin_ms; /* of the month last_ms lies in */
    int64_t month_end_ms;
};

/* ip: ip_len (4 or 16) bytes in network order. */
void uniq_key_init(struct uniq_key_gen *gen, const uint8_t *ip, uint8_t ip_len, uint16_t pid,
                   uint32_t salt);

/* The next key at wall time now_ms (ms since 1970, UTC). Writes 32 or 56 characters and a NUL;
 * returns the number. */
size_t uniq_key_next(struct uniq_key_gen *gen, int64_t now_ms, char text[MSGID_TEXT_MAX + 1]);

/*
 * The time in a key: milliseconds since the first of its month, in *ms_of_month. ESCROW_EINVAL when
 * the text is not a key of this format.
 */
ESCROW_MUST_USE int uniq_key_time(struct slice text, uint32_t *ms_of_month);

#endif
