#include "tests/lib/test_store.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "core/store/key_index.h"
#include "core/store/key_index_file.h"
#include "tests/lib/test_txn.h"
#include "txn/decision.h"
#include "txn/release.h"

#include <stdio.h>
#include <string.h>

/*
 * Decision payload of this owner: 0 commit u8 | 1 count u8 | 2 entries: half offset u64, payload
 * size u32, tag i64, store ms i64, queue u32, topic length u8, topic.
 */
#define ENTRY_FIXED 33u

/* ------------------------------------------------------------------ owner */

struct test_half *test_owner_find(struct test_owner *owner, uint64_t offset)
{
    for (uint32_t i = 0; i < owner->half_count; i++) {
        if (owner->halves[i].offset == offset) {
            return &owner->halves[i];
        }
    }
    return NULL;
}

static int apply_half(struct test_store *ts, const struct store_record *rec)
{
    struct test_owner *owner = &ts->owner;
    struct test_half *half;

    CHECK(test_owner_find(owner, rec->offset) == NULL);
    CHECK(owner->half_count < TEST_HALVES_MAX);
    half = &owner->halves[owner->half_count++];
    *half = (struct test_half){
        .offset = rec->offset,
        .payload_size = (uint32_t)rec->payload.len,
        .tag_code = rec->tag_code,
        .store_ms = rec->store_ms,
        .queue_id = rec->queue_id,
    };
    (void)slice_to_cstr(rec->topic, half->topic, sizeof half->topic);
    return 0;
}

static struct store_release release_of(const uint8_t *at)
{
    return (struct store_release){
        .half_offset = get_le64(at),
        .payload_size = get_le32(at + 8),
        .tag_code = (int64_t)get_le64(at + 12),
        .store_ms = (int64_t)get_le64(at + 20),
        .queue_id = get_le32(at + 28),
        .topic = slice_of(at + ENTRY_FIXED, at[ENTRY_FIXED - 1]),
    };
}

static int release_entry(struct test_store *ts, const uint8_t *at, struct err_ctx *err)
{
    struct store_release release = release_of(at);
    int64_t queue_offset;

    return store_release(ts->st, &release, &queue_offset, err);
}

static int apply_decision(struct test_store *ts, const struct store_record *rec,
                          struct err_ctx *err)
{
    const uint8_t *at = rec->payload.ptr + 2;
    bool commit = rec->payload.ptr[0] != 0;

    for (uint8_t i = 0; i < rec->payload.ptr[1]; i++) {
        size_t topic_len = at[ENTRY_FIXED - 1];
        struct test_half *half = test_owner_find(&ts->owner, get_le64(at));
        int rc;

        if (half == NULL || half->state != TEST_HALF_UNDECIDED) {
            return err_set(err, ESCROW_ECORRUPT, "decides a half that is not there");
        }
        half->state = commit ? TEST_HALF_COMMITTED : TEST_HALF_ROLLED_BACK;
        rc = commit ? release_entry(ts, at, err) : 0;
        if (rc != 0) {
            return rc;
        }
        at += ENTRY_FIXED + topic_len;
    }
    return 0;
}

/* Records that the real half-message store has a part in. */
static int txn_apply(struct test_store *ts, const struct store_record *rec, struct err_ctx *err)
{
    int rc = 0;

    if (rec->type == STORE_HALF && rec->first == 0) {
        rc = apply_half(ts, rec);
    }
    return rc != 0 ? rc : test_txn_apply(ts, rec, err);
}

