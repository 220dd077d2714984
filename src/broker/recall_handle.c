#include "src/broker/recall_handle.h"

#include "core/proto/properties.h"
#include "escrow/errors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RECALL_VERSION "v1"
#define RECALL_WORDS   6

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t base64_encode(struct slice in, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < in.len; i += 3) {
        size_t have = in.len - i < 3 ? in.len - i : 3;
        uint32_t bits = (uint32_t)in.ptr[i] << 16;
        bits |= have > 1 ? (uint32_t)in.ptr[i + 1] << 8 : 0;
        bits |= have > 2 ? (uint32_t)in.ptr[i + 2] : 0;
        out[n++] = digits[bits >> 18 & 63];
        out[n++] = digits[bits >> 12 & 63];
        out[n++] = have > 1 ? digits[bits >> 6 & 63] : '=';
        out[n++] = have > 2 ? digits[bits & 63] : '=';
    }
    return n;
}

/* With or without padding, as clients' decoders take it. false: another character, or too long. */
static bool base64_decode(struct slice in, uint8_t *out, size_t cap, size_t *len)
{
    uint32_t bits = 0;
    unsigned have = 0;

    while (in.len > 0 && in.ptr[in.len - 1] == '=') {
        in.len--;
    }
    *len = 0;
    for (size_t i = 0; i < in.len; i++) {
        const char *at = in.ptr[i] == 0 ? NULL : strchr(digits, in.ptr[i]);
        if (at == NULL) {
            return false;
        }
        bits = bits << 6 | (uint32_t)(at - digits);
        have += 6;
        if (have >= 8) {
            if (*len == cap) {
                return false;
            }
            have -= 8;
            out[(*len)++] = (uint8_t)(bits >> have);
        }
    }
    return true;
}

/* A zero byte would end the text of the handle, and leave one that names a shortened id. */
static bool is_word(struct slice s)
{
    return s.len > 0 && memchr(s.ptr, ' ', s.len) == NULL && memchr(s.ptr, '\0', s.len) == NULL;
}

size_t recall_handle_encode(const struct recall_handle *handle, char out[RECALL_HANDLE_MAX])
{
    char text[RECALL_TEXT_MAX];
    int len;

    if (!is_word(handle->topic) || !is_word(handle->broker) || !is_word(handle->message_id)) {
        return 0;
    }
    len = snprintf(text, sizeof text, RECALL_VERSION " %.*s %.*s %" PRId64 " %.*s %" PRIu64,
                   SLICE_ARGS(handle->topic), SLICE_ARGS(handle->broker), handle->due_ms,
                   SLICE_ARGS(handle->message_id), handle->offset);
    if (len < 0 || (size_t)len >= sizeof text) {
        return 0;
    }
    return base64_encode(slice_of(text, (size_t)len), out);
}

int recall_handle_decode(struct slice text, uint8_t scratch[RECALL_TEXT_MAX],
                         struct recall_handle *handle)
{
    struct slice words[RECALL_WORDS];
    struct slice rest;
    struct slice word;
    int64_t offset;
    size_t count = 0;
    size_t len;

    if (!base64_decode(text, scratch, RECALL_TEXT_MAX, &len) ||
        memchr(scratch, '\0', len) != NULL) {
        return ESCROW_EINVAL;
    }
    rest = slice_of(scratch, len);
    while (count < RECALL_WORDS && props_next_key(&rest, &word)) { /* words between blanks */
        words[count++] = word;
    }
    if (count != RECALL_WORDS || rest.len > 0 || !slice_eq_str(words[0], RECALL_VERSION)) {
        return ESCROW_EINVAL;
    }
    *handle = (struct recall_handle){.topic = words[1], .broker = words[2], .message_id = words[4]};
    if (!slice_to_i64(words[3], &handle->due_ms) || !slice_to_i64(words[5], &offset) ||
        offset < 0) {
        return ESCROW_EINVAL;
    }
    handle->offset = (uint64_t)offset;
    return 0;
}
