#include "src/broker/pull_filter.h"

#include "core/base/check.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"

/* ---- finding it ---- */

static bool is_tag_type(struct slice type)
{
    return type.len == 0 || slice_eq_str(type, "TAG");
}

static bool is_every_message(const struct pull_subscription *in)
{
    return is_tag_type(in->type) && (in->expression.len == 0 || slice_eq_str(in->expression, "*"));
}

/* What the group's heartbeat has compiled already, if it is the same expression. */
static struct filter *find_compiled(const struct client_subscription *sub,
                                    const struct pull_subscription *in)
{
    if (sub == NULL || sub->filter == NULL ||
        (filter_type_of(sub->filter) == FILTER_SQL) == is_tag_type(in->type) ||
        !slice_eq(filter_text(sub->filter), in->expression)) {
        return NULL;
    }
    return filter_hold(sub->filter);
}

/* The request brings its expression along. */
static bool find_included(struct request *req, const struct pull_subscription *in,
                          const struct client_subscription *sub, struct filter **filter)
{
    struct err_ctx err = {.code = 0};
    int rc;

    if (is_every_message(in)) {
        return true;
    }
    *filter = find_compiled(sub, in);
    if (*filter != NULL) {
        return true;
    }
    rc = filter_compile(in->type, in->expression, filter, &err);
    if (rc != 0) {
        request_fail(req, rc == ESCROW_ENOMEM ? -1 : RESPONSE_SUBSCRIPTION_PARSE_FAILED, rc,
                     "parse the consumer's subscription failed: %s", err.text);
    }
    return rc == 0;
}

/* The group's subscription is SQL92: is its program there, and new enough? */
static bool check_program(struct request *req, const struct pull_subscription *in,
                          const struct client_subscription *sub)
{
    if (sub->filter == NULL) {
        request_fail(req, RESPONSE_FILTER_DATA_NOT_EXIST, ESCROW_EINVAL,
                     "the consumer's filter data not exist, the expression may be wrong: %s",
                     sub->filter_error == NULL ? "see the broker's log" : sub->filter_error);
        return false;
    }
    if (sub->filter_version < in->version) {
        request_fail(req, RESPONSE_FILTER_DATA_NOT_LATEST, ESCROW_EINVAL,
                     "the consumer's filter data not latest: %s",
                     sub->filter_error == NULL ? "see the broker's log" : sub->filter_error);
        return false;
    }
    return true;
}

bool pull_filter_find(struct request *req, const struct pull_subscription *in,
                      struct filter **filter)
{
    const struct client_group *group = clients_find_consumers(req->broker, in->group);
    const struct client_subscription *sub =
        group == NULL ? NULL : clients_find_subscription(group, in->topic);

    *filter = NULL;
    if (in->is_included) {
        return find_included(req, in, sub, filter);
    }
    if (sub == NULL) {
        request_fail(req, RESPONSE_SUBSCRIPTION_NOT_EXIST, ESCROW_ENOTFOUND,
                     group == NULL ? "the consumer's group info not exist"
                                   : "the consumer's subscription not exist");
        return false;
    }
    if (sub->version < in->version) {
        request_fail(req, RESPONSE_SUBSCRIPTION_NOT_LATEST, ESCROW_EAGAIN,
                     "the consumer's subscription not latest");
        return false;
    }
    if (!sub->is_tag && !check_program(req, in, sub)) {
        return false;
    }
    CHECK(sub->filter != NULL);
    if (filter_type_of(sub->filter) != FILTER_ALL) {
        *filter = filter_hold(sub->filter);
    }
    return true;
}

/* ---- asking it ---- */

static bool scan_entry(void *arg, int64_t tag_code)
{
    return filter_may_match(((struct pull_scan *)arg)->filter, tag_code);
}

static enum store_match scan_record(void *arg, const struct store_record *rec)
{
    struct pull_scan *scan = arg;

    if (scan->spent >= PULL_SCAN_MAX) {
        return STORE_STOP;
    }
    scan->spent += rec->length + filter_cost(scan->filter, rec->properties);
    return filter_match(scan->filter, rec->properties) ? STORE_TAKE : STORE_SKIP;
}

void pull_scan_begin(struct pull_scan *scan, const struct filter *filter,
                     struct store_pull_request *query)
{
    *scan = (struct pull_scan){.filter = filter};
    query->filter_arg = scan;
    query->filter = filter == NULL ? NULL : scan_entry;
    query->match = filter != NULL && filter_needs_properties(filter) ? scan_record : NULL;
}
