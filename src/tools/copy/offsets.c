/*
 * escrow copy: offsets of groups. A group goes on with the first message that it has not consumed,
 * at the source or at the target: of the copied ones the same as at the source, or one of others'
 * that lies before. Then it gets again what it consumed at the source behind that one, which is
 * said; --skip-others sets it to the same message as at the source all the same.
 *
 * A group's offset at the target only ever moves forward: what lies before the new one the group
 * has consumed, at the source or there.
 */
#include "core/base/mem.h"
#include "core/proto/body_inspect.h"
#include "core/proto/codes.h"
#include "src/tools/copy/copy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What a group has stored at the target. */
struct stored {
    size_t topic; /* index in copy->topics */
    int32_t queue;
    int64_t offset;
};

struct committed {
    struct copy *c;
    struct stored *rows;
    size_t count;
    size_t cap;
    bool is_online; /* has members there */
};

/* One group in the queues of one part. */
struct shift {
    struct copy *c;
    const struct committed *there;
    const struct copy_topic *topic;
    const struct copy_part *part;
    const char *group;
    struct copy_source_name name;
    struct copy_position position;
    struct buf raw;
    uint32_t set, same;
    uint32_t open;      /* queues that were left alone: not all has been copied */
    uint32_t mixed;     /* queues where others' messages hold it back */
    int64_t again;      /* messages that come again there, at most */
    int64_t not_copied; /* messages */
    int64_t gone;       /* messages that were copied and are not at the target any more */
};

/* ---- what the target has ---- */

static int take_row(struct committed *there, const struct group_row *row)
{
    struct copy *c = there->c;

    for (size_t i = 0; row->committed >= 0 && i < c->topic_count; i++) {
        if (!slice_eq_str(row->topic, c->topics[i].name)) {
            continue;
        }
        if (there->count == there->cap) {
            size_t cap = there->cap > 0 ? 2 * there->cap : 64;
            struct stored *more = mem_realloc(there->rows, cap * sizeof *more);
            if (more == NULL) {
                return ESCROW_ENOMEM;
            }
            there->rows = more;
            there->cap = cap;
        }
        there->rows[there->count++] = (struct stored){i, row->queue_id, row->committed};
        break;
    }
    return 0;
}

static int on_rows(void *arg, struct header *header, struct slice body)
{
    struct committed *there = arg;
    struct list_reader reader;
    struct group_row row;
    int rc = list_groups_decode(body, &reader);

    (void)header;
    there->count = 0;
    while (rc == 0 && list_groups_next(&reader, &row)) {
        rc = take_row(there, &row);
    }
    return rc;
}

static int read_committed(struct copy *c, struct slice group, struct committed *there)
{
    struct cli_request req = {.addr = c->to_addr, .code = REQUEST_ESCROW_LIST_GROUPS};
    struct buf body;
    int rc;

    there->c = c;
    buf_init(&body, 0);
    list_groups_request_encode(&body, group);
    req.body = buf_slice(&body);
    rc = buf_failed(&body) ? copy_error(c, ESCROW_ENOMEM, "out of memory")
                           : copy_ask(c, &c->to, &req, on_rows, there);
    buf_fini(&body);
    return rc;
}

/* -1: none. */
static int64_t stored_offset(const struct shift *s, uint32_t queue)
{
    size_t topic = (size_t)(s->topic - s->c->topics);

    for (size_t i = 0; i < s->there->count; i++) {
        const struct stored *row = &s->there->rows[i];
        if (row->topic == topic && row->queue == (int32_t)queue) {
            return row->offset;
        }
    }
    return -1;
}

/* ---- setting one ---- */

struct setting {
    const struct shift *shift;
    uint32_t queue;
    int64_t offset;
};

static void set_fields(struct header_writer *w, void *arg)
{
    const struct setting *set = arg;

    header_put_str(w, "consumerGroup", slice_str(set->shift->group));
    header_put_str(w, "topic", slice_str(set->shift->topic->name));
    header_put_i64(w, "queueId", set->queue);
    header_put_i64(w, "commitOffset", set->offset);
}

static int set_offset(struct shift *s, uint32_t queue, int64_t offset)
{
    struct copy *c = s->c;
    struct setting set = {s, queue, offset};
    struct cli_request req = {.addr = c->to_addr,
                              .code = REQUEST_UPDATE_CONSUMER_OFFSET,
                              .fields = set_fields,
                              .fields_arg = &set};
    int rc = 0;

    if (stored_offset(s, queue) >= offset) {
        s->same++;
        return 0;
    }
    if (!c->is_dry && !s->there->is_online) {
        rc = copy_ask(c, &c->to, &req, NULL, NULL);
    }
    s->set += rc == 0 ? 1 : 0;
    return rc;
}

