/*
 * Files of the key index as a start and a look-up find them. The input is the content of pages; the
 * checksums are made to fit, so that what is behind them is reached. First byte: odd = the input is
 * the header too; even = a header is made for as many entries as the next two bytes say.
 *
 * Three files with that content are opened, searched, and merged.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/key_index.h"
#include "core/store/key_index_file.h"
#include "tests/lib/sim_disk.h"

#include <stddef.h>
#include <stdint.h>

#define FILES       3u
#define RANGE       1000u
#define ENTRIES_MAX 600u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_file(struct disk *d, const char *path, const uint8_t *bytes, size_t len)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    struct disk_file *f = NULL;

    CHECK(disk_open(d, path, DISK_WRITE | DISK_CREATE, &f, NULL) == 0);
    CHECK(disk_pwritev(f, &iov, 1, 0, NULL) == 0);
    disk_close(&f);
}

static void make_header(uint8_t *page, uint64_t begin, uint32_t entries)
{
    put_le32(page, get_le32((const uint8_t *)"ESCI"));
    put_le32(page + 4, KEY_INDEX_VERSION);
    put_le64(page + 24, 0);
    put_le64(page + 32, INT64_MAX);
    put_le32(page + 40, entries);
    put_le32(page + 44, key_index_slot_bits(entries));
    put_le32(page + 48, 0);
    put_le64(page + 8, begin);
    put_le64(page + 16, begin + RANGE);
}

static void make_files(struct disk *d, const uint8_t *data, size_t size)
{
    bool is_raw = size > 0 && data[0] % 2 == 1;
    uint32_t entries = size < 3 ? 0 : (uint32_t)(data[1] * 256 + data[2]) % ENTRIES_MAX;
    size_t len = (size_t)key_index_file_size(entries);
    uint8_t *file = mem_alloc(len);

    CHECK(file != NULL);
    CHECK(disk_mkdir(d, KEY_INDEX_FOLDER, NULL) == 0);
    for (uint32_t i = 0; i < FILES; i++) {
        uint64_t begin = i * RANGE;
        size_t from = size > 3 ? 3 : size;
        char path[KEY_INDEX_NAME_MAX];

        memset(file, 0, len);
        if (is_raw) {
            memcpy(file, data + from, size - from < len ? size - from : len);
            put_le64(file + 8, begin);
            put_le64(file + 16, begin + RANGE);
        } else {
            memcpy(file + KEY_INDEX_PAGE_SIZE, data + from,
                   size - from < len - KEY_INDEX_PAGE_SIZE ? size - from
                                                           : len - KEY_INDEX_PAGE_SIZE);
            make_header(file, begin, entries);
        }
        for (size_t page = 0; page < len / KEY_INDEX_PAGE_SIZE; page++) {
            key_index_page_seal(file + page * KEY_INDEX_PAGE_SIZE, begin, (uint32_t)page);
        }
        key_index_path(path, begin, begin + RANGE);
        write_file(d, path, file, len);
    }
    mem_free(file);
}

/* Every hash at a place where an entry could be, and its neighbours. */
static void search_file(struct disk *d, const uint8_t *data, size_t size)
{
    struct key_index_file file = {.meta = {.begin = 0, .end = RANGE}};
    struct key_index_filter filter = {.begin_ms = INT64_MIN, .end_ms = INT64_MAX};
    struct key_index_hit hits[16];

    key_index_path(file.path, 0, RANGE);
    if (key_index_file_open(d, &file, NULL) != 0) {
        return;
    }
    for (size_t at = 3; at + 8 <= size && at < 500; at += KEY_INDEX_ENTRY_SIZE) {
        for (uint64_t add = 0; add < 3; add++) {
            uint32_t count = 0;
            int rc;

            filter.hash = get_le64(data + at) + add - 1;
            rc = key_index_file_find(&file, &filter, hits, &count, 16, NULL);
            CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
            CHECK(count <= 16);
        }
    }
    disk_close(&file.disk_file);
}

static void flush(struct key_index *ix)
{
    struct key_index_flush *job = NULL;
    int rc;

    CHECK(key_index_flush_take(ix, &job) == 0);
    rc = key_index_flush_run(job, NULL);
    CHECK(rc == 0);
    key_index_flush_done(&job, rc);
    key_index_check(ix);
}

static void use_index(struct disk *d)
{
    struct key_index_options options = {.disk = d, .merge_files = 2};
    struct key_index_query query = {
        .topic = SLICE_LIT("t"), .key = SLICE_LIT("k"), .end_ms = INT64_MAX, .count_max = 4};
    struct key_index_find *find = NULL;
    struct key_index_report report;
    struct key_index *ix = NULL;
    int rc = key_index_open(&ix, &options, SLICE_EMPTY, &report, NULL);

    CHECK(rc == 0 || rc == ESCROW_EVERSION);
    if (rc == 0) {
        key_index_check(ix);
        CHECK(key_index_find_take(ix, &query, &find) == 0);
        flush(ix); /* merges, with a look-up under way */
        rc = key_index_find_run(find, NULL);
        CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
        key_index_find_done(&find);
        flush(ix);
    }
    key_index_free(&ix);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct disk *d = sim_disk_new();

    make_files(d, data, size);
    search_file(d, data, size);
    use_index(d);
    disk_free(&d);
    return 0;
}
