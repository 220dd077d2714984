/*
 * The map of queues, putting entries, and reading them.
 *
 * Happy path of a read: the last entries are in memory chunks; older ones are read from a file
 * whose handle is open and whose pages are in the page cache, all without waiting. What is cold
 * becomes a job, which also opens the file.
 *
 * Failure modes: a file shorter than `flushed` says (somebody cut it): ESCROW_ECORRUPT with its
 * name.
 */
#include "core/store/queues.h"
#include "core/store/queues_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/queue_path.h"

#define READ_ENTRIES 256u /* of one pread: 5 KiB of stack */

int queues_new(struct queues **out, const struct queues_options *options)
{
    struct queues *qs = mem_calloc(1, sizeof *qs);
    uint32_t max = options->files_open_max == 0 ? QUEUES_FILES_OPEN_MAX : options->files_open_max;
    int rc;

    *out = NULL;
    if (qs == NULL) {
        return ESCROW_ENOMEM;
    }
    qs->disk = options->disk;
    rc = queue_files_init(&qs->files, max);
    if (rc != 0) {
        mem_free(qs);
        return rc;
    }
    strmap_init(&qs->topics, options->hash_key);
    *out = qs;
    return 0;
}

static void topic_free(struct queue_topic *topic)
{
    for (uint32_t id = 0; id < topic->cap; id++) {
        if (topic->by_id[id] != NULL) {
            queue_fini(topic->by_id[id]);
            mem_free(topic->by_id[id]);
        }
    }
    if (topic->by_id != &topic->one) {
        mem_free((void *)topic->by_id);
    }
    mem_free(topic);
}

void queues_free(struct queues **qs)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    if (*qs == NULL) {
        return;
    }
    CHECK((*qs)->flush == NULL);
    CHECK((*qs)->read_count == 0);
    queue_files_fini(&(*qs)->files);
    while ((slot = strmap_next(&(*qs)->topics, &cursor)) != NULL) {
        topic_free(slot->value);
    }
    strmap_fini(&(*qs)->topics);
    mem_free(*qs);
    *qs = NULL;
}

struct queue *queues_find(const struct queues *qs, struct slice topic, uint32_t id)
{
    const struct queue_topic *t = strmap_find(&qs->topics, topic);

    return t == NULL || id >= t->cap ? NULL : t->by_id[id];
}

static int topic_new(struct queues *qs, struct slice name, struct queue_topic **out)
{
    struct queue_topic *t;
    int rc;

    if (qs->topics.count >= QUEUES_TOPICS_MAX) {
        return ESCROW_ELIMIT;
    }
    t = mem_calloc(1, sizeof *t + name.len);
    if (t == NULL) {
        return ESCROW_ENOMEM;
    }
    t->by_id = &t->one;
    t->cap = 1;
    t->name_len = (uint16_t)name.len;
    memcpy(t->name, name.ptr, name.len);
    rc = strmap_put(&qs->topics, name, t);
    if (rc != 0) {
        mem_free(t);
        return rc;
    }
    *out = t;
    return 0;
}

/* Make room for queue `id`. */
static int topic_grow(struct queue_topic *t, uint32_t id)
{
    uint32_t cap = t->cap < 4 ? 4 : t->cap;
    struct queue **by_id;

    if (id < t->cap) {
        return 0;
    }
    while (cap <= id) {
        cap *= 2;
    }
    by_id = mem_calloc(cap, sizeof(struct queue *));
    if (by_id == NULL) {
        return ESCROW_ENOMEM;
    }
    memcpy((void *)by_id, (const void *)t->by_id, (size_t)t->cap * sizeof(struct queue *));
    if (t->by_id != &t->one) {
        mem_free((void *)t->by_id);
    }
    t->by_id = by_id;
    t->cap = (uint16_t)cap;
    return 0;
}

