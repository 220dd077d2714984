#include "outbox/pg/check_json.h"

#include "escrow/errors.h"

#include <jansson.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* A text of 1 to size-1 bytes without a NUL in it; false when it is not there or not that. */
static bool get_text(const json_t *object, const char *key, char *dst, size_t size)
{
    const json_t *value = json_object_get(object, key);
    size_t len = json_string_length(value);

    if (!json_is_string(value) || len == 0 || len >= size ||
        strlen(json_string_value(value)) != len) {
        return false;
    }
    memcpy(dst, json_string_value(value), len + 1);
    return true;
}

/* Decimal digits, as text or as an integer; at most INT64_MAX. */
static bool get_number(const json_t *object, const char *key, char *dst, size_t size, int64_t max)
{
    const json_t *value = json_object_get(object, key);
    int64_t number = 0;

    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else if (!json_is_string(value) ||
               !slice_to_i64(slice_of(json_string_value(value), json_string_length(value)),
                             &number)) {
        return false;
    }
    return number >= 0 && number <= max && snprintf(dst, size, "%" PRId64, number) < (int)size;
}

static bool is_absent(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return value == NULL || json_is_null(value);
}

static bool decode_fields(const json_t *root, struct check_question *q, char *nonce)
{
    const json_t *db = json_object_get(root, "database");

    q->xid[0] = '\0';
    q->system_id[0] = '\0';
    if (!get_text(root, "transactionId", q->txn_id, sizeof q->txn_id) ||
        !get_text(root, "nonce", nonce, CHECK_NONCE_MAX + 1)) {
        return false;
    }
    if (!is_absent(root, "xid") && !get_number(root, "xid", q->xid, sizeof q->xid, INT64_MAX)) {
        return false;
    }
    if (is_absent(root, "database")) {
        return true;
    }
    return json_is_object(db) &&
           get_number(db, "systemIdentifier", q->system_id, sizeof q->system_id, INT64_MAX) &&
           get_number(db, "timeline", q->timeline, sizeof q->timeline, INT32_MAX) &&
           get_text(db, "name", q->database, sizeof q->database);
}

int check_json_decode(struct slice body, struct check_question *q, char nonce[CHECK_NONCE_MAX + 1])
{
    json_t *root;
    bool is_good;

    if (body.len > CHECK_JSON_MAX) {
        return ESCROW_ETOOBIG;
    }
    if (body.len == 0) {
        return ESCROW_EPROTO;
    }
    root = json_loadb((const char *)body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
    if (root == NULL) {
        return ESCROW_EPROTO;
    }
    is_good = json_is_object(root) && decode_fields(root, q, nonce);
    json_decref(root);
    return is_good ? 0 : ESCROW_EPROTO;
}

/* UTF-8 goes as it is; quotes, backslashes and control characters are escaped. */
static void put_text(struct buf *out, const char *text)
{
    buf_append_str(out, "\"");
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (c == '"' || c == '\\') {
            buf_append_str(out, "\\");
            buf_append(out, p, 1);
        } else if (c < 0x20) {
            buf_append_fmt(out, "\\u%04x", c);
        } else {
            buf_append(out, p, 1);
        }
    }
    buf_append_str(out, "\"");
}

void check_json_encode(struct buf *out, const char *txn_id, const char *nonce,
                       enum check_state state)
{
    buf_append_str(out, "{\"transactionId\":");
    put_text(out, txn_id);
    buf_append_str(out, ",\"nonce\":");
    put_text(out, nonce);
    buf_append_fmt(out, ",\"state\":\"%s\"}", check_state_name(state));
}
