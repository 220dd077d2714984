#include "src/tools/args.h"

#include "core/base/slice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static bool digits(const char **text, uint64_t *out)
{
    const char *p = *text;
    uint64_t n = 0;

    if (*p < '0' || *p > '9') {
        return false;
    }
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (n > (UINT64_MAX - digit) / 10) {
            return false;
        }
        n = n * 10 + digit;
    }
    *text = p;
    *out = n;
    return true;
}

static bool scale(uint64_t n, uint64_t by, uint64_t *out)
{
    if (by != 0 && n > UINT64_MAX / by) {
        return false;
    }
    *out = n * by;
    return true;
}

bool args_to_count(const char *text, uint64_t kilo, uint64_t *out)
{
    static const char units[] = "kmg";
    uint64_t n;
    uint64_t by = 1;

    if (!digits(&text, &n)) {
        return false;
    }
    if (*text != '\0') {
        const char *unit = strchr(units, *text | 0x20);
        if (unit == NULL || text[1] != '\0') {
            return false;
        }
        for (const char *u = units; u <= unit; u++) {
            by *= kilo;
        }
    }
    return scale(n, by, out);
}

bool args_to_duration(const char *text, uint64_t *ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint64_t n;

    if (!digits(&text, &n)) {
        return false;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(text, units[i].unit) == 0) {
            return scale(n, units[i].ms, ms);
        }
    }
    return false;
}

enum args_result args_bad(const struct arg_list *list, const char *fmt, ...)
{
    char text[300];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap); /* cut when longer */
    va_end(ap);
    (void)fprintf(stderr, "escrow: %s; see escrow %.*s --help\n", text,
                  (int)strcspn(list->usage, " "), list->usage);
    return ARGS_BAD;
}

static void help_option(const struct arg *arg)
{
    char left[64];

    (void)snprintf(left, sizeof left, "--%s%s%s", arg->name, arg->value != NULL ? " " : "",
                   arg->value != NULL ? arg->value : "");
    (void)printf("  %-24s ", left);
    if (strlen(left) > 24) {
        (void)printf("\n%27s", "");
    }
    for (const char *p = arg->help; *p != '\0'; p++) {
        (void)putchar(*p);
        if (*p == '\n') {
            (void)printf("%27s", "");
        }
    }
    (void)putchar('\n');
}

static void help(const struct arg_list *list)
{
    (void)printf("usage: escrow %s\n\n%s", list->usage, list->about);
    for (size_t i = 0; i < list->count; i++) {
        if (list->args[i].kind == ARG_HEADING) {
            (void)printf("\n%s:\n", list->args[i].name);
        } else {
            help_option(&list->args[i]);
        }
    }
    (void)printf("  %-24s %s\n", "--help", "this text");
}

static const struct arg *find(const struct arg_list *list, struct slice name)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct arg *arg = &list->args[i];
        if (arg->kind != ARG_HEADING && slice_eq_str(name, arg->name)) {
            return arg;
        }
    }
    return NULL;
}

static bool store(const struct arg *arg, const char *value)
{
    switch (arg->kind) {
    case ARG_TEXT:
        *(const char **)arg->to = value;
        return true;
    case ARG_TEXTS: {
        struct arg_texts *texts = arg->to;
        if (texts->count == ARG_TEXTS_MAX) {
            return false;
        }
        texts->items[texts->count++] = value;
        return true;
    }
    case ARG_COUNT:
        return args_to_count(value, 1000, arg->to);
    case ARG_SIZE:
        return args_to_count(value, 1024, arg->to);
    case ARG_DURATION:
        return args_to_duration(value, arg->to);
    case ARG_FLAG:
    case ARG_HEADING:
        break;
    }
    return false;
}

/* One option at argv[*at]; moves *at behind it. */
static enum args_result take(const struct arg_list *list, int argc, char **argv, int *at)
{
    const char *word = argv[*at] + 2;
    const char *equals = strchr(word, '=');
    struct slice name = equals != NULL ? slice_of(word, (size_t)(equals - word)) : slice_str(word);
    const struct arg *arg = find(list, name);
    const char *value = equals != NULL ? equals + 1 : NULL;

    ++*at;
    if (arg == NULL) {
        return args_bad(list, "unknown option --%.*s", SLICE_ARGS(name));
    }
    if (arg->kind == ARG_FLAG) {
        if (value != NULL) {
            return args_bad(list, "--%s takes no value", arg->name);
        }
        *(bool *)arg->to = true;
        return ARGS_GO;
    }
    if (value == NULL && *at < argc) {
        value = argv[(*at)++];
    }
    if (value == NULL) {
        return args_bad(list, "--%s needs a value (%s)", arg->name, arg->value);
    }
    return store(arg, value)
               ? ARGS_GO
               : args_bad(list, "--%s: '%.80s' is not a valid %s", arg->name, value, arg->value);
}

enum args_result args_parse(const struct arg_list *list, int *argc, char **argv)
{
    int operands = 0;
    int at = 0;

    for (int i = 0; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            help(list);
            return ARGS_HELP;
        }
    }
    while (at < *argc) {
        if (strcmp(argv[at], "--") == 0) {
            for (at++; at < *argc; at++) {
                argv[operands++] = argv[at];
            }
        } else if (argv[at][0] == '-' && argv[at][1] == '-') {
            enum args_result result = take(list, *argc, argv, &at);
            if (result != ARGS_GO) {
                return result;
            }
        } else if (argv[at][0] == '-' && argv[at][1] != '\0') {
            return args_bad(list, "unknown option %.80s", argv[at]);
        } else {
            argv[operands++] = argv[at++];
        }
    }
    *argc = operands;
    return ARGS_GO;
}
