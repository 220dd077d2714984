/*
 * A consumer's SQL92 expression and a message's properties, with a zero byte between them. What
 * does not compile says so in one printable line; what does runs, and says the same again.
 */
#include "core/base/check.h"
#include "core/filter/sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_error(int rc, const struct err_ctx *err)
{
    CHECK(rc == ESCROW_EINVAL || rc == ESCROW_ELIMIT);
    CHECK(err->code == rc);
    CHECK(strncmp(err->text, "column ", 7) == 0);
    for (const char *at = err->text; *at != '\0'; at++) {
        CHECK(*at >= ' ');
        CHECK(*at <= '~');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *zero = size == 0 ? NULL : memchr(data, 0, size);
    size_t text_len = zero == NULL ? size : (size_t)(zero - data);
    struct slice text = slice_of(data, text_len);
    struct slice properties = SLICE_EMPTY;
    struct sql_program *program;
    struct err_ctx err = {.code = 0};
    int rc = sql_compile(text, &program, &err);

    if (zero != NULL) {
        properties = slice_of(zero + 1, size - text_len - 1);
    }
    if (rc != 0) {
        CHECK(program == NULL);
        check_error(rc, &err);
        return 0;
    }
    CHECK(sql_eval(program, properties) == sql_eval(program, properties));
    CHECK(sql_cost(program, properties.len) > properties.len);
    sql_free(&program);
    return 0;
}
