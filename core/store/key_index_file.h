/*
 * One file of the key index: pages, header, writing in one pass, looking up. FORMAT.md, "Key
 * index", has the bytes.
 *
 * Owns:    a struct key_index_file its handle; a writer its temporary file and buffers.
 * Thread:  a file that is open is immutable: any number of threads may look up in it. A writer
 *          belongs to one job.
 * Errors:  whatever is in the file, a lookup ends with hits or ESCROW_ECORRUPT.
 */
#ifndef CORE_STORE_KEY_INDEX_FILE_H
#define CORE_STORE_KEY_INDEX_FILE_H

#include "core/base/attr.h"
#include "core/io/disk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_INDEX_FOLDER       "index"
#define KEY_INDEX_VERSION      1u
#define KEY_INDEX_PAGE_SIZE    4096u
#define KEY_INDEX_ENTRY_SIZE   24u
#define KEY_INDEX_PAGE_ENTRIES 170u
#define KEY_INDEX_PAGE_SLOTS   1020u
#define KEY_INDEX_SLOT_ENTRIES 16u /* at most so many entries for a slot, on average */
#define KEY_INDEX_COUNT_MAX    (UINT32_C(1) << 31)
#define KEY_INDEX_NAME_MAX     64u

struct key_index_entry {
    uint64_t hash;
    uint64_t offset;
    int64_t store_ms;
};

struct key_index_hit;

/* What a header says. */
struct key_index_meta {
    uint64_t begin; /* records of the log in [begin, end) are indexed here */
    uint64_t end;
    int64_t min_ms; /* 0 and 0 when there are no entries */
    int64_t max_ms;
    uint32_t entry_count;
    uint32_t level; /* 0 = a buffer; n + 1 = merged from files of level n */
};

struct key_index_file {
    struct key_index_meta meta;
    struct disk_file *disk_file;
    struct key_index_file *garbage_next;
    char path[KEY_INDEX_NAME_MAX];
    uint32_t pins; /* lookups and merges that use it */
    bool is_bad;   /* a page failed its checksum: set by whoever saw it when its job is done */
    bool is_retired;
    bool is_merging;
};

/* log2 of the number of slots for so many entries. */
uint32_t key_index_slot_bits(uint32_t entry_count);

/* Size of a whole file. */
uint64_t key_index_file_size(uint32_t entry_count);

void key_index_entry_encode(const struct key_index_entry *entry, uint8_t *dst);
void key_index_entry_decode(const uint8_t *src, struct key_index_entry *entry);

/*
 * Put identity and checksum into a page whose first 4080 bytes are filled. `begin` is the file's.
 */
void key_index_page_seal(uint8_t *page, uint64_t begin, uint32_t number);
bool key_index_page_is_valid(const uint8_t *page, uint64_t begin, uint32_t number);

/* "index/<begin>-<end>" */
void key_index_path(char dst[KEY_INDEX_NAME_MAX], uint64_t begin, uint64_t end);

/* Range of a name without folder; false when it is no index file's. */
bool key_index_name_decode(const char *name, uint64_t *begin, uint64_t *end);

/*
 * Open file->path and read its header. ESCROW_ECORRUPT: damaged, of a wrong size, or not what its
 * name says; ESCROW_EVERSION: of a newer format. After an error nothing is open.
 */
ESCROW_MUST_USE int key_index_file_open(struct disk *d, struct key_index_file *file,
                                        struct err_ctx *err);

/*
 * Read entry pages one after the other (merging). dst has count * KEY_INDEX_PAGE_SIZE bytes; first
 * is from 1.
 */
ESCROW_MUST_USE int key_index_file_read(const struct key_index_file *file, uint32_t first,
                                        uint32_t count, uint8_t *dst, struct err_ctx *err);

struct key_index_filter {
    uint64_t hash;
    int64_t begin_ms;
    int64_t end_ms;
    uint64_t log_min;
};

static inline bool key_index_matches(const struct key_index_filter *filter,
                                     const struct key_index_entry *entry)
{
    return entry->hash == filter->hash && entry->offset >= filter->log_min &&
           entry->store_ms >= filter->begin_ms && entry->store_ms <= filter->end_ms;
}

/*
 * Append matching entries, the latest put first, until *count == max. What was found before an
 * error stays.
 */
ESCROW_MUST_USE int key_index_file_find(const struct key_index_file *file,
                                        const struct key_index_filter *filter,
                                        struct key_index_hit *hits, uint32_t *count, uint32_t max,
                                        struct err_ctx *err);

/* ---- writing ---- */

struct key_index_writer {
    struct disk *disk;
    struct disk_file *disk_file;
    struct key_index_meta meta;
    uint8_t *chunk;  /* pages not written yet */
    uint32_t *slots; /* 2^slot_bits + 1 */
    uint32_t slot_bits;
    uint32_t slot_next;   /* slots below are set */
    uint32_t entries;     /* put so far */
    uint32_t page;        /* number of the page being filled */
    uint32_t page_used;   /* entries in it */
    uint32_t chunk_first; /* number of the first page of the chunk */
    uint64_t unsynced;    /* bytes written since the last sync */
    uint64_t last_hash;
    char path[KEY_INDEX_NAME_MAX];
};

/* Begin "<path of meta>.tmp". meta->entry_count entries follow, by rising hash. */
ESCROW_MUST_USE int key_index_writer_open(struct key_index_writer *w, struct disk *d,
                                          const struct key_index_meta *meta, struct err_ctx *err);
ESCROW_MUST_USE int key_index_writer_put(struct key_index_writer *w,
                                         const struct key_index_entry *entry, struct err_ctx *err);

/* Slot table, sync, rename. The caller syncs the folder. */
ESCROW_MUST_USE int key_index_writer_finish(struct key_index_writer *w, struct err_ctx *err);

/* Closes and frees what is left, finished or not; a temporary file stays behind. */
void key_index_writer_close(struct key_index_writer *w);

#endif
