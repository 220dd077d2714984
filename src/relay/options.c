#include "src/relay/options.h"

#include "core/base/mem.h"
#include "core/base/slice.h"
#include "escrow/errors.h"
#include "outbox/pg/resolve.h"
#include "src/client/remote.h"
#include "src/relay/horizons.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum option_kind { OPTION_TEXT, OPTION_SIZE, OPTION_NUMBER };

struct option {
    const char *key;
    const char *fallback;
    const char *help;
    size_t at; /* offset of the member in struct relay_options */
    uint64_t min;
    uint64_t max;
    enum option_kind kind;
};

static const struct option options[] = {
#define X(member, key_, kind_, default_, min_, max_, help_)                                        \
    {.key = (key_),                                                                                \
     .fallback = (default_),                                                                       \
     .help = (help_),                                                                              \
     .at = offsetof(struct relay_options, member),                                                 \
     .min = (min_),                                                                                \
     .max = (max_),                                                                                \
     .kind = OPTION_##kind_},
    RELAY_OPTIONS(X)
#undef X
};

#define OPTION_COUNT (sizeof options / sizeof options[0])
#define LINE_MAX_LEN 4096

static void *member_of(struct relay_options *c, const struct option *o)
{
    return (char *)c + o->at;
}

static int set_text(char **member, const char *value, struct err_ctx *err)
{
    char *copy = mem_strdup(value);

    if (copy == NULL) {
        return err_set(err, ESCROW_ENOMEM, "out of memory");
    }
    mem_free(*member);
    *member = copy;
    return 0;
}

static bool parse_number(const char *text, bool with_unit, uint64_t *out)
{
    static const char units[] = "kmg";
    size_t len = strlen(text);
    const char *unit =
        len > 1 && with_unit ? strchr(units, tolower((unsigned char)text[len - 1])) : NULL;
    unsigned shift = unit == NULL || *unit == '\0' ? 0 : 10 * (unsigned)(unit - units + 1);
    int64_t value;

    if (!slice_to_i64(slice_of(text, shift == 0 ? len : len - 1), &value) || value < 0 ||
        (uint64_t)value > UINT64_MAX >> shift) {
        return false;
    }
    *out = (uint64_t)value << shift;
    return true;
}

static int set_option(struct relay_options *c, const struct option *o, const char *value,
                      const char *where, struct err_ctx *err)
{
    uint64_t number;

    if (o->kind == OPTION_TEXT) {
        for (const char *p = value; *p != '\0'; p++) {
            if (iscntrl((unsigned char)*p)) {
                return err_set(err, ESCROW_ECONFIG, "%s: %s: control characters are not allowed",
                               where, o->key);
            }
        }
        if (strlen(value) < o->min || strlen(value) > o->max) {
            return err_set(err, ESCROW_ECONFIG,
                           "%s: %s: expected %" PRIu64 " to %" PRIu64 " characters", where, o->key,
                           o->min, o->max);
        }
        return set_text(member_of(c, o), value, err);
    }
    if (!parse_number(value, o->kind == OPTION_SIZE, &number) || number < o->min ||
        number > o->max) {
        return err_set(err, ESCROW_ECONFIG,
                       "%s: %s = '%.80s': expected a number from %" PRIu64 " to %" PRIu64 "%s",
                       where, o->key, value, o->min, o->max,
                       o->kind == OPTION_SIZE ? " (bytes; k, m and g may follow)" : "");
    }
    memcpy(member_of(c, o), &number, sizeof number);
    return 0;
}

int options_set(struct relay_options *c, const char *key, const char *value, const char *where,
                struct err_ctx *err)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(options[i].key, key) == 0) {
            return set_option(c, &options[i], value, where, err);
        }
    }
    return err_set(err, ESCROW_ECONFIG,
                   "%s: unknown option '%.80s'; escrow-relay --help lists them all", where, key);
}

int options_init(struct relay_options *c, struct err_ctx *err)
{
    *c = (struct relay_options){.db = NULL};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        int rc = set_option(c, &options[i], options[i].fallback, "default", err);
        if (rc != 0) {
            options_fini(c);
            return rc;
        }
    }
    return 0;
}

void options_fini(struct relay_options *c)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].kind == OPTION_TEXT) {
            char **member = member_of(c, &options[i]);
            mem_free(*member);
            *member = NULL;
        }
    }
}

/* ---- file ---- */

static char *trim(char *text)
{
    size_t len;

    while (isspace((unsigned char)*text)) {
        text++;
    }
    len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1])) {
        text[--len] = '\0';
    }
    return text;
}

static int read_line(struct relay_options *c, char *line, const char *where, struct err_ctx *err)
{
    char *text = trim(line);
    char *equals;

    if (text[0] == '\0' || text[0] == '#' || text[0] == ';') {
        return 0;
    }
    equals = strchr(text, '=');
    if (equals == NULL) {
        return err_set(err, ESCROW_ECONFIG, "%s: expected 'key = value'", where);
    }
    *equals = '\0';
    return options_set(c, trim(text), trim(equals + 1), where, err);
}

