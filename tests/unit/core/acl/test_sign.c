/*
 * Signatures, against values that other programs computed:
 *
 *   printf '%s' 'orders-serviceALIYUN' 'G' 'Orders' '4' 'paid' |
 *       openssl dgst -sha1 -hmac 'secret-of-orders' -binary | base64          -> WANT
 *   the same with 'token-1' behind ALIYUN                                     -> WANT_TOKEN
 *   python3: base64.b64encode(hmac.new(secret, ''.join(f[k] for k in sorted(f)) + body, sha1))
 */
#include "core/acl/sign.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#define SECRET     "secret-of-orders"
#define WANT       "69y0VvOhrvqR56r/0eFExwAAXx8="
#define WANT_TOKEN "P0hEPXE2aSsg867SsndPigL9jgA="

static struct signer *signer;
static struct header header;
static struct buf out;

static void set_up(void)
{
    ck_assert_int_eq(signer_new(SLICE_LIT(SECRET), &signer), 0);
    header_init(&header);
    buf_init(&out, 0);
}

static void tear_down(void)
{
    signer_free(&signer);
    header_fini(&header);
    buf_fini(&out);
}

/* Fields in no order, as a client's hash map has them. */
static void put_send(struct header_writer *w, void *arg)
{
    header_put_str(w, "b", SLICE_LIT("Orders"));
    header_put_i64(w, "d", 4);
    header_put_str(w, "OnsChannel", SLICE_LIT("ALIYUN"));
    if (arg != NULL) {
        header_put_str(w, SIGN_FIELD_SECURITY_TOKEN, slice_str(arg));
    }
    header_put_str(w, "a", SLICE_LIT("G"));
}

static void decode(void)
{
    struct frame frame;

    ck_assert_int_eq(frame_decode(buf_slice(&out), &frame), 0);
    ck_assert_int_eq(header_decode(&header, frame.type, frame.header), 0);
}

/* A frame of put_send with a signature that the caller gives. */
static void frame_with(enum header_type type, char *token, const char *signature)
{
    struct header_writer w;
    struct header_out head = {.code = 310, .opaque = 7};

    buf_clear(&out);
    header_begin(&w, &out, type, &head);
    header_put_str(&w, SIGN_FIELD_SIGNATURE, slice_str(signature));
    put_send(&w, token);
    header_put_str(&w, SIGN_FIELD_ACCESS_KEY, SLICE_LIT("orders-service"));
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    decode();
}

START_TEST(the_signature_is_the_one_of_openssl)
{
    /* Every encoding, numbers and texts: the value that the command line computed. */
    char made[SIGN_TEXT_LEN + 1];

    for (int type = 0; type < HEADER_TYPE_COUNT; type++) {
        frame_with((enum header_type)type, NULL, "x");
        ck_assert_int_eq(signer_sign(signer, &header, SLICE_LIT("paid"), made), 0);
        ck_assert_str_eq(made, WANT);
        frame_with((enum header_type)type, NULL, WANT);
        ck_assert(signer_verify(signer, &header, SLICE_LIT("paid")));
    }
}
END_TEST

START_TEST(a_json_number_is_signed_as_its_text)
{
    /* What a client wrote without quotes counts as it stands. */
    static const char text[] = "{\"code\":310,\"flag\":0,\"language\":\"CPP\",\"opaque\":1,"
                               "\"extFields\":{\"d\":4,\"b\":\"Orders\",\"OnsChannel\":\"ALIYUN\","
                               "\"Signature\":\"" WANT "\",\"a\":\"G\","
                               "\"AccessKey\":\"orders-service\"}}";

    ck_assert_int_eq(header_decode(&header, HEADER_JSON, slice_str(text)), 0);
    ck_assert(signer_verify(signer, &header, SLICE_LIT("paid")));
}
END_TEST

START_TEST(a_token_may_be_signed_or_not)
{
    /* Java signs SecurityToken, Go does not. */
    char token[] = "token-1";

    frame_with(HEADER_JSON, token, WANT_TOKEN);
    ck_assert(signer_verify(signer, &header, SLICE_LIT("paid")));
    frame_with(HEADER_JSON, token, WANT);
    ck_assert(signer_verify(signer, &header, SLICE_LIT("paid")));
}
END_TEST

