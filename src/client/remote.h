/*
 * Remote: requests to brokers and name servers by address, on the caller's loop. What the client
 * library, escrow-relay and the command line stand on.
 *
 * One connection per address, made at the first request and kept. Header encoding: MessagePack to
 * an escrowd, JSON to anything else; which of the two it is, is asked once per connection (HORIZON,
 * which only an escrowd knows, and behind it GET_KV_CONFIG, which every server answers). Requests
 * that wait for the connection are kept as JSON frames, which both understand.
 *
 * Owns:    connections. A struct remote_call is the caller's, embedded in its object, from
 *          remote_call until done.
 * Thread:  the loop.
 * Errors:  done gets 0, the error the other side answered, or ESCROW_ECONN (not connected: nothing
 *          was sent), ESCROW_ECLOSED (connection lost after sending), ESCROW_ETIMEOUT (sent, no
 *          answer in time), ESCROW_ESHUTDOWN.
 * Holds:   done is called exactly once per call, never inside remote_call, also when the remote is
 *          stopped.
 */
#ifndef SRC_CLIENT_REMOTE_H
#define SRC_CLIENT_REMOTE_H

#include "core/acl/sign.h"
#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/base/strmap.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/tcp.h"
#include "core/proto/answer.h"
#include "core/proto/header.h"

#include <stdbool.h>
#include <stdint.h>

#define REMOTE_ADDR_MAX 128 /* "host:port" */
#define REMOTE_KEY_MAX  256 /* access key, secret key */

struct remote;
struct remote_peer;
struct remote_call;

enum remote_encoding { REMOTE_AUTO, REMOTE_JSON, REMOTE_ROCKETMQ, REMOTE_MSGPACK };

/* Write the request's fields; of signed requests twice, the same both times. */
typedef void remote_fields_fn(struct header_writer *w, void *arg);

/*
 * The end of a call. error: see above. header and body are the answer's, borrowed until return;
 * header is NULL when there was none (error is then one of the four). remote_call may be called
 * again with the same struct from inside.
 */
typedef void remote_done_fn(struct remote_call *call, int error, struct header *header,
                            struct slice body);

/*
 * A request that the other side sent by itself: check-backs and notifications, which are one-way,
 * and questions (remote_answer).
 */
typedef void remote_push_fn(void *arg, const char *addr, struct header *header, struct slice body);

struct remote_options {
    enum remote_encoding encoding;
    uint64_t
        connect_timeout_ms; /* and for the handshake of TLS (tcp.tls), and the probe's answer */
    uint64_t
        silence_ms; /* a peer that was asked and sent not one frame for so long is disconnected */
    /*
     * What every request is signed with (core/acl/sign.h); NULL or empty: not signed. Both are only
     * read by remote_init.
     */
    const char *access_key;
    const char *secret_key;
    struct tcp_options tcp;
    remote_push_fn *on_push; /* may be NULL */
    /*
     * A connection to a broker or name server is there (what it calls goes out first), or gone
     * again. May be NULL.
     */
    void (*on_state)(void *arg, const char *addr, bool is_open);
    void *arg;
};

/* AUTO, 3 s, 10 s, defaults of core/io_uv/tcp.h without idle time-out, no callbacks. */
void remote_options_init(struct remote_options *options);

struct remote {
    struct loop *loop;
    struct tcp tcp;
    struct remote_options options;
    struct signer *signer; /* NULL: requests are not signed */
    char *access_key;
    struct strmap peers; /* address -> struct remote_peer */
    struct header header;
    struct list failed; /* calls whose done is due with an error of their own */
    struct loop_deferred fail;
    int32_t opaque;
    bool is_stopping;
};

struct remote_request {
    const char *addr; /* "host:port" */
    int32_t code;
    remote_fields_fn *fields; /* may be NULL */
    void *fields_arg;
    struct slice body; /* borrowed for the call */
    uint64_t timeout_ms;
};

struct remote_call {
    struct list node;
    struct remote *remote;
    struct remote_peer *peer;
    struct loop_timer timer;
    struct buf waiting; /* frame that waits for the connection */
    remote_done_fn *done;
    void *arg; /* the owner's */
    int32_t opaque;
    int error; /* of a call in `failed` */
    bool is_sent;
    bool is_active;
};

/* ESCROW_EINVAL: only one of access key and secret key. ESCROW_ENOMEM. */
ESCROW_MUST_USE int remote_init(struct remote *r, struct loop *l, struct hash_key key,
                                const struct remote_options *options);

/* Every call ends with ESCROW_ESHUTDOWN; connections close. Runs the loop until they have. */
void remote_fini(struct remote *r);

/*
 * Send a request; done follows. The struct must be zeroed before its first use. A call that cannot
 * even be made (out of memory, bad address, frame too large) ends like any other, with that error.
 */
void remote_call(struct remote *r, struct remote_call *call, const struct remote_request *req,
                 remote_done_fn *done);

/*
 * Give the call up: done will not be called. An answer that still comes is dropped. Not active is
 * fine.
 */
void remote_cancel(struct remote_call *call);

/*
 * Send without asking for an answer. ESCROW_ECONN: there is no open connection (one is being made
 * for the next time).
 */
ESCROW_MUST_USE int remote_oneway(struct remote *r, const struct remote_request *req);

/*
 * Answer a request that the other side sent by itself and that is not one-way. ESCROW_ECONN: the
 * connection it came on may be gone; what a full output says.
 */
ESCROW_MUST_USE int remote_answer(struct remote *r, const char *addr, struct answer_to to,
                                  int32_t code, struct slice remark, struct slice body);

/* "host:port" or "[address]:port", with a port from 1 to 65535. Any thread. */
bool remote_addr_is_valid(const char *addr);

/* Close the connection to an address, if there is one; calls on it end with ESCROW_ECLOSED. */
void remote_disconnect(struct remote *r, const char *addr);

/* Is there an open connection, and to an escrowd? */
bool remote_is_open(const struct remote *r, const char *addr);
bool remote_is_escrowd(const struct remote *r, const char *addr);

/*
 * Which broker the one at the open connection is, whatever its address: the identity that it gave
 * when it was asked what it is (body_inspect.h, 30007). Empty: no connection, no escrowd, or it was
 * not asked (an encoding was prescribed). The remote's, until the connection is gone.
 */
const char *remote_identity(const struct remote *r, const char *addr);

#endif
