/* escrow copy: the brokers of the source, and the topics that are to be copied. */
#include "core/base/mem.h"
#include "core/proto/body_route.h"
#include "core/proto/codes.h"
#include "src/tools/copy/copy.h"
#include "src/tools/out.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is wanted ---- */

static bool matches(const struct arg_texts *patterns, const char *name)
{
    for (size_t i = 0; i < patterns->count; i++) {
        if (fnmatch(patterns->items[i], name, 0) == 0) {
            return true;
        }
    }
    return patterns->count == 0;
}

/* With --topic alone: only the groups that consume these. */
static bool asks_consumers(const struct copy *c)
{
    return c->topic_patterns.count > 0 && c->group_patterns.count == 0;
}

bool copy_names_topic(const struct copy *c, struct slice name)
{
    char text[RETRY_TOPIC_LEN_MAX + 1];

    return name_check_topic(name) == 0 && name_topic_class(name) == TOPIC_NORMAL &&
           matches(&c->topic_patterns, slice_to_cstr(name, text, sizeof text));
}

bool copy_wants_group(const struct copy *c, struct slice name)
{
    char text[GROUP_LEN_MAX + 1];

    return name_check_group(name) == 0 && !copy_is_system_group(name) &&
           matches(&c->group_patterns, slice_to_cstr(name, text, sizeof text)) &&
           (!asks_consumers(c) || copy_is_consumer(c, name));
}

/* Topics that every broker of the cluster has for itself. */
static bool is_of_a_broker(const struct copy *c, struct slice name)
{
    static const char reply[] = "_REPLY_TOPIC";

    if (name_topic_class(name) == TOPIC_SYSTEM || slice_has_prefix(name, SLICE_LIT("RMQ_SYS_")) ||
        slice_eq_str(name, "DefaultHeartBeatSyncerTopic")) {
        return true;
    }
    for (size_t i = 0; i < c->broker_count; i++) {
        struct slice cluster = slice_str(c->brokers[i].cluster);
        if (slice_eq_str(name, c->brokers[i].name) || slice_eq(name, cluster) ||
            (slice_has_prefix(name, cluster) &&
             slice_eq_str(slice_of(name.ptr + cluster.len, name.len - cluster.len), reply))) {
            return true;
        }
    }
    return false;
}

/* A retry topic belongs to a group that there is: those of popped messages do not. */
static bool is_group(const struct copy *c, struct slice name)
{
    for (size_t i = 0; i < c->broker_count; i++) {
        const struct group_table *table = &c->brokers[i].groups;
        for (size_t g = 0; g < table->group_count; g++) {
            if (slice_eq(table->groups[g].name, name)) {
                return true;
            }
        }
    }
    return false;
}

static bool wants_topic(struct copy *c, struct slice name)
{
    char text[RETRY_TOPIC_LEN_MAX + 1];
    enum topic_class class = name_topic_class(name);

    if (name_check_topic(name) != 0) {
        copy_warn(c, "", "a topic whose name cannot be one here is not copied");
        return false;
    }
    if (is_of_a_broker(c, name)) {
        return false;
    }
    if (class == TOPIC_NORMAL) {
        return matches(&c->topic_patterns, slice_to_cstr(name, text, sizeof text));
    }
    if (!copy_wants_group(c, name_group_of_topic(name))) {
        return false;
    }
    if (class == TOPIC_RETRY && !is_group(c, name_group_of_topic(name))) {
        copy_warn(c, slice_to_cstr(name, text, sizeof text),
                  "not copied: there is no such group (retries of popped messages?)");
        return false;
    }
    return true;
}

/* ---- topics: those of all brokers, put together ---- */

static uint32_t queues_of(const struct topic_config *config)
{
    return (uint32_t)(config->read_queue_count > config->write_queue_count
                          ? config->read_queue_count
                          : config->write_queue_count);
}

static struct copy_topic *find_topic(struct copy *c, struct slice name)
{
    for (size_t i = 0; i < c->topic_count; i++) {
        if (slice_eq_str(name, c->topics[i].name)) {
            return &c->topics[i];
        }
    }
    return NULL;
}

/* Brokers come in the order of their names, so that the bases are what clients count by. */
static int add_part(struct copy_topic *t, size_t broker, const struct topic_config *config)
{
    struct copy_part part = {.broker = broker, .queues = queues_of(config)};

    if (t->part_count == 0) {
        t->config = *config;
        t->config.name = slice_str(t->name);
    } else {
        const struct copy_part *last = &t->parts[t->part_count - 1];
        part.base = last->base + last->queues;
        t->config.perm |= config->perm;
        t->config.read_queue_count = t->config.write_queue_count =
            (int32_t)(part.base + part.queues);
    }
    t->parts[t->part_count++] = part;
    return 0;
}

static int add_topic(struct copy *c, size_t broker, const struct topic_config *config)
{
    struct copy_topic *t = find_topic(c, config->name);

    if (t == NULL) {
        if (!wants_topic(c, config->name)) {
            return 0;
        }
        t = &c->topics[c->topic_count];
        t->parts = mem_calloc(c->broker_count, sizeof *t->parts);
        if (t->parts == NULL) {
            return ESCROW_ENOMEM;
        }
        (void)slice_to_cstr(config->name, t->name, sizeof t->name);
        c->topic_count++;
    }
    /* a table may say the same name twice, and then the first counts */
    if (t->part_count > 0 && t->parts[t->part_count - 1].broker == broker) {
        return 0;
    }
    return add_part(t, broker, config);
}

