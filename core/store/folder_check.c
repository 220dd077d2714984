/*
 * Happy path: format, segments and checkpoint name each other. What they say must agree before the
 * first byte is changed, because the derived files of one log would be cut to the counts of
 * another.
 */
#include "core/store/folder_check.h"

#include "core/base/bytes.h"
#include "core/store/key_index_file.h"
#include "core/store/queue_path.h"

#include <inttypes.h>

#define LOG_SECTION_BYTES 12

/* ------------------------------------------------------------------ nothing, or a store */

static int any_entry(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    (void)name;
    (void)is_dir;
    return 1;
}

/* 1: there is something in this folder. */
static int has_entries(struct disk *disk, const char *path, struct err_ctx *err)
{
    int rc = disk_list(disk, path, any_entry, NULL, err);

    return rc == ESCROW_ENOTFOUND ? 0 : rc;
}

static int has_file(struct disk *disk, const char *path, struct err_ctx *err)
{
    struct disk_file *file = NULL;
    int rc = disk_open(disk, path, DISK_READ, &file, err);

    disk_close(&file);
    return rc == ESCROW_ENOTFOUND ? 0 : rc == 0 ? 1 : rc;
}

/* Whatever a store makes later than its first segment. *name: what there is. 1, 0 or an error. */
static int has_derived(struct disk *disk, const char **name, struct err_ctx *err)
{
    int rc = has_file(disk, *name = CHECKPOINT_PATH, err);

    if (rc == 0) {
        rc = has_entries(disk, *name = QUEUE_PATH_ROOT, err);
    }
    if (rc == 0) {
        rc = has_entries(disk, *name = KEY_INDEX_FOLDER, err);
    }
    return rc;
}

int folder_read_format(struct disk *disk, struct store_format *out, struct err_ctx *err)
{
    const char *name = SEGMENT_FOLDER;
    int rc = store_format_read(disk, out, err);
    int found;

    if (rc != ESCROW_ENOTFOUND) {
        return rc;
    }
    found = has_entries(disk, name, err);
    if (found == 0) {
        found = has_derived(disk, &name, err);
    }
    if (found == 1) {
        return err_set(err, ESCROW_ECORRUPT, "%s: file is missing, but there is a store's %s",
                       STORE_FORMAT_PATH, name);
    }
    return found == 0 ? rc : found;
}

/* ------------------------------------------------------------------ checkpoint and segments */

static bool log_has_beginning(struct disk *disk, const struct store_format *format)
{
    struct segments segs;
    bool has;

    segments_init(&segs, disk, format->segment_bytes);
    has = segments_load(&segs, 0, NULL) == 0 && segs.count > 0 && segs.first == 0;
    segments_fini(&segs);
    return has;
}

/* Behind the words of an error: can the checkpoint be built again from the log? Returns rc. */
static int advise(struct disk *disk, const struct store_format *format, int rc, struct err_ctx *err)
{
    char text[ERR_TEXT_MAX];

    if (rc != ESCROW_ECORRUPT || err == NULL) {
        return rc;
    }
    (void)slice_to_cstr(slice_str(err->text), text, sizeof text);
    return err_set(
        err, rc, "%s; %s", text,
        log_has_beginning(disk, format)
            ? "the log has its beginning: if escrow verify finds nothing else, delete the "
              "file " CHECKPOINT_PATH
              "; the next start builds it and the queues again from the log, and nothing is lost"
            : "the beginning of the log is gone or damaged, and only the checkpoint knows what it "
              "said: restore the data folder from a backup");
}

int folder_read_checkpoint(struct disk *disk, const struct store_format *format,
                           struct checkpoint *out, struct err_ctx *err)
{
    int rc = checkpoint_read(disk, out, err);

    if (rc == 0 && out->head.salt != format->salt) {
        checkpoint_fini(out);
        rc = err_set(err, ESCROW_ECORRUPT, "%s: belongs to another store", CHECKPOINT_PATH);
    }
    return advise(disk, format, rc, err);
}

/*
 * Does a damaged record still say the checksum that it was written with? Then it is the one that
 * the checkpoint remembers, and its damage is behind the checkpoint like any other.
 */
static bool is_same_but_damaged(const struct folder *in, const struct folder_record *last)
{
    uint8_t head[ENVELOPE_SIZE];
    size_t got = 0;

    return segments_read(in->segs, last->offset, head, sizeof head, &got, NULL) == 0 &&
           got == sizeof head && get_le32(head + ENVELOPE_AT_CRC) == last->crc;
}

/*
 * The checkpoint remembers the last record below its position: a log that was rolled back or
 * exchanged does not have it.
 */
