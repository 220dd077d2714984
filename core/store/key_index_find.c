/*
 * Look-ups. Before the first one sees everything in chains, take may ask to be called again. It
 * gathers what is in memory, which only the loop may read, and pins the files that may hold more;
 * run reads those, newest first. The two are joined in the order of their ranges:
 * files and buffers do not overlap.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/key_index_private.h"

/* A file, or the hits of one buffer. */
struct find_source {
    struct key_index_file *file; /* NULL: hits [first, first + count) of memory */
    uint32_t first;
    uint32_t count;
    bool is_bad;
};

struct key_index_find {
    struct key_index *ix;
    struct key_index_filter filter;
    uint32_t count_max;
    uint32_t hit_count;
    uint32_t memory_count;
    uint32_t source_count;
    uint32_t why_source;          /* of `why` */
    struct err_ctx why;           /* the first damage */
    struct find_source *sources;  /* newest first */
    struct key_index_hit *hits;   /* count_max */
    struct key_index_hit *memory; /* count_max */
};

static void find_free(struct key_index_find *find)
{
    mem_free(find->sources);
    mem_free(find->hits);
    mem_free(find->memory);
    mem_free(find);
}

static struct key_index_find *find_new(struct key_index *ix, const struct key_index_query *query)
{
    struct key_index_find *find = mem_calloc(1, sizeof *find);
    size_t sources = (size_t)ix->file_count + ix->sealed_count + 1;

    if (find == NULL) {
        return NULL;
    }
    find->ix = ix;
    find->count_max = query->count_max;
    find->filter = (struct key_index_filter){.hash = key_index_hash(query->topic, query->key),
                                             .begin_ms = query->begin_ms,
                                             .end_ms = query->end_ms,
                                             .log_min = query->log_min};
    find->sources = mem_calloc(sources, sizeof *find->sources);
    find->hits = mem_calloc(query->count_max, sizeof *find->hits);
    find->memory = mem_calloc(query->count_max, sizeof *find->memory);
    if (find->sources == NULL || find->hits == NULL || find->memory == NULL) {
        find_free(find);
        return NULL;
    }
    return find;
}

/*
 * Everything in memory into the chains, or so much that the loop may do it in one turn; is that
 * all?
 */
static bool link_some(struct key_index *ix)
{
    uint32_t left = KEY_INDEX_LINK_MAX;

    for (uint32_t s = 0; s < ix->sealed_count; s++) {
        left -= key_index_buffer_link(ix->sealed[s], left);
    }
    if (ix->active != NULL) {
        left -= key_index_buffer_link(ix->active, left);
    }
    return left > 0;
}

static void add_buffer(struct key_index_find *find, const struct key_index_buffer *b)
{
    struct find_source source = {.first = find->memory_count};
    uint32_t at = b->heads[find->filter.hash >> 48];

    CHECK(b->linked == b->count);
    while (at != 0 && find->memory_count < find->count_max) {
        const struct key_index_entry *entry = &b->entries[at - 1];
        if (key_index_matches(&find->filter, entry)) {
            find->memory[find->memory_count++] =
                (struct key_index_hit){.offset = entry->offset, .store_ms = entry->store_ms};
        }
        at = b->next[at - 1];
    }
    source.count = find->memory_count - source.first;
    if (source.count > 0) {
        find->sources[find->source_count++] = source;
    }
}

static void add_file(struct key_index_find *find, struct key_index_file *file)
{
    const struct key_index_meta *m = &file->meta;

    if (m->entry_count > 0 && m->min_ms <= find->filter.end_ms &&
        m->max_ms >= find->filter.begin_ms) {
        file->pins++;
        find->sources[find->source_count++] = (struct find_source){.file = file};
    }
}

int key_index_find_take(struct key_index *ix, const struct key_index_query *query,
                        struct key_index_find **out)
{
    struct key_index_find *find;
    uint32_t f = ix->file_count;
    uint32_t s = ix->sealed_count;

    *out = NULL;
    if (query->count_max == 0 || query->count_max > KEY_INDEX_HITS_MAX) {
        return ESCROW_EINVAL;
    }
    if (!link_some(ix)) {
        return ESCROW_EAGAIN;
    }
    find = find_new(ix, query);
    if (find == NULL) {
        return ESCROW_ENOMEM;
    }
    if (ix->active != NULL) {
        add_buffer(find, ix->active);
    }
    while (f > 0 || s > 0) {
        if (f == 0 || (s > 0 && ix->sealed[s - 1]->begin > ix->files[f - 1]->meta.begin)) {
            add_buffer(find, ix->sealed[--s]);
        } else {
            add_file(find, ix->files[--f]);
        }
    }
    ix->find_count++;
    *out = find;
    return 0;
}

int key_index_find_run(struct key_index_find *find, struct err_ctx *err)
{
    int result = 0;

    for (uint32_t i = 0; i < find->source_count && find->hit_count < find->count_max; i++) {
        struct find_source *source = &find->sources[i];
        if (source->file == NULL) {
            for (uint32_t k = 0; k < source->count && find->hit_count < find->count_max; k++) {
                find->hits[find->hit_count++] = find->memory[source->first + k];
            }
        } else {
            struct err_ctx why = {.code = 0};
            int rc = key_index_file_find(source->file, &find->filter, find->hits, &find->hit_count,
                                         find->count_max, &why);
            if (rc != 0 && result == 0) {
                find->why = why;
                find->why_source = i;
                if (err != NULL) {
                    *err = why;
                }
            }
            if (rc != 0 && rc != ESCROW_ECORRUPT) {
                return rc;
            }
            source->is_bad = rc != 0;
            result = rc != 0 ? rc : result;
        }
    }
    return result;
}

const struct key_index_hit *key_index_find_hits(const struct key_index_find *find, uint32_t *count)
{
    *count = find->hit_count;
    return find->hits;
}

void key_index_find_done(struct key_index_find **find_at)
{
    struct key_index_find *find = *find_at;
    struct key_index *ix;

    if (find == NULL) {
        return;
    }
    ix = find->ix;
    CHECK(ix->find_count > 0);
    ix->find_count--;
    for (uint32_t i = 0; i < find->source_count; i++) {
        struct key_index_file *file = find->sources[i].file;
        if (file == NULL) {
            continue;
        }
        if (find->sources[i].is_bad) {
            file->is_bad = true;
            if (!file->is_retired && !file->is_merging) {
                key_index_file_lose(ix, file, i == find->why_source ? find->why.text : "");
            }
        }
        key_index_file_unpin(ix, file);
    }
    find_free(find);
    *find_at = NULL;
}
