/*
 * escrow copy, messages: one topic at one old broker while it is copied, and what its files
 * (batch.c, pull.c, queue.c, messages.c) do with it.
 *
 * Owns:    place points into position and moves when one is added; the bufs are messages.c's to
 *          free.
 * Thread:  main's.
 * Errors:  as copy.h.
 */
#ifndef SRC_TOOLS_COPY_STREAM_H
#define SRC_TOOLS_COPY_STREAM_H

#include "core/proto/body_publish.h"
#include "core/proto/properties.h"
#include "src/tools/copy/copy.h"

#define BATCH_ROWS_MAX  1000
#define BATCH_SIZE_GOAL (1u << 20)
/*
 * Beyond it a message is left for the next batch, unless it is the first: a frame has to hold it
 * all. Less than the goal and the largest message together, so that tests come here.
 */
#define BATCH_SIZE_MAX (9u << 19)

/* One topic at one old broker. */
struct stream {
    struct copy *c;
    const struct copy_topic *topic;
    const struct copy_part *part;
    struct copy_source_name name;
    struct copy_position position; /* as of the batch that is being made */
    struct copy_place *place;      /* of the queue whose turn it is; NULL: none yet */
    struct buf prev;               /* the position that is stored */
    struct buf next;
    uint64_t epoch; /* 0: not opened yet */
    /* the queue */
    uint32_t queue;
    int64_t at;      /* old offset of the next message */
    int64_t end;     /* old offset behind the last */
    int64_t start;   /* new offset behind what is there */
    bool is_unsaved; /* the position that is stored does not know yet who wrote into the queue */
    bool is_looking; /* at the last message that was copied, the one before `at` */
    int64_t gone;   /* messages behind the last copied one that the source does not have any more */
    int64_t wanted; /* old offset of the first message that is to be at the target */
    /* the batch */
    struct publish_writer pub;
    struct buf body;
    bool has_batch;
    bool is_full;
    int64_t batch_at;    /* s->at when it was begun */
    int64_t alone_until; /* old offset up to which each message gets a batch of its own */
    struct buf saved;    /* the position as of the last batch, to go back to */
    /* a message that cannot be copied */
    int refused; /* the error; 0: none */
    int64_t refused_at;
    char refused_text[160];
    int64_t told_to; /* old offset up to which what was passed over has been told */
    /* the part */
    bool has_work;
    int64_t passed; /* messages that were passed over */
    int64_t copied; /* stored, of the topic at this broker */
    int64_t found;  /* to be copied when the topic's turn came */
    uint8_t properties[PROPERTIES_LEN_MAX];
};

/* ---- batch.c ---- */

/* The batch has begun: rows may be put into s->pub. */
void stream_begin_batch(struct stream *s);

/* Publish what was put, with the position that s->position is by now, and look. */
ESCROW_MUST_USE int stream_flush_batch(struct stream *s);

/* Where does the queue end at the target: has anybody else written into it? Sets s->start. */
ESCROW_MUST_USE int stream_look(struct stream *s);

/* Remember s->position, and go back to what was remembered last; every batch remembers. */
ESCROW_MUST_USE int stream_save(struct stream *s);
ESCROW_MUST_USE int stream_restore(struct stream *s);

/* Does the error mean that the message, or one of the batch, cannot be copied, ever? */
bool stream_is_refusal(int error);

/* ---- pull.c ---- */

/* Put what comes next, from s->at on, into the batch; s->at moves on, or s->is_full is set. */
ESCROW_MUST_USE int stream_pull(struct stream *s);

/*
 * Is the store the one that was copied from before? The last message that was copied is looked at.
 */
ESCROW_MUST_USE int stream_check_store(struct stream *s);

/* The message at an old offset cannot be copied. */
void stream_refuse(struct stream *s, int64_t offset, int error, const char *why);

/* The source passed over what is between s->at and an offset: gone there, or not to be read. */
void stream_tell_gap(struct stream *s, int64_t next);

/* ---- queue.c ---- */

/* From where to where s->queue is to be copied, by the position: s->at, s->end. */
ESCROW_MUST_USE int stream_find_range(struct stream *s);

/*
 * The turn of s->queue. After an error the position may hold what is not stored: stream_restore.
 */
ESCROW_MUST_USE int stream_copy_queue(struct stream *s);

#endif