static int owner_apply(void *arg, const struct store_record *rec, struct err_ctx *err)
{
    struct test_store *ts = arg;
    struct test_owner *owner = &ts->owner;

    if (owner->fails) {
        return err_set(err, ESCROW_ENOMEM, "owner is out of memory");
    }
    CHECK(rec->offset > owner->last_offset || owner->applied == 0);
    owner->last_offset = rec->offset;
    owner->applied++;
    if (ts->txn != NULL && (rec->type == STORE_HALF || rec->type == STORE_DECISION ||
                            rec->type == STORE_HELD || rec->type == STORE_RELEASE)) {
        return txn_apply(ts, rec, err);
    }
    switch (rec->type) {
    case STORE_MESSAGE:
        owner->messages++;
        return 0;
    case STORE_HALF:
        return apply_half(ts, rec);
    case STORE_DECISION:
        return apply_decision(ts, rec, err);
    case STORE_POSITION:
        owner->position = get_le64(rec->payload.ptr);
        return 0;
    case STORE_TOPIC:
        store_drop_topic(ts->st, slice_of(rec->payload.ptr, strnlen((const char *)rec->payload.ptr,
                                                                    rec->payload.len)));
        owner->raw_bytes += rec->payload.len;
        return 0;
    case STORE_CHECK:
    case STORE_OFFSETS:
    case STORE_GROUP:
    case STORE_MODE:
        owner->raw_bytes += rec->payload.len;
        return 0;
    case STORE_HELD:
    case STORE_RELEASE:
    case STORE_START:
    case STORE_FILLER:
    case STORE_WITNESS:
    case STORE_SKIPPED:
        break;
    }
    UNREACHABLE("not for owners");
}

/* What depends on the compiler's layout is fine here: the section never leaves the process. */
static int owner_save(void *arg, struct store_sections *sections)
{
    struct test_store *ts = arg;
    struct buf *b = store_section(sections, "test-owner");

    if (b == NULL) {
        return ESCROW_ENOMEM;
    }
    buf_append(b, &ts->owner,
               offsetof(struct test_owner, halves) +
                   ts->owner.half_count * sizeof(struct test_half));
    return ts->txn == NULL ? 0 : test_txn_save(ts, sections);
}

static int owner_save_more(void *arg, uint8_t *bytes)
{
    struct test_store *ts = arg;

    return ts->txn == NULL ? 0 : test_txn_save_more(ts, bytes);
}

static int owner_load(void *arg, struct slice name, struct slice data, struct err_ctx *err)
{
    struct test_store *ts = arg;

    if (ts->txn != NULL && (slice_eq_str(name, "txn") || slice_eq_str(name, "timers") ||
                            slice_eq_str(name, "carried"))) {
        return test_txn_load(ts, name, data, err);
    }
    if (!slice_eq_str(name, "test-owner")) {
        return err_set(err, ESCROW_EVERSION, "unknown section");
    }
    if (data.len < offsetof(struct test_owner, halves) || data.len > sizeof ts->owner) {
        return err_set(err, ESCROW_ECORRUPT, "wrong size");
    }
    memcpy(&ts->owner, data.ptr, data.len);
    return 0;
}

static void owner_damaged(void *arg, const struct store_damage *damage)
{
    struct test_store *ts = arg;

    ts->damage_count++;
    ts->damage_offset = damage->offset;
    ts->damage_queue_offset = damage->has_entry ? damage->queue_offset : -1;
    (void)snprintf(ts->damage_text, sizeof ts->damage_text, "%s", damage->text);
}

static void owner_index_lost(void *arg, const char *text)
{
    struct test_store *ts = arg;

    ts->index_lost_count++;
    (void)snprintf(ts->index_lost_text, sizeof ts->index_lost_text, "%s", text);
}

static void owner_rebuilt(void *arg, const struct store_rebuilt *rebuilt)
{
    struct test_store *ts = arg;

    ts->rebuilt_count += rebuilt->count;
    ts->left_count += rebuilt->left;
    (void)snprintf(ts->rebuilt_text, sizeof ts->rebuilt_text, "%s: %s", rebuilt->text,
                   rebuilt->why);
}

static int owner_list(void *arg, enum store_type type, struct slice decision, store_release_fn *fn,
                      void *fn_arg)
{
    (void)type; /* no RELEASE without the real store of held messages */
    const uint8_t *at = decision.ptr + 2;

    (void)arg;
    for (uint8_t i = 0; decision.ptr[0] != 0 && i < decision.ptr[1]; i++) {
        struct store_release release = release_of(at);
        fn(fn_arg, &release);
        at += ENTRY_FIXED + at[ENTRY_FIXED - 1];
    }
    return 0;
}

static int owner_list_txn(void *arg, enum store_type type, struct slice payload,
                          store_release_fn *fn, void *fn_arg)
{
    struct test_store *ts = arg;

    if (++ts->list_count == ts->list_stop) {
        store_stop_rebuilds(ts->st);
    }
    return type == STORE_RELEASE ? release_each_due(payload, fn, fn_arg)
                                 : decision_each_shown(payload, fn, fn_arg);
}

