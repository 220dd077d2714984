/* The header of a send: the first byte is the header type, the rest the header. */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/send_request.h"
#include "escrow/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Written in both spellings and read again, it is the same request. */
static void check_again(const struct send_request *req, bool use_letters)
{
    struct header_writer w;
    struct send_request again;
    struct header h;
    struct frame frame;
    const char *field = "";
    struct buf out;

    buf_init(&out, 0);
    header_init(&h);
    header_begin(&w, &out, HEADER_ROCKETMQ, &(struct header_out){.code = 10, .opaque = 1});
    send_request_encode(&w, req, use_letters);
    header_end(&w);
    if (header_frame_end(&w, 0) == 0) {
        CHECK(frame_decode(buf_slice(&out), &frame) == 0);
        CHECK(header_decode(&h, frame.type, frame.header) == 0);
        CHECK(send_request_decode(&h, &again, &field) == 0);
        CHECK(slice_eq(again.topic, req->topic));
        CHECK(slice_eq(again.properties, req->properties));
        CHECK(again.queue_id == req->queue_id);
        CHECK(again.born_ms == req->born_ms);
    }
    header_fini(&h);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct send_request req;
    struct send_answer answer;
    const char *field = NULL;
    struct header h;

    if (size == 0 || data[0] >= HEADER_TYPE_COUNT) {
        return 0;
    }
    header_init(&h);
    if (header_decode(&h, (enum header_type)data[0], slice_of(data + 1, size - 1)) == 0) {
        int error = send_request_decode(&h, &req, &field);
        CHECK(error == 0 || error == ESCROW_EINVAL || error == ESCROW_ETOOBIG);
        CHECK_IMPLIES(error != 0, field != NULL);
        if (error == 0) {
            CHECK(req.properties.len <= PROPERTIES_LEN_MAX);
            check_again(&req, false);
            check_again(&req, true);
        }
        error = send_answer_decode(&h, &answer);
        CHECK(error == 0 || error == ESCROW_EPROTO);
    }
    header_fini(&h);
    return 0;
}
