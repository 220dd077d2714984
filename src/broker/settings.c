#include "src/broker/settings.h"

#include "core/base/log.h"

#include <string.h>

#define SETTING_KEY_MAX 64
#define MS_PER_HOUR     3600000

/* ---- printing ---- */

/* As java.util.Properties reads it back: a backslash would begin an escape. */
static void put_text(struct buf *out, const char *key, const char *value)
{
    buf_append_fmt(out, "%s=", key);
    for (; *value != '\0'; value++) {
        if (*value == '\\') {
            buf_append_u8(out, '\\');
        }
        buf_append_u8(out, (uint8_t)*value);
    }
    buf_append_u8(out, '\n');
}

static void put_number(struct buf *out, const char *key, uint64_t value)
{
    buf_append_fmt(out, "%s=%llu\n", key, (unsigned long long)value);
}

static void put_bool(struct buf *out, const char *key, bool value)
{
    put_text(out, key, value ? "true" : "false");
}

static void put_rocketmq_names(struct buf *out, const struct config *c, struct slice addr)
{
    struct slice host = addr;
    const uint8_t *colon = addr.len == 0 ? NULL : memrchr(addr.ptr, ':', addr.len);
    char text[SETTING_KEY_MAX];

    put_text(out, "brokerClusterName", c->cluster_name);
    put_text(out, "brokerName", c->broker_name);
    put_number(out, "brokerId", 0);
    if (colon != NULL) {
        host.len = (size_t)(colon - addr.ptr);
        put_text(out, "brokerIP1", slice_to_cstr(host, text, sizeof text));
        put_text(out, "listenPort",
                 slice_to_cstr(slice_of(colon + 1, addr.len - host.len - 1), text, sizeof text));
    }
    put_text(out, "namesrvAddr", c->namesrv_addrs);
    put_text(out, "storePathRootDir", c->data_dir);
    put_text(out, "flushDiskType", c->flush_async ? "ASYNC_FLUSH" : "SYNC_FLUSH");
    put_number(out, "maxMessageSize", c->message_max_bytes);
    put_number(out, "mappedFileSizeCommitLog", c->segment_bytes);
    put_number(out, "fileReservedTime", c->file_reserved_ms / MS_PER_HOUR);
    put_text(out, "deleteWhen", c->delete_when);
    put_number(out, "diskMaxUsedSpaceRatio", c->disk_max_used);
    put_bool(out, "cleanFileForciblyEnable", c->disk_clean_forcibly < 100);
    put_bool(out, "autoCreateTopicEnable", c->topic_auto_create);
    put_text(out, "messageDelayLevel", c->delay_levels);
    put_number(out, "transactionTimeOut", c->txn_timeout_ms);
    put_number(out, "transactionCheckInterval", c->txn_interval_ms);
    put_number(out, "transactionCheckMax", c->txn_checks_max);
    put_bool(out, "aclEnable", c->acl_file[0] != '\0');
    put_bool(out, "enablePropertyFilter", true);
}

void settings_print_options(struct buf *out, const struct config *c)
{
#define PUT_TEXT(key, value)                           put_text(out, key, value);
#define PUT_CHOICE(key, value)                         put_text(out, key, value);
#define PUT_SIZE(key, value)                           put_number(out, key, value);
#define PUT_NUMBER(key, value)                         put_number(out, key, value);
#define PUT_BOOL(key, value)                           put_bool(out, key, value);
#define X(member, key, kind, default_, min, max, help) PUT_##kind(key, c->member)
    CONFIG_OPTIONS(X)
#undef X
}

void settings_print(struct buf *out, const struct config *c, struct slice addr)
{
    settings_print_options(out, c);
    put_rocketmq_names(out, c, addr);
}

/* ---- changing ---- */

static const struct {
    const char *key;
    const char *rocketmq; /* the same by RocketMQ's name; NULL: it has none */
} changeable[] = {
    {"log.level", NULL},
    {"topic.auto.create", "autoCreateTopicEnable"},
    {"message.max.bytes", "maxMessageSize"},
    {"pulls.held.max", NULL},
    {"drain.timeout.ms", NULL},
};

/* Our name of an option that may be changed; NULL: it may not. */
static const char *changeable_key(struct slice name)
{
    for (size_t i = 0; i < sizeof changeable / sizeof changeable[0]; i++) {
        if (slice_eq_str(name, changeable[i].key) ||
            (changeable[i].rocketmq != NULL && slice_eq_str(name, changeable[i].rocketmq))) {
            return changeable[i].key;
        }
    }
    return NULL;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && (s.ptr[0] == ' ' || s.ptr[0] == '\t')) {
        s = slice_of(s.ptr + 1, s.len - 1);
    }
    while (s.len > 0 && strchr(" \t\r", s.ptr[s.len - 1]) != NULL) {
        s.len--;
    }
    return s;
}

static int take_line(struct config *c, struct slice line, size_t *taken, struct err_ctx *err)
{
    const uint8_t *equals = line.len == 0 ? NULL : memchr(line.ptr, '=', line.len);
    char value[CONFIG_TEXT_MAX];
    struct slice name;
    struct slice text;
    const char *key;

    if (line.len == 0 || line.ptr[0] == '#' || line.ptr[0] == '!') {
        return 0;
    }
    if (equals == NULL) {
        return err_set(err, ESCROW_EINVAL, "expected lines of the form key=value");
    }
    name = trim(slice_of(line.ptr, (size_t)(equals - line.ptr)));
    text = trim(slice_of(equals + 1, line.len - (size_t)(equals - line.ptr) - 1));
    key = changeable_key(name);
    if (key == NULL) {
        return err_set(err, ESCROW_EPERM,
                       "%.*s may not be changed while the broker runs; these may: log.level, "
                       "topic.auto.create, message.max.bytes, pulls.held.max, drain.timeout.ms",
                       (int)(name.len > SETTING_KEY_MAX ? SETTING_KEY_MAX : name.len),
                       name.len == 0 ? "" : (const char *)name.ptr);
    }
    if (text.len >= sizeof value || (text.len > 0 && memchr(text.ptr, '\0', text.len) != NULL)) {
        return err_set(err, ESCROW_EINVAL, "%s: the value is too long", key);
    }
    (*taken)++;
    return config_set(c, key, slice_to_cstr(text, value, sizeof value), "update", err) == 0
               ? 0
               : ESCROW_EINVAL; /* the text is there */
}

static int take_lines(struct config *c, struct slice lines, struct err_ctx *err)
{
    size_t taken = 0;
    int rc = 0;

    while (rc == 0 && lines.len > 0) {
        const uint8_t *end = memchr(lines.ptr, '\n', lines.len);
        size_t len = end == NULL ? lines.len : (size_t)(end - lines.ptr);
        size_t used = end == NULL ? len : len + 1;
        rc = take_line(c, trim(slice_of(lines.ptr, len)), &taken, err);
        lines = slice_of(lines.ptr + used, lines.len - used);
    }
    return rc == 0 && taken == 0 ? err_set(err, ESCROW_EINVAL, "there is nothing to change") : rc;
}

int settings_change(struct config *c, struct slice lines, struct err_ctx *err)
{
    struct config probe;
    int rc = config_init(&probe, err);

    if (rc != 0) {
        return rc;
    }
    rc = take_lines(&probe, lines, err);
    config_fini(&probe);
    if (rc == 0) {
        rc = take_lines(c, lines, err); /* the same lines: only memory can be short now */
    }
    if (rc == 0) {
        int level = log_level_from_name(c->log_level);
        log_set_level((enum log_level)level);
    }
    return rc;
}