/* ------------------------------------------------------------------ running */

void test_store_config(struct store_config *cfg)
{
    store_config_init(cfg);
    cfg->segment_bytes = STORE_SEGMENT_BYTES_MIN;
    cfg->checkpoint_bytes = UINT64_MAX;
    cfg->random_seed = UINT64_C(0x5eed5eed12345678);
    cfg->now_ms = 1000;
}

static int open_store(struct test_store *ts, const struct store_config *cfg)
{
    struct store_config plain;
    struct store_owner owner = {
        .arg = ts,
        .apply = owner_apply,
        .checkpoint_save = owner_save,
        .checkpoint_more = owner_save_more,
        .checkpoint_load = owner_load,
        .damaged = owner_damaged,
        .index_lost = owner_index_lost,
        .rebuilt = owner_rebuilt,
        .list_releases = ts->txn != NULL ? owner_list_txn : owner_list,
    };

    test_store_config(&plain);
    return store_open(ts->disk, cfg != NULL ? cfg : &plain, &owner, &ts->st, &ts->recovery,
                      &ts->err);
}

static void begin(struct test_store *ts, struct disk *disk)
{
    memset(ts, 0, sizeof *ts);
    ts->disk = disk;
    ts->now_ms = 1000;
}

int test_store_open(struct test_store *ts, struct disk *disk, const struct store_config *cfg)
{
    int rc;

    begin(ts, disk);
    rc = open_store(ts, cfg);
    for (uint32_t i = 0; rc == 0 && i < ts->owner.half_count; i++) {
        if (ts->owner.halves[i].state == TEST_HALF_UNDECIDED) {
            store_reserve_add(ts->st, STORE_DECISION_RESERVE);
        }
    }
    return rc;
}

int test_store_open_txn(struct test_store *ts, struct disk *disk, const struct store_config *cfg)
{
    int rc;

    begin(ts, disk);
    test_txn_new(ts);
    rc = open_store(ts, cfg);
    if (rc == 0) {
        test_txn_recovered(ts);
        test_txn_sync_reserve(ts);
    } else {
        test_txn_free(ts);
    }
    return rc;
}

void test_store_close(struct test_store *ts)
{
    store_close(&ts->st);
    test_txn_free(ts);
}

int test_store_run(struct test_store *ts)
{
    int rc = 0;

    for (bool any = true; any && rc == 0;) {
        struct log_batch *batch = store_batch_take(ts->st);
        struct segment_job *job;

        any = batch != NULL;
        if (batch != NULL) {
            int ignored = log_batch_run(batch, NULL); /* done reports it */
            (void)ignored;
            rc = store_batch_done(ts->st, &batch, &ts->err);
        }
        job = rc == 0 && !ts->no_prepare ? store_prepare_take(ts->st, ts->now_ms) : NULL;
        if (job != NULL) {
            any = true;
            segment_job_run(job);
            rc = store_prepare_done(ts->st, &job, ts->now_ms, &ts->err);
        }
    }
    if (rc == 0) {
        store_check(ts->st);
    }
    return rc;
}

int test_store_flush(struct test_store *ts, struct flush_job **job)
{
    while (*job != NULL && store_flush_more(ts->st, job)) {
    }
    if (*job == NULL) {
        return 0;
    }
    flush_job_run(*job);
    return store_flush_done(ts->st, job, &ts->err);
}

int test_store_checkpoint(struct test_store *ts, bool force)
{
    struct flush_job *job = store_flush_take(ts->st, force);

    return test_store_flush(ts, &job);
}

int test_store_give_up(struct test_store *ts, uint64_t first)
{
    struct retain_job *job = store_retain_take(ts->st, first);
    int rc = 0;

    if (job != NULL) {
        retain_job_run(job);
        rc = store_retain_done(ts->st, &job, &ts->err);
    }
    return rc;
}

int test_store_retain(struct test_store *ts, uint64_t first)
{
    int rc = test_store_give_up(ts, first);

    return rc == 0 ? test_store_checkpoint(ts, false) : rc;
}

