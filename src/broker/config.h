/*
 * Configuration of escrowd: one table of options, four sources. Later sources win: built-in
 * default, configuration file (key = value lines), environment (ESCROW_ and the key in capitals, _
 * for .), command line (--key value or --key=value).
 *
 * Everything from outside is checked here, once, with a line that says which option, from where,
 * and what it may be.
 *
 * Owns:    all strings.
 * Thread:  filled before the loop runs; then only settings.h changes it, on the loop.
 */
#ifndef SRC_BROKER_CONFIG_H
#define SRC_BROKER_CONFIG_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "src/broker/delay.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_CALLBACKS_MAX 1000
#define CONFIG_TEXT_MAX      1024

/*
 * X(member, key, kind, default, minimum, maximum, help). kind: TEXT (minimum and maximum of its
 * length), SIZE (bytes; k, m, g after the number), NUMBER, BOOL, CHOICE (help begins with the
 * choices).
 */
#define CONFIG_OPTIONS(X)                                                                          \
    X(role, "role", CHOICE, "both", 0, 0, "both|broker|namesrv: what this process is")             \
    X(data_dir, "data.dir", TEXT, "", 0, 512,                                                      \
      "folder of the log, and of a name server's key-value configuration; default "                \
      "/var/lib/escrow for root, else $XDG_STATE_HOME/escrow or ~/.local/state/escrow")            \
    X(listen_host, "listen.host", TEXT, "127.0.0.1", 1, 64,                                        \
      "address to listen on; other machines need 0.0.0.0 or an address of this one")               \
    X(broker_port, "broker.port", NUMBER, "10911", 0, 65535,                                       \
      "port of the broker; 0: any free one")                                                       \
    X(vip_port, "broker.vip.port", NUMBER, "10909", 0, 65535,                                      \
      "second port with the same service, for RocketMQ clients up to 4.4; 0: none")                \
    X(namesrv_port, "namesrv.port", NUMBER, "9876", 0, 65535,                                      \
      "port of the name server; 0: any free one")                                                  \
    X(namesrv_addrs, "namesrv.addrs", TEXT, "", 0, 1024,                                           \
      "other name servers to register with: host:port;host:port")                                  \
    X(broker_name, "broker.name", TEXT, "escrow-a", 1, 127,                                        \
      "name of this broker in routes, of letters, digits and . _ -; each broker needs one of its " \
      "own")                                                                                       \
    X(cluster_name, "cluster.name", TEXT, "DefaultCluster", 1, 127, "name of the cluster")         \
    X(broker_ip, "broker.ip", TEXT, "", 0, 64,                                                     \
      "address that clients are told to connect to; default: listen.host; has to be given when "   \
      "that is 0.0.0.0")                                                                           \
    X(listen_insecure, "listen.insecure", BOOL, "false", 0, 0,                                     \
      "listen on an address of other machines although nothing checks who they are")               \
    X(acl_file, "acl.file", TEXT, "", 0, 512,                                                      \
      "users file: every request must be signed by a user in it, and do what it allows; empty: "   \
      "no access control")                                                                         \
    X(access_key, "access.key", TEXT, "", 0, 256,                                                  \
      "what registrations at other name servers are signed with; its secret is in "                \
      "secret.key.file")                                                                           \
    X(secret_key_file, "secret.key.file", TEXT, "", 0, 512, "file with the secret key, one line")  \
    X(acl_reload_ms, "acl.reload.ms", NUMBER, "2000", 50, 3600000,                                 \
      "how often to look whether the users file has changed")                                      \
    X(tls_mode, "tls.mode", CHOICE, "disabled", 0, 0,                                              \
      "disabled|permissive|enforcing: TLS on every port, told by its first byte; permissive "      \
      "takes plain connections too")                                                               \
    X(tls_cert_file, "tls.cert.file", TEXT, "", 0, 512, "certificate and its chain (PEM)")         \
    X(tls_key_file, "tls.key.file", TEXT, "", 0, 512,                                              \
      "private key of the certificate (PEM), mode 0600")                                           \
    X(tls_ca_file, "tls.ca.file", TEXT, "", 0, 512,                                                \
      "authorities that certificates of clients, and of name servers, are checked against (PEM)")  \
    X(tls_client_cert, "tls.client.cert", CHOICE, "none", 0, 0,                                    \
      "none|optional|required: certificates of clients; one that is shown has to be good")         \
    X(tls_handshake_ms, "tls.handshake.ms", NUMBER, "10000", 100, 600000,                          \
      "a handshake that takes longer is given up")                                                 \
    X(namesrv_tls, "namesrv.tls", CHOICE, "off", 0, 0,                                             \
      "off|on|insecure: TLS to the name servers of namesrv.addrs; on checks certificate and "      \
      "name, insecure checks nothing")                                                             \
    X(namesrv_tls_name, "namesrv.tls.name", TEXT, "", 0, 255,                                      \
      "name that their certificates must have; default: the host in namesrv.addrs")                \
    X(flush, "flush", CHOICE, "sync", 0, 0,                                                        \
      "sync|async: answer producers after the disk has the message, or after the kernel has it")   \
    X(segment_bytes, "log.segment.bytes", SIZE, "1g", 1048576, 4294967296,                         \
      "size of a log file; of a new data folder only")                                             \
    X(checkpoint_bytes, "log.checkpoint.bytes", SIZE, "64m", 1048576, 17179869184,                 \
      "log between two checkpoints; bounds the time a restart takes")                              \
    X(batch_bytes, "log.batch.bytes", SIZE, "32m", 4194304, 33554432,                              \
      "unwritten log in memory before producers are told to wait")                                 \
    X(file_reserved_ms, "file.reserved.ms", NUMBER, "259200000", 1, 315360000000,                  \
      "how long messages are kept at least; RocketMQ's fileReservedTime")                          \
    X(delete_when, "delete.when", TEXT, "04", 1, 128,                                              \
      "hours of the day at which older ones are deleted, 04;16 for two; any: at any time")         \
    X(disk_max_used, "disk.max.used.ratio", NUMBER, "75", 10, 100,                                 \
      "percent of the disk in use beyond which they are deleted at any hour; 100: never")          \
    X(disk_clean_forcibly, "disk.clean.forcibly.ratio", NUMBER, "100", 10, 100,                    \
      "percent beyond which the oldest messages are deleted however young; 100: never")            \
    X(disk_warning, "disk.warning.ratio", NUMBER, "90", 10, 100,                                   \
      "percent beyond which new messages are refused; 100: only when no log file fits any more")   \
    X(retention_interval_ms, "retention.interval.ms", NUMBER, "10000", 10, 3600000,                \
      "how often to look at the disk and at the age of messages")                                  \
    X(message_max_bytes, "message.max.bytes", SIZE, "4m", 1024, 4194304, "largest message body")   \
    X(frame_max_bytes, "frame.max.bytes", SIZE, "16m", 65536, 16777216,                            \
      "largest frame; a larger one closes its connection")                                         \
    X(connections_max, "connections.max", NUMBER, "10000", 1, 1000000, "connections per port")     \
    X(inflight_max_bytes, "inflight.max.bytes", SIZE, "16m", 65536, 1073741824,                    \
      "requests of one connection that wait for their answer; beyond it nothing more is read")     \
    X(out_max_bytes, "output.max.bytes", SIZE, "32m", 1048576, 1073741824,                         \
      "answers that one connection has not taken; beyond it the connection is closed")             \
    X(memory_max_bytes, "memory.max.bytes", SIZE, "1g", 16777216, 1099511627776,                   \
      "buffers of all connections together")                                                       \
    X(idle_timeout_ms, "connection.idle.ms", NUMBER, "120000", 1000, 86400000,                     \
      "a connection without traffic for so long is closed")                                        \
    X(topic_auto_create, "topic.auto.create", BOOL, "true", 0, 0,                                  \
      "create a topic at the first message sent to it")                                            \
    X(pulls_held_max, "pulls.held.max", NUMBER, "100000", 1, 10000000,                             \
      "long-polling pulls that wait at a time")                                                    \
    X(offsets_flush_ms, "offsets.flush.ms", NUMBER, "1000", 10, 60000,                             \
      "how long a consumer offset may wait for the log when nobody waits for it")                  \
    X(queue_lock_ms, "queue.lock.ms", NUMBER, "60000", 100, 600000,                                \
      "a queue that is consumed in order is another's when its lock was not renewed for so long; " \
      "RocketMQ's rebalance.lockMaxLiveTime")                                                      \
    X(txn_timeout_ms, "txn.timeout.ms", NUMBER, "6000", 10, 86400000,                              \
      "age of a half message at its first check, unless the message says otherwise")               \
    X(txn_interval_ms, "txn.check.interval.ms", NUMBER, "30000", 10, 86400000,                     \
      "time to the next check; doubles up to txn.check.interval.max.ms")                           \
    X(txn_interval_max_ms, "txn.check.interval.max.ms", NUMBER, "600000", 10, 86400000,            \
      "longest time between two checks")                                                           \
    X(txn_checks_max, "txn.check.max", NUMBER, "15", 1, 255,                                       \
      "answered checks without a decision before a half expires")                                  \
    X(txn_group_rate, "txn.check.rate", NUMBER, "500", 1, 1000000,                                 \
      "checks per second and producer group")                                                      \
    X(txn_halves_max, "txn.halves.max", NUMBER, "16777216", 1, 1000000000,                         \
      "undecided halves; more are refused")                                                        \
    X(delay_levels, "delay.levels", TEXT,                                                          \
      "1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h", 1, 1024,                       \
      "delays of level 1, 2, ...: numbers with ms, s, m, h or d; also those of retries")           \
    X(delay_max_ms, "delay.max.ms", NUMBER, "259200000", 1000, 31536000000,                        \
      "a message that asks to be delivered later than this is refused; levels are not bounded")    \
    X(delay_held_max, "delay.held.max", NUMBER, "4194304", 1, 1000000000,                          \
      "messages held for a time; more are refused")                                                \
    X(callback_timeout_ms, "callback.timeout.ms", NUMBER, "5000", 100, 60000,                      \
      "an HTTP check-back without an answer for so long has none")                                 \
    X(drain_timeout_ms, "drain.timeout.ms", NUMBER, "5000", 0, 600000,                             \
      "at SIGTERM: how long to wait for clients to take their answers")                            \
    X(log_level, "log.level", CHOICE, "info", 0, 0, "debug|info|warn|error")

