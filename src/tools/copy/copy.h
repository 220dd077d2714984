/*
 * escrow copy: its parts. What is copied, in which order, and what is not, stands in README.md.
 *
 * Two sides, each with a loop of its own: `from`, RocketMQ's name servers and brokers (or another
 * escrowd's), which is only asked, and `to`, one escrowd. Every request that is made of either may
 * be made twice without harm, so that one whose answer was lost is simply repeated.
 *
 * Owns:    everything in struct copy, from copy_start to copy_stop.
 * Thread:  main's.
 * Errors:  negative ESCROW_E..., with words in copy->err. What concerns one topic or group is told
 *          (copy_failed) and the copy goes on; what concerns a side ends it (copy_is_over).
 */
#ifndef SRC_TOOLS_COPY_COPY_H
#define SRC_TOOLS_COPY_COPY_H

#include "core/proto/body_group.h"
#include "core/proto/body_topic.h"
#include "core/proto/json_write.h"
#include "core/proto/names.h"
#include "src/tools/cli.h"
#include "src/tools/copy/position.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COPY_BROKERS_MAX CLI_BROKERS_MAX

enum copy_step { COPY_TOPICS, COPY_GROUPS, COPY_MESSAGES, COPY_OFFSETS, COPY_STEPS };

struct copy_broker {
    char name[ROUTER_NAME_MAX];
    char addr[REMOTE_ADDR_MAX];
    char cluster[ROUTER_NAME_MAX];
    struct topic_table topics;
    struct group_table groups;
};

/* The queues of a topic that one broker has. */
struct copy_part {
    size_t broker;
    uint32_t queues; /* as many as it reads or writes, whichever is more */
    uint32_t base;   /* its queue 0 is this one of the new topic */
};

struct copy_topic {
    char name[RETRY_TOPIC_LEN_MAX + 1];
    struct topic_config config; /* as it is to be: name points to the one above */
    struct copy_part *parts;    /* ordered by the names of the brokers */
    size_t part_count;
    size_t group_count; /* that have an offset in one of its queues */
};

struct copy_group {
    struct group_config config; /* name borrowed from its broker's table */
    bool is_unknown;            /* how far it is could not be asked; told */
};

/* One group's offset in one old queue. */
struct copy_offset {
    size_t topic;
    size_t broker;
    size_t group;
    int32_t queue;
    int64_t offset;
};

struct copy {
    struct cli from;
    struct cli to;
    struct err_ctx err;
    struct cli *at; /* the side that was asked last */
    /* options */
    struct arg_texts topic_patterns;
    struct arg_texts group_patterns;
    struct arg_texts broker_names;
    bool has_step[COPY_STEPS];
    bool is_dry;
    bool is_overwrite;
    bool is_all_messages;
    bool is_skip_others;
    bool is_skip_refused;
    bool is_again; /* messages: as if none had been copied */
    /* the source: everything ordered by name */
    struct copy_broker *brokers;
    size_t broker_count;
    struct copy_topic *topics;
    size_t topic_count;
    struct copy_group *groups; /* in no order */
    size_t group_count;
    char (*consumers)[GROUP_LEN_MAX + 1]; /* groups that consume the topics of --topic */
    size_t consumer_count;
    size_t consumer_cap;
    bool has_unknown;            /* groups of which it is not known how far they are */
    struct copy_offset *offsets; /* ordered by topic, broker, queue, group */
    size_t offset_count;
    size_t offset_cap;
    /* the target */
    char to_addr[REMOTE_ADDR_MAX];
    struct topic_table to_topics;
    struct group_table to_groups;
    /* what was told */
    struct buf out; /* --json: one array */
    struct json_writer w;
    size_t failures;
    int64_t progress_ms; /* when progress was told last */
};

/* ---- both sides (ask.c) ---- */

/*
 * Ask and wait, and ask again a few times when the other side is busy or its answer is lost. As
 * cli_call, with the words in c->err.
 */
ESCROW_MUST_USE int copy_ask(struct copy *c, struct cli *side, const struct cli_request *req,
                             cli_answer_fn *fn, void *arg);
ESCROW_MUST_USE int copy_ask_pull(struct copy *c, const struct cli_request *req, cli_answer_fn *fn,
                                  void *arg);

