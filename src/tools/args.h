/*
 * Command lines: a table of options per command, from which parsing and help come.
 *
 * "--name value" and "--name=value"; flags take no value; "--" ends the options. What is not an
 * option stays in argv, in order.
 *
 * Owns:    nothing: values point into argv.
 * Thread:  any.
 * Errors:  said on standard error in one line with the way to the help.
 */
#ifndef SRC_TOOLS_ARGS_H
#define SRC_TOOLS_ARGS_H

#include "core/base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARG_TEXTS_MAX 64

enum arg_kind {
    ARG_FLAG,  /* bool */
    ARG_TEXT,  /* const char * */
    ARG_TEXTS, /* struct arg_texts: may be given several times */
    ARG_COUNT, /* uint64_t; k, m, g are thousands */
    ARG_SIZE,  /* uint64_t; k, m, g are 1024 based */
    /* uint64_t, milliseconds; written 500ms, 10s, 5m, 2h; a number alone is seconds */
    ARG_DURATION,
    ARG_HEADING /* no option: a heading in the help */
};

struct arg_texts {
    const char *items[ARG_TEXTS_MAX];
    size_t count;
};

struct arg {
    const char *name;  /* without the dashes; of a heading: its text */
    const char *value; /* what the help calls the value; NULL for flags */
    const char *help;
    void *to; /* keeps what it has, the default, when the option is absent */
    enum arg_kind kind;
};

struct arg_list {
    const char *usage; /* "produce TOPIC [BODY...]" */
    const char *about; /* paragraphs, each line ended */
    const struct arg *args;
    size_t count;
};

#define ARG_LIST_COUNT(args) (sizeof(args) / sizeof(args)[0])

enum args_result { ARGS_GO, ARGS_HELP, ARGS_BAD };

/*
 * Parse argv[0..*argc) (no program name in it). ARGS_GO: *argc is the number of operands, which
 * argv begins with. ARGS_HELP: the help was asked for and printed. ARGS_BAD: it said what is wrong.
 */
ESCROW_MUST_USE enum args_result args_parse(const struct arg_list *list, int *argc, char **argv);

/* A usage error in one line, with the way to the help of the command. Returns ARGS_BAD. */
enum args_result args_bad(const struct arg_list *list, const char *fmt, ...) ESCROW_PRINTF(2, 3);

/* Numbers as above, for values that are not options. false when malformed. */
bool args_to_count(const char *text, uint64_t kilo, uint64_t *out);
bool args_to_duration(const char *text, uint64_t *ms);

#endif
