#include "core/store/queue_files.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

int queue_files_init(struct queue_files *files, uint32_t max)
{
    uint32_t buckets = 1;

    CHECK(max > 0);
    while (buckets < max) {
        buckets *= 2;
    }
    *files = (struct queue_files){.bucket_mask = buckets - 1, .max = max};
    list_init(&files->recent);
    files->buckets = mem_calloc(buckets, sizeof(struct queue_file *));
    return files->buckets == NULL ? ESCROW_ENOMEM : 0;
}

static struct queue_file **bucket_of(const struct queue_files *files, const struct queue *q,
                                     uint32_t number)
{
    uint64_t hash = hash_u64((uint64_t)(uintptr_t)q ^ ((uint64_t)number << 48) ^ number);

    return &files->buckets[hash & files->bucket_mask];
}

static void file_free(struct queue_file *file)
{
    CHECK(file->pins == 0);
    disk_close(&file->disk_file);
    mem_free(file);
}

/* Take it out of its bucket and the list; it still exists. */
static void file_detach(struct queue_files *files, struct queue_file *file)
{
    struct queue_file **at = bucket_of(files, file->queue, file->number);

    while (*at != file) {
        CHECK(*at != NULL);
        at = &(*at)->bucket_next;
    }
    *at = file->bucket_next;
    file->bucket_next = NULL;
    list_remove(&file->recent);
    files->count--;
}

void queue_files_fini(struct queue_files *files)
{
    CHECK(files->dropped_count == 0);
    while (files->buckets != NULL && !list_is_empty(&files->recent)) {
        struct queue_file *file = LIST_ENTRY(files->recent.next, struct queue_file, recent);
        file_detach(files, file);
        file_free(file);
    }
    CHECK(files->count == 0);
    mem_free(files->buckets);
    files->buckets = NULL;
}

struct queue_file *queue_files_find(struct queue_files *files, const struct queue *q,
                                    uint32_t number)
{
    struct queue_file *file = *bucket_of(files, q, number);

    while (file != NULL && (file->queue != q || file->number != number)) {
        file = file->bucket_next;
    }
    if (file != NULL) {
        list_remove(&file->recent);
        list_push(&files->recent, &file->recent);
    }
    return file;
}

/* Close the least recently used handle that nobody uses; false when all are in use. */
static bool evict_one(struct queue_files *files)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &files->recent) {
        struct queue_file *file = LIST_ENTRY(pos, struct queue_file, recent);
        if (file->pins == 0) {
            file_detach(files, file);
            file_free(file);
            return true;
        }
    }
    return false;
}

void queue_files_put(struct queue_files *files, const struct queue *q, uint32_t number,
                     struct disk_file **f)
{
    struct queue_file *file = NULL;
    struct queue_file **bucket = bucket_of(files, q, number);

    CHECK(*f != NULL);
    if (queue_files_find(files, q, number) == NULL &&
        (files->count < files->max || evict_one(files))) {
        file = mem_alloc(sizeof *file);
    }
    if (file == NULL) {
        disk_close(f);
        return;
    }
    *file =
        (struct queue_file){.bucket_next = *bucket, .queue = q, .disk_file = *f, .number = number};
    *bucket = file;
    list_init(&file->recent);
    list_push(&files->recent, &file->recent);
    files->count++;
    *f = NULL;
}

void queue_files_pin(struct queue_file *file)
{
    CHECK(!file->is_dropped);
    file->pins++;
}

void queue_files_unpin(struct queue_files *files, struct queue_file *file)
{
    CHECK(file->pins > 0);
    file->pins--;
    if (file->pins == 0 && file->is_dropped) {
        files->dropped_count--;
        file_free(file);
    }
}

void queue_files_drop(struct queue_files *files, const struct queue *q, uint32_t first,
                      uint32_t end)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &files->recent) {
        struct queue_file *file = LIST_ENTRY(pos, struct queue_file, recent);
        if (file->queue != q || file->number < first || file->number >= end) {
            continue;
        }
        file_detach(files, file);
        if (file->pins == 0) {
            file_free(file);
        } else {
            file->is_dropped = true;
            files->dropped_count++;
        }
    }
}

void queue_files_check(const struct queue_files *files)
{
    uint32_t in_buckets = 0;
    uint32_t in_list = 0;

    for (uint32_t i = 0; i <= files->bucket_mask; i++) {
        for (const struct queue_file *f = files->buckets[i]; f != NULL; f = f->bucket_next) {
            CHECK(bucket_of(files, f->queue, f->number) == &files->buckets[i]);
            CHECK(!f->is_dropped);
            CHECK(f->disk_file != NULL);
            in_buckets++;
        }
    }
    for (const struct list *pos = files->recent.next; pos != &files->recent; pos = pos->next) {
        in_list++;
    }
    CHECK(in_buckets == files->count);
    CHECK(in_list == files->count);
    CHECK(files->count <= files->max);
}
