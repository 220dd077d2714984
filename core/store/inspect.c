#include "core/store/inspect.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/inspect_private.h"
#include "core/store/store_private.h"

static int inspect_lock(struct inspect *in, struct err_ctx *err)
{
    int rc = disk_open(in->disk, STORE_LOCK_PATH, DISK_WRITE, &in->lock, err);

    /*
     * An exclusive lock needs a writable handle. Where none can be had, no server of ours can run,
     * or none that we could harm.
     */
    if (rc == ESCROW_ENOTFOUND || rc == ESCROW_EROFS || rc == ESCROW_EPERM) {
        return 0;
    }
    if (rc == 0) {
        rc = disk_lock(in->lock, err);
    }
    if (rc == ESCROW_ELOCKED) {
        rc = err_set(err, rc, "%s: a server has this data folder open", STORE_LOCK_PATH);
    }
    return rc;
}

static int inspect_load(struct inspect *in, struct err_ctx *err)
{
    int rc = inspect_lock(in, err);

    if (rc == 0) {
        rc = folder_read_format(in->disk, &in->format, err);
    }
    if (rc == ESCROW_ENOTFOUND) {
        return err_set(err, rc, "%s: no such file: there is no store in this folder",
                       STORE_FORMAT_PATH);
    }
    if (rc != 0) {
        return rc;
    }
    segments_init(&in->segs, in->disk, in->format.segment_bytes);
    in->checkpoint_rc =
        folder_read_checkpoint(in->disk, &in->format, &in->checkpoint, &in->checkpoint_err);
    rc = segments_load(&in->segs, in->checkpoint_rc == 0 ? in->checkpoint.head.log_first : 0, err);
    if (rc != 0) {
        return rc;
    }
    rc = log_scan_init(&in->scan, &in->segs, envelope_seed(in->format.salt), in->segs.first, 0);
    if (rc == 0) {
        inspect_seek(in, in->segs.first);
    }
    return rc;
}

int inspect_open(struct disk *disk, struct inspect **out, struct err_ctx *err)
{
    struct inspect *in = mem_calloc(1, sizeof *in);
    int rc;

    *out = NULL;
    if (in == NULL) {
        return err_set(err, ESCROW_ENOMEM, "store: out of memory");
    }
    in->disk = disk;
    rc = inspect_load(in, err);
    if (rc != 0) {
        inspect_close(&in);
    }
    *out = in;
    return rc;
}

void inspect_close(struct inspect **in)
{
    struct inspect *i = *in;

    if (i == NULL) {
        return;
    }
    log_scan_fini(&i->scan);
    checkpoint_fini(&i->checkpoint);
    if (i->segs.disk != NULL) {
        segments_fini(&i->segs);
    }
    disk_close(&i->lock);
    mem_free(i);
    *in = NULL;
}

void inspect_info(const struct inspect *in, struct inspect_info *info)
{
    bool has_checkpoint = in->checkpoint_rc == 0;

    *info = (struct inspect_info){
        .version = in->format.version,
        .segment_bytes = in->segs.segment_bytes,
        .first = in->segs.first,
        .allocated = in->segs.allocated,
        .checkpoint = has_checkpoint ? in->checkpoint.head.position : in->segs.first,
        .segments = (uint32_t)in->segs.count,
    };
}

void inspect_seek(struct inspect *in, uint64_t offset)
{
    uint64_t aligned = offset - offset % ENVELOPE_ALIGN;

    if (aligned < in->segs.first) {
        aligned = in->segs.first;
    }
    if (aligned > in->segs.allocated) {
        aligned = in->segs.allocated;
    }
    log_scan_seek(&in->scan, aligned);
    in->group = aligned;
    in->group_count = 0;
    in->tail = 0;
}

int inspect_find_next(struct inspect *in, uint64_t *next, struct err_ctx *err)
{
    return recovery_find_next(&in->scan, in->scan.pos, next, err);
}

uint64_t inspect_tail(const struct inspect *in)
{
    return in->tail;
}

/* No valid record where one was expected: the end of the log, or damage? */
static int inspect_end(struct inspect *in, struct err_ctx *err)
{
    struct recovery_end end = {
        .bad = in->scan.pos,
        .cut = in->group,
        .group_records = in->group_count,
        .why = in->scan.why,
    };
    int rc;

    if (in->checkpoint_rc == 0 && end.bad < in->checkpoint.head.position) {
        char where[RECOVERY_WHERE_MAX];
        return err_set(err, ESCROW_ECORRUPT, "%s: %s, but the checkpoint stands behind it",
                       recovery_where(&in->segs, end.bad, where), end.why);
    }
    rc = recovery_judge(&in->scan, &end, err);
    log_scan_seek(&in->scan, end.bad); /* asking again gives the same answer */
    in->tail = end.dirty_end - end.cut;
    if (rc == 0 && in->checkpoint_rc == 0) {
        rc = folder_check_end(&in->segs, &in->checkpoint, &end, err);
    }
    return rc;
}

int inspect_check(struct inspect *in, struct err_ctx *err)
{
    struct folder folder = {
        .disk = in->disk, .segs = &in->segs, .seed = envelope_seed(in->format.salt)};
    struct folder_record last;
    int rc;

    if (in->checkpoint_rc != 0 && in->checkpoint_rc != ESCROW_ENOTFOUND) {
        return err_set(err, in->checkpoint_rc, "%s", in->checkpoint_err.text);
    }
    folder.ckpt = in->checkpoint_rc == 0 ? &in->checkpoint : NULL;
    rc = folder_check_segments(&folder, &last, err);
    if (rc == 0 && folder.ckpt != NULL) {
        rc = store_segments_decode(&in->segs, folder.ckpt, 0, err);
    }
    return rc;
}

int inspect_next(struct inspect *in, struct store_record *rec, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct envelope e;
    struct slice payload;
    int rc = log_scan_next(&in->scan, &e, &payload, err);

    if (rc == 0) {
        return inspect_end(in, err);
    }
    if (rc < 0) {
        return rc;
    }
    rc = store_record_fill(rec, &e, payload);
    rec->end = in->scan.pos;
    in->group_count++;
    if ((e.flags & ENVELOPE_MORE) == 0) {
        in->group = in->scan.pos;
        in->group_count = 0;
    }
    if (rc != 0) {
        return err_set(err, rc, "%s: payload of a %s record makes no sense",
                       recovery_where(&in->segs, e.offset, where), store_type_name(e.type));
    }
    return 1;
}
