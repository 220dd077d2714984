/* What the three codecs share with header.c. For this folder and its unit tests only. */
#ifndef CORE_PROTO_HEADER_PRIVATE_H
#define CORE_PROTO_HEADER_PRIVATE_H

#include "core/proto/header.h"

/* Longest decimal text of an int64: "-9223372036854775808". */
#define HEADER_NUMBER_TEXT_MAX 20

/*
 * Add a field, or replace the value of the one with that key. ESCROW_ETOOBIG when the table is
 * full, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int header_add_text(struct header *h, struct slice key, struct slice value);
ESCROW_MUST_USE int header_add_number(struct header *h, struct slice key, int64_t number,
                                      enum header_kind kind);

/*
 * `len` bytes that live as long as the decoded header, NULL when out of memory. Nothing moves. All
 * requests together stay below source_len (unescaped text is never longer than its source) plus the
 * text of every number.
 */
uint8_t *header_scratch(struct header *h, size_t len);

/* Give back the end of the last piece: it was `len` long and `used` are needed. */
void header_scratch_trim(struct header *h, size_t len, size_t used);

/* Decimal text; returns its length. */
size_t header_number_text(int64_t number, uint8_t text[HEADER_NUMBER_TEXT_MAX]);

#endif
