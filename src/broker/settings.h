/*
 * Settings, for GET_BROKER_CONFIG 26 and UPDATE_BROKER_CONFIG 25: all options with their values, as
 * lines of text, and the few that may be changed while the broker runs.
 *
 * What a request may change must not be able to do harm: no path, no address, no program, nothing
 * of access control, nothing that a promise to clients depends on. (RocketMQ's brokers let an
 * unsigned request change every option, among them a path that ended up in a command line.) A
 * change lasts until the process ends: the configuration file is its owner's.
 *
 * Owns:    nothing.
 * Thread:  loop.
 */
#ifndef SRC_BROKER_SETTINGS_H
#define SRC_BROKER_SETTINGS_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"
#include "src/broker/config.h"

/*
 * Append "key=value" lines: every option. Callback URLs, which may hold a password, are left out.
 */
void settings_print_options(struct buf *out, const struct config *c);

/*
 * The same, and behind them what RocketMQ's tools know by its own name, where it means the same
 * here.
 */
void settings_print(struct buf *out, const struct config *c, struct slice addr);

/*
 * Take "key=value" lines ('#' and '!' begin comments), all of them or none. ESCROW_EPERM: an option
 * that may not be changed; ESCROW_EINVAL: a line that is none, a value that cannot be, or nothing
 * to change. *err says which and what may be.
 */
ESCROW_MUST_USE int settings_change(struct config *c, struct slice lines, struct err_ctx *err);

#endif