/* GET_MIN_OFFSET or GET_MAX_OFFSET of a queue. */
struct copy_queue {
    const char *addr;
    const char *topic;
    uint32_t queue;
};
ESCROW_MUST_USE int copy_ask_offset(struct copy *c, struct cli *side, int32_t code,
                                    const struct copy_queue *queue, int64_t *offset);

/* An error of our own. Returns it. */
int copy_error(struct copy *c, int error, const char *fmt, ...) ESCROW_PRINTF(3, 4);

/* May nothing more be tried after this error? */
bool copy_is_over(const struct copy *c, int error);

/* ---- what is told (ask.c) ---- */

/* A line, or an object of the array: what became of a topic, a group, messages, offsets. */
void copy_told(struct copy *c, const char *kind, const char *name, const char *fmt, ...)
    ESCROW_PRINTF(4, 5);

/* One line on standard error: it was not copied, and why; counted. */
void copy_failed(struct copy *c, const char *name, const char *fmt, ...) ESCROW_PRINTF(3, 4);

/* One line on standard error that is no failure. */
void copy_warn(struct copy *c, const char *name, const char *fmt, ...) ESCROW_PRINTF(3, 4);

/* The error of a topic or group: told as copy_failed; 0, or the error when it ends the copy. */
ESCROW_MUST_USE int copy_settle(struct copy *c, int error, const char *name);

/* ---- the source (source.c, groups.c, members.c, waiting.c) ---- */

/* Brokers, and the topics and groups that are wanted. */
ESCROW_MUST_USE int copy_read_source(struct copy *c);
void copy_free_source(struct copy *c);

/* The groups that are wanted, from the tables of the brokers (part of copy_read_source). */
ESCROW_MUST_USE int copy_read_groups(struct copy *c);

/* How far the groups are, as of now. */
ESCROW_MUST_USE int copy_read_offsets(struct copy *c);

/*
 * Which groups have an offset in, or subscribe to, a topic that --topic names (part of
 * copy_read_source).
 */
ESCROW_MUST_USE int copy_read_consumers(struct copy *c);
bool copy_is_consumer(const struct copy *c, struct slice group);

/* A topic like others, not a retry or dead-letter topic, that --topic names. */
bool copy_names_topic(const struct copy *c, struct slice name);

/* Has the group members that are connected to the broker? */
ESCROW_MUST_USE int copy_ask_members(struct copy *c, struct cli *side, const char *addr,
                                     const char *group, bool *is_online);

/* Which groups have members there, told when there are any. */
ESCROW_MUST_USE int copy_read_members(struct copy *c);

/* What waits inside the brokers and is not copied: told when there is any. */
ESCROW_MUST_USE int copy_tell_waiting(struct copy *c);

bool copy_is_system_group(struct slice name);
bool copy_wants_group(const struct copy *c, struct slice name);

/* The offsets of one old queue; NULL when no group has any. */
const struct copy_offset *copy_offsets_of(const struct copy *c, size_t topic, size_t broker,
                                          int32_t queue, size_t *count);

/* ---- the target (target.c) ---- */

/* The one broker that is meant, an escrowd and none of the source's. */
ESCROW_MUST_USE int copy_find_target(struct copy *c);

/* Its topics and groups, as of now. */
ESCROW_MUST_USE int copy_read_target(struct copy *c);
void copy_free_target(struct copy *c);
const struct topic_config *copy_target_topic(const struct copy *c, const char *name);

ESCROW_MUST_USE int copy_topics(struct copy *c);
ESCROW_MUST_USE int copy_groups(struct copy *c);

/* ---- messages and offsets ---- */

/* Name of a part's position, and of the source that the target keeps it under. */
struct copy_source_name {
    char text[64];
    char owner[128]; /* for people: what it is */
    struct buf full; /* cluster, broker and topic, each with a NUL behind it */
};
ESCROW_MUST_USE int copy_source_name(struct copy *c, const struct copy_topic *topic,
                                     const struct copy_part *part, struct copy_source_name *name);

/*
 * The position of a part, empty when there is none; with epoch, this copy becomes the one that may
 * move it. *raw: as it is stored, appended.
 */
ESCROW_MUST_USE int copy_position_ask(struct copy *c, const struct copy_source_name *name,
                                      const struct copy_part *part, struct copy_position *position,
                                      struct buf *raw, uint64_t *epoch);

ESCROW_MUST_USE int copy_messages(struct copy *c);
ESCROW_MUST_USE int copy_offsets(struct copy *c);

#endif
