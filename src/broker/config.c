#include "src/broker/config.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/slice.h"
#include "core/io_uv/tcp.h"
#include "src/broker/retention.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum config_kind { CONFIG_TEXT, CONFIG_SIZE, CONFIG_NUMBER, CONFIG_BOOL, CONFIG_CHOICE };

struct config_option {
    const char *key;
    const char *fallback;
    const char *help;
    size_t at; /* offset of the member in struct config */
    uint64_t min;
    uint64_t max;
    enum config_kind kind;
};

static const struct config_option options[] = {
#define X(member, key_, kind_, default_, min_, max_, help_)                                        \
    {.key = (key_),                                                                                \
     .fallback = (default_),                                                                       \
     .help = (help_),                                                                              \
     .at = offsetof(struct config, member),                                                        \
     .min = (min_),                                                                                \
     .max = (max_),                                                                                \
     .kind = CONFIG_##kind_},
    CONFIG_OPTIONS(X)
#undef X
};

#define OPTION_COUNT    (sizeof options / sizeof options[0])
#define CALLBACK_PREFIX "callback."

static void *member_of(struct config *c, const struct config_option *o)
{
    return (char *)c + o->at;
}

static const struct config_option *option_find(const char *key)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (strcmp(options[i].key, key) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* ---- values ---- */

static bool parse_number(const char *text, bool with_unit, uint64_t *out)
{
    size_t len = strlen(text);
    uint64_t factor = 1;
    int64_t value;

    if (with_unit && len > 1) {
        switch (text[len - 1]) {
        case 'k':
        case 'K':
            factor = UINT64_C(1) << 10;
            break;
        case 'm':
        case 'M':
            factor = UINT64_C(1) << 20;
            break;
        case 'g':
        case 'G':
            factor = UINT64_C(1) << 30;
            break;
        default:
            break;
        }
        len -= factor > 1 ? 1 : 0;
    }
    if (!slice_to_i64(slice_of(text, len), &value) || value < 0 ||
        (uint64_t)value > UINT64_MAX / factor) {
        return false;
    }
    *out = (uint64_t)value * factor;
    return true;
}

static bool parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"true", "yes", "on", "1"};
    static const char *const no[] = {"false", "no", "off", "0"};

    for (size_t i = 0; i < 4; i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *out = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

/* Is `value` one of the words before the ':' of the help text? */
static bool is_choice(const struct config_option *o, const char *value)
{
    size_t len = strlen(value);
    const char *p = o->help;

    while (len > 0) {
        size_t word = strcspn(p, "|:");
        if (word == len && strncmp(p, value, len) == 0) {
            return true;
        }
        if (p[word] != '|') {
            return false;
        }
        p += word + 1;
    }
    return false;
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

static bool text_is_clean(const char *value)
{
    for (const char *p = value; *p != '\0'; p++) {
        if (iscntrl((unsigned char)*p)) {
            return false;
        }
    }
    return true;
}

static int set_number(struct config *c, const struct config_option *o, const char *value,
                      const char *where, struct err_ctx *err)
{
    bool is_size = o->kind == CONFIG_SIZE;
    uint64_t number;

    if (!parse_number(value, is_size, &number) || number < o->min || number > o->max) {
        return err_set(err, ESCROW_ECONFIG,
                       "%s: %s = '%.80s': expected a number from %llu to %llu%s", where, o->key,
                       value, (unsigned long long)o->min, (unsigned long long)o->max,
                       is_size ? " (bytes; k, m and g may follow)" : "");
    }
    memcpy(member_of(c, o), &number, sizeof number);
    return 0;
}

static int set_option(struct config *c, const struct config_option *o, const char *value,
                      const char *where, struct err_ctx *err)
{
    bool flag;

    switch (o->kind) {
    case CONFIG_SIZE:
    case CONFIG_NUMBER:
        return set_number(c, o, value, where, err);
    case CONFIG_BOOL:
        if (!parse_bool(value, &flag)) {
            return err_set(err, ESCROW_ECONFIG, "%s: %s = '%.80s': expected true or false", where,
                           o->key, value);
        }
        memcpy(member_of(c, o), &flag, sizeof flag);
        return 0;
    case CONFIG_CHOICE:
        if (!is_choice(o, value)) {
            return err_set(err, ESCROW_ECONFIG, "%s: %s = '%.80s': expected one of %.*s", where,
                           o->key, value, (int)strcspn(o->help, ":"), o->help);
        }
        break;
    case CONFIG_TEXT:
        if (strlen(value) < o->min || strlen(value) > o->max || !text_is_clean(value)) {
            return err_set(err, ESCROW_ECONFIG,
                           "%s: %s: expected %llu to %llu characters, no control characters", where,
                           o->key, (unsigned long long)o->min, (unsigned long long)o->max);
        }
        break;
    }
    return set_text(member_of(c, o), value, err);
}

static int set_callback(struct config *c, const char *group, const char *url, const char *where,
                        struct err_ctx *err)
{
    struct config_callback *grown;
    struct config_callback entry = {.group = NULL};

    if (group[0] == '\0' || strlen(group) > 255 || !text_is_clean(url) ||
        (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)) {
        return err_set(err, ESCROW_ECONFIG,
                       "%s: callback.%.80s: expected a URL that begins with http:// or https://",
                       where, group);
    }
    for (size_t i = 0; i < c->callback_count; i++) {
        if (strcmp(c->callbacks[i].group, group) == 0) {
            return set_text(&c->callbacks[i].url, url, err);
        }
    }
    if (c->callback_count == CONFIG_CALLBACKS_MAX) {
        return err_set(err, ESCROW_ECONFIG, "%s: more than %d callbacks", where,
                       CONFIG_CALLBACKS_MAX);
    }
    grown = mem_realloc(c->callbacks, (c->callback_count + 1) * sizeof *grown);
    if (grown == NULL) {
        return err_set(err, ESCROW_ENOMEM, "out of memory");
    }
    c->callbacks = grown;
    if (set_text(&entry.group, group, err) != 0 || set_text(&entry.url, url, err) != 0) {
        mem_free(entry.group);
        return ESCROW_ENOMEM;
    }
    c->callbacks[c->callback_count++] = entry;
    return 0;
}

int config_set(struct config *c, const char *key, const char *value, const char *where,
               struct err_ctx *err)
{
    const struct config_option *o = option_find(key);

    if (o != NULL) {
        return set_option(c, o, value, where, err);
    }
    if (strncmp(key, CALLBACK_PREFIX, sizeof CALLBACK_PREFIX - 1) == 0) {
        return set_callback(c, key + sizeof CALLBACK_PREFIX - 1, value, where, err);
    }
    return err_set(err, ESCROW_ECONFIG, "%s: unknown option '%.80s'; escrowd --help lists them all",
                   where, key);
}

int config_init(struct config *c, struct err_ctx *err)
{
    *c = (struct config){.role = NULL};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        int rc = set_option(c, &options[i], options[i].fallback, "default", err);
        if (rc != 0) {
            config_fini(c);
            return rc;
        }
    }
    return 0;
}

void config_fini(struct config *c)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (options[i].kind == CONFIG_TEXT || options[i].kind == CONFIG_CHOICE) {
            char **member = member_of(c, &options[i]);
            mem_free(*member);
            *member = NULL;
        }
    }
    for (size_t i = 0; i < c->callback_count; i++) {
        mem_free(c->callbacks[i].group);
        mem_free(c->callbacks[i].url);
    }
    mem_free(c->callbacks);
    c->callbacks = NULL;
    c->callback_count = 0;
}