int queues_get(struct queues *qs, struct slice topic, uint32_t id, struct queue **out)
{
    struct queue_topic *t;
    struct queue *q;
    int rc = 0;

    *out = NULL;
    if (topic.len == 0 || topic.len > RETRY_TOPIC_LEN_MAX || id >= QUEUES_PER_TOPIC_MAX) {
        return ESCROW_EINVAL;
    }
    t = strmap_find(&qs->topics, topic);
    if (t == NULL) {
        rc = topic_new(qs, topic, &t);
    }
    if (rc == 0) {
        rc = topic_grow(t, id);
    }
    if (rc != 0) {
        return rc;
    }
    q = t->by_id[id];
    if (q == NULL) {
        q = mem_alloc(sizeof *q);
        if (q == NULL) {
            /* a topic without queues stays: it is harmless, and found again */
            return ESCROW_ENOMEM;
        }
        queue_init(q, t, (uint16_t)id);
        t->by_id[id] = q;
        qs->queue_count++;
    }
    *out = q;
    return 0;
}

uint64_t queues_count(const struct queues *qs)
{
    return qs->queue_count;
}

void queues_drop_topic(struct queues *qs, struct slice topic)
{
    const struct queue_topic *t = strmap_find(&qs->topics, topic);

    for (uint32_t id = 0; t != NULL && id < t->cap; id++) {
        if (t->by_id[id] != NULL) {
            queue_set_min(t->by_id[id], t->by_id[id]->visible);
        }
    }
}

struct slice queue_topic(const struct queue *q)
{
    return slice_of(q->topic->name, q->topic->name_len);
}

struct queue *queues_next(const struct queues *qs, struct queues_cursor *cursor)
{
    for (;;) {
        size_t next = cursor->topic;
        const struct strmap_slot *slot = strmap_next(&qs->topics, &next);
        const struct queue_topic *t;

        if (slot == NULL) {
            return NULL;
        }
        t = slot->value;
        while (cursor->id < t->cap) {
            struct queue *q = t->by_id[cursor->id++];
            if (q != NULL) {
                return q;
            }
        }
        *cursor = (struct queues_cursor){.topic = next};
    }
}

void queues_mark_dirty(struct queues *qs, struct queue *q)
{
    if (!q->is_dirty && queue_pending_count(q) > 0) {
        q->is_dirty = true;
        q->dirty_next = qs->dirty;
        qs->dirty = q;
        qs->dirty_count++;
    }
}

uint64_t queues_put(struct queues *qs, struct queue *q, const struct queue_entry *entry)
{
    uint64_t number = queue_put(q, entry);

    qs->pending_count++;
    q->is_touched = true;
    queues_mark_dirty(qs, q);
    return number;
}

uint64_t queues_pending_count(const struct queues *qs)
{
    return qs->pending_count;
}

/* ------------------------------------------------------------------ reading */

/* First entry in memory; entries below are read from files. */
static uint64_t memory_begin(const struct queue *q)
{
    return q->chunk_head != NULL && q->chunk_head->first < q->flushed ? q->chunk_head->first
                                                                      : q->flushed;
}

static uint32_t read_memory(const struct queue *q, uint64_t first, uint32_t count_max,
                            struct queue_entry *entries)
{
    const uint8_t *bytes;
    uint32_t count = queue_memory(q, first, count_max, &bytes);

    for (uint32_t i = 0; i < count; i++) {
        CHECK(queue_entry_decode(bytes + (size_t)i * QUEUE_ENTRY_SIZE, first + i, &entries[i]));
    }
    return count;
}

/* How many of count_max entries from `first` can come from the one file that holds it. */
static uint32_t file_count(const struct queue *q, uint64_t first, uint32_t count_max)
{
    uint64_t file_end = (first / QUEUE_FILE_ENTRIES + 1) * QUEUE_FILE_ENTRIES;
    uint64_t end = memory_begin(q);

    CHECK(first < end);
    end = end < file_end ? end : file_end;
    return end - first < count_max ? (uint32_t)(end - first) : count_max;
}