int test_store_stop(struct test_store *ts)
{
    int rc = test_store_run(ts);

    if (rc == 0) {
        rc = test_store_checkpoint(ts, true);
    }
    test_store_close(ts);
    return rc;
}

/* ------------------------------------------------------------------ appending */

int test_append(struct test_store *ts, enum store_type type, const struct test_message *m,
                struct store_receipt *out)
{
    static const uint8_t ip[4] = {127, 0, 0, 1};
    uint8_t props[1024];
    struct props_writer w;
    struct record_fields f = {
        .queue_id = (int32_t)m->queue_id,
        .sys_flag = type == STORE_HALF ? SYSFLAG_TXN_PREPARED : 0,
        .born_ms = ts->now_ms,
        .store_ms = ts->now_ms,
        .born_host = record_host_ipv4(ip, 1234),
        .store_host = record_host_ipv4(ip, 10911),
        .body = m->body,
        .topic = slice_str(m->topic),
    };

    props_writer_init(&w, props, sizeof props);
    if (m->tag != NULL) {
        props_put(&w, SLICE_LIT("TAGS"), slice_str(m->tag));
    }
    if (m->uniq != NULL) {
        props_put(&w, SLICE_LIT("UNIQ_KEY"), slice_str(m->uniq));
    }
    if (m->keys != NULL) {
        props_put(&w, SLICE_LIT("KEYS"), slice_str(m->keys));
    }
    if (ts->txn != NULL && type == STORE_HALF) {
        props_put(&w, SLICE_LIT("PGROUP"), SLICE_LIT(TEST_TXN_GROUP));
    }
    if (m->due_ms > 0) {
        props_put_i64(&w, SLICE_LIT("TIMER_OUT_MS"), m->due_ms);
    }
    CHECK(w.error == 0);
    f.properties = slice_of(w.ptr, w.len);
    if (ts->txn != NULL && type == STORE_HELD) {
        return test_txn_hold(ts, &f, m->due_ms, out);
    }
    return ts->txn != NULL && type == STORE_HALF ? test_txn_append(ts, &f, out)
                                                 : store_append_message(ts->st, type, &f, ts, out);
}

static int first_name(void *arg, const char *name, bool is_dir)
{
    CHECK(!is_dir);
    (void)snprintf(arg, 64, KEY_INDEX_FOLDER "/%s", name);
    return 1;
}

uint32_t test_fill_index(struct test_store *ts, const char *topic, char *path)
{
    char keys[900];
    struct test_message m = {.topic = topic, .body = SLICE_LIT("x"), .keys = keys};
    struct store_receipt r;
    uint32_t words = 0;

    while (words < KEY_INDEX_FILE_ENTRIES + 1000) {
        size_t len = 0;
        while (len < sizeof keys - 16) {
            len += (size_t)snprintf(keys + len, sizeof keys - len, "%x ", words++);
        }
        CHECK(test_append(ts, STORE_MESSAGE, &m, &r) == 0);
        CHECK(test_store_run(ts) == 0);
    }
    CHECK(test_store_checkpoint(ts, true) == 0);
    CHECK(disk_list(ts->disk, KEY_INDEX_FOLDER, first_name, path, NULL) == 1);
    return words;
}

int test_send(struct test_store *ts, const char *topic, uint32_t queue_id, const char *body,
              struct store_receipt *out)
{
    struct store_receipt ignored;
    struct test_message m = {.topic = topic, .queue_id = queue_id, .body = slice_str(body)};

    return test_append(ts, STORE_MESSAGE, &m, out != NULL ? out : &ignored);
}

int test_half(struct test_store *ts, const struct test_message *m, struct store_receipt *out)
{
    int rc = test_append(ts, STORE_HALF, m, out);

    if (rc == 0 && ts->txn == NULL) {
        store_reserve_add(ts->st, STORE_DECISION_RESERVE);
    }
    return rc;
}

int test_hold(struct test_store *ts, const struct test_message *m, int64_t delay_ms,
              struct store_receipt *out)
{
    struct test_message held = *m;

    held.due_ms = ts->now_ms + delay_ms;
    return test_append(ts, STORE_HELD, &held, out);
}

