/*
 * Consumer groups, for RocketMQ's tools: UPDATE_AND_CREATE_SUBSCRIPTIONGROUP 200,
 * GET_ALL_SUBSCRIPTIONGROUP_CONFIG 201, DELETE_SUBSCRIPTIONGROUP 207, GET_SUBSCRIPTIONGROUP_CONFIG
 * 352 (PROTOCOL.md, "Administration").
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"

/* ---- changes ---- */

static void group_written(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

static void group_write(struct request *req, const struct group_config *group,
                        enum group_change change)
{
    struct broker *b = req->broker;
    struct store_receipt receipt;
    int rc = pump_reserve(&b->pump);

    buf_clear(&b->scratch);
    group_encode(&b->scratch, group, change);
    if (rc == 0 && buf_failed(&b->scratch)) {
        rc = ESCROW_ENOMEM;
    }
    if (rc == 0) {
        rc = store_append_raw(b->store, STORE_GROUP, buf_slice(&b->scratch), NULL, &receipt);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "group %.*s cannot be changed: %s", SLICE_ARGS(group->name),
                     escrow_strerror(rc));
        return;
    }
    if (change == GROUP_DELETE_AND_OFFSETS) {
        /* live, the table of offsets is ahead of the log (apply.c) */
        offsets_remove_group(&b->offsets, group->name);
    }
    (void)pump_wait(&b->pump, receipt.wait_for, false, group_written, request_defer(req));
}

/* group: as it was sent; its attributes are changes of those that there are. */
static void group_update(struct request *req, struct group_config *group)
{
    struct groups *groups = &req->broker->groups;
    struct err_ctx err = {.code = 0};
    struct buf attributes;
    int rc;

    buf_init(&attributes, 0);
    rc = group_attributes_change(groups_config(groups, group->name).attributes, group->attributes,
                                 &attributes, &err);
    if (rc == 0) {
        group->attributes = buf_slice(&attributes);
        rc = groups_check(groups, group, &err);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, "group %.*s: %s", SLICE_ARGS(group->name), err.text);
    } else {
        group_write(req, group, GROUP_SET);
    }
    buf_fini(&attributes);
}

void handle_update_group(struct request *req)
{
    struct body_tree tree;
    struct group_config group;
    int rc = group_config_decode(req->body, &group, &tree);

    if (rc == 0 && name_check_group(group.name) != 0) {
        rc = ESCROW_EINVAL;
    }
    if (rc != 0) {
        request_fail(req, -1, rc,
                     "group: malformed, a name that cannot be, or attributes, groupRetryPolicy or "
                     "subscriptionDataSet that are none or longer than %d bytes",
                     GROUP_TEXT_MAX);
    } else {
        group_update(req, &group);
    }
    body_tree_fini(&tree);
}

void handle_delete_group(struct request *req)
{
    struct slice name = SLICE_EMPTY;
    struct group_config group;
    bool with_offsets = false;

    if (header_get_str(req->header, "groupName", &name) != 0 || name_check_group(name) != 0 ||
        header_opt_bool(req->header, "removeOffset", &with_offsets) != 0 || /* 4.x */
        header_opt_bool(req->header, "cleanOffset", &with_offsets) != 0) {  /* 5.x */
        request_fail(req, -1, ESCROW_EINVAL,
                     "field groupName, removeOffset or cleanOffset is missing or malformed");
        return;
    }
    group_config_init(&group, name);
    log_info("group.delete", "group %.*s%s", SLICE_ARGS(name),
             with_offsets ? ", and what it has consumed" : "");
    group_write(req, &group, with_offsets ? GROUP_DELETE_AND_OFFSETS : GROUP_DELETE);
}

/* ---- look-ups ---- */

/* As configured; the defaults for a group that is connected or has offsets. */
struct known {
    struct groups *groups; /* a scratch table: every name once */
    int rc;
};

static void know(struct known *k, struct slice name)
{
    struct group_config group;

    if (k->rc == 0 && groups_find(k->groups, name) == NULL) {
        group_config_init(&group, name);
        k->rc = groups_add_scratch(k->groups, &group);
    }
}

static void know_pair(void *arg, struct slice group, struct slice topic)
{
    (void)topic;
    know(arg, group);
}

static int know_all(struct broker *b, struct groups *all)
{
    struct known k = {.groups = all};
    const struct strmap_slot *slot;
    const struct group_config *group;
    size_t cursor = 0;

    while (k.rc == 0 && (group = groups_next(&b->groups, &cursor)) != NULL) {
        k.rc = groups_add_scratch(all, group);
    }
    cursor = 0;
    while ((slot = strmap_next(&b->clients.consumers, &cursor)) != NULL) {
        know(&k, slice_str(((const struct client_group *)slot->value)->name));
    }
    offsets_visit_pairs(&b->offsets, know_pair, &k);
    return k.rc;
}

static struct data_version groups_version(const struct broker *b)
{
    return (struct data_version){.timestamp_ms = b->registrar.version_ms,
                                 .counter = (int64_t)b->groups.version};
}

void handle_all_groups(struct request *req)
{
    struct broker *b = req->broker;
    struct group_table table = {.version = groups_version(b)};
    const struct group_config *group;
    struct header_writer w;
    struct groups all;
    size_t cursor = 0;
    int rc;

    groups_init(&all, b->hash_key);
    rc = know_all(b, &all);
    table.groups = mem_calloc(all.by_name.count + 1, sizeof *table.groups);
    if (rc != 0 || table.groups == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
    } else {
        while ((group = groups_next(&all, &cursor)) != NULL) {
            table.groups[table.group_count++] = *group;
        }
        if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
            header_put_i64(&w, "totalGroupNum", (int64_t)table.group_count);
            header_end(&w);
            group_table_encode(w.buf, &table);
            request_end(req, &w);
        }
    }
    mem_free(table.groups);
    groups_fini(&all);
}

struct has_offsets {
    struct slice group;
    bool found;
};

static void look_for_group(void *arg, struct slice group, struct slice topic)
{
    struct has_offsets *h = arg;

    (void)topic;
    h->found = h->found || slice_eq(group, h->group);
}

static bool is_known(const struct broker *b, struct slice name)
{
    struct has_offsets h = {.group = name,
                            .found = groups_find(&b->groups, name) != NULL ||
                                     clients_find_consumers(b, name) != NULL};

    if (!h.found) {
        offsets_visit_pairs(&b->offsets, look_for_group, &h);
    }
    return h.found;
}

void handle_group_config(struct request *req)
{
    struct broker *b = req->broker;
    struct slice name = SLICE_EMPTY;
    struct group_config group;
    struct header_writer w;

    if (header_get_str(req->header, "group", &name) != 0 || name_check_group(name) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field group is missing or malformed");
        return;
    }
    if (!is_known(b, name)) {
        request_fail(req, RESPONSE_SUBSCRIPTION_GROUP_NOT_EXIST, ESCROW_ENOTFOUND,
                     "subscription group [%.*s] does not exist", SLICE_ARGS(name));
        return;
    }
    group = groups_config(&b->groups, name);
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        group_config_encode(w.buf, &group);
        request_end(req, &w);
    }
}
