/*
 * Requests to the name server (PROTOCOL.md, "Name server"): routes, registration, cluster, lists,
 * key-value configuration.
 */
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/settings.h"

#include <stdio.h>

/* Append a body by one of the registry's read functions and answer it. */
static void answer_body(struct request *req, int rc, int32_t error_code, const char *text)
{
    struct broker *b = req->broker;
    struct header_writer w;

    if (rc != 0) {
        request_fail(req, error_code, rc, "%s", text);
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        buf_append_slice(w.buf, buf_slice(&b->scratch));
        request_end(req, &w);
    }
}

static void namesrv_route(struct request *req)
{
    struct broker *b = req->broker;
    struct slice topic = SLICE_EMPTY;
    char text[512];
    int rc = header_get_str(req->header, "topic", &topic);

    if (rc != 0) {
        request_fail(req, -1, rc, "route: field topic is missing");
        return;
    }
    buf_clear(&b->scratch);
    rc = registry_route(&b->namesrv.registry, topic, &b->scratch);
    (void)snprintf(text, sizeof text, "No topic route info in name server for the topic: %.*s",
                   (int)(topic.len > 255 ? 255 : topic.len),
                   topic.len == 0 ? "" : (const char *)topic.ptr); /* fits */
    answer_body(req, rc, rc == ESCROW_ENOROUTE ? RESPONSE_TOPIC_NOT_EXIST : -1, text);
}

static int registration_decode(struct request *req, struct registration *reg, bool *is_compressed)
{
    struct header *h = req->header;
    int64_t crc = 0;
    int rc = header_get_str(h, "brokerName", &reg->broker_name);

    if (rc == 0) {
        rc = header_get_str(h, "brokerAddr", &reg->addr);
    }
    if (rc == 0) {
        rc = header_get_str(h, "clusterName", &reg->cluster);
    }
    if (rc == 0) {
        rc = header_get_i64(h, "brokerId", &reg->broker_id);
    }
    if (rc == 0) {
        rc = header_opt_i64(h, "heartbeatTimeoutMillis", &reg->timeout_ms);
    }
    if (rc == 0) {
        rc = header_opt_bool(h, "compressed", is_compressed);
    }
    if (rc == 0) {
        rc = header_opt_i64(h, "bodyCrc32", &crc);
    }
    if (rc == 0 && crc != 0 && (uint32_t)crc != register_body_crc(req->body)) {
        return ESCROW_EPROTO;
    }
    return rc;
}

static void register_refuse(struct request *req, const struct registration *reg)
{
    struct namesrv *n = &req->broker->namesrv;
    char text[REGISTRY_REFUSAL_MAX + 1];

    registry_refusal(&n->registry, loop_mono_ms(req->broker->loop), reg, text, sizeof text);
    namesrv_log_conflict(n, text);
    request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_EEXIST, "%s", text);
}

static void namesrv_register(struct request *req)
{
    struct broker *b = req->broker;
    struct registration reg = {.conn = req->session->id};
    struct register_body body = {.topic_count = 0};
    struct header_writer w;
    bool is_compressed = false;
    int rc = registration_decode(req, &reg, &is_compressed);

    if (rc == 0 && req->body.len > 0) {
        rc = register_body_decode(req->body, is_compressed, &body);
    }
    if (rc == 0) {
        reg.version = body.version;
        reg.topics = body.topics;
        reg.topic_count = body.topic_count;
        rc = registry_register(&b->namesrv.registry, loop_mono_ms(b->loop), &reg);
    }
    register_body_fini(&body);
    if (rc == ESCROW_EEXIST) {
        register_refuse(req, &reg);
        return;
    }
    if (rc != 0) {
        request_fail(req, rc == ESCROW_EPROTO ? RESPONSE_SYSTEM_ERROR : -1, rc,
                     "register broker failed: %s", escrow_strerror(rc));
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_str(&w, "haServerAddr", SLICE_EMPTY);
        header_put_str(&w, "masterAddr", SLICE_EMPTY);
        header_end(&w);
        request_end(req, &w);
    }
}

static void namesrv_unregister(struct request *req)
{
    struct slice name = SLICE_EMPTY;
    struct slice addr = SLICE_EMPTY;

    if (header_get_str(req->header, "brokerName", &name) != 0 ||
        header_get_str(req->header, "brokerAddr", &addr) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field brokerName or brokerAddr is missing");
        return;
    }
    if (registry_unregister(&req->broker->namesrv.registry, name, addr) != 0) {
        log_debug("namesrv.unregister", "unknown broker %.*s", SLICE_ARGS(name));
    }
    request_ok(req);
}

static void namesrv_cluster(struct request *req)
{
    struct broker *b = req->broker;
    int rc;

    buf_clear(&b->scratch);
    rc = registry_cluster_info(&b->namesrv.registry, &b->scratch);
    answer_body(req, rc, -1, escrow_strerror(rc));
}

