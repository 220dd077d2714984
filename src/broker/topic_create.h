/*
 * Topics that come into being, and go: by the first send to them (template topic TBW102), by a
 * consumer group (its retry and dead-letter topics), by command. The TOPIC record is appended
 * before whatever needs the topic, so the log has it first.
 * Thread: loop.
 */
#ifndef SRC_BROKER_TOPIC_CREATE_H
#define SRC_BROKER_TOPIC_CREATE_H

#include "core/base/err.h"
#include "src/broker/topics.h"

struct broker;

/*
 * The topic, created when missing and creation is allowed: %RETRY% topics (with the queues that
 * their group is configured to have, 1) and %DLQ% topics (1 queue) always, others from the template
 * `default_topic` with at most its queues (config topic.auto.create).
 *
 * ESCROW_EBUSY: it is being deleted. ESCROW_ENOROUTE: it does not exist and may not be created;
 * ESCROW_EINVAL: the name; ESCROW_ENOSPC, ESCROW_ELIMIT, ESCROW_ENOMEM: as of an append. *err has
 * the text for the client.
 */
ESCROW_MUST_USE int topic_find_or_create(struct broker *b, struct slice name,
                                         struct slice default_topic, uint32_t queues,
                                         struct topic **out, struct err_ctx *err);

/*
 * Create, or change an existing one: append its TOPIC record. Errors as above. *wait_for: log
 * position that makes it durable.
 */
ESCROW_MUST_USE int topic_write(struct broker *b, const struct topic *topic, uint64_t *wait_for,
                                struct err_ctx *err);

/*
 * Delete an existing one: append the record that does it; nothing enters it from now on. Errors as
 * above.
 */
ESCROW_MUST_USE int topic_delete(struct broker *b, struct topic *topic, uint64_t *wait_for,
                                 struct err_ctx *err);

/*
 * First start: the topics that RocketMQ clients and tools expect of every broker. Appends what is
 * missing.
 */
ESCROW_MUST_USE int topic_create_system(struct broker *b, struct err_ctx *err);

#endif