static int by_topic_name(const void *a, const void *b)
{
    return strcmp(((const struct copy_topic *)a)->name, ((const struct copy_topic *)b)->name);
}

static int merge_topics(struct copy *c)
{
    size_t most = 1;
    int rc = 0;

    for (size_t i = 0; i < c->broker_count; i++) {
        most += c->brokers[i].topics.topic_count;
    }
    c->topics = mem_calloc(most, sizeof *c->topics);
    if (c->topics == NULL) {
        return copy_error(c, ESCROW_ENOMEM, "out of memory");
    }
    for (size_t i = 0; rc == 0 && i < c->broker_count; i++) {
        for (size_t k = 0; rc == 0 && k < c->brokers[i].topics.topic_count; k++) {
            rc = add_topic(c, i, &c->brokers[i].topics.topics[k]);
        }
    }
    qsort(c->topics, c->topic_count, sizeof *c->topics, by_topic_name);
    for (size_t i = 0; i < c->topic_count; i++) {
        c->topics[i].config.name = slice_str(c->topics[i].name); /* it has moved */
    }
    return rc == 0 ? 0 : copy_error(c, rc, "%s", escrow_strerror(rc));
}

/* ---- brokers ---- */

static int on_topics(void *arg, struct header *header, struct slice body)
{
    struct copy_broker *b = arg;

    (void)header;
    topic_table_fini(&b->topics);
    return topic_table_decode(body, &b->topics);
}

static int on_groups(void *arg, struct header *header, struct slice body)
{
    struct copy_broker *b = arg;

    (void)header;
    group_table_fini(&b->groups);
    return group_table_decode(body, &b->groups);
}

static int read_broker(struct copy *c, struct copy_broker *b)
{
    struct cli_request req = {.addr = b->addr, .code = REQUEST_GET_ALL_TOPIC_CONFIG};
    int rc = copy_ask(c, &c->from, &req, on_topics, b);

    if (rc == 0) {
        req.code = REQUEST_GET_ALL_SUBSCRIPTIONGROUP_CONFIG;
        rc = copy_ask(c, &c->from, &req, on_groups, b);
    }
    if (rc != 0) {
        rc = copy_error(c, rc, "broker %s at %s: %.150s", b->name, b->addr, c->from.err.text);
    }
    return rc;
}

static int by_broker_name(const void *a, const void *b)
{
    return strcmp(((const struct copy_broker *)a)->name, ((const struct copy_broker *)b)->name);
}

/* Names go into messages and positions: no control characters. */
static bool is_fit(const char *name)
{
    return name[0] != '\0' && out_is_plain(slice_str(name)) && strpbrk(name, "\t\n") == NULL;
}

static int take_brokers(struct copy *c, const struct cli_brokers *found)
{
    c->brokers = mem_calloc(found->count, sizeof *c->brokers);
    if (c->brokers == NULL) {
        return copy_error(c, ESCROW_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < found->count; i++) {
        struct copy_broker *b = &c->brokers[c->broker_count];
        if (!matches(&c->broker_names, found->items[i].name)) {
            continue;
        }
        memcpy(b->name, found->items[i].name, sizeof b->name);
        memcpy(b->addr, found->items[i].addr, sizeof b->addr);
        memcpy(b->cluster, found->items[i].cluster, sizeof b->cluster);
        c->broker_count++;
        if (!is_fit(b->name) || !is_fit(b->cluster) || !is_fit(b->addr)) {
            return copy_error(c, ESCROW_EPROTO, "the name server names a broker without a name");
        }
    }
    qsort(c->brokers, c->broker_count, sizeof *c->brokers, by_broker_name);
    if (c->broker_count == 0) {
        return copy_error(c, ESCROW_ENOTFOUND, "the source has no such broker");
    }
    return 0;
}

int copy_read_source(struct copy *c)
{
    struct cli_brokers found;
    int rc;

    c->at = &c->from;
    rc = cli_brokers(&c->from, &found);
    c->err = c->from.err;
    if (rc == 0 && found.skipped > 0 && c->broker_names.count == 0) {
        rc = copy_error(c, ESCROW_EAGAIN,
                        "%zu brokers of the source have no master that could be asked; --broker "
                        "says which to copy",
                        found.skipped);
    }
    if (rc == 0) {
        rc = take_brokers(c, &found);
    }
    for (size_t i = 0; rc == 0 && i < c->broker_count; i++) {
        rc = read_broker(c, &c->brokers[i]);
    }
    if (rc == 0 && asks_consumers(c)) {
        rc = copy_read_consumers(c);
    }
    if (rc == 0) {
        rc = merge_topics(c);
    }
    if (rc == 0) {
        rc = copy_read_groups(c);
    }
    return rc;
}

void copy_free_source(struct copy *c)
{
    for (size_t i = 0; i < c->topic_count; i++) {
        mem_free(c->topics[i].parts);
    }
    for (size_t i = 0; c->brokers != NULL && i < c->broker_count; i++) {
        topic_table_fini(&c->brokers[i].topics);
        group_table_fini(&c->brokers[i].groups);
    }
    mem_free(c->topics);
    mem_free(c->groups);
    mem_free(c->offsets);
    mem_free(c->consumers);
    mem_free(c->brokers);
}