static int bad_file(const struct queue *q, uint64_t first, struct err_ctx *err)
{
    struct queue_path path;

    queue_path_file(&path, queue_topic(q), q->id, (uint32_t)(first / QUEUE_FILE_ENTRIES));
    return err_set(err, ESCROW_ECORRUPT,
                   "%s: entry %llu, which had been written, is missing or damaged", path.text,
                   (unsigned long long)first);
}

/* Entries [first, first + count) of one file; `got` counts the good ones, also before an error. */
struct file_read {
    struct disk_file *f;
    bool may_wait;
    uint64_t first;
    uint32_t count;
    uint32_t got;
    struct queue_entry *entries;
};

/* The next READ_ENTRIES of them, or what is left. */
static int read_some(struct file_read *r, struct err_ctx *err)
{
    uint8_t raw[(size_t)READ_ENTRIES * QUEUE_ENTRY_SIZE];
    uint64_t first = r->first + r->got;
    uint32_t run = r->count - r->got < READ_ENTRIES ? r->count - r->got : READ_ENTRIES;
    uint64_t at = first % QUEUE_FILE_ENTRIES * QUEUE_ENTRY_SIZE;
    size_t len = (size_t)run * QUEUE_ENTRY_SIZE;
    size_t len_got = 0;
    uint32_t done = 0;
    int rc = r->may_wait ? disk_pread(r->f, raw, len, at, &len_got, err)
                         : disk_pread_nowait(r->f, raw, len, at, &len_got);

    if (rc != 0) {
        return rc;
    }
    while (done < run && (size_t)(done + 1) * QUEUE_ENTRY_SIZE <= len_got &&
           queue_entry_decode(raw + (size_t)done * QUEUE_ENTRY_SIZE, first + done,
                              &r->entries[r->got])) {
        r->got++;
        done++;
    }
    return done < run ? ESCROW_ECORRUPT : 0;
}

static int read_file(struct file_read *r, struct err_ctx *err)
{
    int rc = 0;

    while (rc == 0 && r->got < r->count) {
        rc = read_some(r, err);
    }
    return rc;
}

/* As many of count_max as the kernel has in memory, of the file that holds `first`. */
static int read_warm(struct queues *qs, const struct queue *q, uint64_t first, uint32_t count_max,
                     struct queue_entry *entries, uint32_t *got)
{
    struct queue_file *file =
        queue_files_find(&qs->files, q, (uint32_t)(first / QUEUE_FILE_ENTRIES));
    struct file_read r = {
        .first = first, .count = file_count(q, first, count_max), .entries = entries};
    int rc = ESCROW_EAGAIN;

    if (file != NULL) {
        r.f = file->disk_file;
        rc = read_file(&r, NULL);
    }
    *got = r.got;
    return rc;
}

int queues_read_nowait(struct queues *qs, const struct queue *q, uint64_t first, uint32_t count_max,
                       struct queue_entry *entries, uint32_t *got)
{
    int rc = 0;

    *got = 0;
    if (first < q->min || first >= q->visible) {
        return ESCROW_ENOTFOUND;
    }
    while (rc == 0 && *got < count_max && first + *got < q->visible) {
        uint64_t next = first + *got;
        uint32_t run = read_memory(q, next, count_max - *got, entries + *got);
        if (run == 0) {
            rc = read_warm(qs, q, next, count_max - *got, entries + *got, &run);
        }
        *got += run;
    }
    return *got > 0 ? 0 : rc;
}

