/*
 * What the broker keeps in the checkpoint and in TOPIC, OFFSETS, POSITION, GROUP and MODE records.
 * The first byte picks the table, and whether the rest is a section or a record. What is accepted
 * can be saved, loaded again, and saved as the same bytes.
 */
#include "core/base/check.h"
#include "src/broker/groups.h"
#include "src/broker/offsets.h"
#include "src/broker/request_modes.h"
#include "src/broker/sources.h"
#include "src/broker/topics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct hash_key key = {1, 2};

static size_t count_topics(const struct topics *t)
{
    return t->by_name.count;
}

static void topics_input(struct slice in, bool is_record)
{
    struct topics t;
    struct topics again;
    struct slice deleted;
    struct buf saved;

    topics_init(&t, key);
    if ((is_record ? topics_apply(&t, in, &deleted, NULL) : topics_load(&t, in, NULL)) == 0) {
        topics_init(&again, key);
        buf_init(&saved, 0);
        topics_save(&t, &saved);
        CHECK(topics_load(&again, buf_slice(&saved), NULL) == 0);
        CHECK(count_topics(&again) == count_topics(&t) && again.version == t.version);
        buf_fini(&saved);
        topics_fini(&again);
    }
    topics_fini(&t);
}

struct visited {
    const struct offsets *other;
    size_t count;
};

static void on_offset(void *arg, struct slice group, struct slice topic, uint32_t queue,
                      int64_t offset)
{
    struct visited *v = arg;
    int64_t found = -1;

    CHECK(offsets_find(v->other, group, topic, queue, &found));
    CHECK(found == offset);
    v->count++;
}

static void offsets_input(struct slice in, bool is_record)
{
    struct offsets o;
    struct offsets again;
    struct visited there = {.other = &again};
    struct visited back = {.other = &o};
    struct buf saved;

    offsets_init(&o, key);
    if ((is_record ? offsets_apply(&o, in, NULL) : offsets_load(&o, in, NULL)) == 0) {
        offsets_init(&again, key);
        buf_init(&saved, 0);
        offsets_save(&o, &saved);
        CHECK(offsets_load(&again, buf_slice(&saved), NULL) == 0);
        offsets_visit(&o, on_offset, &there);
        offsets_visit(&again, on_offset, &back);
        CHECK(there.count == back.count);
        buf_fini(&saved);
        offsets_fini(&again);
    }
    offsets_fini(&o);
}

static void sources_input(struct slice in, bool is_record)
{
    struct sources s;
    struct sources again;
    struct buf saved;

    sources_init(&s, key);
    if ((is_record ? sources_apply(&s, in, NULL) : sources_load(&s, in, NULL)) == 0) {
        const struct source *src;
        size_t cursor = 0;
        sources_init(&again, key);
        buf_init(&saved, 0);
        sources_save(&s, &saved);
        CHECK(sources_load(&again, buf_slice(&saved), NULL) == 0);
        while ((src = sources_next(&s, &cursor)) != NULL) {
            CHECK(sources_find(&again, slice_str(src->name), src->lane) != NULL);
        }
        buf_fini(&saved);
        sources_fini(&again);
    }
    sources_fini(&s);
}

static void groups_input(struct slice in, bool is_record)
{
    struct groups g;
    struct groups again;
    struct group_applied applied;
    struct buf saved;

    groups_init(&g, key);
    if ((is_record ? groups_apply(&g, in, &applied, NULL) : groups_load(&g, in, NULL)) == 0) {
        const struct group_config *group;
        size_t cursor = 0;
        groups_init(&again, key);
        buf_init(&saved, 0);
        groups_save(&g, &saved);
        CHECK(groups_load(&again, buf_slice(&saved), NULL) == 0);
        while ((group = groups_next(&g, &cursor)) != NULL) {
            CHECK(groups_find(&again, group->name) != NULL);
        }
        buf_fini(&saved);
        groups_fini(&again);
    }
    groups_fini(&g);
}

static void modes_input(struct slice in, bool is_record)
{
    struct request_modes m;
    struct request_modes again;
    struct buf saved;
    struct buf twice;

    request_modes_init(&m, key);
    if ((is_record ? request_modes_apply(&m, in, NULL) : request_modes_load(&m, in, NULL)) == 0) {
        request_modes_init(&again, key);
        buf_init(&saved, 0);
        buf_init(&twice, 0);
        request_modes_save(&m, &saved);
        CHECK(request_modes_load(&again, buf_slice(&saved), NULL) == 0);
        request_modes_save(&again, &twice);
        CHECK(saved.len == twice.len && again.by_pair.count == m.by_pair.count);
        buf_fini(&twice);
        buf_fini(&saved);
        request_modes_fini(&again);
    }
    request_modes_fini(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in;

    if (size == 0) {
        return 0;
    }
    in = slice_of(data + 1, size - 1);
    switch (data[0] / 2 % 5) {
    case 0:
        topics_input(in, data[0] % 2 == 1);
        break;
    case 1:
        offsets_input(in, data[0] % 2 == 1);
        break;
    case 2:
        sources_input(in, data[0] % 2 == 1);
        break;
    case 3:
        groups_input(in, data[0] % 2 == 1);
        break;
    default:
        modes_input(in, data[0] % 2 == 1);
        break;
    }
    return 0;
}
