/*
 * Happy path: the first name server that answers says which brokers there are; each is asked; the
 * last answer ends the question. Whoever does not answer is left out, and makes it incomplete.
 */
#include "src/relay/horizons.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "core/proto/body_route.h"
#include "core/proto/codes.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

struct horizon_call {
    struct remote_call call;
    struct horizons *owner;
    char addr[REMOTE_ADDR_MAX];
};

struct horizons {
    struct remote *remote;
    uint64_t timeout_ms;
    char servers[SINK_BROKERS_MAX][REMOTE_ADDR_MAX];
    size_t server_count;
    size_t server;      /* being asked */
    size_t fixed_count; /* the first so many of calls are configured */
    bool is_told;       /* a person named name servers or further brokers */
    /* The question. */
    struct sink_horizon *question; /* NULL: none */
    struct remote_call server_call;
    struct horizon_call calls[SINK_BROKERS_MAX];
    size_t call_count;
    size_t open_count;
    struct sink_broker answers[SINK_BROKERS_MAX];
    size_t answer_count;
    char missing[REMOTE_ADDR_MAX + 64];
};

/* Next address of a list; SLICE_EMPTY at its end. */
static struct slice list_next(const char **list)
{
    struct slice addr;

    *list += strspn(*list, ",; ");
    addr = slice_of(*list, strcspn(*list, ",; "));
    *list += addr.len;
    return addr;
}

int horizons_check_list(const char *what, const char *list, struct err_ctx *err)
{
    char text[REMOTE_ADDR_MAX];
    struct slice addr;
    size_t count = 0;

    while ((addr = list_next(&list)).len > 0) {
        if (addr.len >= sizeof text ||
            !remote_addr_is_valid(slice_to_cstr(addr, text, sizeof text))) {
            return err_set(err, ESCROW_ECONFIG, "%s = '%.*s': expected host:port", what,
                           (int)(addr.len < 100 ? addr.len : 100), (const char *)addr.ptr);
        }
        if (++count == SINK_BROKERS_MAX) {
            return err_set(err, ESCROW_ECONFIG, "%s: more than %d addresses", what,
                           SINK_BROKERS_MAX - 1);
        }
    }
    return 0;
}

/* Ask this one too, unless it is asked already. */
static void add_addr(struct horizons *h, struct slice addr)
{
    struct horizon_call *c;

    for (size_t i = 0; i < h->call_count; i++) {
        if (slice_eq_str(addr, h->calls[i].addr)) {
            return;
        }
    }
    if (h->call_count == SINK_BROKERS_MAX || addr.len == 0 || addr.len >= sizeof c->addr) {
        (void)snprintf(h->missing, sizeof h->missing, "a broker without a usable address");
        return;
    }
    c = &h->calls[h->call_count++];
    c->owner = h;
    (void)slice_to_cstr(addr, c->addr, sizeof c->addr);
}

static void finish(struct horizons *h)
{
    struct sink_horizon *question = h->question;

    h->question = NULL;
    question->brokers = h->answers;
    question->broker_count = h->answer_count;
    question->missing = h->missing[0] == '\0' ? NULL : h->missing;
    question->is_complete = h->is_told && question->missing == NULL;
    question->cb(question);
}

/* ---- brokers ---- */

/* Not the broker's times, only their difference: its clock need not be the database's. */
static int64_t age_of(const struct txn_horizon *horizon)
{
    if (horizon->born_ms == INSPECT_NONE) {
        return 0;
    }
    return horizon->born_ms < 0 || horizon->born_ms > horizon->now_ms
               ? SINK_AGE_UNKNOWN
               : horizon->now_ms - horizon->born_ms;
}

/* Two addresses may lead to one broker: the lower horizon counts. */
static void put_answer(struct horizons *h, const struct txn_horizon *horizon)
{
    int64_t age_ms = age_of(horizon);

    for (size_t i = 0; i < h->answer_count; i++) {
        struct sink_broker *b = &h->answers[i];
        if (slice_eq_str(horizon->broker, b->name)) {
            b->oldest_age_ms = age_ms > b->oldest_age_ms ? age_ms : b->oldest_age_ms;
            b->oldest_offset =
                horizon->offset < b->oldest_offset ? horizon->offset : b->oldest_offset;
            return;
        }
    }
    _Static_assert(SINK_BROKER_NAME_MAX == BROKER_IDENTITY_MAX, "an identity fits");
    (void)slice_to_cstr(horizon->broker, h->answers[h->answer_count].name,
                        sizeof h->answers[0].name);
    h->answers[h->answer_count].oldest_offset = horizon->offset;
    h->answers[h->answer_count++].oldest_age_ms = age_ms;
}