/* ---- telling where ---- */

/* A dry run in which this step would have been made before. */
static bool is_dry_after(const struct copy *c, enum copy_step step)
{
    return c->is_dry && c->has_step[step];
}

static int source_range(struct shift *s, uint32_t queue, int64_t *min, int64_t *max)
{
    struct copy *c = s->c;
    const struct copy_queue asked = {c->brokers[s->part->broker].addr, s->topic->name, queue};
    int rc = copy_ask_offset(c, &c->from, REQUEST_GET_MAX_OFFSET, &asked, max);

    return rc == 0 ? copy_ask_offset(c, &c->from, REQUEST_GET_MIN_OFFSET, &asked, min) : rc;
}

/*
 * Nothing was copied from the queue: right if the group has consumed all of it, and then everything
 * there is at the target is new.
 */
static int shift_empty(struct shift *s, const struct copy_offset *old)
{
    const struct copy_queue queue = {s->c->to_addr, s->topic->name,
                                     s->part->base + (uint32_t)old->queue};
    int64_t min = 0;
    int64_t max = 0;
    int rc = source_range(s, (uint32_t)old->queue, &min, &max);

    if (rc != 0) {
        return rc;
    }
    if (old->offset < max && min < max && !is_dry_after(s->c, COPY_MESSAGES)) {
        s->not_copied += max - (old->offset > min ? old->offset : min);
        return 0;
    }
    if (stored_offset(s, queue.queue) >= 0) {
        s->same++;
        return 0;
    }
    if (s->c->is_dry) {
        s->set++;
        return 0;
    }
    rc = copy_ask_offset(s->c, &s->c->to, REQUEST_GET_MIN_OFFSET, &queue, &min);
    return rc == 0 ? set_offset(s, queue.queue, min) : rc;
}

/* The new offset of a queue that was copied, unless what the group wants is gone there. */
static int shift_copied(struct shift *s, const struct copy_place *place, int64_t old_offset)
{
    struct copy *c = s->c;
    const struct copy_queue queue = {c->to_addr, s->topic->name, s->part->base + place->queue};
    int64_t stored = stored_offset(s, queue.queue);
    int64_t from = stored > 0 ? stored : 0;
    int64_t min = 0;
    int64_t offset;
    int64_t again;
    int rc = 0;

    if (copy_target_topic(c, queue.topic) != NULL) {
        rc = copy_ask_offset(c, &c->to, REQUEST_GET_MIN_OFFSET, &queue, &min);
    }
    if (rc != 0) {
        return rc;
    }
    if (copy_place_count(place, old_offset, from, min) > 0) {
        s->gone += copy_place_count(place, old_offset, from, min);
        return 0;
    }
    from = min > from ? min : from;
    offset = copy_place_find(place, from, old_offset, c->is_skip_others);
    again = copy_place_again(place, old_offset, offset);
    s->mixed += again > 0 ? 1 : 0;
    s->again += again;
    return set_offset(s, queue.queue, offset);
}

static int shift_queue(struct shift *s, const struct copy_offset *old)
{
    const struct copy_place *place = copy_position_find(&s->position, (uint32_t)old->queue);
    uint32_t queue = s->part->base + (uint32_t)old->queue;
    int64_t min = 0;
    int64_t max = 0;
    int rc = 0;

    if (place == NULL) {
        return shift_empty(s, old);
    }
    if (!copy_place_is_sure(place) && !is_dry_after(s->c, COPY_MESSAGES)) {
        s->open++;
        return 0;
    }
    if (old->offset < place->first && stored_offset(s, queue) < 0) {
        rc = source_range(s, (uint32_t)old->queue, &min, &max);
        if (rc == 0 && min < place->first) {
            s->not_copied += place->first - (old->offset > min ? old->offset : min);
        }
    }
    return rc == 0 ? shift_copied(s, place, old->offset) : rc;
}

/* ---- one group, one part ---- */

