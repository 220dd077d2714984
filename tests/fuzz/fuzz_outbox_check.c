/*
 * The JSON of a check-back, from anybody who reaches the endpoint. What is accepted can be echoed
 * and read again.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "outbox/pg/check_json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct check_question q = {.txn_id = ""};
    struct check_question again = {.txn_id = ""};
    char nonce[CHECK_NONCE_MAX + 1] = "";
    char nonce_again[CHECK_NONCE_MAX + 1] = "";
    struct buf text;
    int rc = check_json_decode(slice_of(data, size), &q, nonce);

    CHECK(rc == 0 || rc == ESCROW_EPROTO || rc == ESCROW_ETOOBIG);
    if (rc != 0) {
        return 0;
    }
    CHECK(strlen(q.txn_id) > 0);
    CHECK(strlen(q.txn_id) < sizeof q.txn_id);
    CHECK(strlen(q.xid) < sizeof q.xid);
    buf_init(&text, 0);
    check_json_encode(&text, q.txn_id, nonce, CHECK_STATE_NOT_MINE);
    CHECK(check_json_decode(buf_slice(&text), &again, nonce_again) == 0);
    CHECK(strcmp(again.txn_id, q.txn_id) == 0);
    CHECK(strcmp(nonce_again, nonce) == 0);
    buf_fini(&text);
    return 0;
}
