/* What a job of the commit log does on its own thread: write and sync a batch, create a segment. */
#include "core/store/log_job.h"

#include "core/base/check.h"
#include "core/base/mem.h"

/* The error stays with the batch too: store_batch_done reports it. */
static int batch_result(const struct log_batch *batch, struct err_ctx *err)
{
    if (batch->rc != 0 && err != NULL) {
        *err = batch->err;
    }
    return batch->rc;
}

int log_batch_write(struct log_batch *batch, struct err_ctx *err)
{
    CHECK(batch->rc == 0);
    for (size_t i = 0; i < batch->piece_count && batch->rc == 0; i++) {
        const struct log_piece *piece = &batch->pieces[i];
        batch->rc = disk_pwritev(piece->file, batch->iovs + piece->iov_first, piece->iov_count,
                                 piece->file_offset, &batch->err);
    }
    if (batch->rc == ESCROW_ENOSPC) {
        /*
         * Allocated space is not there: not a full disk that waiting could cure, but a broken
         * promise.
         */
        batch->rc = ESCROW_EIO;
        batch->err.code = ESCROW_EIO;
        (void)err_prefix(&batch->err, "commit log: no space for bytes that were allocated before");
    }
    return batch_result(batch, err);
}

int log_batch_sync(struct log_batch *batch, struct err_ctx *err)
{
    CHECK(batch->rc == 0);
    for (size_t i = 0; i < batch->piece_count && batch->rc == 0; i++) {
        if (i == 0 || batch->pieces[i].file != batch->pieces[i - 1].file) {
            batch->rc = disk_sync(batch->pieces[i].file, &batch->err);
        }
    }
    return batch_result(batch, err);
}

int log_batch_run(struct log_batch *batch, struct err_ctx *err)
{
    int rc = log_batch_write(batch, err);

    return rc != 0 ? rc : log_batch_sync(batch, err);
}

struct segment_job *segment_job_new(struct disk *disk, uint64_t first, uint64_t segment_bytes)
{
    struct segment_job *job = mem_alloc(sizeof *job);

    if (job != NULL) {
        *job = (struct segment_job){.disk = disk, .first = first, .segment_bytes = segment_bytes};
    }
    return job;
}

void segment_job_run(struct segment_job *job)
{
    job->rc = segment_create(job->disk, job->first, job->segment_bytes, &job->file, &job->err);
}

void segment_job_free(struct segment_job **job)
{
    if (*job != NULL) {
        disk_close(&(*job)->file);
        mem_free(*job);
        *job = NULL;
    }
}