static void on_horizon(struct remote_call *call, int error, struct header *header,
                       struct slice body)
{
    struct horizon_call *c = LIST_ENTRY(call, struct horizon_call, call);
    struct horizons *h = c->owner;
    struct txn_horizon horizon;

    (void)header;
    if (error == 0) {
        error = txn_horizon_decode(body, &horizon);
    }
    if (error == 0) {
        put_answer(h, &horizon);
    } else if (h->missing[0] == '\0') {
        (void)snprintf(h->missing, sizeof h->missing, "broker %s", c->addr);
    }
    CHECK(h->open_count > 0);
    if (--h->open_count == 0) {
        finish(h);
    }
}

static void ask_brokers(struct horizons *h)
{
    h->open_count = h->call_count;
    for (size_t i = 0; i < h->call_count; i++) {
        struct remote_request req = {.addr = h->calls[i].addr,
                                     .code = REQUEST_ESCROW_TXN_HORIZON,
                                     .timeout_ms = h->timeout_ms};
        remote_call(h->remote, &h->calls[i].call, &req, on_horizon);
    }
}

/* ---- name servers ---- */

static void ask_server(struct horizons *h);

static void on_cluster(struct remote_call *call, int error, struct header *header,
                       struct slice body)
{
    struct horizons *h = call->arg;
    struct cluster_info info;

    (void)header;
    if (error == 0) {
        error = cluster_info_decode(body, &info);
    }
    if (error == 0) {
        for (size_t i = 0; i < info.broker_count; i++) {
            add_addr(h, route_broker_master(&info.brokers[i]));
        }
        cluster_info_fini(&info);
        ask_brokers(h);
        return;
    }
    if (error != ESCROW_ESHUTDOWN && ++h->server < h->server_count) {
        ask_server(h);
        return;
    }
    (void)snprintf(h->missing, sizeof h->missing, "name server %s",
                   h->servers[h->server_count - 1]);
    if (error == ESCROW_ESHUTDOWN) {
        finish(h);
    } else {
        ask_brokers(h);
    }
}

static void ask_server(struct horizons *h)
{
    struct remote_request req = {.addr = h->servers[h->server],
                                 .code = REQUEST_GET_BROKER_CLUSTER_INFO,
                                 .timeout_ms = h->timeout_ms};

    h->server_call.arg = h;
    remote_call(h->remote, &h->server_call, &req, on_cluster);
}

void horizons_ask(struct horizons *h, struct sink_horizon *question)
{
    CHECK(h->question == NULL);
    h->question = question;
    h->call_count = h->fixed_count;
    h->answer_count = 0;
    h->missing[0] = '\0';
    h->server = 0;
    if (h->server_count > 0) {
        ask_server(h);
    } else {
        ask_brokers(h);
    }
}

/* ---- life ---- */

struct horizons *horizons_new(struct remote *remote, const struct horizons_config *cfg)
{
    struct horizons *h = mem_calloc(1, sizeof *h);
    const char *list;
    struct slice addr;

    if (h == NULL) {
        return NULL;
    }
    h->remote = remote;
    h->timeout_ms = cfg->timeout_ms;
    add_addr(h, slice_str(cfg->broker));
    list = cfg->brokers;
    while ((addr = list_next(&list)).len > 0) {
        h->is_told = true;
        add_addr(h, addr);
    }
    h->fixed_count = h->call_count;
    list = cfg->namesrv;
    while ((addr = list_next(&list)).len > 0 && h->server_count < SINK_BROKERS_MAX) {
        h->is_told = true;
        (void)slice_to_cstr(addr, h->servers[h->server_count++], REMOTE_ADDR_MAX);
    }
    return h;
}

void horizons_free(struct horizons *h)
{
    if (h != NULL) {
        CHECK(h->question == NULL);
        mem_free(h);
    }
}
