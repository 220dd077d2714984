/*
 * Opening a store. FORMAT.md, "Recovery", has the steps in words; their order here is: look at
 * everything first, change nothing on disk before the log is known to be sound, load, replay, and
 * only then cut the torn tail and begin the new epoch.
 *
 * The tail of the log is read twice, first to judge it and then to apply it, so that a damaged log
 * is left exactly as it was found. It is at most a checkpoint interval long, and the second time it
 * comes from memory.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "core/store/folder_check.h"
#include "core/store/log_job.h"
#include "core/store/recovery.h"
#include "core/store/store_private.h"

#include <inttypes.h>
#include <stdio.h>

#define START_PAYLOAD_BYTES 16

#define REPLAY_FLUSH_RECORDS 4096 /* records between two looks at how much is in memory */

static int take_lock(struct store *st, struct err_ctx *err)
{
    int rc = disk_open(st->disk, STORE_LOCK_PATH, DISK_WRITE | DISK_CREATE, &st->lock, err);

    if (rc == 0) {
        rc = disk_lock(st->lock, err);
    }
    if (rc == ESCROW_ELOCKED) {
        rc = err_set(err, rc, "%s: another process has this data folder open", STORE_LOCK_PATH);
    }
    return rc;
}

static int create_format(struct store *st, struct err_ctx *err)
{
    int rc;

    st->format = (struct store_format){
        .version = STORE_FORMAT_VERSION,
        .salt = (uint32_t)(st->cfg.random_seed ^ (st->cfg.random_seed >> 32)),
        .id = st->cfg.new_id,
        .segment_bytes = st->cfg.segment_bytes,
    };
    rc = disk_mkdir(st->disk, SEGMENT_FOLDER, err);
    if (rc == 0) {
        rc = disk_sync_dir(st->disk, "", err);
    }
    return rc == 0 ? store_format_create(st->disk, &st->format, err) : rc;
}

static int load_format(struct store *st, struct store_recovery *recovery, struct err_ctx *err)
{
    int rc = folder_read_format(st->disk, &st->format, err);

    if (rc == ESCROW_ENOTFOUND) {
        recovery->is_new = true;
        rc = create_format(st, err);
    }
    st->seed = envelope_seed(st->format.salt);
    recovery->segment_bytes = st->format.segment_bytes;
    return rc;
}

/* ------------------------------------------------------------------ checkpoint */

static int load_checkpoint(struct store *st, struct checkpoint *ckpt, struct err_ctx *err)
{
    struct folder folder = {.disk = st->disk, .segs = &st->segs, .seed = st->seed};
    struct folder_record last = {.offset = UINT64_MAX};
    int rc = folder_read_checkpoint(st->disk, &st->format, ckpt, err);

    if (rc == 0) {
        folder.ckpt = ckpt;
    } else if (rc == ESCROW_ENOTFOUND) {
        rc = 0;
    }
    if (rc == 0) {
        /* Segments below were given up; a crash may have left any of them. */
        rc = segments_load(&st->segs, ckpt->head.log_first, err);
        st->low = st->segs.first;
        st->unlinked = st->segs.first;
    }
    if (rc == 0) {
        rc = folder_check_segments(&folder, &last, err);
    }
    if (rc == 0 && folder.ckpt != NULL) {
        rc = store_segments_decode(&st->segs, ckpt, st->cfg.now_ms, err);
    }
    if (rc == 0 && folder.ckpt != NULL) {
        st->last_offset = last.offset;
        st->last_crc = last.crc;
        st->checkpoint_at = ckpt->head.position;
        st->checkpoint_size = ckpt->size_bytes;
        st->visible = ckpt->head.position;
    }
    return rc;
}

/* ------------------------------------------------------------------ derived files */

static int load_queues(struct store *st, const struct checkpoint *ckpt,
                       struct store_recovery *recovery, struct err_ctx *err)
{
    struct queues_options options = {
        .disk = st->disk,
        .hash_key = {.k0 = st->cfg.random_seed, .k1 = ~st->cfg.random_seed},
    };
    struct queues_open_report report = {0};
    struct slice section;
    int rc = queues_new(&st->queues, &options);

