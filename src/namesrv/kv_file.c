/*
 * Layout (little-endian): magic, version, total length, number of entries; entries, each the three
 * lengths and the three texts; CRC-32C over all of it, and 4 zero bytes.
 *
 * Failure modes: memory; on reading, anything: the checksum is judged before any length in the file
 * is used except the total.
 */
#include "src/namesrv/kv_file.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/crc32c.h"
#include "core/base/mem.h"

#define MAGIC        UINT32_C(0x564B5345) /* "ESKV" in the file */
#define VERSION      1u
#define HEAD_SIZE    24u
#define ENTRY_SIZE   8u
#define TRAILER_SIZE 8u
#define AT_VERSION   4u
#define AT_TOTAL     8u
#define AT_COUNT     16u
#define AT_ZERO      20u
#define AT_KEY_LEN   2u
#define AT_VALUE_LEN 4u

/* ---- bytes ---- */

static void entry_append(struct buf *out, const struct registry_kv *entry)
{
    buf_append_le16(out, (uint16_t)entry->ns.len);
    buf_append_le16(out, (uint16_t)entry->key.len);
    buf_append_le32(out, (uint32_t)entry->value.len);
    buf_append_slice(out, entry->ns);
    buf_append_slice(out, entry->key);
    buf_append_slice(out, entry->value);
}

void kv_file_encode(const struct registry *r, const struct kv_change *change, struct buf *out)
{
    struct registry_kv entry;
    uint32_t count = 0;
    size_t cursor = 0;

    CHECK(out->len == 0);
    buf_append_le32(out, MAGIC);
    buf_append_le32(out, VERSION);
    buf_append_le64(out, 0);
    buf_append_le32(out, 0);
    buf_append_le32(out, 0);
    while (registry_kv_next(r, &cursor, &entry)) {
        if (!slice_eq(entry.ns, change->ns) || !slice_eq(entry.key, change->key)) {
            entry_append(out, &entry);
            count++;
        }
    }
    if (!change->is_delete) {
        entry = (struct registry_kv){change->ns, change->key, change->value};
        entry_append(out, &entry);
        count++;
    }
    buf_append_le64(out, 0); /* checksum and zeros: kv_file_seal */
    if (!buf_failed(out)) {
        put_le64(out->ptr + AT_TOTAL, out->len);
        put_le32(out->ptr + AT_COUNT, count);
    }
}

void kv_file_seal(struct buf *out)
{
    if (!buf_failed(out)) {
        size_t end = out->len - TRAILER_SIZE;
        CHECK(out->len >= HEAD_SIZE + TRAILER_SIZE);
        put_le32(out->ptr + end, crc32c(0, out->ptr, end));
    }
}

static int corrupt(struct err_ctx *err, const char *what, size_t at)
{
    return err_set(err, ESCROW_ECORRUPT,
                   KV_FILE_PATH ": %s at byte %zu: put a copy of the file in its place, or remove "
                                "it and set the key-value configuration again",
                   what, at);
}

/*
 * Magic, length, checksum, version, in this order: a damaged file is not mistaken for one of a
 * newer version.
 */
static int judge(struct slice file, struct err_ctx *err)
{
    size_t end = file.len - TRAILER_SIZE;
    uint32_t version;

    if (file.len < HEAD_SIZE + TRAILER_SIZE) {
        return corrupt(err, "the file is too short: it ends", file.len);
    }
    if (get_le32(file.ptr) != MAGIC) {
        return corrupt(err, "wrong magic number", 0);
    }
    if (get_le64(file.ptr + AT_TOTAL) != file.len) {
        return corrupt(err, "the length is not the file's", AT_TOTAL);
    }
    if (get_le32(file.ptr + end) != crc32c(0, file.ptr, end) || get_le32(file.ptr + end + 4) != 0) {
        return corrupt(err, "the checksum does not match", end);
    }
    version = get_le32(file.ptr + AT_VERSION);
    if (version != VERSION) {
        return err_set(err, ESCROW_EVERSION,
                       KV_FILE_PATH ": format version %u; this program reads version %u", version,
                       VERSION);
    }
    return get_le32(file.ptr + AT_ZERO) == 0 ? 0 : corrupt(err, "not zero", AT_ZERO);
}

