/*
 * Happy path: a header page, pages of entries sorted by hash, pages of the slot table, each with
 * its identity and its own checksum. A lookup reads one or two slots and then the one or two pages
 * their entries are in.
 *
 * Why a checksum per page and not one for the file: a merged file has hundreds of megabytes, and
 * opening the store must not read them; and a lookup then trusts no byte that it has not verified.
 *
 * Failure modes: damage shows at the page that has it; the file is then dropped by its owner.
 */
#include "core/store/key_index_file.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "core/store/key_index.h"

#include <stdio.h>

#define MAGIC        UINT32_C(0x49435345) /* "ESCI" in the file */
#define PAGE_PAYLOAD 4080u
#define CHUNK_PAGES  64u
#define SYNC_BYTES   (8u << 20) /* so that no single sync holds up the log for long */
#define NAME_LEN     41u        /* 20 digits, '-', 20 digits */
#define DIGITS       20u

_Static_assert(KEY_INDEX_PAGE_ENTRIES *KEY_INDEX_ENTRY_SIZE == PAGE_PAYLOAD, "entries fill a page");
_Static_assert(KEY_INDEX_PAGE_SLOTS * 4 == PAGE_PAYLOAD, "slots fill a page");

/* ------------------------------------------------------------------ layout */

uint32_t key_index_slot_bits(uint32_t entry_count)
{
    uint32_t bits = 0;

    while (((uint64_t)KEY_INDEX_SLOT_ENTRIES << bits) < entry_count) {
        bits++;
    }
    return bits;
}

static uint32_t entry_pages(uint32_t entry_count)
{
    return (entry_count + KEY_INDEX_PAGE_ENTRIES - 1) / KEY_INDEX_PAGE_ENTRIES;
}

static uint32_t slot_pages(uint32_t entry_count)
{
    uint32_t slots = (UINT32_C(1) << key_index_slot_bits(entry_count)) + 1;

    return (slots + KEY_INDEX_PAGE_SLOTS - 1) / KEY_INDEX_PAGE_SLOTS;
}

uint64_t key_index_file_size(uint32_t entry_count)
{
    CHECK(entry_count <= KEY_INDEX_COUNT_MAX);
    return (1 + (uint64_t)entry_pages(entry_count) + slot_pages(entry_count)) * KEY_INDEX_PAGE_SIZE;
}

static uint32_t slot_of(uint64_t hash, uint32_t slot_bits)
{
    return slot_bits == 0 ? 0 : (uint32_t)(hash >> (64 - slot_bits));
}

void key_index_entry_encode(const struct key_index_entry *entry, uint8_t *dst)
{
    put_le64(dst, entry->hash);
    put_le64(dst + 8, entry->offset);
    put_le64(dst + 16, (uint64_t)entry->store_ms);
}

void key_index_entry_decode(const uint8_t *src, struct key_index_entry *entry)
{
    entry->hash = get_le64(src);
    entry->offset = get_le64(src + 8);
    entry->store_ms = (int64_t)get_le64(src + 16);
}

void key_index_page_seal(uint8_t *page, uint64_t begin, uint32_t number)
{
    put_le64(page + PAGE_PAYLOAD, begin);
    put_le32(page + PAGE_PAYLOAD + 8, number);
    put_le32(page + PAGE_PAYLOAD + 12, crc32c(0, page, PAGE_PAYLOAD + 12));
}

bool key_index_page_is_valid(const uint8_t *page, uint64_t begin, uint32_t number)
{
    return get_le64(page + PAGE_PAYLOAD) == begin && get_le32(page + PAGE_PAYLOAD + 8) == number &&
           get_le32(page + PAGE_PAYLOAD + 12) == crc32c(0, page, PAGE_PAYLOAD + 12);
}

void key_index_path(char dst[KEY_INDEX_NAME_MAX], uint64_t begin, uint64_t end)
{
    int len = snprintf(dst, KEY_INDEX_NAME_MAX, KEY_INDEX_FOLDER "/%020llu-%020llu",
                       (unsigned long long)begin, (unsigned long long)end);

    CHECK(len > 0);
    CHECK((size_t)len + sizeof ".tmp" <= KEY_INDEX_NAME_MAX);
}

static bool digits_decode(const char *text, uint64_t *value)
{
    uint64_t v = 0;

    for (size_t i = 0; i < DIGITS; i++) {
        uint64_t digit = (uint64_t)(uint8_t)text[i] - '0';
        if (text[i] < '0' || text[i] > '9' || v > (UINT64_MAX - digit) / 10) {
            return false;
        }
        v = v * 10 + digit;
    }
    *value = v;
    return true;
}