    if (rc != 0) {
        return err_set(err, rc, "queues: %s", escrow_strerror(rc));
    }
    if (checkpoint_find(ckpt, QUEUES_SECTION, &section)) {
        rc = queues_decode(st->queues, section, err);
    }
    if (rc == 0) {
        rc = queues_verify(st->queues, &report, err);
    }
    if (rc == 0) {
        rc = queues_cut(st->queues, &report, err);
    }
    recovery->queue_entries_cut = report.cut_entries;
    recovery->queue_files_lost = report.lost_count;
    memcpy(recovery->queues_lost, report.lost, sizeof recovery->queues_lost);
    if (rc == 0 && checkpoint_find(ckpt, DAMAGE_SECTION, &section)) {
        rc = skips_load(&st->skips, st->queues, section, err);
    }
    return rc;
}

struct fill {
    struct store *st;
    uint64_t at;
};

static void fill_release(void *arg, const struct store_release *release)
{
    struct fill *fill = arg;
    struct release_mark mark;

    if (!slice_eq_str(release->topic, TOPIC_EXPIRED)) {
        key_index_put(fill->st->index, fill->at, release->half_offset, release->store_ms,
                      SLICE_EMPTY, release_mark_key(&mark, release->half_offset));
    }
}

static int fill_record(struct store *st, const struct envelope *e, struct slice payload)
{
    struct fill fill = {.st = st, .at = e->offset};
    struct store_record rec;
    struct message_keys keys;

    if ((e->type == STORE_DECISION || e->type == STORE_RELEASE) &&
        st->owner.list_releases != NULL) {
        return st->owner.list_releases(st->owner.arg, (enum store_type)e->type, payload,
                                       fill_release, &fill);
    }
    if (!store_type_is_message((enum store_type)e->type)) {
        return 0;
    }
    if (store_record_fill(&rec, e, payload) != 0) {
        return 0; /* whoever reads the record will be told; an index without it is no worse */
    }
    message_keys_scan(rec.properties, &keys);
    store_index_message(st, &rec, keys.uniq, keys.keys);
    return 0;
}

/*
 * A file of the index was lost: read that part of the log again. Records begin somewhere, segments
 * always at one.
 */
static int fill_index_gap(struct store *st, struct log_scan *scan, uint64_t begin, uint64_t end,
                          struct err_ctx *err)
{
    struct envelope e;
    struct slice payload;
    int rc = 0;

    key_index_fill_start(st->index, begin, end);
    log_scan_seek(scan, segments_start_of(&st->segs, begin));
    while (scan->pos < end) {
        uint64_t at = scan->pos;
        rc = log_scan_next(scan, &e, &payload, err);
        if (rc == 0) {
            /* Damaged there: its readers will be told. What is behind is indexed all the same. */
            rc = recovery_find_next(scan, at, &at, err);
            if (rc == 1) {
                log_scan_seek(scan, at);
                continue;
            }
        }
        if (rc <= 0) {
            break;
        }
        rc = e.offset >= begin && e.offset < end ? fill_record(st, &e, payload) : 0;
        if (rc < 0) {
            break;
        }
    }
    key_index_fill_finish(st->index);
    return rc < 0 ? rc : 0;
}

static int load_index(struct store *st, const struct checkpoint *ckpt,
                      struct store_recovery *recovery, struct err_ctx *err)
{
    struct key_index_options options = {
        .disk = st->disk, .log_min = st->low, .lost = store_note_index_lost, .lost_arg = st};
    struct key_index_report report = {0};
    struct log_scan scan = {0};
    struct slice section;
    uint64_t begin;
    uint64_t end;
    uint64_t from = st->segs.first;
    int rc;

    (void)checkpoint_find(ckpt, KEY_INDEX_SECTION, &section); /* empty when there is none */
    rc = key_index_open(&st->index, &options, section, &report, err);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(recovery->index_lost, sizeof recovery->index_lost, "%s", report.dropped);
    while (rc == 0 && key_index_gap(st->index, from, &begin, &end) && begin < st->checkpoint_at) {
        if (scan.buf == NULL) {
            rc = log_scan_init(&scan, &st->segs, st->seed, from, 0);
        }
        if (rc == 0) {
            rc = fill_index_gap(st, &scan, begin > from ? begin : from, end, err);
        }
        from = end;
    }
    log_scan_fini(&scan);
    return rc;
}

