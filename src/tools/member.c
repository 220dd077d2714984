#include "src/tools/member.h"

#include "core/io_uv/clock_system.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/body_lists.h"
#include "core/proto/codes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_push(void *arg, const char *addr, struct header *header, struct slice body)
{
    struct member *m = arg;

    (void)addr;
    (void)body;
    if (header->code == REQUEST_NOTIFY_CONSUMER_IDS_CHANGED &&
        slice_eq_str(header_str(header, "consumerGroup"), m->group)) {
        m->has_changed = true;
    }
}

void member_init(struct member *m, struct cli *cli, const char *group)
{
    struct clock *clock = clock_system();

    *m = (struct member){.cli = cli, .group = group, .version = clock_wall_ms(clock)};
    (void)snprintf(m->id, sizeof m->id, "escrow-cli@%ld@%016" PRIx64, (long)getpid(),
                   clock_random_seed(clock)); /* fits */
    cli->on_push = on_push;
    cli->push_arg = m;
}

int member_beat(struct member *m, const char *addr)
{
    struct subscription subscription = {.topic = slice_str(m->topic),
                                        .expression = slice_str(m->expression),
                                        .expression_type = slice_str(m->expression_type),
                                        .version = m->version};
    struct heartbeat_consumer row = {.group = slice_str(m->group),
                                     .type = CONSUME_PASSIVELY,
                                     .model = MODEL_CLUSTERING,
                                     .from = m->from_last ? CONSUME_FROM_LAST_OFFSET
                                                          : CONSUME_FROM_FIRST_OFFSET,
                                     .subscriptions = &subscription,
                                     .subscription_count = 1};
    struct heartbeat beat = {.client_id = slice_str(m->id), .consumers = &row, .consumer_count = 1};
    struct cli_request req = {.addr = addr, .code = REQUEST_HEART_BEAT};
    struct buf body;
    int rc;

    buf_init(&body, 0);
    heartbeat_encode(&body, &beat);
    if (buf_failed(&body)) {
        rc = err_set(&m->cli->err, ESCROW_ENOMEM, "out of memory");
    } else {
        req.body = buf_slice(&body);
        rc = cli_call(m->cli, &req, NULL, NULL);
    }
    buf_fini(&body);
    return rc;
}

static void group_fields(struct header_writer *w, void *arg)
{
    const struct member *m = arg;

    header_put_str(w, "consumerGroup", slice_str(m->group));
}

struct members {
    struct slice self;
    size_t count;
    size_t before; /* how many come before us */
    bool is_among;
};

static bool comes_before(struct slice a, struct slice b)
{
    int c = memcmp(a.ptr, b.ptr, a.len < b.len ? a.len : b.len);

    return c < 0 || (c == 0 && a.len < b.len);
}

static int on_members(void *arg, struct header *header, struct slice body)
{
    struct members *members = arg;
    struct name_list list;
    int rc = name_list_decode(body, LIST_CONSUMER_IDS, &list);

    (void)header;
    if (rc != 0) {
        return rc;
    }
    members->count = list.count;
    for (size_t i = 0; i < list.count; i++) {
        if (slice_eq(list.names[i], members->self)) {
            members->is_among = true;
        } else if (comes_before(list.names[i], members->self)) {
            members->before++;
        }
    }
    name_list_fini(&list);
    return 0;
}

int member_share(struct member *m, const char *addr, size_t queues, struct allocation *share)
{
    struct members members = {.self = slice_str(m->id)};
    struct cli_request req = {.addr = addr,
                              .code = REQUEST_GET_CONSUMER_LIST_BY_GROUP,
                              .fields = group_fields,
                              .fields_arg = m};
    int rc = cli_call(m->cli, &req, on_members, &members);

    *share = (struct allocation){0, 0};
    if (rc == 0 && members.is_among) { /* otherwise it forgot us: the next heartbeat reminds it */
        *share = allocate_average(queues, members.count, members.before);
    }
    return rc;
}

static void leave_fields(struct header_writer *w, void *arg)
{
    const struct member *m = arg;

    header_put_str(w, "clientID", slice_str(m->id));
    group_fields(w, arg);
}

void member_leave(struct member *m, const char *addr)
{
    struct cli_request req = {
        .addr = addr, .code = REQUEST_UNREGISTER_CLIENT, .fields = leave_fields, .fields_arg = m};

    if (cli_call(m->cli, &req, NULL, NULL) != 0) {
        /* it sees the connection close */
    }
}