static void tell(struct shift *s)
{
    struct copy *c = s->c;
    bool has_members = s->set > 0 && s->there->is_online;
    char name[GROUP_LEN_MAX + RETRY_TOPIC_LEN_MAX + 2];

    (void)snprintf(name, sizeof name, "%s %s", s->group, s->topic->name); /* fits */
    if (has_members) {
        copy_failed(c, name, "the group has members at the target: its offsets are left alone");
    } else if (s->set > 0) {
        copy_told(c, "offsets", name, "%s in %" PRIu32 " queues of %s",
                  c->is_dry ? "would be set" : "set", s->set, c->brokers[s->part->broker].name);
    } else if (s->same > 0) {
        copy_told(c, "offsets", name, "as they are in %" PRIu32 " queues of %s", s->same,
                  c->brokers[s->part->broker].name);
    }
    if (s->not_copied > 0) {
        copy_failed(c, name,
                    "%" PRId64 " messages that the group has not consumed at %s are not copied",
                    s->not_copied, c->brokers[s->part->broker].name);
    }
    if (s->gone > 0) {
        copy_failed(c, name,
                    "%" PRId64 " messages that the group has not consumed were copied from %s and "
                    "are gone at the target: see escrow copy messages --again",
                    s->gone, c->brokers[s->part->broker].name);
    }
    if (s->open > 0) {
        copy_failed(c, name,
                    "the copy of messages of %" PRIu32 " queues was broken off: escrow copy "
                    "messages first",
                    s->open);
    }
    if (s->mixed > 0) {
        copy_failed(c, name,
                    "in %" PRIu32 " queues others' messages lie before its place, which it has not "
                    "consumed: it goes on with those, and gets up to %" PRId64
                    " messages again that it has consumed at %s (--skip-others: none of these)",
                    s->mixed, s->again, c->brokers[s->part->broker].name);
    }
}

/* The group's offsets at one broker, in one topic. */
static int shift_part(struct shift *s, const struct copy_offset *offsets, size_t count)
{
    struct copy *c = s->c;
    int rc = copy_source_name(c, s->topic, s->part, &s->name);

    if (rc == 0 && !is_dry_after(c, COPY_TOPICS) && copy_target_topic(c, s->topic->name) == NULL) {
        rc = copy_error(c, ESCROW_ENOROUTE, "the target has no such topic (escrow copy topics)");
    }
    if (rc == 0) {
        rc = copy_position_ask(c, &s->name, s->part, &s->position, &s->raw, NULL);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (offsets[i].group == offsets[0].group && (uint32_t)offsets[i].queue < s->part->queues) {
            rc = shift_queue(s, &offsets[i]);
        }
    }
    if (rc == 0) {
        tell(s);
    }
    copy_position_fini(&s->position);
    buf_fini(&s->name.full);
    buf_fini(&s->raw);
    return copy_settle(c, rc, s->topic->name);
}

static const struct copy_part *part_of(const struct copy_topic *topic, size_t broker)
{
    for (size_t i = 0; i < topic->part_count; i++) {
        if (topic->parts[i].broker == broker) {
            return &topic->parts[i];
        }
    }
    return NULL;
}

static bool is_same_part(const struct copy_offset *a, const struct copy_offset *b)
{
    return a->topic == b->topic && a->broker == b->broker;
}

static int shift_group(struct copy *c, size_t group, struct committed *there)
{
    char name[GROUP_LEN_MAX + 1];
    int rc = read_committed(c, c->groups[group].config.name, there);

    (void)slice_to_cstr(c->groups[group].config.name, name, sizeof name);
    if (rc == 0) {
        rc = copy_ask_members(c, &c->to, c->to_addr, name, &there->is_online);
        if (rc != 0 && !copy_is_over(c, rc)) {
            rc = copy_error(c, rc,
                            "whether it has members at the target is not known, its offsets are "
                            "left alone: %.150s",
                            c->to.err.text);
        }
    }
    for (size_t i = 0; rc == 0 && i < c->offset_count; i++) {
        const struct copy_offset *o = &c->offsets[i];
        size_t count = 1;
        struct shift s = {.c = c, .there = there, .group = name, .topic = &c->topics[o->topic]};
        if (o->group != group) {
            continue;
        }
        while (i + count < c->offset_count && is_same_part(o, &c->offsets[i + count])) {
            count++;
        }
        s.part = part_of(s.topic, o->broker);
        if (s.part != NULL) {
            rc = shift_part(&s, o, count);
        }
        i += count - 1;
    }
    return copy_settle(c, rc, name);
}

int copy_offsets(struct copy *c)
{
    struct committed there = {.c = c};
    int rc = copy_read_members(c);

    if (rc == 0) {
        rc = copy_read_offsets(c);
    }
    if (rc == 0 && !c->is_dry) {
        rc = copy_read_target(c);
    }
    for (size_t g = 0; rc == 0 && g < c->group_count; g++) {
        rc = shift_group(c, g, &there);
    }
    mem_free(there.rows);
    return rc;
}
