#include "src/client/client_private.h"

#include "core/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_error[ERR_TEXT_MAX];

const char *escrow_last_error(void)
{
    return last_error;
}

const char *escrow_version(void)
{
    return ESCROW_VERSION;
}

int last_error_set(int code, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(last_error, sizeof last_error, fmt, args); /* cut when too long */
    va_end(args);
    return code;
}

static int option_set(const struct option_spec *spec, const char *value)
{
    int64_t number;

    if (spec->text != NULL) {
        if (strlen(value) >= spec->text_size) {
            return last_error_set(ESCROW_ECONFIG, "option %s: longer than %zu characters",
                                  spec->key, spec->text_size - 1);
        }
        (void)snprintf(spec->text, spec->text_size, "%s", value); /* fits */
        return 0;
    }
    if (!slice_to_i64(slice_str(value), &number) || number < 0 || (uint64_t)number < spec->min ||
        (uint64_t)number > spec->max) {
        return last_error_set(ESCROW_ECONFIG,
                              "option %s = '%.60s': expected a number from %llu to %llu", spec->key,
                              value, (unsigned long long)spec->min, (unsigned long long)spec->max);
    }
    *spec->number = (uint64_t)number;
    return 0;
}

int options_read(const struct escrow_option *options, const struct option_spec *specs, size_t count)
{
    for (; options != NULL && options->key != NULL; options++) {
        size_t i = 0;
        int rc;
        while (i < count && strcmp(specs[i].key, options->key) != 0) {
            i++;
        }
        if (i == count || options->value == NULL) {
            return last_error_set(ESCROW_ECONFIG, "option %.60s: %s", options->key,
                                  i == count ? "unknown here" : "has no value");
        }
        rc = option_set(&specs[i], options->value);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}
