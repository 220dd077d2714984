#include "core/proto/codes.h"

#include <stddef.h>

const char *request_code_name(int32_t code)
{
    switch (code) {
#define X(name, number)                                                                            \
    case (number):                                                                                 \
        return #name;
        REQUEST_CODES(X)
#undef X
    default:
        return "?";
    }
}

const char *response_code_name(int32_t code)
{
    switch (code) {
#define X(name, number)                                                                            \
    case (number):                                                                                 \
        return #name;
        RESPONSE_CODES(X)
#undef X
    default:
        return "?";
    }
}

const char *language_name(uint8_t language)
{
    switch (language) {
#define X(name, number)                                                                            \
    case (number):                                                                                 \
        return #name;
        LANGUAGES(X)
#undef X
    default:
        return "?";
    }
}

uint8_t language_by_name(struct slice name)
{
    static const struct {
        struct slice name;
        uint8_t number;
    } languages[] = {
#define X(name, number) {{(const uint8_t *)#name, sizeof(#name) - 1}, (number)},
        LANGUAGES(X)
#undef X
    };
    size_t i;

    for (i = 0; i < sizeof languages / sizeof languages[0]; i++) {
        if (slice_eq(languages[i].name, name)) {
            return languages[i].number;
        }
    }
    return LANGUAGE_OTHER;
}

uint8_t language_by_number(int64_t number)
{
    switch (number) {
#define X(name, number) case (number):
        LANGUAGES(X)
#undef X
        return (uint8_t)number;
    default:
        return LANGUAGE_OTHER;
    }
}