/* ---- file ---- */

/* Cut blanks at both ends, in place. */
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

static int read_line(struct config *c, char *line, const char *where, struct err_ctx *err)
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
    return config_set(c, trim(text), trim(equals + 1), where, err);
}

int config_read_file(struct config *c, const char *path, struct err_ctx *err)
{
    char line[CONFIG_TEXT_MAX + 128];
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

/* ESCROW_BROKER_PORT <-> broker.port */
static bool variable_names(const char *variable, size_t len, const char *key)
{
    if (strlen(key) != len) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = key[i] == '.' ? '_' : (char)toupper((unsigned char)key[i]);
        if (variable[i] != c) {
            return false;
        }
    }
    return true;
}

int config_read_environment(struct config *c, char *const *environment, struct err_ctx *err)
{
    static const char prefix[] = "ESCROW_";

    for (; *environment != NULL; environment++) {
        const char *name = *environment + sizeof prefix - 1;
        const char *equals = strchr(*environment, '=');
        char where[128];
        bool is_known = false;
        if (strncmp(*environment, prefix, sizeof prefix - 1) != 0 || equals == NULL) {
            continue;
        }
        (void)snprintf(where, sizeof where, "environment variable %.*s",
                       (int)(equals - *environment), *environment); /* cut when long */
        for (size_t i = 0; i < OPTION_COUNT && !is_known; i++) {
            if (variable_names(name, (size_t)(equals - name), options[i].key)) {
                int rc = set_option(c, &options[i], equals + 1, where, err);
                if (rc != 0) {
                    return rc;
                }
                is_known = true;
            }
        }
    }
    return 0;
}

