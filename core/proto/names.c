#include "core/proto/names.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <stddef.h>

#define RETRY_PREFIX SLICE_LIT(NAME_RETRY_PREFIX)
#define DLQ_PREFIX   SLICE_LIT(NAME_DLQ_PREFIX)

_Static_assert(NAME_GROUP_LEN_MAX <= GROUP_LEN_MAX, "a group name fits wherever one is stored");
_Static_assert(sizeof(NAME_RETRY_PREFIX) - 1 + NAME_GROUP_LEN_MAX == RETRY_TOPIC_LEN_MAX,
               "the retry topic of the longest group fits");
_Static_assert(sizeof(NAME_DLQ_PREFIX) <= sizeof(NAME_RETRY_PREFIX), "and so does its DLQ topic");

static bool is_name_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '%' || c == '|';
}

static bool has_only_name_chars(struct slice name)
{
    size_t i;

    for (i = 0; i < name.len; i++) {
        if (!is_name_char(name.ptr[i])) {
            return false;
        }
    }
    return true;
}

int name_check_topic(struct slice topic)
{
    size_t len_max = TOPIC_LEN_MAX;

    if (slice_has_prefix(topic, RETRY_PREFIX) || slice_has_prefix(topic, DLQ_PREFIX)) {
        if (name_group_of_topic(topic).len == 0) {
            return ESCROW_EINVAL;
        }
        len_max = RETRY_TOPIC_LEN_MAX;
    }
    if (topic.len == 0 || topic.len > len_max || !has_only_name_chars(topic)) {
        return ESCROW_EINVAL;
    }
    return 0;
}

int name_check_group(struct slice group)
{
    if (group.len == 0 || group.len > NAME_GROUP_LEN_MAX || !has_only_name_chars(group)) {
        return ESCROW_EINVAL;
    }
    return 0;
}

static bool is_one_of(struct slice name, const char *const *set, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++) {
        if (slice_eq_str(name, set[i])) {
            return true;
        }
    }
    return false;
}

enum topic_class name_topic_class(struct slice topic)
{
    static const char *const system_topics[] = {
        TOPIC_TEMPLATE,  TOPIC_HALF,         TOPIC_OP_HALF,   TOPIC_EXPIRED, TOPIC_SCHEDULE,
        TOPIC_SELF_TEST, TOPIC_OFFSET_MOVED, TOPIC_BENCHMARK, TOPIC_TRACE,
    };

    if (slice_has_prefix(topic, RETRY_PREFIX)) {
        return TOPIC_RETRY;
    }
    if (slice_has_prefix(topic, DLQ_PREFIX)) {
        return TOPIC_DLQ;
    }
    if (slice_has_prefix(topic, SLICE_LIT(TOPIC_SYS_PREFIX)) ||
        is_one_of(topic, system_topics, sizeof system_topics / sizeof system_topics[0])) {
        return TOPIC_SYSTEM;
    }
    return TOPIC_NORMAL;
}

bool name_is_sendable(struct slice topic)
{
    static const char *const closed_topics[] = {
        TOPIC_HALF,     TOPIC_OP_HALF,   TOPIC_EXPIRED,
        TOPIC_SCHEDULE, TOPIC_SELF_TEST, TOPIC_OFFSET_MOVED,
    };

    return !is_one_of(topic, closed_topics, sizeof closed_topics / sizeof closed_topics[0]);
}

struct slice name_group_of_topic(struct slice topic)
{
    size_t prefix_len;

    if (slice_has_prefix(topic, RETRY_PREFIX)) {
        prefix_len = RETRY_PREFIX.len;
    } else if (slice_has_prefix(topic, DLQ_PREFIX)) {
        prefix_len = DLQ_PREFIX.len;
    } else {
        return SLICE_EMPTY;
    }
    return slice_of(topic.ptr + prefix_len, topic.len - prefix_len);
}

static struct slice without_namespace(struct slice name)
{
    const uint8_t *end = name.len < 2 ? NULL : memchr(name.ptr, '%', name.len - 1);

    return end == NULL ? name : slice_of(end + 1, (size_t)(name.ptr + name.len - end) - 1);
}

bool name_is_same_topic(struct slice a, struct slice b)
{
    struct slice rest_a = name_group_of_topic(a);
    struct slice rest_b = name_group_of_topic(b);

    if (slice_eq(a, b)) {
        return true;
    }
    if (name_topic_class(a) == TOPIC_SYSTEM || name_topic_class(b) == TOPIC_SYSTEM) {
        return false;
    }
    rest_a = rest_a.len > 0 ? rest_a : a;
    rest_b = rest_b.len > 0 ? rest_b : b;
    return name_topic_class(a) == name_topic_class(b) &&
           (slice_eq(without_namespace(rest_a), rest_b) ||
            slice_eq(rest_a, without_namespace(rest_b)));
}

static int name_with_prefix(struct slice prefix, struct slice group, struct name_buf *out)
{
    if (name_check_group(group) != 0) {
        return ESCROW_EINVAL;
    }
    CHECK(prefix.len + group.len <= RETRY_TOPIC_LEN_MAX);
    memcpy(out->text, prefix.ptr, prefix.len);
    memcpy(out->text + prefix.len, group.ptr, group.len);
    out->text[prefix.len + group.len] = '\0';
    return 0;
}

int name_retry_topic(struct slice group, struct name_buf *out)
{
    return name_with_prefix(RETRY_PREFIX, group, out);
}

int name_dlq_topic(struct slice group, struct name_buf *out)
{
    return name_with_prefix(DLQ_PREFIX, group, out);
}