int queues_read_take(struct queues *qs, const struct queue *q, uint64_t first, uint32_t count_max,
                     struct queue_entry *entries, struct queues_read *read)
{
    *read = (struct queues_read){.entries = entries, .first = first, .set = qs, .queue = q};
    if (first < q->min || first >= q->visible) {
        return ESCROW_ENOTFOUND;
    }
    read->got = read_memory(q, first, count_max, entries);
    if (read->got == 0) {
        read->count = file_count(q, first, count_max);
        read->file = queue_files_find(&qs->files, q, (uint32_t)(first / QUEUE_FILE_ENTRIES));
        if (read->file != NULL) {
            queue_files_pin(read->file);
        }
    }
    qs->read_count++;
    return 0;
}

int queues_read_run(struct queues_read *read, struct err_ctx *err)
{
    const struct queue *q = read->queue;
    struct file_read r = {
        .may_wait = true, .first = read->first, .count = read->count, .entries = read->entries};
    int rc = 0;

    if (read->count == 0) {
        return 0; /* it was in memory */
    }
    if (read->file == NULL) {
        struct queue_path path;
        queue_path_file(&path, queue_topic(q), q->id, (uint32_t)(read->first / QUEUE_FILE_ENTRIES));
        rc = disk_open(read->set->disk, path.text, DISK_READ, &read->opened, err);
    }
    if (rc == 0) {
        r.f = read->file != NULL ? read->file->disk_file : read->opened;
        rc = read_file(&r, err);
        read->got = r.got;
    }
    if (rc == ESCROW_ECORRUPT && read->got > 0) {
        return 0; /* who asks for the next one is told */
    }
    return rc == ESCROW_ECORRUPT ? bad_file(q, read->first, err) : rc;
}

void queues_read_done(struct queues_read *read)
{
    struct queues *qs = read->set;
    uint32_t number = (uint32_t)(read->first / QUEUE_FILE_ENTRIES);

    CHECK(qs->read_count > 0);
    qs->read_count--;
    if (read->file != NULL) {
        queue_files_unpin(&qs->files, read->file);
        read->file = NULL;
    }
    if (read->opened != NULL && number < read->queue->first_file) {
        disk_close(&read->opened); /* removed meanwhile: a kept handle would keep its blocks */
    } else if (read->opened != NULL) {
        queue_files_put(&qs->files, read->queue, number, &read->opened);
    }
}

void queues_reopen(struct queues *qs, const struct queue *q, uint32_t number)
{
    queue_files_drop(&qs->files, q, number, number + 1);
}

int queues_search(struct queues *qs, const struct queue *q, struct queue_search *search,
                  queues_store_ms_fn *store_ms, void *arg)
{
    uint64_t number;

    while (queue_search_next(search, &number)) {
        struct queue_entry entry;
        int64_t ms = 0;
        uint32_t got;
        int rc = queues_read_nowait(qs, q, number, 1, &entry, &got);
        if (rc == 0) {
            rc = store_ms(arg, &entry, &ms);
        }
        if (rc != 0) {
            return rc;
        }
        queue_search_feed(search, number, ms);
    }
    return 0;
}

void queues_check(const struct queues *qs)
{
    struct queues_cursor cursor = {0};
    const struct queue *q;
    uint64_t pending = 0;
    uint64_t count = 0;
    uint64_t dirty = 0;
    uint64_t listed = 0;

    while ((q = queues_next(qs, &cursor)) != NULL) {
        queue_check(q);
        CHECK(q->topic->by_id[q->id] == q);
        CHECK_IMPLIES(q->is_dirty, queue_pending_count(q) > 0);
        CHECK_IMPLIES(qs->flush == NULL, q->is_dirty == (queue_pending_count(q) > 0));
        pending += queue_pending_count(q);
        dirty += q->is_dirty ? 1 : 0;
        count++;
    }
    for (q = qs->dirty; q != NULL; q = q->dirty_next) {
        CHECK(q->is_dirty);
        listed++;
    }
    CHECK(count == qs->queue_count);
    CHECK(pending == qs->pending_count);
    CHECK(dirty == qs->dirty_count);
    CHECK(listed == dirty);
    queue_files_check(&qs->files);
}
