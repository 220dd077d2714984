/*
 * Happy path: split the list of hosts, look up one name after the other, put the lists together
 * again. A lookup cannot be taken back from libuv's pool: a cancelled resolver lives on until it
 * comes back.
 */
#include "outbox/pg/resolve.h"

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <libpq-fe.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#define HOSTS_MAX    16
#define NAME_MAX_LEN 256

struct pg_resolve {
    struct loop *loop;
    pg_resolved_fn *fn; /* NULL: cancelled */
    void *arg;
    uv_getaddrinfo_t req;
    struct loop_deferred done;
    bool is_asking;
    bool needs_nothing;
    size_t count;
    size_t next;
    size_t port_count;
    char hosts[HOSTS_MAX][NAME_MAX_LEN];
    char addrs[HOSTS_MAX][INET6_ADDRSTRLEN]; /* "" for a socket */
    char ports[HOSTS_MAX][8];
    bool is_missing[HOSTS_MAX];
    char error[NAME_MAX_LEN + 128];
};

static bool is_address(const char *host)
{
    uint8_t raw[16];

    return inet_pton(AF_INET, host, raw) == 1 || inet_pton(AF_INET6, host, raw) == 1;
}

static bool is_socket(const char *host)
{
    return host[0] == '\0' || host[0] == '/' || host[0] == '@';
}

static const char *option(const PQconninfoOption *options, const char *keyword)
{
    for (; options != NULL && options->keyword != NULL; options++) {
        if (strcmp(options->keyword, keyword) == 0) {
            return options->val != NULL && options->val[0] != '\0' ? options->val : NULL;
        }
    }
    return NULL;
}

/* Comma-separated items into fixed rows; false when one does not fit. */
static bool split(const char *list, char *rows, size_t row_size, size_t *count)
{
    *count = 0;
    for (const char *p = list;; p++) {
        size_t len = strcspn(p, ",");
        if (*count == HOSTS_MAX || len >= row_size) {
            return false;
        }
        memcpy(rows + *count * row_size, p, len);
        rows[*count * row_size + len] = '\0';
        (*count)++;
        p += len;
        if (*p == '\0') {
            return true;
        }
    }
}

/* Else libpq takes it for the name of a database. */
static bool is_conninfo(const char *text)
{
    return strchr(text, '=') != NULL || strncmp(text, "postgres://", 11) == 0 ||
           strncmp(text, "postgresql://", 13) == 0;
}

int pg_conninfo_check(const char *conninfo, struct err_ctx *err)
{
    /* Of libpq's texts those that quote a keyword only; the others quote values, or all of it. */
    static const char *const harmless[] = {"invalid connection option", "invalid URI query"};
    PQconninfoOption *options;
    char *why = NULL;
    int rc;

    if (!is_conninfo(conninfo)) {
        return 0;
    }
    options = PQconninfoParse(conninfo, &why);
    PQconninfoFree(options);
    if (options != NULL) {
        return 0;
    }
    rc = err_set(err, why == NULL ? ESCROW_ENOMEM : ESCROW_ECONFIG,
                 "%s: expected postgresql://user@host:port/database?keyword=value or "
                 "keyword=value pairs",
                 why == NULL ? "out of memory" : "not a connection string");
    for (size_t i = 0; why != NULL && i < sizeof harmless / sizeof harmless[0]; i++) {
        if (strncmp(why, harmless[i], strlen(harmless[i])) == 0) {
            rc = err_set(err, ESCROW_ECONFIG, "%.*s", (int)strcspn(why, "\n"), why);
        }
    }
    PQfreemem(why);
    return rc;
}

/* What the string says, else what the environment says. */
static void read_conninfo(struct pg_resolve *r, const char *conninfo)
{
    PQconninfoOption *given = is_conninfo(conninfo) ? PQconninfoParse(conninfo, NULL) : NULL;
    PQconninfoOption *defaults = PQconndefaults();
    const char *host = option(given, "host");
    const char *port = option(given, "port");

    host = host != NULL ? host : option(defaults, "host");
    port = port != NULL ? port : option(defaults, "port");
    r->needs_nothing =
        host == NULL || option(given, "hostaddr") != NULL || option(defaults, "hostaddr") != NULL ||
        option(given, "service") != NULL ||
        !split(host, r->hosts[0], sizeof r->hosts[0], &r->count) ||
        !split(port == NULL ? "" : port, r->ports[0], sizeof r->ports[0], &r->port_count);
    PQconninfoFree(given);
    PQconninfoFree(defaults);
}