static int check_last_record(const struct folder *in, const struct folder_record *last,
                             struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct log_scan scan;
    struct envelope e = {0};
    struct slice payload;
    int rc = log_scan_init(&scan, in->segs, in->seed, last->offset, 0);

    if (rc == 0) {
        log_scan_seek(&scan, last->offset);
        rc = log_scan_next(&scan, &e, &payload, err);
    }
    if (rc == 0 && is_same_but_damaged(in, last)) {
        rc = 1;
        e.crc = last->crc;
    }
    if (rc == 0 || (rc == 1 && e.crc != last->crc)) {
        rc = err_set(err, ESCROW_ECORRUPT,
                     "%s: %s, but the checkpoint was written with the record that was here",
                     recovery_where(in->segs, last->offset, where),
                     rc == 0 ? scan.why : "another record");
    }
    log_scan_fini(&scan);
    return rc == 1 ? 0 : rc;
}

static int decode_last_record(const struct folder *in, struct folder_record *last,
                              struct err_ctx *err)
{
    struct slice section;

    if (!checkpoint_find(in->ckpt, STORE_LOG_SECTION, &section) ||
        section.len != LOG_SECTION_BYTES) {
        return err_set(err, ESCROW_ECORRUPT, "%s: section \"%s\" is missing", CHECKPOINT_PATH,
                       STORE_LOG_SECTION);
    }
    last->offset = get_le64(section.ptr);
    last->crc = get_le32(section.ptr + 8);
    if (last->offset < in->segs->first || last->offset >= in->ckpt->head.position ||
        last->offset % ENVELOPE_ALIGN != 0) {
        return err_set(err, ESCROW_ECORRUPT, "%s: last record at log offset %" PRIu64 "?",
                       CHECKPOINT_PATH, last->offset);
    }
    return 0;
}

/*
 * Without a checkpoint the log says everything, if it has its beginning. A store that was just made
 * has no segment yet, and nothing that comes after one.
 */
static int check_alone(const struct folder *in, struct err_ctx *err)
{
    const char *name = NULL;
    int rc = 0;

    if (in->segs->count == 0) {
        rc = has_derived(in->disk, &name, err);
    } else if (in->segs->first != 0) {
        return err_set(err, ESCROW_ECORRUPT,
                       "%s: file is missing, and the log begins at offset %" PRIu64
                       ": its state cannot be rebuilt",
                       CHECKPOINT_PATH, in->segs->first);
    }
    if (rc == 1) {
        rc = err_set(err, ESCROW_ECORRUPT,
                     "%s: every segment is missing, but %s was derived from some; if the messages "
                     "are not wanted any more, remove the data folder",
                     SEGMENT_FOLDER, name);
    }
    return rc;
}

int folder_check_segments(const struct folder *in, struct folder_record *last, struct err_ctx *err)
{
    const struct checkpoint_head *head;
    int rc;

    if (in->ckpt == NULL) {
        return check_alone(in, err);
    }
    head = &in->ckpt->head;
    if (in->segs->count == 0 || head->log_first != in->segs->first) {
        return err_set(err, ESCROW_ECORRUPT,
                       "%s: the log begins at offset %" PRIu64 ", with %" PRIu64
                       " the checkpoint knows: segments are missing",
                       SEGMENT_FOLDER, in->segs->first, head->log_first);
    }
    if (head->position > in->segs->allocated || head->position % ENVELOPE_ALIGN != 0) {
        return err_set(err, ESCROW_ECORRUPT,
                       "%s: the log ends at offset %" PRIu64 ", before the checkpoint's %" PRIu64
                       ": segments are missing",
                       SEGMENT_FOLDER, in->segs->allocated, head->position);
    }
    rc = decode_last_record(in, last, err);
    return rc == 0 ? check_last_record(in, last, err) : rc;
}

/* ------------------------------------------------------------------ the end */

int folder_check_end(const struct segments *segs, const struct checkpoint *ckpt,
                     const struct recovery_end *end, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    const struct checkpoint_head *head = &ckpt->head;
    uint64_t want =
        head->is_clean && head->log_end > head->position ? head->log_end : head->position;

    if (end->cut < want) {
        return err_set(err, ESCROW_ECORRUPT,
                       "%s: %s, but the log had been closed at log offset %" PRIu64,
                       recovery_where(segs, end->bad, where), end->why, want);
    }
    return 0;
}

int folder_check_index(uint64_t log_end, uint64_t index_end, struct err_ctx *err)
{
    if (index_end > log_end) {
        return err_set(err, ESCROW_ECORRUPT,
                       "commit log: ends at log offset %" PRIu64 ", but records up to %" PRIu64
                       " are in the key index",
                       log_end, index_end);
    }
    return 0;
}