bool key_index_name_decode(const char *name, uint64_t *begin, uint64_t *end)
{
    return strlen(name) == NAME_LEN && name[DIGITS] == '-' && digits_decode(name, begin) &&
           digits_decode(name + DIGITS + 1, end) && *begin < *end;
}

static void header_encode(const struct key_index_meta *meta, uint8_t *page)
{
    memset(page, 0, KEY_INDEX_PAGE_SIZE);
    put_le32(page, MAGIC);
    put_le32(page + 4, KEY_INDEX_VERSION);
    put_le64(page + 8, meta->begin);
    put_le64(page + 16, meta->end);
    put_le64(page + 24, (uint64_t)meta->min_ms);
    put_le64(page + 32, (uint64_t)meta->max_ms);
    put_le32(page + 40, meta->entry_count);
    put_le32(page + 44, key_index_slot_bits(meta->entry_count));
    put_le32(page + 48, meta->level);
    key_index_page_seal(page, meta->begin, 0);
}

/* NULL, or what is wrong. Magic and checksum first: damage is not mistaken for a newer version. */
static const char *header_decode(const uint8_t *page, struct key_index_meta *meta,
                                 uint32_t *version)
{
    *meta = (struct key_index_meta){.begin = get_le64(page + 8),
                                    .end = get_le64(page + 16),
                                    .min_ms = (int64_t)get_le64(page + 24),
                                    .max_ms = (int64_t)get_le64(page + 32),
                                    .entry_count = get_le32(page + 40),
                                    .level = get_le32(page + 48)};
    *version = get_le32(page + 4);
    if (get_le32(page) != MAGIC) {
        return "wrong magic number";
    }
    if (!key_index_page_is_valid(page, meta->begin, 0)) {
        return "checksum of the header does not match";
    }
    if (*version != KEY_INDEX_VERSION) {
        return NULL; /* the rest may mean something else */
    }
    if (meta->begin >= meta->end || meta->entry_count > KEY_INDEX_COUNT_MAX ||
        meta->min_ms > meta->max_ms || meta->level > KEY_INDEX_LEVEL_MAX ||
        get_le32(page + 44) != key_index_slot_bits(meta->entry_count)) {
        return "header makes no sense";
    }
    return NULL;
}

/* ------------------------------------------------------------------ reading */

static int corrupt(const struct key_index_file *file, const char *what, uint64_t at,
                   struct err_ctx *err)
{
    return err_set(err, ESCROW_ECORRUPT, "%s: %s at byte %llu", file->path, what,
                   (unsigned long long)at);
}

static int read_page(const struct key_index_file *file, uint32_t number, uint8_t *page,
                     struct err_ctx *err)
{
    return key_index_file_read(file, number, 1, page, err);
}

int key_index_file_read(const struct key_index_file *file, uint32_t first, uint32_t count,
                        uint8_t *dst, struct err_ctx *err)
{
    uint64_t at = (uint64_t)first * KEY_INDEX_PAGE_SIZE;
    size_t len = (size_t)count * KEY_INDEX_PAGE_SIZE;
    size_t got = 0;
    int rc = disk_pread(file->disk_file, dst, len, at, &got, err);

    if (rc != 0) {
        return rc;
    }
    if (got < len) {
        return corrupt(file, "ends too early", at + got, err);
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *page = dst + (size_t)i * KEY_INDEX_PAGE_SIZE;
        if (!key_index_page_is_valid(page, file->meta.begin, first + i)) {
            return corrupt(file, "checksum of a page does not match",
                           at + (uint64_t)i * KEY_INDEX_PAGE_SIZE, err);
        }
    }
    return 0;
}

