#include "core/proto/body_callback.h"

#include "core/proto/body_tree.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"

#include <inttypes.h>
#include <stdio.h>

#define CALLBACK_ELEMENTS_MAX 256

struct nonce_text {
    char text[17];
};

static struct nonce_text nonce_format(uint64_t nonce)
{
    struct nonce_text out;

    (void)snprintf(out.text, sizeof out.text, "%016" PRIx64, nonce); /* exactly 16 digits */
    return out;
}

void callback_request_encode(struct buf *out, const struct callback_request *req)
{
    struct json_writer w = json_writer_to(out);
    struct nonce_text nonce = nonce_format(req->nonce);

    json_write_object_begin(&w);
    json_put_string(&w, "transactionId", req->transaction_id);
    json_put_string(&w, "nonce", slice_str(nonce.text));
    json_put_string(&w, "producerGroup", req->group);
    json_put_string(&w, "topic", req->topic);
    json_put_i64(&w, "checks", req->checks);
    json_put_i64(&w, "storedAt", req->store_ms);
    if (req->xid.len > 0) {
        json_put_string(&w, "xid", req->xid);
    }
    if (req->db_system.len > 0) {
        json_write_key(&w, "database");
        json_write_object_begin(&w);
        json_put_string(&w, "systemIdentifier", req->db_system);
        json_put_i64(&w, "timeline", req->db_timeline);
        json_put_string(&w, "name", req->db_name);
        json_write_object_end(&w);
    }
    json_write_object_end(&w);
}

static bool state_parse(struct slice text, enum callback_state *state)
{
    static const struct {
        const char *name;
        enum callback_state state;
    } names[] = {{"commit", CALLBACK_COMMIT},
                 {"rollback", CALLBACK_ROLLBACK},
                 {"in_progress", CALLBACK_IN_PROGRESS},
                 {"unknown", CALLBACK_UNKNOWN},
                 {"not_mine", CALLBACK_NOT_MINE}};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (slice_eq_str(text, names[i].name)) {
            *state = names[i].state;
            return true;
        }
    }
    return false;
}

int callback_answer_decode(struct slice body, struct slice transaction_id, uint64_t nonce,
                           enum callback_state *state)
{
    struct json_limits limits = {.elements_max = CALLBACK_ELEMENTS_MAX,
                                 .depth_max = JSON_DEPTH_MAX};
    struct nonce_text expected = nonce_format(nonce);
    struct body_tree tree = {0};
    const struct json_node *root = NULL;
    int rc = body_tree_parse(&tree, body, limits, &root);

    if (rc == ESCROW_ELIMIT) {
        rc = ESCROW_EPROTO; /* far more than an answer has */
    }
    if (rc == 0 && (!slice_eq(body_tree_str(root, "transactionId"), transaction_id) ||
                    !slice_eq_str(body_tree_str(root, "nonce"), expected.text) ||
                    !state_parse(body_tree_str(root, "state"), state))) {
        rc = ESCROW_EPROTO;
    }
    body_tree_fini(&tree);
    return rc;
}