int options_read_file(struct relay_options *c, const char *path, struct err_ctx *err)
{
    char line[LINE_MAX_LEN];
    char where[512];
    FILE *f = fopen(path, "re");
    unsigned number = 0;
    int rc = 0;

    if (f == NULL) {
        return err_set_errno(err, errno, "configuration file %s", path);
    }
    while (rc == 0 && fgets(line, sizeof line, f) != NULL) {
        (void)snprintf(where, sizeof where, "%s:%u", path,
                       ++number); /* cut when the path is long */
        if (strchr(line, '\n') == NULL && strlen(line) == sizeof line - 1) {
            rc = err_set(err, ESCROW_ECONFIG, "%s: line longer than %zu characters", where,
                         sizeof line - 2);
        } else {
            rc = read_line(c, line, where, err);
        }
    }
    if (rc == 0 && ferror(f)) {
        rc = err_set(err, ESCROW_EIO, "configuration file %s: cannot be read", path);
    }
    (void)fclose(f); /* only read */
    return rc;
}

/* ---- environment ---- */

/* CHECK_LISTEN <-> check.listen */
static bool is_variable_of(struct slice variable, const char *key)
{
    if (strlen(key) != variable.len) {
        return false;
    }
    for (size_t i = 0; i < variable.len; i++) {
        char c = key[i] == '.' ? '_' : (char)toupper((unsigned char)key[i]);
        if (variable.ptr[i] != (uint8_t)c) {
            return false;
        }
    }
    return true;
}

int options_read_environment(struct relay_options *c, char *const *environment, struct err_ctx *err)
{
    static const char prefix[] = "ESCROW_RELAY_";

    for (; *environment != NULL; environment++) {
        const char *equals = strchr(*environment, '=');
        const char *name = *environment + sizeof prefix - 1;
        char where[128];
        if (equals == NULL || strncmp(*environment, prefix, sizeof prefix - 1) != 0) {
            continue;
        }
        (void)snprintf(where, sizeof where, "environment variable %.*s",
                       (int)(equals - *environment), *environment); /* cut when long */
        for (size_t i = 0; i < OPTION_COUNT; i++) {
            int rc = !is_variable_of(slice_of(name, (size_t)(equals - name)), options[i].key)
                         ? 0
                         : set_option(c, &options[i], equals + 1, where, err);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

/* ---- what depends on several options ---- */

static int parse_foreign(struct relay_options *c, const char *key, const char *text,
                         struct err_ctx *err)
{
    const char *slash = strchr(text, '/');
    int64_t system = 0;
    int32_t timeline = 0;

    if (slash == NULL || !slice_to_i64(slice_of(text, (size_t)(slash - text)), &system) ||
        system <= 0 || !slice_to_i32(slice_str(slash + 1), &timeline) || timeline <= 0) {
        return err_set(err, ESCROW_ECONFIG,
                       "%s = '%s': expected SYSTEM/TIMELINE, as the log line said", key, text);
    }
    c->foreign_system = (uint64_t)system;
    c->foreign_timeline = (uint32_t)timeline;
    return 0;
}

static int check_db(const char *db, struct err_ctx *err)
{
    struct err_ctx why;
    int rc = pg_conninfo_check(db, &why);

    return rc == 0 ? 0 : err_set(err, rc, "db: %s", why.text);
}

int options_finish(struct relay_options *c, struct err_ctx *err)
{
    int rc = check_db(c->db, err);

    if (rc != 0) {
        return rc;
    }
    for (const char *p = c->source; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("._-", *p) == NULL) {
            return err_set(err, ESCROW_ECONFIG,
                           "source = '%s': only letters, digits and . _ - are allowed", c->source);
        }
    }
    if (!remote_addr_is_valid(c->broker)) {
        return err_set(err, ESCROW_ECONFIG, "broker = '%s': expected host:port", c->broker);
    }
    rc = horizons_check_list("brokers", c->brokers, err);
    if (rc == 0) {
        rc = horizons_check_list("namesrv", c->namesrv, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (c->adopt[0] != '\0' && c->discard[0] != '\0') {
        return err_set(err, ESCROW_ECONFIG, "adopt and discard exclude each other");
    }
    if ((c->access_key[0] == '\0') != (c->secret_key_file[0] == '\0')) {
        return err_set(err, ESCROW_ECONFIG, "access.key and secret.key.file belong together");
    }
    if (c->poll_min_ms > c->poll_max_ms) {
        return err_set(err, ESCROW_ECONFIG, "poll.min.ms is greater than poll.max.ms");
    }
    c->is_adopt = c->adopt[0] != '\0';
    if (c->is_adopt) {
        rc = parse_foreign(c, "adopt", c->adopt, err);
    } else if (c->discard[0] != '\0') {
        rc = parse_foreign(c, "discard", c->discard, err);
    }
    c->has_endpoint = c->check_listen[0] != '\0' && strcmp(c->check_listen, "off") != 0;
    return rc;
}

/* ---- texts ---- */

void options_print_help(struct buf *out)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        buf_append_fmt(out, "  --%-20s %s", options[i].key, options[i].help);
        if (options[i].fallback[0] != '\0') {
            buf_append_fmt(out, " (%s)", options[i].fallback);
        }
        buf_append_str(out, "\n");
    }
}

void options_print_example(struct buf *out)
{
    buf_append_str(out, "# Configuration of escrow-relay. What is commented out shows the default. "
                        "Passwords do not belong "
                        "here:\n# use ~/.pgpass or PGPASSFILE.\n");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        buf_append_fmt(out, "\n# %s\n#%s = %s\n", options[i].help, options[i].key,
                       options[i].fallback);
    }
}