struct config_callback {
    char *group; /* "default" = every other group */
    char *url;
};

struct config {
    /* As text, every option; filled by the sources. */
    char *role;
    char *data_dir;
    char *listen_host;
    char *namesrv_addrs;
    char *broker_name;
    char *cluster_name;
    char *broker_ip;
    char *acl_file;
    char *access_key;
    char *secret_key_file;
    char *tls_mode, *tls_cert_file, *tls_key_file, *tls_ca_file, *tls_client_cert;
    char *namesrv_tls, *namesrv_tls_name;
    char *flush;
    char *log_level;
    char *delay_levels;
    char *delete_when;
    /* Numbers. */
    uint64_t broker_port, vip_port, namesrv_port;
    uint64_t segment_bytes, checkpoint_bytes, batch_bytes;
    uint64_t message_max_bytes, frame_max_bytes;
    uint64_t connections_max, inflight_max_bytes, out_max_bytes, memory_max_bytes, idle_timeout_ms;
    uint64_t pulls_held_max, offsets_flush_ms, queue_lock_ms;
    uint64_t txn_timeout_ms, txn_interval_ms, txn_interval_max_ms, txn_checks_max, txn_group_rate,
        txn_halves_max;
    uint64_t callback_timeout_ms, drain_timeout_ms;
    uint64_t delay_max_ms, delay_held_max;
    uint64_t acl_reload_ms;
    uint64_t file_reserved_ms, disk_max_used, disk_clean_forcibly, disk_warning;
    uint64_t retention_interval_ms;
    uint64_t tls_handshake_ms;
    bool topic_auto_create;
    bool listen_insecure;
    /* Check-back URLs: callback.<group> = url, --callback group=url. */
    struct config_callback *callbacks;
    size_t callback_count;
    /* Derived by config_finish. */
    struct delay_rules delay;
    uint32_t delete_hours;    /* bit h: local time h:00 to h:59 */
    bool is_default_data_dir; /* data.dir was not given */
    bool is_broker;
    bool is_namesrv;
    bool flush_async;
};

