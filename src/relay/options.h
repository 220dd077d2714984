/*
 * Configuration of escrow-relay: one table of options, four sources. Later ones win: default,
 * configuration file (key = value lines), environment (ESCROW_RELAY_<KEY WITH _ FOR .>), command
 * line (--key value or --key=value).
 *
 * Owns:    all strings.
 * Thread:  filled before the loop runs, then only read.
 */
#ifndef SRC_RELAY_OPTIONS_H
#define SRC_RELAY_OPTIONS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * X(member, key, kind, default, minimum, maximum, help); TEXT: minimum and maximum of its length;
 * SIZE: bytes, k m g.
 */
#define RELAY_OPTIONS(X)                                                                           \
    X(db, "db", TEXT, "", 0, 2000,                                                                 \
      "PostgreSQL, as psql takes it; what is not said comes from PGHOST, PGUSER, PGPASSFILE, ...") \
    X(broker, "broker", TEXT, "127.0.0.1:10911", 3, 127, "address of the broker")                  \
    X(namesrv, "namesrv", TEXT, "", 0, 1000,                                                       \
      "name servers, host:port,...: which other brokers may hold half messages of this database")  \
    X(brokers, "brokers", TEXT, "", 0, 4000,                                                       \
      "further such brokers, host:port,...; they are asked before markers are removed")            \
    X(source, "source", TEXT, "outbox", 1, 127,                                                    \
      "name of this outbox at the broker: one per database; letters, digits and . _ -")            \
    X(access_key, "access.key", TEXT, "", 0, 256,                                                  \
      "what requests to brokers are signed with; its secret is in secret.key.file")                \
    X(secret_key_file, "secret.key.file", TEXT, "", 0, 512, "file with the secret key, one line")  \
    X(tls, "tls", TEXT, "off", 2, 8,                                                               \
      "off, on or insecure: TLS to brokers and name servers; on checks certificate and name, "     \
      "insecure checks nothing")                                                                   \
    X(tls_ca_file, "tls.ca.file", TEXT, "", 0, 512, "authorities (PEM); default: the system's")    \
    X(tls_cert_file, "tls.cert.file", TEXT, "", 0, 512, "certificate for servers that ask (PEM)")  \
    X(tls_key_file, "tls.key.file", TEXT, "", 0, 512, "its private key (PEM), mode 0600")          \
    X(tls_server_name, "tls.server.name", TEXT, "", 0, 255,                                        \
      "name that certificates must have; default: the address that is connected to")               \
    X(check_listen, "check.listen", TEXT, "127.0.0.1:10980", 0, 80,                                \
      "address of the check-back endpoint (POST /check); off: none")                               \
    X(check_connections, "check.connections", NUMBER, "4", 1, 16,                                  \
      "connections to PostgreSQL for check-backs, opened when needed")                             \
    X(adopt, "adopt", TEXT, "", 0, 40,                                                             \
      "SYSTEM/TIMELINE: this database continues that one (restored, promoted, upgraded)")          \
    X(discard, "discard", TEXT, "", 0, 40,                                                         \
      "SYSTEM/TIMELINE: this database took that one's place; do not publish what it holds")        \
    X(batch_rows, "batch.rows", NUMBER, "4096", 1, 32768, "messages in one batch")                 \
    X(batch_bytes, "batch.bytes", SIZE, "1m", 1024, 8388608, "bytes in one batch")                 \
    X(window_bytes, "window.bytes", SIZE, "8m", 1024, 268435456,                                   \
      "sent to the broker and not answered; beyond it reading stops")                              \
    X(poll_min_ms, "poll.min.ms", NUMBER, "3", 1, 60000, "next look after messages came")          \
    X(poll_max_ms, "poll.max.ms", NUMBER, "100", 1, 60000,                                         \
      "next look when nothing came for long and no wake-up either")                                \
    X(maintain_ms, "maintain.ms", NUMBER, "1000", 10, 600000,                                      \
      "between two reports to the database and attempts to empty a partition")                     \
    X(rotate_bytes, "rotate.bytes", SIZE, "256m", 65536, 1099511627776,                            \
      "size of an outbox partition at which the next one is filled")                               \
    X(backoff_max_ms, "backoff.max.ms", NUMBER, "10000", 100, 600000,                              \
      "longest wait before trying again")                                                          \
    X(topic_wait_ms, "topic.wait.ms", NUMBER, "10000", 0, 3600000,                                 \
      "a topic that cannot be written to: so long the rows of ALL topics wait for it, then its "   \
      "rows are parked and the others go on; 0: nobody waits")                                     \
    X(db_timeout_ms, "db.timeout.ms", NUMBER, "30000", 100, 3600000,                               \
      "an answer of PostgreSQL that takes longer is a failure")                                    \
    X(publish_timeout_ms, "publish.timeout.ms", NUMBER, "10000", 100, 600000,                      \
      "an answer of the broker that takes longer is a failure")                                    \
    X(clean_ms, "markers.clean.ms", NUMBER, "60000", 100, 86400000,                                \
      "between two removals of old transaction markers")                                           \
    X(keep_ms, "markers.keep.ms", NUMBER, "3600000", 0, 86400000000,                               \
      "how long a marker outlives the oldest undecided half message")                              \
    X(keep_tombstone_ms, "tombstones.keep.ms", NUMBER, "604800000", 0, 86400000000,                \
      "how long a tombstone stays: longer than the slowest local transaction")                     \
    X(log_level, "log.level", TEXT, "info", 4, 5, "debug, info, warn or error")

struct relay_options {
    char *db;
    char *broker;
    char *namesrv;
    char *brokers;
    char *source;
    char *access_key;
    char *secret_key_file;
    char *tls, *tls_ca_file, *tls_cert_file, *tls_key_file, *tls_server_name;
    char *check_listen;
    char *adopt;
    char *discard;
    char *log_level;
    uint64_t check_connections;
    uint64_t batch_rows, batch_bytes, window_bytes;
    uint64_t poll_min_ms, poll_max_ms, maintain_ms, rotate_bytes;
    uint64_t backoff_max_ms, topic_wait_ms, db_timeout_ms, publish_timeout_ms;
    uint64_t clean_ms, keep_ms, keep_tombstone_ms;
    /* Derived by options_finish. */
    bool has_endpoint;
    uint64_t foreign_system; /* of adopt or discard; 0: neither */
    uint32_t foreign_timeline;
    bool is_adopt;
};

/* All defaults. ESCROW_ENOMEM. */
ESCROW_MUST_USE int options_init(struct relay_options *c, struct err_ctx *err);
void options_fini(struct relay_options *c);

/* `where` is put in front of an error. ESCROW_ECONFIG, ESCROW_ENOMEM. */
ESCROW_MUST_USE int options_set(struct relay_options *c, const char *key, const char *value,
                                const char *where, struct err_ctx *err);

/* ESCROW_ENOTFOUND, ESCROW_ECONFIG (file and line), ESCROW_EIO. */
ESCROW_MUST_USE int options_read_file(struct relay_options *c, const char *path,
                                      struct err_ctx *err);

ESCROW_MUST_USE int options_read_environment(struct relay_options *c, char *const *environment,
                                             struct err_ctx *err);

/* Check what depends on several options, fill the derived ones. ESCROW_ECONFIG. */
ESCROW_MUST_USE int options_finish(struct relay_options *c, struct err_ctx *err);

/* The options part of --help. */
void options_print_help(struct buf *out);

/* Every option with its help and default, commented out. */
void options_print_example(struct buf *out);

#endif