static void namesrv_topics(struct request *req)
{
    struct broker *b = req->broker;
    struct slice cluster = SLICE_EMPTY;
    int rc;

    if (req->header->code == REQUEST_GET_TOPICS_BY_CLUSTER &&
        header_get_str(req->header, "cluster", &cluster) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field cluster is missing");
        return;
    }
    buf_clear(&b->scratch);
    rc = registry_topic_list(&b->namesrv.registry, cluster, &b->scratch);
    answer_body(req, rc, -1, escrow_strerror(rc));
}

static void namesrv_data_version(struct request *req)
{
    struct broker *b = req->broker;
    struct slice name = SLICE_EMPTY;
    struct slice addr = SLICE_EMPTY;
    struct data_version version;
    struct header_writer w;
    int rc = header_get_str(req->header, "brokerName", &name);

    if (rc == 0) {
        rc = header_opt_str(req->header, "brokerAddr", &addr);
    }
    if (rc == 0) {
        rc = data_version_decode(req->body, &version);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "data version: malformed request");
        return;
    }
    registry_seen(&b->namesrv.registry, name, addr, req->session->id, loop_mono_ms(b->loop));
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_bool(&w, "changed",
                        !registry_is_current(&b->namesrv.registry, name, addr, &version));
        header_end(&w);
        request_end(req, &w);
    }
}

/* namespace, and key when asked for. false when the request was answered. */
static bool kv_decode(struct request *req, struct slice *ns, struct slice *key)
{
    if (header_get_str(req->header, "namespace", ns) != 0 ||
        (key != NULL && header_get_str(req->header, "key", key) != 0)) {
        request_fail(req, -1, ESCROW_EINVAL, "field namespace or key is missing");
        return false;
    }
    return true;
}

/* A change of the key-value configuration that is being written. */
struct kv_answer {
    struct deferred deferred;
    bool is_delete;
};

static void kv_written(void *arg, int error, const char *text)
{
    struct kv_answer *a = arg;

    if (error == 0 || (a->is_delete && error == ESCROW_ENOTFOUND)) {
        deferred_ok(&a->deferred);
    } else {
        deferred_fail(&a->deferred, -1, error, text);
    }
    mem_free(a);
}

static const char *kv_text(int error)
{
    switch (error) {
    case ESCROW_ELIMIT:
        return "more than 10000 entries, or 16 MiB of them";
    case ESCROW_EINVAL:
        return "a namespace and a key have 1 to 127 bytes, a value at most 65536 and no zero";
    case ESCROW_ENOTSUP:
        return "this name server has no data folder (data.dir) to store it in";
    case ESCROW_EBUSY:
        return "1024 changes wait for the disk";
    default:
        return escrow_strerror(error);
    }
}

/* Answered when it is durable. */
static void kv_change(struct request *req, const struct kv_change *change)
{
    struct kv_answer *a = mem_calloc(1, sizeof *a);
    int rc = ESCROW_ENOMEM;

    if (a != NULL) {
        a->is_delete = change->is_delete;
        rc = kv_store_change(&req->broker->namesrv.kv, change, kv_written, a);
    }
    if (rc == 0) {
        a->deferred = request_defer(req);
    } else {
        mem_free(a);
        request_fail(req, -1, rc, "key-value configuration: %s", kv_text(rc));
    }
}

static void namesrv_kv_put(struct request *req)
{
    struct kv_change change = {.is_delete = false};

    if (!kv_decode(req, &change.ns, &change.key)) {
        return;
    }
    if (header_get_str(req->header, "value", &change.value) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field value is missing");
        return;
    }
    kv_change(req, &change);
}

static void namesrv_kv_get(struct request *req)
{
    struct slice ns = SLICE_EMPTY;
    struct slice key = SLICE_EMPTY;
    struct slice value = SLICE_EMPTY;
    struct header_writer w;

    if (!kv_decode(req, &ns, &key)) {
        return;
    }
    if (registry_kv_get(&req->broker->namesrv.registry, ns, key, &value) != 0) {
        request_fail(req, RESPONSE_QUERY_NOT_FOUND, ESCROW_ENOTFOUND,
                     "No config item, Namespace: %.*s Key: %.*s",
                     (int)(ns.len > 127 ? 127 : ns.len), (const char *)ns.ptr,
                     (int)(key.len > 127 ? 127 : key.len), (const char *)key.ptr);
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_str(&w, "value", value);
        header_end(&w);
        request_end(req, &w);
    }
}

static void namesrv_kv_delete(struct request *req)
{
    struct kv_change change = {.is_delete = true};
    struct slice value;

    if (!kv_decode(req, &change.ns, &change.key)) {
        return;
    }
    if (kv_store_is_idle(&req->broker->namesrv.kv) &&
        registry_kv_get(&req->broker->namesrv.registry, change.ns, change.key, &value) != 0) {
        log_debug("namesrv.kv", "deleted key was not there");
        request_ok(req);
        return;
    }
    kv_change(req, &change);
}

