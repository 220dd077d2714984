/*
 * Happy path: load lists the folder once; from then on segments are only added at the end. A name
 * that is not 20 digits, a size that is not segment_bytes or a hole in the row is corruption: a
 * segment gets its final name only when it is whole.
 */
#include "core/store/segment.h"

#include "core/base/check.h"
#include "core/base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_DIGITS 20
#define TMP_SUFFIX  ".tmp"

void segment_path(uint64_t first, char path[SEGMENT_PATH_MAX])
{
    (void)snprintf(path, SEGMENT_PATH_MAX, SEGMENT_FOLDER "/%020" PRIu64, first); /* fits */
}

void segments_init(struct segments *segs, struct disk *disk, uint64_t segment_bytes)
{
    CHECK(segment_bytes > 0);
    *segs = (struct segments){.disk = disk, .segment_bytes = segment_bytes};
}

void segments_fini(struct segments *segs)
{
    for (size_t i = 0; i < segs->count; i++) {
        CHECK(segs->list[i].pins == 0);
        disk_close(&segs->list[i].file);
    }
    mem_free(segs->list);
    *segs = (struct segments){.disk = segs->disk, .segment_bytes = segs->segment_bytes};
}

/* ------------------------------------------------------------------ the folder */

struct name_list {
    uint64_t *firsts;
    size_t count;
    size_t cap;
    struct err_ctx *err;
    uint64_t floor; /* segments below were given up */
    char found[64]; /* a leftover */
};

static bool name_is_tmp(const char *name)
{
    size_t len = strlen(name);

    return len > strlen(TMP_SUFFIX) && strcmp(name + len - strlen(TMP_SUFFIX), TMP_SUFFIX) == 0;
}

static bool name_parse(const char *name, uint64_t *first)
{
    uint64_t value = 0;

    if (strlen(name) != NAME_DIGITS) {
        return false;
    }
    for (int i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9' || value > (UINT64_MAX - 9) / 10) {
            return false;
        }
        value = value * 10 + (uint64_t)(name[i] - '0');
    }
    *first = value;
    return true;
}

static int name_seen(void *arg, const char *name, bool is_dir)
{
    struct name_list *names = arg;
    uint64_t first = 0;

    if (!is_dir && name_is_tmp(name)) {
        return 0;
    }
    if (is_dir || !name_parse(name, &first)) {
        return err_set(names->err, ESCROW_ECORRUPT,
                       SEGMENT_FOLDER "/%.60s: not a segment of a commit log", name);
    }
    if (first < names->floor) {
        return 0;
    }
    if (names->count == names->cap) {
        size_t cap = names->cap == 0 ? 64 : names->cap * 2;
        uint64_t *grown = mem_realloc(names->firsts, cap * sizeof *grown);
        if (grown == NULL) {
            return err_set(names->err, ESCROW_ENOMEM, SEGMENT_FOLDER ": out of memory");
        }
        names->firsts = grown;
        names->cap = cap;
    }
    names->firsts[names->count++] = first;
    return 0;
}

static int first_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static int segment_check_size(const struct segments *segs, uint64_t first, struct err_ctx *err)
{
    char path[SEGMENT_PATH_MAX];
    struct disk_file *file = NULL;
    uint64_t size = 0;
    int rc;

    segment_path(first, path);
    rc = disk_open(segs->disk, path, DISK_READ, &file, err);
    if (rc == 0) {
        rc = disk_size(file, &size, err);
    }
    disk_close(&file);
    if (rc == 0 && size != segs->segment_bytes) {
        rc = err_set(err, ESCROW_ECORRUPT,
                     "%s: file has %" PRIu64 " bytes, every segment of this store has %" PRIu64,
                     path, size, segs->segment_bytes);
    }
    return rc;
}

static int segments_check_row(const struct segments *segs, const struct name_list *names,
                              struct err_ctx *err)
{
    char path[SEGMENT_PATH_MAX];

