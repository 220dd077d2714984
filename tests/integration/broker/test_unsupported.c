/*
 * Which requests are not supported: what README.md and PROTOCOL.md say, and what escrowd answers.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "escrow/errors.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define LIST_BEGIN                                                                                 \
    "- Answered with REQUEST_CODE_NOT_SUPPORTED: " /* README.md; ends at the empty line */

static struct broker_fixture f;

static char readme[262144];
static char protocol[524288];

static void read_page(const char *name, char *text, size_t size)
{
    char path[512];
    FILE *file;
    size_t len;

    (void)snprintf(path, sizeof path, "%s/%s", ESCROW_SOURCE_DIR, name);
    file = fopen(path, "r");
    ck_assert_msg(file != NULL, "no %s", path);
    len = fread(text, 1, size - 1, file);
    ck_assert_uint_lt(len, size - 1);
    ck_assert_int_eq(fclose(file), 0);
    text[len] = '\0';
}

static bool is_word_byte(char byte)
{
    return byte == '_' || isupper((unsigned char)byte) || isdigit((unsigned char)byte);
}

static bool has_word(const char *text, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + len, word)) {
        if (!is_word_byte(at[-1]) && !is_word_byte(at[len])) {
            return true;
        }
    }
    return false;
}

/* Does the row of PROTOCOL.md, section 4, say that it is served by this ("no": by nobody)? */
static bool is_served_by(const char *name, const char *by)
{
    char row[128];

    (void)snprintf(row, sizeof row, " | %s | %s |", name, by);
    return strstr(protocol, row) != NULL;
}

START_TEST(what_is_not_supported_is_what_the_pages_say)
{
    /*
     * Every request that has a name, without fields: the answer is REQUEST_CODE_NOT_SUPPORTED where
     * README.md lists it and PROTOCOL.md says "no", and where it goes from broker to client only.
     */
    static const struct {
        int32_t code;
        const char *name;
    } requests[] = {
#define X(name, number) {number, #name},
        REQUEST_CODES(X)
#undef X
    };
    struct client c;
    char *list;
    char *end;
    int listed = 0;

    read_page("README.md", readme, sizeof readme);
    read_page("core/proto/PROTOCOL.md", protocol, sizeof protocol);
    list = strstr(readme, LIST_BEGIN);
    ck_assert_ptr_nonnull(list);
    list += strlen(LIST_BEGIN);
    end = strstr(list, "\n\n");
    ck_assert_ptr_nonnull(end);
    *end = '\0';
    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        bool is_listed = has_word(list, requests[i].name);
        bool is_push = is_served_by(requests[i].name, "broker to client");
        int32_t code;
        (void)client_begin(&c, requests[i].code, 0);
        code = client_call(&c, SLICE_EMPTY);
        ck_assert_msg((code == RESPONSE_REQUEST_CODE_NOT_SUPPORTED) == (is_listed || is_push),
                      "%s is answered with %d; listed: %d, a push: %d", requests[i].name, code,
                      is_listed, is_push);
        ck_assert_msg(is_listed == is_served_by(requests[i].name, "no"), "%s: listed: %d",
                      requests[i].name, is_listed);
        listed += is_listed ? 1 : 0;
    }
    ck_assert_int_gt(listed, 0);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_number_without_a_name_is_not_supported)
{
    /* Whatever it is; the connection stays, also for what comes in the other encodings. */
    static const int32_t codes[] = {0, 1, 999, 30000, 30009, 32767, 200049, 200056, 200152, -1};
    struct client c;

    broker_fixture_start(&f, NULL);
    for (int type = HEADER_JSON; type <= HEADER_MSGPACK; type++) {
        client_open(&c, f.port, (enum header_type)type);
        for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
            if (type == HEADER_ROCKETMQ && codes[i] > INT16_MAX) {
                continue; /* it cannot be said */
            }
            (void)client_begin(&c, codes[i], 0);
            ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_REQUEST_CODE_NOT_SUPPORTED);
            ck_assert_int_eq(client_error(&c), ESCROW_ENOTSUP);
        }
        client_close(&c);
    }
    broker_fixture_stop(&f);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, what_is_not_supported_is_what_the_pages_say);
    tcase_add_test(tc, a_number_without_a_name_is_not_supported);
}

int main(void)
{
    return broker_fixture_main("unsupported", 60, add_tests);
}