/* One entry from *at on; moves *at behind it. */
static int entry_enter(struct slice entries, size_t *at, struct registry *r)
{
    const uint8_t *p = entries.ptr + *at;
    size_t left = entries.len - *at;
    struct registry_kv entry;
    struct slice there;
    size_t value_len;

    if (left < ENTRY_SIZE) {
        return ESCROW_ECORRUPT;
    }
    left -= ENTRY_SIZE;
    entry.ns = slice_of(p + ENTRY_SIZE, get_le16(p));
    entry.key = slice_of(entry.ns.ptr + entry.ns.len, get_le16(p + AT_KEY_LEN));
    value_len = get_le32(p + AT_VALUE_LEN);
    if (entry.ns.len + entry.key.len > left || value_len > left - entry.ns.len - entry.key.len) {
        return ESCROW_ECORRUPT;
    }
    entry.value = slice_of(entry.key.ptr + entry.key.len, value_len);
    *at += ENTRY_SIZE + entry.ns.len + entry.key.len + value_len;
    if (registry_kv_get(r, entry.ns, entry.key, &there) == 0) {
        return ESCROW_ECORRUPT; /* twice */
    }
    return registry_kv_put(r, entry.ns, entry.key, entry.value);
}

int kv_file_decode(struct slice file, struct registry *r, struct err_ctx *err)
{
    struct slice entries;
    size_t at = 0;
    int rc = judge(file, err);

    if (rc != 0) {
        return rc;
    }
    entries = slice_of(file.ptr + HEAD_SIZE, file.len - HEAD_SIZE - TRAILER_SIZE);
    for (uint32_t left = get_le32(file.ptr + AT_COUNT); left > 0; left--) {
        size_t start = at;
        rc = entry_enter(entries, &at, r);
        if (rc == ESCROW_ENOMEM) {
            return err_set(err, rc, KV_FILE_PATH ": out of memory");
        }
        if (rc != 0) {
            return corrupt(err, "an entry that cannot be", HEAD_SIZE + start);
        }
    }
    return at == entries.len ? 0 : corrupt(err, "bytes behind the last entry", HEAD_SIZE + at);
}

/* ---- the disk ---- */

static int lock_take(struct disk *d, unsigned flags, struct disk_file **lock, struct err_ctx *err)
{
    int rc = disk_open(d, KV_FILE_LOCK, DISK_WRITE | flags, lock, err);

    if (rc == 0) {
        rc = disk_lock(*lock, err);
        if (rc != 0) {
            disk_close(lock);
        }
    }
    return rc == ESCROW_ELOCKED
               ? err_set(err, rc, KV_FILE_LOCK ": another name server has this data folder")
               : rc;
}

int kv_file_open(struct disk *d, struct registry *r, struct disk_file **lock, struct err_ctx *err)
{
    uint8_t *data = NULL;
    size_t len = 0;
    int rc = lock_take(d, 0, lock, err);

    if (rc == ESCROW_ENOTFOUND) {
        /* Without a lock nothing was ever written; or somebody took it away. */
        rc = disk_read_all(d, KV_FILE_PATH, KV_FILE_BYTES_MAX, &data, &len, err);
        if (rc == ESCROW_ENOTFOUND) {
            return 0;
        }
        mem_free(data);
        data = NULL;
        rc = lock_take(d, DISK_CREATE, lock, err);
    }
    if (rc == 0) {
        rc = disk_read_all(d, KV_FILE_PATH, KV_FILE_BYTES_MAX, &data, &len, err);
        if (rc == ESCROW_ENOTFOUND) {
            rc = 0; /* a crash between lock and file */
        } else if (rc == ESCROW_ETOOBIG) {
            rc = corrupt(err, "longer than it may be", KV_FILE_BYTES_MAX);
        } else if (rc == 0) {
            rc = kv_file_decode(slice_of(data, len), r, err);
        }
    }
    mem_free(data);
    return rc;
}

/* The first write: nobody may have written here since we looked and found nothing. */
static int begin(struct disk *d, struct disk_file **lock, struct err_ctx *err)
{
    struct disk_file *file = NULL;
    int rc = disk_mkdir(d, KV_FILE_FOLDER, err);

    if (rc == 0) {
        rc = disk_sync_dir(d, "", err);
    }
    if (rc == 0) {
        rc = lock_take(d, DISK_CREATE, lock, err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = disk_open(d, KV_FILE_PATH, DISK_READ, &file, err);
    if (rc == ESCROW_ENOTFOUND) {
        return 0;
    }
    disk_close(&file);
    disk_close(lock);
    return rc != 0 ? rc
                   : err_set(err, ESCROW_ELOCKED,
                             KV_FILE_PATH ": another name server has written it since this one "
                                          "was started");
}

int kv_file_write(struct disk *d, struct slice file, struct disk_file **lock, struct err_ctx *err)
{
    int rc = *lock == NULL ? begin(d, lock, err) : 0;

    return rc != 0 ? rc : disk_replace(d, KV_FILE_PATH, file.ptr, file.len, err);
}