/* ---- what depends on several options ---- */

static int default_data_dir(struct config *c, struct err_ctx *err)
{
    char path[CONFIG_TEXT_MAX];
    const char *state =
        getenv("XDG_STATE_HOME");      /* NOLINT(concurrency-mt-unsafe): before any thread */
    const char *home = getenv("HOME"); /* NOLINT(concurrency-mt-unsafe) */

    if (c->data_dir[0] != '\0') {
        return 0;
    }
    c->is_default_data_dir = true;
    if (geteuid() == 0) {
        return set_text(&c->data_dir, "/var/lib/escrow", err);
    }
    if (state != NULL && state[0] == '/') {
        (void)snprintf(path, sizeof path, "%s/escrow", state); /* too long: open says so */
    } else if (home != NULL && home[0] == '/') {
        (void)snprintf(path, sizeof path, "%s/.local/state/escrow", home);
    } else if (!c->is_broker) {
        return 0; /* a name server runs without, too */
    } else {
        return err_set(err, ESCROW_ECONFIG,
                       "data.dir: not given, and there is no HOME; use --data.dir");
    }
    return set_text(&c->data_dir, path, err);
}

static bool checks_certificates(const struct config *c)
{
    return strcmp(c->tls_mode, "enforcing") == 0 && strcmp(c->tls_client_cert, "required") == 0;
}

/*
 * Other machines may only connect when somebody checks who they are: the users file each request,
 * or TLS each connection, which takes a certificate that it cannot do without. Encryption alone
 * checks nobody. A name is left to the listener, which refuses it.
 */
static int check_exposure(const struct config *c, struct err_ctx *err)
{
    struct tcp_addr addr;
    bool is_loopback;

    if (c->acl_file[0] != '\0' || c->listen_insecure || checks_certificates(c) ||
        tcp_addr_parse(c->listen_host, 0, &addr) != 0) {
        return 0;
    }
    is_loopback = addr.ip_len == 4 ? addr.ip[0] == 127 : strcmp(c->listen_host, "::1") == 0;
    return is_loopback ? 0
                       : err_set(err, ESCROW_ECONFIG,
                                 "listen.host = %s: every machine that reaches it could read and "
                                 "write everything; set acl.file (users and their keys), or "
                                 "tls.mode = enforcing with tls.client.cert = required, or "
                                 "listen.insecure = true if that is meant",
                                 c->listen_host);
}

static int check_tls(const struct config *c, struct err_ctx *err)
{
    bool is_off = strcmp(c->tls_mode, "disabled") == 0;
    bool wants_client = strcmp(c->tls_client_cert, "none") != 0;

    if ((c->tls_cert_file[0] == '\0') != (c->tls_key_file[0] == '\0')) {
        return err_set(err, ESCROW_ECONFIG, "tls.cert.file and tls.key.file belong together");
    }
    if (!is_off && c->tls_cert_file[0] == '\0') {
        return err_set(err, ESCROW_ECONFIG, "tls.mode = %s needs tls.cert.file and tls.key.file",
                       c->tls_mode);
    }
    if (wants_client && (is_off || c->tls_ca_file[0] == '\0')) {
        return err_set(err, ESCROW_ECONFIG, "tls.client.cert = %s needs tls.mode and tls.ca.file",
                       c->tls_client_cert);
    }
    if (is_off && strcmp(c->namesrv_tls, "off") == 0 &&
        (c->tls_cert_file[0] != '\0' || c->tls_ca_file[0] != '\0')) {
        return err_set(err, ESCROW_ECONFIG,
                       "tls.cert.file or tls.ca.file is given, and tls.mode is disabled: nothing "
                       "would be encrypted");
    }
    return 0;
}

