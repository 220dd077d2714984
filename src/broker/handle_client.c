/*
 * HEART_BEAT 34, UNREGISTER_CLIENT 35, GET_CONSUMER_LIST_BY_GROUP 38, CHECK_CLIENT_CONFIG 46
 * (PROTOCOL.md, "Clients").
 */
#include "core/base/mem.h"
#include "core/filter/filter.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/body_lists.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"

void handle_heartbeat(struct request *req)
{
    struct heartbeat hb;
    int rc = heartbeat_decode(req->body, &hb);

    if (rc == 0) {
        rc = clients_heartbeat(req->broker, req->session, &hb);
        heartbeat_fini(&hb);
    }
    if (rc == 0) {
        request_ok(req);
    } else {
        request_fail(req, -1, rc, "heartbeat: %s", escrow_strerror(rc));
    }
}

void handle_unregister_client(struct request *req)
{
    struct slice client_id = SLICE_EMPTY;
    struct slice producer_group = SLICE_EMPTY;
    struct slice consumer_group = SLICE_EMPTY;
    int rc = header_get_str(req->header, "clientID", &client_id);

    if (rc == 0) {
        rc = header_opt_str(req->header, "producerGroup", &producer_group);
    }
    if (rc == 0) {
        rc = header_opt_str(req->header, "consumerGroup", &consumer_group);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "unregister: field clientID is missing");
        return;
    }
    clients_unregister(req->broker, req->session, client_id, producer_group, consumer_group);
    request_ok(req);
}

void handle_consumer_list(struct request *req)
{
    const struct client_group *group;
    struct list *pos;
    struct slice name = SLICE_EMPTY;
    struct slice *ids;
    struct header_writer w;
    size_t count = 0;

    if (header_get_str(req->header, "consumerGroup", &name) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field consumerGroup is missing");
        return;
    }
    group = clients_find_consumers(req->broker, name);
    if (group == NULL) {
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_ENOTFOUND,
                     "no consumer for this group, %.*s", (int)(name.len > 255 ? 255 : name.len),
                     (const char *)name.ptr);
        return;
    }
    ids = mem_calloc(group->role_count, sizeof *ids);
    if (ids == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    for (pos = group->roles.next; pos != &group->roles; pos = pos->next) {
        ids[count++] = slice_str(LIST_ENTRY(pos, struct client_role, by_group)->client_id);
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        name_list_encode(w.buf, LIST_CONSUMER_IDS, ids, count);
        request_end(req, &w);
    }
    mem_free(ids);
}

/* A consumer asks before it starts whether its expression is understood. */
void handle_check_client(struct request *req)
{
    struct client_config config;
    struct filter *filter = NULL;
    struct err_ctx err = {.code = 0};
    int rc = client_config_decode(req->body, &config);

    if (rc != 0) {
        request_fail(req, -1, rc, "client config: %s", escrow_strerror(rc));
        return;
    }
    if (config.subscription.topic.len > 0 &&
        !slice_eq_str(config.subscription.expression_type, "TAG")) {
        rc = filter_compile(config.subscription.expression_type, config.subscription.expression,
                            &filter, &err);
        filter_free(&filter);
    }
    client_config_fini(&config);
    if (rc == 0) {
        request_ok(req);
    } else {
        request_fail(req, rc == ESCROW_ENOMEM ? -1 : RESPONSE_SUBSCRIPTION_PARSE_FAILED, rc, "%s",
                     err.text);
    }
}