static bool section_is_ours(struct slice name)
{
    return slice_eq_str(name, QUEUES_SECTION) || slice_eq_str(name, KEY_INDEX_SECTION) ||
           slice_eq_str(name, STORE_LOG_SECTION) || slice_eq_str(name, DAMAGE_SECTION) ||
           slice_eq_str(name, STORE_SEGMENTS_SECTION);
}

static int load_owner(struct store *st, const struct checkpoint *ckpt, struct err_ctx *err)
{
    for (uint32_t i = 0; i < ckpt->section_count; i++) {
        const struct checkpoint_section *section = &ckpt->sections[i];
        int rc;
        if (section_is_ours(section->name) || st->owner.checkpoint_load == NULL) {
            continue;
        }
        rc = st->owner.checkpoint_load(st->owner.arg, section->name, section->bytes, err);
        if (rc != 0 && err != NULL) {
            err_prefix(err, "%s: section \"%.*s\"", CHECKPOINT_PATH, SLICE_ARGS(section->name));
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------ the log */

static int find_end(struct store *st, const struct checkpoint *ckpt, struct recovery_end *end,
                    struct err_ctx *err)
{
    const struct checkpoint_head *head = &ckpt->head;
    int rc = recovery_find_end(&st->segs, st->seed,
                               head->position > st->segs.first ? head->position : st->segs.first,
                               head->epoch, end, err);

    return rc == 0 ? folder_check_end(&st->segs, ckpt, end, err) : rc;
}

static int replay(struct store *st, const struct recovery_end *end, struct store_recovery *recovery,
                  struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct log_scan scan;
    uint64_t from = st->visible > st->segs.first ? st->visible : st->segs.first;
    int rc = log_scan_init(&scan, &st->segs, st->seed, from, 0);

    if (rc != 0) {
        return err_set(err, rc, "recovery: out of memory");
    }
    log_scan_seek(&scan, from);
    st->is_replay = true;
    while (rc == 0 && scan.pos < end->cut) {
        struct store_record rec;
        struct envelope e;
        struct slice payload;

        rc = log_scan_next(&scan, &e, &payload, err);
        if (rc == 0) {
            rc = err_set(err, ESCROW_EIO, "%s: changed while it was read",
                         recovery_where(&st->segs, scan.pos, where));
        } else if (rc == 1) {
            rc = store_record_fill(&rec, &e, payload);
            rec.end = scan.pos;
            recovery->records++;
            recovery->scanned_bytes += e.length;
            if (rc != 0) {
                rc = err_set(err, rc, "%s: payload of a %s record makes no sense",
                             recovery_where(&st->segs, e.offset, where), store_type_name(e.type));
            } else if (e.type != STORE_FILLER) {
                rc = store_replay(st, &rec, e.crc, err);
            }
            if (rc == 0 && recovery->records % REPLAY_FLUSH_RECORDS == 0) {
                rc = store_flush_replay(st, err);
            }
        }
    }
    st->is_replay = false;
    log_scan_fini(&scan);
    return rc;
}

/*
 * Handles for writing of everything from the end of the log on; one segment more if the log ends
 * with its last byte.
 */
static int open_for_append(struct store *st, uint64_t end, struct err_ctx *err)
{
    struct disk_file *file;
    int rc = 0;

    if (end == st->segs.allocated) {
        rc = segment_create(st->disk, end, st->segs.segment_bytes, &file, err);
        if (rc == 0) {
            rc = segments_append(&st->segs, &file);
            disk_close(&file); /* empty unless out of memory */
        }
    }
    for (uint64_t at = end; rc == 0 && at < st->segs.allocated;
         at = segments_end_of(&st->segs, at)) {
        rc = segments_open(&st->segs, at, true, &file, err);
    }
    return rc;
}

static int begin_epoch(struct store *st, struct err_ctx *err)
{
    uint8_t payload[START_PAYLOAD_BYTES];
    struct log_slot slot;
    struct log_batch *batch;
    int rc = commit_log_place(&st->log, STORE_START, ENVELOPE_SIZE + sizeof payload, 0, &slot);

    if (rc != 0) {
        return err_set(err, rc, "commit log: no room for the record that begins an epoch: %s",
                       escrow_strerror(rc));
    }
    put_le64(payload, (uint64_t)st->cfg.now_ms);
    put_le32(payload + 8, STORE_FORMAT_VERSION);
    put_le32(payload + 12, 0);
    memcpy(slot.dst + ENVELOPE_SIZE, payload, sizeof payload);
    (void)commit_log_put(&st->log, &slot);
    st->witnessed = st->log.appended;
    batch = commit_log_take(&st->log);
    rc = log_batch_run(batch, err);
    if (rc != 0) {
        commit_log_recycle(&st->log, batch);
        return rc;
    }
    return store_batch_done(st, &batch, err);
}

/*
 * Make durable what was only seen. A process that was killed leaves writes, names and renames that
 * the kernel shows but has not synced; whoever is shown a message that recovery found there must
 * not lose it to a power cut that follows.
 */
static int settle_what_was_found(struct store *st, const struct recovery_end *end,
                                 struct err_ctx *err)
{
    int rc = disk_sync_dir(st->disk, SEGMENT_FOLDER, err);

    if (rc == 0) {
        rc = disk_sync_dir(st->disk, "", err);
    }
    if (rc == 0) {
        rc = recovery_settle(&st->segs, end, err);
    }
    segments_retire(&st->segs, end->cut);
    return rc;
}

static int open_log(struct store *st, const struct recovery_end *end,
                    struct store_recovery *recovery, struct err_ctx *err)
{
    struct commit_log_options options = {
        .seed = st->seed,
        .epoch = end->epoch + 1,
        .batch_bytes_max = st->cfg.batch_bytes_max,
        .ahead_bytes = st->cfg.ahead_bytes != 0 ? st->cfg.ahead_bytes : st->segs.segment_bytes / 2,
    };
    uint64_t reserved = st->log.reserved; /* the owner has counted in its apply already */
    int rc = recovery_cut(&st->segs, end, err);

    if (rc == 0) {
        rc = settle_what_was_found(st, end, err);
    }
    if (rc == 0) {
        rc = segments_remove_leftovers(&st->segs, &recovery->segments_removed, err);
    }
    if (rc == 0) {
        rc = open_for_append(st, end->cut, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (end->epoch == UINT32_MAX) {
        return err_set(err, ESCROW_ECORRUPT, "commit log: epoch %" PRIu32 " is the last",
                       end->epoch);
    }
    st->epoch = options.epoch;
    commit_log_init(&st->log, &st->segs, &options, end->cut);
    st->log.reserved = reserved;
    st->visible = end->cut;
    return begin_epoch(st, err);
}

static void report_cut(const struct store *st, const struct recovery_end *end,
                       struct store_recovery *recovery)
{
    char where[RECOVERY_WHERE_MAX];

    recovery->cut_offset = end->cut;
    recovery->cut_bytes = end->dirty_end - end->cut;
    recovery->cut_records = end->group_records;
    if (recovery->cut_bytes > 0) {
        (void)snprintf(recovery->cut_reason, sizeof recovery->cut_reason, "%s: %s%s",
                       recovery_where(&st->segs, end->bad, where), end->why,
                       end->group_records > 0 ? "; its group is incomplete" : "");
    }
}

int store_recover(struct store *st, struct store_recovery *recovery, struct err_ctx *err)
{
    struct checkpoint ckpt = {.section_count = 0};
    struct recovery_end end = {.cut = 0};
    int rc = take_lock(st, err);

    if (rc == 0) {
        rc = load_format(st, recovery, err);
    }
    if (rc == 0) {
        segments_init(&st->segs, st->disk, st->format.segment_bytes);
        rc = load_checkpoint(st, &ckpt, err);
    }
    if (rc == 0) {
        recovery->is_bare = !recovery->is_new && st->segs.count == 0;
        recovery->checkpoint = st->checkpoint_at;
        rc = find_end(st, &ckpt, &end, err);
    }
    if (rc == 0) {
        report_cut(st, &end, recovery);
        rc = load_queues(st, &ckpt, recovery, err);
    }
    if (rc == 0) {
        rc = load_index(st, &ckpt, recovery, err);
    }
    if (rc == 0) {
        rc = folder_check_index(end.cut, key_index_end(st->index), err);
    }
    if (rc == 0) {
        rc = load_owner(st, &ckpt, err);
    }
    if (rc == 0) {
        rc = replay(st, &end, recovery, err);
    }
    checkpoint_fini(&ckpt);
    if (rc == 0) {
        rc = open_log(st, &end, recovery, err);
    }
    recovery->end = end.cut;
    recovery->epoch = st->epoch;
    return rc;
}