static void look_up(struct pg_resolve *r);

static void on_address(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct pg_resolve *r = req->data;
    size_t i = r->next;

    r->is_asking = false;
    if (r->fn == NULL) {
        uv_freeaddrinfo(found);
        mem_free(r);
        return;
    }
    r->is_missing[i] = status != 0 || getnameinfo(found->ai_addr, found->ai_addrlen, r->addrs[i],
                                                  sizeof r->addrs[i], NULL, 0, NI_NUMERICHOST) != 0;
    if (r->is_missing[i]) {
        (void)snprintf(r->error, sizeof r->error, "host name \"%s\": %s", r->hosts[i],
                       status != 0 ? uv_strerror(status) : "no address");
    }
    uv_freeaddrinfo(found);
    r->next++;
    look_up(r);
}

/* The next name that needs it; then done. */
static void look_up(struct pg_resolve *r)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};

    for (; !r->needs_nothing && r->next < r->count; r->next++) {
        const char *host = r->hosts[r->next];
        if (is_socket(host)) {
            continue;
        }
        if (is_address(host)) {
            (void)slice_to_cstr(slice_str(host), r->addrs[r->next], sizeof r->addrs[r->next]);
            continue;
        }
        r->req.data = r;
        if (uv_getaddrinfo(&r->loop->uv, &r->req, on_address, host, NULL, &hints) != 0) {
            r->needs_nothing = true; /* libpq shall try */
            break;
        }
        r->is_asking = true;
        return;
    }
    loop_defer(r->loop, &r->done);
}

/* Items that are not missing, with commas between them; NULL when out of memory. */
static const char *join(const struct pg_resolve *r, struct buf *out, const char *rows,
                        size_t row_size)
{
    bool is_first = true;

    for (size_t i = 0; i < r->count; i++) {
        if (!r->is_missing[i]) {
            buf_append_str(out, is_first ? "" : ",");
            buf_append_str(out, rows + i * row_size);
            is_first = false;
        }
    }
    buf_append_u8(out, 0);
    return buf_failed(out) ? NULL : (const char *)out->ptr;
}

static void on_done(void *arg)
{
    struct pg_resolve *r = arg;
    struct pg_hosts hosts = {.error = NULL};
    struct buf host;
    struct buf addr;
    struct buf port;
    size_t missing = 0;

    buf_init(&host, 0);
    buf_init(&addr, 0);
    buf_init(&port, 0);
    for (size_t i = 0; i < r->count; i++) {
        missing += r->is_missing[i];
    }
    if (!r->needs_nothing && missing == r->count) {
        hosts.error = r->error;
    } else if (!r->needs_nothing) {
        hosts.host = join(r, &host, r->hosts[0], sizeof r->hosts[0]);
        hosts.hostaddr = join(r, &addr, r->addrs[0], sizeof r->addrs[0]);
        if (r->port_count == r->count) {
            hosts.port = join(r, &port, r->ports[0], sizeof r->ports[0]);
        }
    }
    r->fn(r->arg, &hosts);
    buf_fini(&host);
    buf_fini(&addr);
    buf_fini(&port);
    mem_free(r);
}

struct pg_resolve *pg_resolve_start(struct loop *l, const char *conninfo, pg_resolved_fn *fn,
                                    void *arg)
{
    struct pg_resolve *r = mem_calloc(1, sizeof *r);

    if (r == NULL) {
        return NULL;
    }
    r->loop = l;
    r->fn = fn;
    r->arg = arg;
    loop_deferred_init(&r->done, on_done, r);
    read_conninfo(r, conninfo);
    look_up(r);
    return r;
}

void pg_resolve_cancel(struct pg_resolve *r)
{
    if (r == NULL) {
        return;
    }
    loop_deferred_cancel(&r->done);
    r->fn = NULL;
    if (r->is_asking) {
        (void)uv_cancel(
            (uv_req_t *)&r->req); /* when it has begun already, it comes back by itself */
    } else {
        mem_free(r);
    }
}