/* It goes into routes, into identities (name#id) and into the texts of other programs. */
static int check_name(const struct config *c, struct err_ctx *err)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

    if (c->broker_name[strspn(c->broker_name, allowed)] != '\0') {
        return err_set(err, ESCROW_ECONFIG,
                       "broker.name = '%s': only letters, digits and . _ - are allowed",
                       c->broker_name);
    }
    return 0;
}

int config_finish(struct config *c, struct err_ctx *err)
{
    int rc = check_name(c, err);

    if (rc != 0) {
        return rc;
    }
    c->is_broker = strcmp(c->role, "namesrv") != 0;
    c->is_namesrv = strcmp(c->role, "broker") != 0;
    c->flush_async = strcmp(c->flush, "async") == 0;
    if (c->segment_bytes % 4096 != 0) {
        return err_set(err, ESCROW_ECONFIG, "log.segment.bytes = %llu: must be a multiple of 4096",
                       (unsigned long long)c->segment_bytes);
    }
    if (!c->is_namesrv && c->namesrv_addrs[0] == '\0') {
        return err_set(err, ESCROW_ECONFIG,
                       "role = broker needs namesrv.addrs: nobody would find this broker");
    }
    if (c->txn_interval_max_ms < c->txn_interval_ms) {
        return err_set(err, ESCROW_ECONFIG,
                       "txn.check.interval.max.ms is less than txn.check.interval.ms");
    }
    c->delay.max_ms = (int64_t)c->delay_max_ms;
    if (delay_levels_parse(slice_str(c->delay_levels), &c->delay.levels) != 0) {
        return err_set(err, ESCROW_ECONFIG,
                       "delay.levels = '%.80s': expected up to %d delays such as 1s 5m 2h",
                       c->delay_levels, DELAY_LEVELS_MAX);
    }
    if (retention_hours_parse(slice_str(c->delete_when), &c->delete_hours) != 0) {
        return err_set(err, ESCROW_ECONFIG,
                       "delete.when = '%.80s': expected hours such as 04 or 04;16, or any",
                       c->delete_when);
    }
    if ((c->access_key[0] == '\0') != (c->secret_key_file[0] == '\0')) {
        return err_set(err, ESCROW_ECONFIG, "access.key and secret.key.file belong together");
    }
    if (check_tls(c, err) != 0 || check_exposure(c, err) != 0) {
        return ESCROW_ECONFIG;
    }
    return default_data_dir(c, err);
}

const char *config_callback_url(const struct config *c, const char *group)
{
    const char *fallback = NULL;

    for (size_t i = 0; i < c->callback_count; i++) {
        if (strcmp(c->callbacks[i].group, group) == 0) {
            return c->callbacks[i].url;
        }
        if (strcmp(c->callbacks[i].group, "default") == 0) {
            fallback = c->callbacks[i].url;
        }
    }
    return fallback;
}

void config_print_example(struct buf *out)
{
    buf_append_str(
        out,
        "# Configuration of escrowd. Every option with its default; remove the '#' to change one.\n"
        "# The same names work on the command line (--broker.port 10911) and in the environment\n"
        "# (ESCROW_BROKER_PORT=10911); the command line wins.\n");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        buf_append_fmt(out, "\n# %s\n#%s = %s\n", options[i].help, options[i].key,
                       options[i].fallback);
    }
    buf_append_str(out, "\n# Where to ask about half messages of a producer group when none of its "
                        "producers is connected\n"
                        "# (escrow-relay answers from PostgreSQL). 'default' is for every group "
                        "without a line of its own.\n"
                        "#callback.orders = http://127.0.0.1:10980/check\n"
                        "#callback.default = http://127.0.0.1:10980/check\n");
}

void config_print_help(struct buf *out)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        buf_append_fmt(out, "  --%-28s %s", options[i].key, options[i].help);
        if (options[i].fallback[0] != '\0') {
            buf_append_fmt(out, " [%s]", options[i].fallback);
        }
        buf_append_str(out, "\n");
    }
    buf_append_str(
        out,
        "  --callback GROUP=URL            where to ask about half messages of a producer group; "
        "GROUP 'default': all others\n");
}
