/* escrow copy: the groups of the source, and how far they are. */
#include "core/base/mem.h"
#include "core/proto/body_lists.h"
#include "core/proto/body_queues.h"
#include "core/proto/codes.h"
#include "src/tools/copy/copy.h"

#include <stdlib.h>
#include <string.h>

bool copy_is_system_group(struct slice name)
{
    static const char *const groups[] = {"TOOLS_CONSUMER",     "FILTERSRV_CONSUMER",
                                         "SELF_TEST_C_GROUP",  "SELF_TEST_P_GROUP",
                                         "__MONITOR_CONSUMER", "CLIENT_INNER_PRODUCER",
                                         "escrow-cli",         "CID_ONS-HTTP-PROXY",
                                         "CID_sys_rmq_trans",  "CID_DefaultHeartBeatSyncerTopic"};
    static const char *const prefixes[] = {GROUP_SYS_PREFIX, "CID_ONSAPI_", "CID_rmq_sys_"};

    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (slice_eq_str(name, groups[i])) {
            return true;
        }
    }
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        if (slice_has_prefix(name, slice_str(prefixes[i]))) {
            return true;
        }
    }
    return false;
}

/* ---- groups ---- */

static struct copy_group *find_group(const struct copy *c, struct slice name)
{
    for (size_t i = 0; i < c->group_count; i++) {
        if (slice_eq(c->groups[i].config.name, name)) {
            return &c->groups[i];
        }
    }
    return NULL;
}

int copy_read_groups(struct copy *c)
{
    size_t most = 1;

    for (size_t i = 0; i < c->broker_count; i++) {
        most += c->brokers[i].groups.group_count;
    }
    c->groups = mem_calloc(most, sizeof *c->groups);
    if (c->groups == NULL) {
        return copy_error(c, ESCROW_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < c->broker_count; i++) {
        const struct group_table *table = &c->brokers[i].groups;
        for (size_t g = 0; g < table->group_count; g++) {
            struct slice name = table->groups[g].name;
            if (copy_wants_group(c, name) && find_group(c, name) == NULL) {
                c->groups[c->group_count++].config = table->groups[g];
            }
        }
    }
    return 0;
}

/* ---- how far they are ---- */

struct stats_asked {
    struct copy *c;
    size_t broker;
    size_t group;
    char name[GROUP_LEN_MAX + 1]; /* of the group */
    const char *topic;            /* only of this one; NULL: of all */
    bool is_consumer;             /* does it consume the topic? */
};

static int by_topic_name(const void *key, const void *item)
{
    return strcmp(key, ((const struct copy_topic *)item)->name);
}

static struct copy_offset *more_offsets(struct copy *c)
{
    if (c->offset_count == c->offset_cap) {
        size_t cap = c->offset_cap > 0 ? 2 * c->offset_cap : 1024;
        struct copy_offset *more = mem_realloc(c->offsets, cap * sizeof *more);
        if (more == NULL) {
            return NULL;
        }
        c->offsets = more;
        c->offset_cap = cap;
    }
    return &c->offsets[c->offset_count++];
}

static int take_stats(const struct stats_asked *asked, const struct queue_stats *row)
{
    struct copy *c = asked->c;
    char name[RETRY_TOPIC_LEN_MAX + 1];
    const struct copy_topic *topic;
    struct copy_offset *offset;

    if (row->queue.topic.len >= sizeof name || row->consumer_offset < 0 ||
        row->queue.queue_id < 0) {
        return 0;
    }
    (void)slice_to_cstr(row->queue.topic, name, sizeof name);
    topic = bsearch(name, c->topics, c->topic_count, sizeof *c->topics, by_topic_name);
    if (topic == NULL) {
        return 0; /* not wanted */
    }
    offset = more_offsets(c);
    if (offset == NULL) {
        return ESCROW_ENOMEM;
    }
    *offset = (struct copy_offset){.topic = (size_t)(topic - c->topics),
                                   .broker = asked->broker,
                                   .group = asked->group,
                                   .queue = row->queue.queue_id,
                                   .offset = row->consumer_offset};
    return 0;
}

static int on_stats(void *arg, struct header *header, struct slice body)
{
    const struct stats_asked *asked = arg;
    struct queue_table table;
    int rc = queue_table_decode(body, QUEUE_TABLE_CONSUME, &table);

    (void)header;
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < table.count; i++) {
        rc = take_stats(asked, &table.rows[i]);
    }
    queue_table_fini(&table);
    return rc;
}

static void group_fields(struct header_writer *w, void *arg)
{
    const struct stats_asked *asked = arg;

    header_put_str(w, "consumerGroup", slice_str(asked->name));
    if (asked->topic != NULL) {
        header_put_str(w, "topic", slice_str(asked->topic));
    }
}

static bool has_group(const struct copy_broker *b, struct slice name)
{
    for (size_t g = 0; g < b->groups.group_count; g++) {
        if (slice_eq(b->groups.groups[g].name, name)) {
            return true;
        }
    }
    return false;
}

static int compare(size_t a, size_t b)
{
    return a < b ? -1 : a > b;
}

static int by_place(const void *a, const void *b)
{
    const struct copy_offset *x = a;
    const struct copy_offset *y = b;
    int order = compare(x->topic, y->topic);

    order = order != 0 ? order : compare(x->broker, y->broker);
    order = order != 0 ? order : compare((size_t)x->queue, (size_t)y->queue);
    return order != 0 ? order : compare(x->group, y->group);
}