int test_decide(struct test_store *ts, bool commit, const uint64_t *offsets, uint32_t count,
                struct store_receipt *out)
{
    struct store_queue_ref refs[64];
    struct buf b;
    int rc;

    CHECK(count <= 64);
    if (ts->txn != NULL) {
        return test_txn_decide(ts, commit, offsets, count, out);
    }
    buf_init(&b, 0);
    buf_append_u8(&b, commit ? 1 : 0);
    buf_append_u8(&b, (uint8_t)count);
    for (uint32_t i = 0; i < count; i++) {
        struct test_half *half = test_owner_find(&ts->owner, offsets[i]);
        CHECK(half != NULL);
        refs[i] = (struct store_queue_ref){slice_str(half->topic), half->queue_id};
        buf_append_le64(&b, half->offset);
        buf_append_le32(&b, half->payload_size);
        buf_append_le64(&b, (uint64_t)half->tag_code);
        buf_append_le64(&b, (uint64_t)half->store_ms);
        buf_append_le32(&b, half->queue_id);
        buf_append_u8(&b, (uint8_t)strlen(half->topic));
        buf_append_str(&b, half->topic);
    }
    rc = buf_failed(&b)
             ? ESCROW_ENOMEM
             : store_append_decision(ts->st, buf_slice(&b), refs, commit ? count : 0, ts, out);
    if (rc == 0) {
        store_reserve_sub(ts->st, (uint64_t)count * STORE_DECISION_RESERVE);
    }
    buf_fini(&b);
    return rc;
}

int test_position(struct test_store *ts, uint64_t position, struct store_receipt *out)
{
    uint8_t payload[8];

    put_le64(payload, position);
    return store_append_raw(ts->st, STORE_POSITION, slice_of(payload, sizeof payload), ts, out);
}

/* ------------------------------------------------------------------ reading */

static int visit_body(struct slice body, test_visit_fn *fn, void *arg)
{
    struct record_walk walk = {.rest = body};
    struct record_view view;
    int rc;

    while ((rc = record_walk_next(&walk, &view)) == 1) {
        CHECK(record_body_crc(view.f.body) == view.body_crc);
        rc = fn(arg, &view);
        if (rc != 0) {
            return rc;
        }
    }
    return rc;
}

int test_pull(struct test_store *ts, const char *topic, uint32_t queue_id, int64_t offset,
              test_visit_fn *fn, void *arg)
{
    struct store_pull_request req = {
        .topic = slice_str(topic),
        .queue_id = queue_id,
        .offset = offset,
        .count_max = 32,
        .bytes_max = (size_t)256 << 10,
    };
    struct store_fetch *fetch = store_fetch_new(ts->st);
    struct store_pull_result res;
    struct buf body;
    int rc;

    CHECK(fetch != NULL);
    buf_init(&body, 0);
    do {
        buf_clear(&body);
        while ((rc = store_pull(ts->st, &req, fetch, &body, &res, &ts->err)) == ESCROW_EAGAIN) {
            store_fetch_run(fetch);
        }
        if (rc == 0) {
            rc = visit_body(buf_slice(&body), fn, arg);
        }
        CHECK(res.status != STORE_PULL_NO_MATCH || rc != 0 || res.next_offset > req.offset);
        req.offset = res.next_offset;
    } while (rc == 0 &&
             (res.status == STORE_PULL_FOUND || res.status == STORE_PULL_NO_MATCH ||
              (res.status == STORE_PULL_BEFORE_FIRST && res.next_offset < res.max_offset)));
    store_fetch_free(&fetch);
    buf_fini(&body);
    return rc;
}

static int join_body(void *arg, const struct record_view *view)
{
    struct buf *out = arg;

    if (out->len > 0) {
        buf_append_u8(out, ',');
    }
    buf_append_slice(out, view->f.body);
    return 0;
}

const char *test_bodies(struct test_store *ts, const char *topic, uint32_t queue_id)
{
    static char text[65536];
    struct buf out;
    int rc;

    buf_init(&out, sizeof text - 1);
    rc = test_pull(ts, topic, queue_id, 0, join_body, &out);
    (void)slice_to_cstr(buf_slice(&out), text, sizeof text);
    buf_fini(&out);
    return rc == 0 ? text : escrow_error_name(rc);
}