static int open_header(struct key_index_file *file, struct err_ctx *err)
{
    uint8_t page[KEY_INDEX_PAGE_SIZE];
    struct key_index_meta named = file->meta;
    uint32_t version = 0;
    const char *wrong;
    uint64_t size = 0;
    size_t got = 0;
    int rc = disk_size(file->disk_file, &size, err);

    if (rc == 0) {
        rc = disk_pread(file->disk_file, page, sizeof page, 0, &got, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (got < sizeof page) {
        return corrupt(file, "ends too early", got, err);
    }
    wrong = header_decode(page, &file->meta, &version);
    if (wrong == NULL && version != KEY_INDEX_VERSION) {
        return err_set(err, ESCROW_EVERSION, "%s: format version %u; this program reads version %u",
                       file->path, version, KEY_INDEX_VERSION);
    }
    if (wrong == NULL && (file->meta.begin != named.begin || file->meta.end != named.end)) {
        wrong = "header names another range than the file's name";
    }
    if (wrong == NULL && size != key_index_file_size(file->meta.entry_count)) {
        wrong = "file has another size than the header says";
    }
    return wrong == NULL ? 0 : corrupt(file, wrong, 0, err);
}

int key_index_file_open(struct disk *d, struct key_index_file *file, struct err_ctx *err)
{
    int rc = disk_open(d, file->path, DISK_READ, &file->disk_file, err);

    if (rc == 0) {
        rc = open_header(file, err);
        if (rc != 0) {
            disk_close(&file->disk_file);
        }
    }
    return rc;
}

/* A page that stays in hand as long as the next access is in it. */
struct page_cursor {
    const struct key_index_file *file;
    uint32_t number; /* 0 = none: the header is never needed here */
    uint8_t page[KEY_INDEX_PAGE_SIZE];
};

static int cursor_page(struct page_cursor *c, uint32_t number, struct err_ctx *err)
{
    int rc = 0;

    if (c->number != number) {
        c->number = 0;
        rc = read_page(c->file, number, c->page, err);
        c->number = rc == 0 ? number : 0;
    }
    return rc;
}

static int cursor_entry(struct page_cursor *c, uint32_t index, struct key_index_entry *entry,
                        struct err_ctx *err)
{
    int rc = cursor_page(c, 1 + index / KEY_INDEX_PAGE_ENTRIES, err);

    if (rc == 0) {
        key_index_entry_decode(
            c->page + (size_t)(index % KEY_INDEX_PAGE_ENTRIES) * KEY_INDEX_ENTRY_SIZE, entry);
    }
    return rc;
}

static int cursor_slot(struct page_cursor *c, uint32_t slot, uint32_t *index, struct err_ctx *err)
{
    uint32_t first = 1 + entry_pages(c->file->meta.entry_count);
    int rc = cursor_page(c, first + slot / KEY_INDEX_PAGE_SLOTS, err);

    if (rc == 0) {
        *index = get_le32(c->page + (size_t)(slot % KEY_INDEX_PAGE_SLOTS) * 4);
        if (*index > c->file->meta.entry_count) {
            rc = corrupt(c->file, "slot points beyond the entries",
                         (uint64_t)c->number * KEY_INDEX_PAGE_SIZE, err);
        }
    }
    return rc;
}

/* First index in [low, high) whose hash is above `hash`, or high. */
static int upper_bound(struct page_cursor *c, uint64_t hash, uint32_t low, uint32_t *high,
                       struct err_ctx *err)
{
    while (low < *high) {
        uint32_t middle = low + (*high - low) / 2;
        struct key_index_entry entry;
        int rc = cursor_entry(c, middle, &entry, err);
        if (rc != 0) {
            return rc;
        }
        if (entry.hash > hash) {
            *high = middle;
        } else {
            low = middle + 1;
        }
    }
    return 0;
}

int key_index_file_find(const struct key_index_file *file, const struct key_index_filter *filter,
                        struct key_index_hit *hits, uint32_t *count, uint32_t max,
                        struct err_ctx *err)
{
    struct page_cursor c = {.file = file};
    uint32_t slot = slot_of(filter->hash, key_index_slot_bits(file->meta.entry_count));
    uint32_t low = 0;
    uint32_t next = 0;
    int rc = cursor_slot(&c, slot, &low, err);

    if (rc == 0) {
        rc = cursor_slot(&c, slot + 1, &next, err);
    }
    if (rc == 0) {
        rc = upper_bound(&c, filter->hash, low, &next, err);
    }
    while (rc == 0 && next > low && *count < max) {
        struct key_index_entry entry;
        rc = cursor_entry(&c, --next, &entry, err);
        if (rc == 0 && entry.hash != filter->hash) {
            break;
        }
        if (rc == 0 && key_index_matches(filter, &entry)) {
            hits[(*count)++] =
                (struct key_index_hit){.offset = entry.offset, .store_ms = entry.store_ms};
        }
    }
    return rc;
}

/* ------------------------------------------------------------------ writing */

static int write_chunk(struct key_index_writer *w, struct err_ctx *err)
{
    size_t len = (size_t)(w->page - w->chunk_first) * KEY_INDEX_PAGE_SIZE;
    struct iovec iov = {.iov_base = w->chunk, .iov_len = len};
    int rc = 0;

    if (len > 0) {
        rc = disk_pwritev(w->disk_file, &iov, 1, (uint64_t)w->chunk_first * KEY_INDEX_PAGE_SIZE,
                          err);
    }
    w->chunk_first = w->page;
    w->unsynced += len;
    if (rc == 0 && w->unsynced >= SYNC_BYTES) {
        rc = disk_sync(w->disk_file, err);
        w->unsynced = 0;
    }
    return rc;
}

static uint8_t *page_at(const struct key_index_writer *w)
{
    return w->chunk + (size_t)(w->page - w->chunk_first) * KEY_INDEX_PAGE_SIZE;
}

/* The page being filled is complete. */
static int page_end(struct key_index_writer *w, struct err_ctx *err)
{
    key_index_page_seal(page_at(w), w->meta.begin, w->page);
    w->page++;
    w->page_used = 0;
    return w->page - w->chunk_first == CHUNK_PAGES ? write_chunk(w, err) : 0;
}

int key_index_writer_open(struct key_index_writer *w, struct disk *d,
                          const struct key_index_meta *meta, struct err_ctx *err)
{
    char path[KEY_INDEX_NAME_MAX];
    size_t slots;
    int rc;

    CHECK(meta->begin < meta->end);
    CHECK(meta->entry_count <= KEY_INDEX_COUNT_MAX);
    *w = (struct key_index_writer){.disk = d, .meta = *meta};
    w->slot_bits = key_index_slot_bits(meta->entry_count);
    slots = ((size_t)1 << w->slot_bits) + 1;
    key_index_path(path, meta->begin, meta->end);
    (void)snprintf(w->path, sizeof w->path, "%.*s.tmp", (int)sizeof w->path - 5, path);
    w->chunk = mem_alloc((size_t)CHUNK_PAGES * KEY_INDEX_PAGE_SIZE);
    w->slots = mem_alloc(slots * sizeof *w->slots);
    if (w->chunk == NULL || w->slots == NULL) {
        rc = err_set(err, ESCROW_ENOMEM, "%s: out of memory", w->path);
    } else {
        rc = disk_open(d, w->path, DISK_WRITE | DISK_CREATE, &w->disk_file, err);
    }
    if (rc == 0) {
        rc = disk_truncate(w->disk_file, 0, err);
    }
    if (rc == 0) {
        header_encode(meta, w->chunk);
        w->page = 1;
    } else {
        key_index_writer_close(w);
    }
    return rc;
}

int key_index_writer_put(struct key_index_writer *w, const struct key_index_entry *entry,
                         struct err_ctx *err)
{
    uint32_t slot = slot_of(entry->hash, w->slot_bits);

    CHECK(w->entries < w->meta.entry_count);
    CHECK(entry->hash >= w->last_hash);
    while (w->slot_next <= slot) {
        w->slots[w->slot_next++] = w->entries;
    }
    key_index_entry_encode(entry, page_at(w) + (size_t)w->page_used * KEY_INDEX_ENTRY_SIZE);
    w->last_hash = entry->hash;
    w->entries++;
    w->page_used++;
    return w->page_used == KEY_INDEX_PAGE_ENTRIES ? page_end(w, err) : 0;
}

static int write_slots(struct key_index_writer *w, struct err_ctx *err)
{
    uint32_t slots = (UINT32_C(1) << w->slot_bits) + 1;
    uint32_t done = 0;
    int rc = 0;

    while (w->slot_next < slots) {
        w->slots[w->slot_next++] = w->entries;
    }
    while (rc == 0 && done < slots) {
        uint8_t *page = page_at(w);
        uint32_t count = slots - done < KEY_INDEX_PAGE_SLOTS ? slots - done : KEY_INDEX_PAGE_SLOTS;
        memset(page, 0, KEY_INDEX_PAGE_SIZE);
        for (uint32_t i = 0; i < count; i++) {
            put_le32(page + (size_t)i * 4, w->slots[done + i]);
        }
        done += count;
        rc = page_end(w, err);
    }
    return rc;
}

int key_index_writer_finish(struct key_index_writer *w, struct err_ctx *err)
{
    char path[KEY_INDEX_NAME_MAX];
    int rc = 0;

    CHECK(w->entries == w->meta.entry_count);
    if (w->page_used > 0) {
        size_t used = (size_t)w->page_used * KEY_INDEX_ENTRY_SIZE;
        memset(page_at(w) + used, 0, PAGE_PAYLOAD - used);
        rc = page_end(w, err);
    }
    if (rc == 0) {
        rc = write_slots(w, err);
    }
    if (rc == 0) {
        rc = write_chunk(w, err);
    }
    if (rc == 0) {
        rc = disk_sync(w->disk_file, err);
    }
    if (rc == 0) {
        CHECK((uint64_t)w->page * KEY_INDEX_PAGE_SIZE == key_index_file_size(w->meta.entry_count));
        disk_close(&w->disk_file);
        key_index_path(path, w->meta.begin, w->meta.end);
        rc = disk_rename(w->disk, w->path, path, err);
    }
    return rc;
}

void key_index_writer_close(struct key_index_writer *w)
{
    disk_close(&w->disk_file);
    mem_free(w->chunk);
    mem_free(w->slots);
    w->chunk = NULL;
    w->slots = NULL;
}
