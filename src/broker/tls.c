#include "src/broker/tls.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/io_uv/tls_files.h"
#include "src/broker/broker.h"

#include <string.h>

/* ---- the files ---- */

/* Which of three words; config.c took nothing else. */
static int index_of(const char *word, const char *const words[3])
{
    return strcmp(word, words[0]) == 0 ? 0 : strcmp(word, words[1]) == 0 ? 1 : 2;
}

static int load_server(const struct config *c, struct tcp_tls_policy *policy, struct err_ctx *err)
{
    static const char *const modes[] = {"disabled", "permissive", "enforcing"};
    static const char *const checks[] = {"none", "optional", "required"};
    const struct tls_files files = {
        .certificate = c->tls_cert_file, .key = c->tls_key_file, .ca = c->tls_ca_file};
    int check = index_of(c->tls_client_cert, checks);

    *policy = (struct tcp_tls_policy){.mode = (enum tcp_tls_mode)index_of(c->tls_mode, modes)};
    return policy->mode == TCP_TLS_DISABLED
               ? 0
               : tls_files_load(&files, true, (enum tls_check)check, &policy->context, err);
}

static int load_namesrv(const struct config *c, struct tcp_tls_policy *policy, struct err_ctx *err)
{
    const struct tls_files files = {
        .certificate = c->tls_cert_file, .key = c->tls_key_file, .ca = c->tls_ca_file};
    const struct tls_files none = {.ca = NULL};
    bool is_off = strcmp(c->namesrv_tls, "off") == 0;

    return tls_files_client(c->namesrv_tls, is_off ? &none : &files,
                            is_off ? NULL : c->namesrv_tls_name, policy, err);
}

static int load(const struct config *c, struct tcp_tls_policy *server,
                struct tcp_tls_policy *namesrv, struct err_ctx *err)
{
    int rc = load_server(c, server, err);

    *namesrv = (struct tcp_tls_policy){.mode = TCP_TLS_DISABLED};
    if (rc == 0) {
        rc = load_namesrv(c, namesrv, err);
    }
    if (rc != 0) {
        tls_context_free(&server->context);
        tls_context_free(&namesrv->context);
    }
    return rc;
}

/* ---- reading them again ---- */

static struct broker_tls *tls_of(struct pool_job *job)
{
    return (struct broker_tls *)(void *)((char *)job - offsetof(struct broker_tls, job));
}

static void run_read(struct pool_job *job)
{
    struct broker_tls *t = tls_of(job);

    t->result = load(t->broker->config, &t->new_server, &t->new_namesrv, &t->err);
}

static void read_is_done(struct pool_job *job)
{
    struct broker_tls *t = tls_of(job);

    t->is_reading = false;
    if (t->result == 0) {
        tls_context_free(&t->server.context);
        tls_context_free(&t->namesrv.context);
        t->server = t->new_server;
        t->namesrv = t->new_namesrv;
        log_info("tls.reload", "certificates and keys were read again: new connections use them");
    } else {
        log_warn("tls.reload.failed", "%s; what was read before stays", t->err.text);
    }
    if (t->must_read_again && !t->is_stopping) {
        broker_tls_reload(t->broker);
    }
}

bool broker_tls_is_on(const struct broker *b)
{
    return b->tls.server.context != NULL || b->tls.namesrv.context != NULL;
}

void broker_tls_reload(struct broker *b)
{
    struct broker_tls *t = &b->tls;

    if (!broker_tls_is_on(b)) {
        return;
    }
    if (t->is_reading || t->is_stopping) {
        t->must_read_again = true;
        return;
    }
    t->must_read_again = false;
    t->err = (struct err_ctx){.code = 0};
    t->is_reading = pool_submit(&t->pool, &t->job) == 0;
    if (!t->is_reading) {
        log_warn("tls.reload.failed", "out of memory; what was read before stays");
    }
}

/* ---- start and stop ---- */

int broker_tls_start(struct broker *b, struct err_ctx *err)
{
    struct broker_tls *t = &b->tls;
    int rc = load(b->config, &t->server, &t->namesrv, err);

    if (rc != 0) {
        return rc;
    }
    t->broker = b;
    t->is_started = true;
    pool_init(&t->pool, b->loop, 1);
    t->job = (struct pool_job){.run = run_read, .done = read_is_done};
    if (t->server.context != NULL) {
        log_info("tls.on", "%s; certificates of clients: %s; %s", b->config->tls_mode,
                 b->config->tls_client_cert, b->config->tls_cert_file);
    }
    return 0;
}

void broker_tls_stop(struct broker *b)
{
    struct broker_tls *t = &b->tls;

    t->is_stopping = true;
    if (t->is_started) {
        while (t->is_reading) {
            loop_run_once(b->loop, true);
        }
        pool_fini(&t->pool);
        t->is_started = false;
    }
    tls_context_free(&t->server.context);
    tls_context_free(&t->namesrv.context);
}