static void topic_fields(struct header_writer *w, void *arg)
{
    const struct stats_asked *asked = arg;

    header_put_str(w, "topic", slice_str(asked->topic));
}

static int on_consumers(void *arg, struct header *header, struct slice body)
{
    struct stats_asked *asked = arg;
    struct name_list groups;
    int rc = name_list_decode(body, LIST_GROUPS, &groups);

    (void)header;
    asked->is_consumer = false;
    for (size_t i = 0; rc == 0 && i < groups.count; i++) {
        asked->is_consumer |= slice_eq_str(groups.names[i], asked->name);
    }
    if (rc == 0) {
        name_list_fini(&groups);
    }
    return rc;
}

/*
 * Topic by topic, when all in one answer are too many. A broker says 0 for each queue of any topic
 * that it is asked of, so that only those are asked that the group consumes. (4.9 cannot tell a
 * group's topics, 343.)
 */
static int ask_stats_by_topic(struct stats_asked *asked)
{
    struct copy *c = asked->c;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->topic_count; i++) {
        struct cli_request req = {.addr = c->brokers[asked->broker].addr,
                                  .code = REQUEST_QUERY_TOPIC_CONSUME_BY_WHO,
                                  .fields = topic_fields,
                                  .fields_arg = asked};
        asked->topic = c->topics[i].name;
        rc = copy_ask(c, &c->from, &req, on_consumers, asked);
        if (rc == 0 && asked->is_consumer) {
            req.code = REQUEST_GET_CONSUME_STATS;
            req.fields = group_fields;
            rc = copy_ask(c, &c->from, &req, on_stats, asked);
        }
    }
    asked->topic = NULL;
    return rc;
}

static int ask_stats_of(struct stats_asked *asked)
{
    struct copy *c = asked->c;
    struct cli_request req = {.addr = c->brokers[asked->broker].addr,
                              .code = REQUEST_GET_CONSUME_STATS,
                              .fields = group_fields,
                              .fields_arg = asked};
    int rc = copy_ask(c, &c->from, &req, on_stats, asked);

    return rc == ESCROW_ELIMIT ? ask_stats_by_topic(asked) : rc;
}

/* What it has not consumed is not known, then: everything may be. */
static void tell_unknown(struct copy *c, struct copy_group *group, const char *name, int error,
                         size_t broker)
{
    c->has_unknown = true;
    if (!group->is_unknown) {
        copy_failed(
            c, name,
            "how far it is at %s is not known: %.150s (%s); its offsets are not copied, and "
            "all messages are, which it may not have consumed",
            c->brokers[broker].name, c->err.code == error ? c->err.text : escrow_strerror(error),
            escrow_error_name(error));
    }
    group->is_unknown = true;
}

/* Ask every broker that knows it about a group. */
static int ask_stats(struct copy *c, size_t group)
{
    struct stats_asked asked = {.c = c, .group = group};
    size_t count = c->offset_count;
    int rc = 0;

    (void)slice_to_cstr(c->groups[group].config.name, asked.name, sizeof asked.name);
    for (size_t i = 0; rc == 0 && i < c->broker_count; i++) {
        if (has_group(&c->brokers[i], c->groups[group].config.name)) {
            asked.broker = i;
            rc = ask_stats_of(&asked);
        }
    }
    if (rc != 0 && !copy_is_over(c, rc)) {
        c->offset_count = count;
        tell_unknown(c, &c->groups[group], asked.name, rc, asked.broker);
        rc = 0;
    }
    return rc;
}

/* How many groups read each topic. The offsets are in their order. */
static int count_groups(struct copy *c)
{
    size_t *seen = mem_calloc(c->group_count + 1, sizeof *seen); /* topic + 1 */

    if (seen == NULL) {
        return copy_error(c, ESCROW_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < c->topic_count; i++) {
        c->topics[i].group_count = 0;
    }
    for (size_t i = 0; i < c->offset_count; i++) {
        const struct copy_offset *o = &c->offsets[i];
        if (seen[o->group] != o->topic + 1) {
            seen[o->group] = o->topic + 1;
            c->topics[o->topic].group_count++;
        }
    }
    mem_free(seen);
    return 0;
}

int copy_read_offsets(struct copy *c)
{
    int rc = 0;

    c->offset_count = 0;
    c->has_unknown = false;
    for (size_t g = 0; rc == 0 && g < c->group_count; g++) {
        rc = ask_stats(c, g);
    }
    if (c->offset_count > 0) {
        qsort(c->offsets, c->offset_count, sizeof *c->offsets, by_place);
    }
    return rc == 0 ? count_groups(c) : rc;
}

const struct copy_offset *copy_offsets_of(const struct copy *c, size_t topic, size_t broker,
                                          int32_t queue, size_t *count)
{
    struct copy_offset key = {.topic = topic, .broker = broker, .queue = queue};
    size_t low = 0;
    size_t high = c->offset_count;

    *count = 0;
    while (low < high) { /* the first that is not below; the key's group is the lowest */
        size_t middle = low + (high - low) / 2;
        if (by_place(&c->offsets[middle], &key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while (low + *count < c->offset_count && c->offsets[low + *count].topic == topic &&
           c->offsets[low + *count].broker == broker && c->offsets[low + *count].queue == queue) {
        (*count)++;
    }
    return *count > 0 ? &c->offsets[low] : NULL;
}
