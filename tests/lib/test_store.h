/*
 * A store under test, with everything around it that a broker would be: jobs run inline, and a
 * small owner that keeps halves, decisions and counters the way the real ones do.
 *
 * A TOPIC record drops the topic that its payload names; zeros behind the name do not count.
 *
 * Owns:    the store and the owner's tables; the disk is borrowed.
 * Thread:  one.
 * Holds:   what the owner knows comes from apply() and its checkpoint section alone, so that two
 *          runs over the same log must agree.
 */
#ifndef TESTS_LIB_TEST_STORE_H
#define TESTS_LIB_TEST_STORE_H

#include "core/store/store.h"
#include "txn/carried.h"

#define TEST_HALVES_MAX 512

enum test_half_state {
    TEST_HALF_UNDECIDED,
    TEST_HALF_COMMITTED,
    TEST_HALF_ROLLED_BACK,
};

struct test_half {
    uint64_t offset;
    uint32_t payload_size;
    int64_t tag_code;
    int64_t store_ms;
    char topic[64];
    uint32_t queue_id;
    enum test_half_state state;
};

struct test_owner {
    uint64_t position; /* last POSITION applied */
    uint64_t applied;  /* records seen */
    uint64_t messages;
    uint64_t raw_bytes; /* of payloads that are nobody's business */
    uint64_t last_offset;
    bool fails; /* apply answers ESCROW_ENOMEM */
    uint32_t half_count;
    struct test_half halves[TEST_HALVES_MAX];
};

struct txn;
struct timers;

struct test_store {
    uint32_t damage_count; /* calls of store_owner.damaged; the last one: */
    uint64_t damage_offset;
    int64_t damage_queue_offset; /* -1: without a queue */
    char damage_text[512];
    uint32_t index_lost_count; /* calls of store_owner.index_lost; the last one: */
    char index_lost_text[512];
    uint32_t rebuilt_count; /* entries, of all calls of store_owner.rebuilt, and those left */
    uint32_t left_count;
    char rebuilt_text[1024]; /* of the last call */
    uint32_t list_count;     /* calls of store_owner.list_releases, in a store with txn */
    uint32_t list_stop;      /* the one in which store_stop_rebuilds is called; 0: none */
    struct disk *disk;
    struct store *st;
    struct test_owner owner;
    struct store_recovery recovery;
    struct err_ctx err;
    int64_t now_ms;
    bool no_prepare;        /* test_store_run leaves segments alone */
    struct txn *txn;        /* the real half-message store beside the small one, or NULL */
    struct timers *timers;  /* with it: messages held for a time */
    bool is_txn_saved;      /* in the checkpoint under way */
    struct carried carried; /* and those of both that were carried forward */
};

/* 1 MiB segments, checkpoints only when asked for. */
void test_store_config(struct store_config *cfg);

/* Open; the result of store_open. cfg NULL = test_store_config. The owner starts empty. */
ESCROW_MUST_USE int test_store_open(struct test_store *ts, struct disk *disk,
                                    const struct store_config *cfg);
void test_store_close(struct test_store *ts);

/*
 * The same with the real half-message store (txn/) behind every half and decision. The small table
 * of the owner is kept too, and test_txn_check compares the two.
 */
ESCROW_MUST_USE int test_store_open_txn(struct test_store *ts, struct disk *disk,
                                        const struct store_config *cfg);
void test_txn_check(struct test_store *ts);

/* Take, run and complete batches and segment preparations until there is nothing to do. */
ESCROW_MUST_USE int test_store_run(struct test_store *ts);

/* One checkpoint, if anything is newer than the last. */
ESCROW_MUST_USE int test_store_checkpoint(struct test_store *ts, bool force);

/* Complete one that was taken; NULL inside is fine. */
ESCROW_MUST_USE int test_store_flush(struct test_store *ts, struct flush_job **job);

/*
 * Give up the log below `first`, in memory; with the checkpoint that makes it durable, and the
 * unlinking that follows.
 */
ESCROW_MUST_USE int test_store_give_up(struct test_store *ts, uint64_t first);
ESCROW_MUST_USE int test_store_retain(struct test_store *ts, uint64_t first);

/* Batches, checkpoint, close. */
ESCROW_MUST_USE int test_store_stop(struct test_store *ts);

/* A message with these properties; body may hold anything. */
struct test_message {
    const char *topic;
    uint32_t queue_id;
    struct slice body;
    const char *tag; /* NULL = none, like the next two */
    const char *uniq;
    const char *keys;
    int64_t due_ms; /* TIMER_OUT_MS, 0 = none */
};
ESCROW_MUST_USE int test_append(struct test_store *ts, enum store_type type,
                                const struct test_message *m, struct store_receipt *out);

/* Append a message whose body is text. */
ESCROW_MUST_USE int test_send(struct test_store *ts, const char *topic, uint32_t queue_id,
                              const char *body, struct store_receipt *out);

/* Append a half as the broker does: reserve room for its decision too. */
ESCROW_MUST_USE int test_half(struct test_store *ts, const struct test_message *m,
                              struct store_receipt *out);

/*
 * Messages of `topic` with the keys "0", "1", ... in hexadecimal until one file of the key index is
 * full, and a checkpoint. path: that file, at least 64 bytes. Returns how many keys there are.
 */
uint32_t test_fill_index(struct test_store *ts, const char *topic, char *path);

/* Decide halves (by physical offset), all in one record. They must have been applied. */
ESCROW_MUST_USE int test_decide(struct test_store *ts, bool commit, const uint64_t *offsets,
                                uint32_t count, struct store_receipt *out);

/*
 * With the real half-message store: append a message held for so long; release what is due, in one
 * record (*count = 0: nothing is, and nothing was appended).
 */
ESCROW_MUST_USE int test_hold(struct test_store *ts, const struct test_message *m, int64_t delay_ms,
                              struct store_receipt *out);
ESCROW_MUST_USE int test_release_due(struct test_store *ts, uint64_t *offsets, uint32_t *count,
                                     struct store_receipt *out);

/* Carry the held message whose first record is at `id` to the end of the log. */
ESCROW_MUST_USE int test_carry(struct test_store *ts, uint64_t id, struct store_receipt *out);

ESCROW_MUST_USE int test_position(struct test_store *ts, uint64_t position,
                                  struct store_receipt *out);

struct test_half *test_owner_find(struct test_owner *owner, uint64_t offset);

/*
 * Pull a whole queue from `offset` on (from its first message when that is later), running fetches
 * inline, and call fn for every message. The
 * result of store_pull when it is an error; a non-zero result of fn ends it.
 */
typedef int test_visit_fn(void *arg, const struct record_view *view);
ESCROW_MUST_USE int test_pull(struct test_store *ts, const char *topic, uint32_t queue_id,
                              int64_t offset, test_visit_fn *fn, void *arg);

/* Bodies of a queue, joined with ','. Static buffer. On an error its name. */
const char *test_bodies(struct test_store *ts, const char *topic, uint32_t queue_id);

#endif
