/*
 * Header type 0, JSON: {"code":..,"extFields":{..},"flag":..,"language":..,"opaque":..,"remark":..,
 * "serializeTypeCurrentRPC":"JSON","version":..}. Use through header.h.
 *
 * A parser for this one shape, in one pass and without copying: text without escapes is handed out
 * where it lies, text with escapes is unescaped into the header's scratch. Strict about JSON,
 * except that control characters may stand in a string; lenient about the shape: any order, unknown
 * keys skipped, numbers, booleans and null where strings are expected and the other way round. A
 * nested value of a field is kept as its JSON text.
 *
 * Owns: nothing.    Thread: that of the header or the writer.
 */
#ifndef CORE_PROTO_HEADER_JSON_H
#define CORE_PROTO_HEADER_JSON_H

#include "core/proto/header.h"

/* As header_decode. */
ESCROW_MUST_USE int header_json_decode(struct header *h, struct slice in);

/* Steps of the writer; failures stay in the buf. */
void header_json_begin(struct header_writer *w);
void header_json_put(struct header_writer *w, struct slice key, struct slice value);
void header_json_end(struct header_writer *w);

#endif