static void namesrv_kv_list(struct request *req)
{
    struct broker *b = req->broker;
    struct slice ns = SLICE_EMPTY;
    int rc;

    if (!kv_decode(req, &ns, NULL)) {
        return;
    }
    buf_clear(&b->scratch);
    rc = registry_kv_list(&b->namesrv.registry, ns, &b->scratch);
    answer_body(req, rc, rc == ESCROW_ENOTFOUND ? RESPONSE_QUERY_NOT_FOUND : -1,
                "No config item in the namespace");
}

static void namesrv_delete_topic(struct request *req)
{
    struct slice topic = SLICE_EMPTY;

    if (header_get_str(req->header, "topic", &topic) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field topic is missing");
        return;
    }
    registry_delete_topic(&req->broker->namesrv.registry, topic);
    request_ok(req);
}

static void namesrv_system_names(struct request *req)
{
    struct broker *b = req->broker;
    int rc;

    buf_clear(&b->scratch);
    rc = registry_system_names(&b->namesrv.registry, &b->scratch);
    answer_body(req, rc, -1, escrow_strerror(rc));
}

/* 205 takes the write permission of a broker, 327 gives it back. */
static void namesrv_write_perm(struct request *req)
{
    bool is_writable = req->header->code == REQUEST_ADD_WRITE_PERM_OF_BROKER;
    struct slice name = SLICE_EMPTY;
    struct header_writer w;
    size_t count;

    if (header_get_str(req->header, "brokerName", &name) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field brokerName is missing");
        return;
    }
    count = registry_set_writable(&req->broker->namesrv.registry, name, is_writable);
    log_info("namesrv.write_perm", "broker %.*s: %s for %zu topics",
             (int)(name.len > REGISTRY_NAME_MAX ? REGISTRY_NAME_MAX : name.len),
             name.len == 0 ? "" : (const char *)name.ptr, is_writable ? "writable" : "read-only",
             count);
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_i64(&w, is_writable ? "addTopicCount" : "wipeTopicCount", (int64_t)count);
        header_end(&w);
        request_end(req, &w);
    }
}

/* 319: lines of text. */
static void namesrv_get_config(struct request *req)
{
    struct header_writer w;

    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        settings_print_options(w.buf, req->broker->config);
        buf_append_str(w.buf, "orderMessageEnable=true\n"); /* ORDER_TOPIC_CONFIG is honoured */
        request_end(req, &w);
    }
}

/* 318: there is nothing about a name server that a request may change. */
static void namesrv_update_config(struct request *req)
{
    request_fail(req, -1, ESCROW_EPERM, "no option of a name server may be changed while it runs");
}

void handle_namesrv(struct request *req)
{
    static const struct {
        int32_t code;
        request_fn *fn;
    } table[] = {
        {REQUEST_GET_ROUTEINFO_BY_TOPIC, namesrv_route},
        {REQUEST_REGISTER_BROKER, namesrv_register},
        {REQUEST_UNREGISTER_BROKER, namesrv_unregister},
        {REQUEST_GET_BROKER_CLUSTER_INFO, namesrv_cluster},
        {REQUEST_GET_ALL_TOPIC_LIST_FROM_NAMESERVER, namesrv_topics},
        {REQUEST_GET_TOPICS_BY_CLUSTER, namesrv_topics},
        {REQUEST_QUERY_DATA_VERSION, namesrv_data_version},
        {REQUEST_PUT_KV_CONFIG, namesrv_kv_put},
        {REQUEST_GET_KV_CONFIG, namesrv_kv_get},
        {REQUEST_DELETE_KV_CONFIG, namesrv_kv_delete},
        {REQUEST_GET_KVLIST_BY_NAMESPACE, namesrv_kv_list},
        {REQUEST_DELETE_TOPIC_IN_NAMESRV, namesrv_delete_topic},
        {REQUEST_GET_SYSTEM_TOPIC_LIST_FROM_NS, namesrv_system_names},
        {REQUEST_UPDATE_NAMESRV_CONFIG, namesrv_update_config},
        {REQUEST_GET_NAMESRV_CONFIG, namesrv_get_config},
        {REQUEST_WIPE_WRITE_PERM_OF_BROKER, namesrv_write_perm},
        {REQUEST_ADD_WRITE_PERM_OF_BROKER, namesrv_write_perm},
    };

    if (!req->broker->config->is_namesrv) {
        request_fail(req, RESPONSE_REQUEST_CODE_NOT_SUPPORTED, ESCROW_ENOTSUP,
                     "this process is not a name server");
        return;
    }
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (table[i].code == req->header->code) {
            table[i].fn(req);
            return;
        }
    }
    request_fail(req, RESPONSE_REQUEST_CODE_NOT_SUPPORTED, ESCROW_ENOTSUP,
                 " request type %d not supported", req->header->code);
}
