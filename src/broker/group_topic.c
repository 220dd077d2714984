#include "src/broker/group_topic.h"

#include "core/base/bytes.h"

#include <string.h>

bool group_topic_key_make(struct group_topic_key *key, struct slice group, struct slice topic)
{
    if (group.len == 0 || group.len > GROUP_LEN_MAX || topic.len == 0 ||
        topic.len > RETRY_TOPIC_LEN_MAX || memchr(group.ptr, 0x01, group.len) != NULL) {
        return false;
    }
    memcpy(key->bytes, group.ptr, group.len);
    key->bytes[group.len] = 0x01;
    memcpy(key->bytes + group.len + 1, topic.ptr, topic.len);
    key->len = group.len + 1 + topic.len;
    return true;
}

void group_topic_encode(struct buf *out, struct slice group, struct slice topic)
{
    buf_append_le16(out, (uint16_t)group.len);
    buf_append_slice(out, group);
    buf_append_le16(out, (uint16_t)topic.len);
    buf_append_slice(out, topic);
}

bool group_topic_decode(struct slice *in, size_t behind, struct slice *group, struct slice *topic)
{
    const size_t fixed = GROUP_TOPIC_FIXED_BYTES + behind;
    size_t group_len;
    size_t topic_len;

    if (in->len < fixed) {
        return false;
    }
    group_len = get_le16(in->ptr);
    if (in->len < fixed + group_len) {
        return false;
    }
    topic_len = get_le16(in->ptr + 2 + group_len);
    if (in->len < fixed + group_len + topic_len) {
        return false;
    }
    *group = slice_of(in->ptr + 2, group_len);
    *topic = slice_of(in->ptr + 4 + group_len, topic_len);
    *in =
        slice_of(topic->ptr + topic_len, in->len - GROUP_TOPIC_FIXED_BYTES - group_len - topic_len);
    return true;
}
