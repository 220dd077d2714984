/* escrow copy: which groups consume the topics that are copied, and who is connected. */
#include "core/base/mem.h"
#include "core/proto/body_connections.h"
#include "core/proto/body_lists.h"
#include "core/proto/codes.h"
#include "src/tools/copy/copy.h"

#include <string.h>

/* ---- who consumes ---- */

bool copy_is_consumer(const struct copy *c, struct slice group)
{
    for (size_t i = 0; i < c->consumer_count; i++) {
        if (slice_eq_str(group, c->consumers[i])) {
            return true;
        }
    }
    return false;
}

static int add_consumer(struct copy *c, struct slice group)
{
    if (name_check_group(group) != 0 || copy_is_consumer(c, group)) {
        return 0;
    }
    if (c->consumer_count == c->consumer_cap) {
        size_t cap = c->consumer_cap > 0 ? 2 * c->consumer_cap : 64;
        char(*more)[GROUP_LEN_MAX + 1] = mem_realloc(c->consumers, cap * sizeof *more);
        if (more == NULL) {
            return ESCROW_ENOMEM;
        }
        c->consumers = more;
        c->consumer_cap = cap;
    }
    (void)slice_to_cstr(group, c->consumers[c->consumer_count], sizeof *c->consumers);
    c->consumer_count++;
    return 0;
}

static int on_consumers(void *arg, struct header *header, struct slice body)
{
    struct copy *c = arg;
    struct name_list groups;
    int rc = name_list_decode(body, LIST_GROUPS, &groups);

    (void)header;
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < groups.count; i++) {
        rc = add_consumer(c, groups.names[i]);
    }
    name_list_fini(&groups);
    return rc;
}

static void topic_fields(struct header_writer *w, void *arg)
{
    const struct slice *topic = arg;

    header_put_str(w, "topic", *topic);
}

static int ask_consumers(struct copy *c, const struct copy_broker *b, struct slice topic)
{
    struct cli_request req = {.addr = b->addr,
                              .code = REQUEST_QUERY_TOPIC_CONSUME_BY_WHO,
                              .fields = topic_fields,
                              .fields_arg = &topic};
    char name[RETRY_TOPIC_LEN_MAX + 1];
    int rc = copy_ask(c, &c->from, &req, on_consumers, c);

    if (rc != 0 && !copy_is_over(c, rc)) {
        copy_failed(c, slice_to_cstr(topic, name, sizeof name),
                    "which groups consume it at %s is not known: %.150s (%s); --group says which "
                    "to copy",
                    b->name, c->err.code == rc ? c->err.text : escrow_strerror(rc),
                    escrow_error_name(rc));
        rc = 0;
    }
    return rc;
}

int copy_read_consumers(struct copy *c)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->broker_count; i++) {
        const struct copy_broker *b = &c->brokers[i];
        for (size_t k = 0; rc == 0 && k < b->topics.topic_count; k++) {
            struct slice topic = b->topics.topics[k].name;
            if (copy_names_topic(c, topic)) {
                rc = ask_consumers(c, b, topic);
            }
        }
    }
    return rc;
}

/* ---- who is connected ---- */

static void members_fields(struct header_writer *w, void *arg)
{
    const char *group = arg;

    header_put_str(w, "consumerGroup", slice_str(group));
}

static int on_members(void *arg, struct header *header, struct slice body)
{
    bool *is_online = arg;
    size_t count = 0;
    int rc = connections_count(body, &count);

    (void)header;
    *is_online = count > 0;
    return rc;
}

int copy_ask_members(struct copy *c, struct cli *side, const char *addr, const char *group,
                     bool *is_online)
{
    char name[GROUP_LEN_MAX + 1];
    struct cli_request req = {.addr = addr,
                              .code = REQUEST_GET_CONSUMER_CONNECTION_LIST,
                              .fields = members_fields,
                              .fields_arg = name};
    int rc;

    (void)slice_to_cstr(slice_str(group), name, sizeof name);
    *is_online = false;
    rc = copy_ask(c, side, &req, on_members, is_online);
    return rc == ESCROW_ENOTFOUND ? 0 : rc; /* CONSUMER_NOT_ONLINE */
}

int copy_read_members(struct copy *c)
{
    int rc = 0;

    for (size_t g = 0; rc == 0 && g < c->group_count; g++) {
        char name[GROUP_LEN_MAX + 1];
        bool is_online = false;
        (void)slice_to_cstr(c->groups[g].config.name, name, sizeof name);
        for (size_t i = 0; rc == 0 && !is_online && i < c->broker_count; i++) {
            rc = copy_ask_members(c, &c->from, c->brokers[i].addr, name, &is_online);
        }
        if (rc == 0 && is_online) {
            copy_warn(c, name,
                      "has members at the source: what they consume from now on, it gets again "
                      "from the target");
        } else if (rc != 0 && !copy_is_over(c, rc)) {
            copy_failed(c, name,
                        "whether it has members at the source is not known: %.150s (%s); what they "
                        "consume from now on, it gets again from the target",
                        c->err.code == rc ? c->err.text : escrow_strerror(rc),
                        escrow_error_name(rc));
            rc = 0;
        }
    }
    return rc;
}