START_TEST(anything_changed_is_refused)
{
    /* Body, a value, the signature, its length, the secret. */
    struct signer *other;
    char token[] = "token-2";

    frame_with(HEADER_JSON, NULL, WANT);
    ck_assert(!signer_verify(signer, &header, SLICE_LIT("paie")));
    ck_assert(!signer_verify(signer, &header, SLICE_EMPTY));
    ck_assert_int_eq(signer_new(SLICE_LIT("secret-of-orderz"), &other), 0);
    ck_assert(!signer_verify(other, &header, SLICE_LIT("paid")));
    signer_free(&other);
    frame_with(HEADER_JSON, NULL, "79y0VvOhrvqR56r/0eFExwAAXx8=");
    ck_assert(!signer_verify(signer, &header, SLICE_LIT("paid")));
    frame_with(HEADER_JSON, NULL, "69y0VvOhrvqR56r/0eFExwAAXx8");
    ck_assert(!signer_verify(signer, &header, SLICE_LIT("paid")));
    frame_with(HEADER_JSON, NULL, "");
    ck_assert(!signer_verify(signer, &header, SLICE_LIT("paid")));
    frame_with(HEADER_JSON, token, WANT_TOKEN);
    ck_assert(!signer_verify(signer, &header, SLICE_LIT("paid")));
}
END_TEST

START_TEST(a_signed_frame_verifies_by_another_path)
{
    /* sign_frame in every encoding; the content is put together by hand and signed in one call. */
    static const char content[] = "orders-serviceALIYUNGOrders4paid";
    struct sign_request req = {.access_key = SLICE_LIT("orders-service"),
                               .signer = signer,
                               .fields = put_send,
                               .body = SLICE_LIT("paid")};
    struct header_out head = {.code = 310, .opaque = 9};
    unsigned char digest[20];
    unsigned char text[SIGN_TEXT_LEN + 1];
    unsigned len = 0;

    ck_assert_ptr_nonnull(HMAC(EVP_sha1(), SECRET, (int)strlen(SECRET),
                               (const unsigned char *)content, strlen(content), digest, &len));
    ck_assert_int_eq(EVP_EncodeBlock(text, digest, (int)len), SIGN_TEXT_LEN);
    for (int type = 0; type < HEADER_TYPE_COUNT; type++) {
        buf_clear(&out);
        ck_assert_int_eq(sign_frame(&out, (enum header_type)type, &head, &req), 0);
        decode();
        ck_assert(slice_eq_str(header_str(&header, SIGN_FIELD_SIGNATURE), (const char *)text));
        ck_assert(signer_verify(signer, &header, SLICE_LIT("paid")));
        ck_assert(slice_eq_str(slice_of(out.ptr + out.len - 4, 4), "paid"));
    }
}
END_TEST

START_TEST(without_a_signer_nothing_is_added)
{
    /* The same frame as before there was access control. */
    struct sign_request req = {.fields = put_send};
    struct header_out head = {.code = 310, .opaque = 9};

    ck_assert_int_eq(sign_frame(&out, HEADER_JSON, &head, &req), 0);
    decode();
    ck_assert_ptr_null(header_find(&header, SLICE_LIT(SIGN_FIELD_ACCESS_KEY)));
    ck_assert_ptr_null(header_find(&header, SLICE_LIT(SIGN_FIELD_SIGNATURE)));
}
END_TEST

START_TEST(a_name_that_begins_another_sorts_first)
{
    /* "n" before "nf", and capitals before small letters: byte order, not the alphabet's. */
    struct header_writer w;
    struct header_out head = {.code = 1, .opaque = 1};
    char made[SIGN_TEXT_LEN + 1];
    char want[SIGN_TEXT_LEN + 1];

    header_begin(&w, &out, HEADER_JSON, &head);
    header_put_str(&w, "nf", SLICE_LIT("3"));
    header_put_str(&w, "n", SLICE_LIT("2"));
    header_put_str(&w, "Z", SLICE_LIT("1"));
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    decode();
    ck_assert_int_eq(signer_sign(signer, &header, SLICE_EMPTY, made), 0);
    ck_assert_int_eq(header_decode(&header, HEADER_JSON, SLICE_LIT("{\"code\":1}")), 0);
    ck_assert_int_eq(signer_sign(signer, &header, SLICE_LIT("123"), want), 0);
    ck_assert_str_eq(made, want);
}
END_TEST

START_TEST(an_empty_secret_is_refused)
{
    /* HMAC would take it; we do not. */
    struct signer *none = signer;

    ck_assert_int_eq(signer_new(SLICE_EMPTY, &none), ESCROW_EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("sign");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, the_signature_is_the_one_of_openssl);
    tcase_add_test(tc, a_json_number_is_signed_as_its_text);
    tcase_add_test(tc, a_token_may_be_signed_or_not);
    tcase_add_test(tc, anything_changed_is_refused);
    tcase_add_test(tc, a_signed_frame_verifies_by_another_path);
    tcase_add_test(tc, without_a_signer_nothing_is_added);
    tcase_add_test(tc, a_name_that_begins_another_sorts_first);
    tcase_add_test(tc, an_empty_secret_is_refused);
    return run_tests(tc, "core/acl/sign");
}