/* All defaults. ESCROW_ENOMEM. */
ESCROW_MUST_USE int config_init(struct config *c, struct err_ctx *err);
void config_fini(struct config *c);

/*
 * Set one option by key ("broker.port", "callback.orders"). `where` is put in front of an error
 * ("escrowd.conf:12", "--broker.port"). ESCROW_ECONFIG: unknown key or bad value, with what it may
 * be; ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int config_set(struct config *c, const char *key, const char *value,
                               const char *where, struct err_ctx *err);

/*
 * Read key = value lines; '#' and ';' begin comments. ESCROW_ENOTFOUND, ESCROW_ECONFIG (file and
 * line), ESCROW_EIO.
 */
ESCROW_MUST_USE int config_read_file(struct config *c, const char *path, struct err_ctx *err);

/*
 * Take every ESCROW_... variable that names an option; other variables are not ours to judge.
 * ESCROW_ECONFIG.
 */
ESCROW_MUST_USE int config_read_environment(struct config *c, char *const *environment,
                                            struct err_ctx *err);

/*
 * Check what depends on several options and fill the derived ones. ESCROW_ECONFIG, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int config_finish(struct config *c, struct err_ctx *err);

/* URL for a producer group, or NULL. */
const char *config_callback_url(const struct config *c, const char *group);

/* The example configuration: every option with its help and default, all commented out. */
void config_print_example(struct buf *out);

/* The options part of --help. */
void config_print_help(struct buf *out);

#endif