    for (size_t i = 0; i < names->count; i++) {
        uint64_t want = names->firsts[0] + i * segs->segment_bytes;
        int rc;

        segment_path(names->firsts[i], path);
        if (names->firsts[i] % segs->segment_bytes != 0) {
            return err_set(err, ESCROW_ECORRUPT,
                           "%s: name is not a multiple of the segment size %" PRIu64, path,
                           segs->segment_bytes);
        }
        if (names->firsts[i] != want) {
            segment_path(want, path);
            return err_set(err, ESCROW_ECORRUPT, "%s: segment is missing: log offset %" PRIu64,
                           path, want);
        }
        rc = segment_check_size(segs, names->firsts[i], err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int segments_grow(struct segments *segs, size_t count)
{
    size_t cap = segs->cap == 0 ? 8 : segs->cap;
    struct segment *list;

    while (cap < count) {
        cap *= 2;
    }
    if (cap == segs->cap) {
        return 0;
    }
    list = mem_realloc(segs->list, cap * sizeof *list);
    if (list == NULL) {
        return ESCROW_ENOMEM;
    }
    segs->list = list;
    segs->cap = cap;
    return 0;
}

int segments_load(struct segments *segs, uint64_t first, struct err_ctx *err)
{
    struct name_list names = {.err = err, .floor = first};
    int rc = disk_list(segs->disk, SEGMENT_FOLDER, name_seen, &names, err);

    CHECK(segs->count == 0);
    if (rc == ESCROW_ENOTFOUND) { /* it is there before `format` is */
        rc = err_set(err, ESCROW_ECORRUPT, SEGMENT_FOLDER ": the folder is missing");
    }
    if (rc == 0 && names.count > 0) {
        qsort(names.firsts, names.count, sizeof names.firsts[0], first_cmp);
        rc = segments_check_row(segs, &names, err);
    }
    if (rc == 0 && segments_grow(segs, names.count) != 0) {
        rc = err_set(err, ESCROW_ENOMEM, SEGMENT_FOLDER ": out of memory");
    }
    if (rc == 0 && names.count > 0) {
        memset(segs->list, 0, names.count * sizeof *segs->list);
        segs->count = names.count;
        segs->first = names.firsts[0];
        segs->allocated = segs->first + names.count * segs->segment_bytes;
    }
    mem_free(names.firsts);
    return rc;
}

/* Listing and deleting at once is not for every file system: one name per round. */
static int leftover_seen(void *arg, const char *name, bool is_dir)
{
    struct name_list *names = arg;
    uint64_t first;

    if (!is_dir && strlen(name) < sizeof names->found &&
        (name_is_tmp(name) || (name_parse(name, &first) && first < names->floor))) {
        memcpy(names->found, name, strlen(name) + 1);
        return 1;
    }
    return 0;
}

int segments_remove_leftovers(struct segments *segs, uint64_t *count, struct err_ctx *err)
{
    char path[sizeof SEGMENT_FOLDER + 65];
    struct name_list names = {.err = err, .floor = segs->first};
    bool any = false;
    int rc;

    *count = 0;
    while ((rc = disk_list(segs->disk, SEGMENT_FOLDER, leftover_seen, &names, err)) == 1) {
        (void)snprintf(path, sizeof path, SEGMENT_FOLDER "/%s", names.found); /* fits */
        rc = disk_unlink(segs->disk, path, err);
        if (rc != 0) {
            return rc;
        }
        *count += name_is_tmp(names.found) ? 0 : 1;
        any = true;
    }
    return rc == 0 && any ? disk_sync_dir(segs->disk, SEGMENT_FOLDER, err) : rc;
}

int segment_create(struct disk *disk, uint64_t first, uint64_t segment_bytes,
                   struct disk_file **out, struct err_ctx *err)
{
    char path[SEGMENT_PATH_MAX];
    char tmp[SEGMENT_PATH_MAX + sizeof TMP_SUFFIX];
    int rc;

    segment_path(first, path);
    (void)snprintf(tmp, sizeof tmp, "%s" TMP_SUFFIX, path); /* fits */
    rc = disk_open(disk, tmp, DISK_WRITE | DISK_CREATE, out, err);
    if (rc != 0) {
        return rc;
    }
    rc = disk_truncate(*out, 0, err); /* whatever an earlier attempt left must not show through */
    if (rc == 0) {
        rc = disk_allocate(*out, segment_bytes, err);
    }
    if (rc == 0) {
        rc = disk_sync(*out, err);
    }
    if (rc == 0) {
        rc = disk_rename(disk, tmp, path, err);
    }
    if (rc == 0) {
        rc = disk_sync_dir(disk, SEGMENT_FOLDER, err);
    }
    if (rc == 0) {
        /* Under its name, so that errors tell a file that exists. */
        disk_close(out);
        rc = disk_open(disk, path, DISK_WRITE, out, err);
    }
    if (rc != 0) {
        int ignored; /* the next start removes leftovers too */
        disk_close(out);
        ignored = disk_unlink(disk, tmp, NULL);
        (void)ignored;
    }
    return rc;
}

/* ------------------------------------------------------------------ handles */

static struct segment *segment_at(const struct segments *segs, uint64_t offset)
{
    CHECK(offset >= segs->first);
    CHECK(offset < segs->allocated);
    return &segs->list[(offset - segs->first) / segs->segment_bytes];
}

struct disk_file *segments_file(struct segments *segs, uint64_t offset)
{
    struct segment *seg = segment_at(segs, offset);

    seg->last_used = ++segs->clock;
    return seg->file;
}

/* Close the read handle that was used longest ago, if there are too many. */
static void segments_evict(struct segments *segs)
{
    struct segment *oldest = NULL;

    if (segs->open_count < SEGMENTS_OPEN_MAX) {
        return;
    }
    for (size_t i = 0; i < segs->count; i++) {
        struct segment *seg = &segs->list[i];
        if (seg->file != NULL && !seg->is_writable && seg->pins == 0 &&
            (oldest == NULL || seg->last_used < oldest->last_used)) {
            oldest = seg;
        }
    }
    if (oldest != NULL) {
        disk_close(&oldest->file);
        segs->open_count--;
    }
}

static void segment_set_file(struct segments *segs, struct segment *seg, struct disk_file **file)
{
    CHECK(seg->file == NULL);
    seg->file = *file;
    seg->last_used = ++segs->clock;
    *file = NULL;
    segs->open_count++;
}

int segments_open(struct segments *segs, uint64_t offset, bool writable, struct disk_file **out,
                  struct err_ctx *err)
{
    struct segment *seg = segment_at(segs, offset);
    char path[SEGMENT_PATH_MAX];
    struct disk_file *file;
    int rc;

    if (seg->file != NULL && (seg->is_writable || !writable)) {
        *out = segments_file(segs, offset);
        return 0;
    }
    segment_path(segments_start_of(segs, offset), path);
    rc = disk_open(segs->disk, path, writable ? DISK_WRITE : DISK_READ, &file, err);
    if (rc != 0) {
        return rc;
    }
    if (seg->file != NULL) {
        CHECK(seg->pins == 0);
        disk_close(&seg->file);
        segs->open_count--;
    }
    segments_evict(segs);
    segment_set_file(segs, seg, &file);
    seg->is_writable = writable;
    *out = seg->file;
    return 0;
}

void segments_adopt(struct segments *segs, uint64_t offset, struct disk_file **file)
{
    struct segment *seg;

    if (offset < segs->first) {
        disk_close(file);
        return;
    }
    seg = segment_at(segs, offset);
    segments_evict(segs);
    if (seg->file != NULL || segs->open_count >= SEGMENTS_OPEN_MAX) {
        disk_close(file);
        return;
    }
    segment_set_file(segs, seg, file);
}

void segments_pin(struct segments *segs, uint64_t offset)
{
    struct segment *seg = segment_at(segs, offset);

    CHECK(seg->file != NULL);
    seg->pins++;
}

void segments_unpin(struct segments *segs, uint64_t offset)
{
    struct segment *seg = segment_at(segs, offset);

    CHECK(seg->pins > 0);
    seg->pins--;
}

void segments_note_stored(struct segments *segs, uint64_t offset, int64_t ms)
{
    struct segment *seg = segment_at(segs, offset);

    seg->begin_ms = seg->begin_ms == 0 ? ms : seg->begin_ms;
    seg->used_ms = ms > seg->used_ms ? ms : seg->used_ms;
}

void segments_note_released(struct segments *segs, uint64_t offset, int64_t ms)
{
    struct segment *seg = segment_at(segs, offset);

    seg->used_ms = ms > seg->used_ms ? ms : seg->used_ms;
}

uint64_t segments_give_up(struct segments *segs, uint64_t first)
{
    size_t count = 0;

    CHECK(first % segs->segment_bytes == 0);
    CHECK(first < segs->allocated);
    while (segs->first + count * segs->segment_bytes < first && segs->list[count].pins == 0) {
        struct segment *seg = &segs->list[count++];

        CHECK(!seg->is_writable);
        segs->open_count -= seg->file != NULL ? 1 : 0;
        disk_close(&seg->file);
    }
    segs->count -= count;
    segs->first += count * segs->segment_bytes;
    memmove(segs->list, segs->list + count, segs->count * sizeof *segs->list);
    return segs->first;
}

int segments_append(struct segments *segs, struct disk_file **file)
{
    struct segment *seg;
    int rc = segments_grow(segs, segs->count + 1);

    if (rc != 0) {
        return rc;
    }
    seg = &segs->list[segs->count++];
    *seg = (struct segment){.is_writable = true};
    segment_set_file(segs, seg, file);
    segs->allocated += segs->segment_bytes;
    return 0;
}

void segments_retire(struct segments *segs, uint64_t offset)
{
    size_t below = (size_t)((segments_start_of(segs, offset) - segs->first) / segs->segment_bytes);

    /* Only a few segments are written at any time: stop at the first that was retired before. */
    for (size_t i = below < segs->count ? below : segs->count; i > 0; i--) {
        if (!segs->list[i - 1].is_writable) {
            break;
        }
        segs->list[i - 1].is_writable = false;
    }
    segments_evict(segs);
}

int segments_read(struct segments *segs, uint64_t offset, void *dst, size_t len, size_t *got,
                  struct err_ctx *err)
{
    uint64_t start = segments_start_of(segs, offset);
    uint64_t room = start + segs->segment_bytes - offset;
    struct disk_file *file;
    int rc = segments_open(segs, offset, false, &file, err);

    *got = 0;
    if (rc == 0) {
        rc = disk_pread(file, dst, len < room ? len : (size_t)room, offset - start, got, err);
    }
    return rc;
}

void segments_check(const struct segments *segs)
{
    uint32_t open = 0;

    CHECK(segs->allocated - segs->first == segs->count * segs->segment_bytes);
    CHECK(segs->first % segs->segment_bytes == 0);
    for (size_t i = 0; i < segs->count; i++) {
        open += segs->list[i].file != NULL ? 1 : 0;
        CHECK_IMPLIES(segs->list[i].pins > 0, segs->list[i].file != NULL);
        CHECK_IMPLIES(segs->list[i].is_writable, segs->list[i].file != NULL);
    }
    CHECK(open == segs->open_count);
}
