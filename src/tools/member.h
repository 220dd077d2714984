/*
 * Membership of a consumer group for a command that pulls by itself: heartbeats, who else is in the
 * group, and which queues of a topic are ours by that.
 *
 * Owns:    nothing; texts are borrowed from member_init to the end.
 * Thread:  the one of main.
 * Errors:  those of cli_call, with words in cli->err.
 * Holds:   all members compute shares from the same sorted lists (core/proto/allocate.h), libescrow
 *          and RocketMQ's clients among them.
 */
#ifndef SRC_TOOLS_MEMBER_H
#define SRC_TOOLS_MEMBER_H

#include "core/proto/allocate.h"
#include "src/tools/cli.h"

#define MEMBER_BEAT_MS 10000 /* a broker forgets a client after two minutes */

struct member {
    struct cli *cli;
    const char *group;
    const char *topic;
    const char *expression;
    const char *expression_type; /* "TAG" or "SQL92" */
    bool from_last;
    int64_t version; /* of the subscription */
    char id[64];
    bool has_changed; /* a broker said that members came or went */
};

/* Before cli_start: takes cli->on_push. */
void member_init(struct member *m, struct cli *cli, const char *group);

/* Tell a broker that we are there. */
ESCROW_MUST_USE int member_beat(struct member *m, const char *addr);

/* Our share of so many queues, as the broker at addr knows the group; it must have been told. */
ESCROW_MUST_USE int member_share(struct member *m, const char *addr, size_t queues,
                                 struct allocation *share);

/* Leave the group there. What goes wrong does not matter: the broker sees the connection close. */
void member_leave(struct member *m, const char *addr);

#endif
