/* escrow dump: the records of the log of a stopped broker, one line each, beside FORMAT.md. */
#include "core/io_uv/disk_posix.h"
#include "core/store/inspect.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"
#include "txn/decision.h"
#include "txn/release.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DUMP_HEX_BYTES 32 /* of a payload that is not a message */

struct dump {
    struct err_ctx err;
    uint64_t from;
    uint64_t count;
    bool is_json;
    bool is_bodies;
    char root[4096];
    /* stop here: the end of the segment that was named; its begin before dump_bounds */
    uint64_t end;
    struct buf out;
};

static void put_hex(struct buf *out, struct slice bytes)
{
    size_t n = bytes.len < DUMP_HEX_BYTES ? bytes.len : DUMP_HEX_BYTES;

    for (size_t i = 0; i < n; i++) {
        buf_append_fmt(out, "%02x", bytes.ptr[i]);
    }
    buf_append_str(out, n < bytes.len ? "..." : "");
}

static bool is_message(const struct store_record *rec, struct record_view *view)
{
    return store_type_is_message(rec->type) && record_decode(rec->payload, view) == 0;
}

/* What a DECISION decided: kind, who, when, and the halves by log offset. */
static bool put_decision_json(struct json_writer *w, const struct store_record *rec)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;

    if (rec->type != STORE_DECISION || decision_decode(rec->payload, &head, &iter) != 0) {
        return false;
    }
    json_put_string(w, "kind", slice_str(decision_kind_name(head.kind)));
    json_put_string(w, "by", slice_str(decision_by_name(head.by)));
    json_put_i64(w, "atMs", head.at_ms);
    json_write_key(w, "halves");
    json_write_array_begin(w);
    while (decision_next(&iter, &entry)) {
        json_write_i64(w, (int64_t)entry.offset);
    }
    json_write_array_end(w);
    return true;
}

static bool put_decision_text(struct buf *out, const struct store_record *rec)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;

    if (rec->type != STORE_DECISION || decision_decode(rec->payload, &head, &iter) != 0) {
        return false;
    }
    buf_append_fmt(out, "%s by %s ", decision_kind_name(head.kind), decision_by_name(head.by));
    out_put_time(out, head.at_ms);
    buf_append_str(out, " halves");
    while (decision_next(&iter, &entry)) {
        buf_append_fmt(out, " %" PRIu64, entry.offset);
    }
    buf_append_u8(out, '\n');
    return true;
}

/* What a RELEASE released or took back: kind, when, and the messages by log offset. */
static bool put_release_json(struct json_writer *w, const struct store_record *rec)
{
    struct release_head head;
    struct release_iter iter;
    struct release_entry entry;

    if (rec->type != STORE_RELEASE || release_decode(rec->payload, &head, &iter) != 0) {
        return false;
    }
    json_put_string(w, "kind", slice_str(release_kind_name(head.kind)));
    json_put_i64(w, "atMs", head.at_ms);
    json_write_key(w, "messages");
    json_write_array_begin(w);
    while (release_next(&iter, &entry)) {
        json_write_i64(w, (int64_t)entry.offset);
    }
    json_write_array_end(w);
    return true;
}

static bool put_release_text(struct buf *out, const struct store_record *rec)
{
    struct release_head head;
    struct release_iter iter;
    struct release_entry entry;

    if (rec->type != STORE_RELEASE || release_decode(rec->payload, &head, &iter) != 0) {
        return false;
    }
    buf_append_fmt(out, "%s ", release_kind_name(head.kind));
    out_put_time(out, head.at_ms);
    buf_append_str(out, " messages");
    while (release_next(&iter, &entry)) {
        buf_append_fmt(out, " %" PRIu64, entry.offset);
    }
    buf_append_u8(out, '\n');
    return true;
}

static void put_json(struct dump *d, const struct store_record *rec)
{
    struct json_writer w = json_writer_to(&d->out);
    struct record_view view;
    struct buf hex;

    json_write_object_begin(&w);
    json_put_i64(&w, "offset", (int64_t)rec->offset);
    json_put_i64(&w, "length", rec->length);
    json_put_i64(&w, "epoch", rec->epoch);
    json_put_string(&w, "type", slice_str(store_type_name(rec->type)));
    json_put_i64(&w, "typeNumber", rec->type);
    json_put_bool(&w, "more", rec->is_more);
    if (is_message(rec, &view)) {
        json_write_key(&w, "message");
        out_message_json(&w, &view);
    } else if (!put_decision_json(&w, rec) && !put_release_json(&w, rec)) {
        buf_init(&hex, 0);
        put_hex(&hex, rec->payload);
        json_put_string(&w, "payloadHex", buf_slice(&hex));
        buf_fini(&hex);
    }
    json_write_object_end(&w);
    buf_append_u8(&d->out, '\n');
}

static void put_text(struct dump *d, const struct store_record *rec)
{
    struct record_view view;

    buf_append_fmt(&d->out, "%12" PRIu64 "  %6u  e%-3u %s%-8s ", rec->offset, rec->length,
                   rec->epoch, rec->is_more ? "+" : " ", store_type_name(rec->type));
    if (put_decision_text(&d->out, rec) || put_release_text(&d->out, rec)) {
        return;
    }
    if (!is_message(rec, &view)) {
        put_hex(&d->out, rec->payload);
        buf_append_u8(&d->out, '\n');
        return;
    }
    out_put_text(&d->out, view.f.topic);
    buf_append_fmt(&d->out, "/%d", view.f.queue_id);
    if (rec->type == STORE_MESSAGE) {
        buf_append_fmt(&d->out, " @%" PRId64, view.f.queue_offset);
    }
    buf_append_u8(&d->out, ' ');
    out_put_time(&d->out, view.f.store_ms);
    buf_append_fmt(&d->out, " %zu bytes\n", view.f.body.len);
    if (d->is_bodies) {
        out_message_text(&d->out, &view);
    }
}

/* Where the dump could go on behind damage. */
static void say_next(struct dump *d, struct inspect *in)
{
    struct err_ctx damage = d->err;
    uint64_t next = 0;

    if (inspect_find_next(in, &next, NULL) == 1) {
        (void)err_set(&d->err, damage.code, "%s; the log goes on at --from %" PRIu64, damage.text,
                      next);
    }
}

/* Behind the last whole group: what the checkpoint does not know yet is read. */
static int find_end(struct dump *d, struct inspect *in, uint64_t *end)
{
    struct inspect_info info;
    struct store_record rec;
    int rc;

    inspect_info(in, &info);
    *end = info.checkpoint;
    inspect_seek(in, info.checkpoint);
    while ((rc = inspect_next(in, &rec, &d->err)) == 1) {
        *end = rec.is_more ? *end : rec.end;
    }
    return rc;
}

/* Not one record from --from on: is that the end of the log, or where is it? */
static int dump_nothing(struct dump *d, struct inspect *in)
{
    uint64_t end = 0;
    int rc = find_end(d, in, &end);

    if (rc == 0 && d->from > end) {
        return err_set(&d->err, ESCROW_ENOTFOUND,
                       "nothing at log offset %" PRIu64 ": the log ends at %" PRIu64, d->from, end);
    }
    if (rc == 0 && d->from < end) {
        return err_set(&d->err, ESCROW_ENOTFOUND,
                       "no record begins at log offset %" PRIu64 "; the log ends at %" PRIu64,
                       d->from, end);
    }
    return rc;
}

static int dump_records(struct dump *d, struct inspect *in)
{
    struct store_record rec;
    uint64_t n = 0;
    int rc = 1;

    while ((d->count == 0 || n < d->count) && (rc = inspect_next(in, &rec, &d->err)) == 1 &&
           rec.offset < d->end) {
        n++;
        if (d->is_json) {
            put_json(d, &rec);
        } else {
            put_text(d, &rec);
        }
        if (d->out.len > 65536 && !out_flush(&d->out)) {
            return err_set(&d->err, ESCROW_EIO, "standard output cannot be written");
        }
    }
    if (rc == 0 && n == 0) {
        rc = dump_nothing(d, in);
    }
    if (rc == 0 && inspect_tail(in) > 0) {
        (void)fprintf(stderr,
                      "escrow: dump: %" PRIu64
                      " bytes behind the end are torn; the next start cuts them\n",
                      inspect_tail(in));
    }
    if (!out_flush(&d->out)) {
        return err_set(&d->err, ESCROW_EIO, "standard output cannot be written");
    }
    if (rc == ESCROW_ECORRUPT) {
        say_next(d, in);
    }
    if (rc == 0) {
        rc = inspect_check(in, &d->err); /* all was read; would a server take the folder? */
    }
    return rc < 0 ? rc : 0;
}

/* DIR/log/00000000000000000000 names a segment: its folder's parent is the data folder. */
static bool split_segment(struct dump *d, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    uint64_t first;

    if (strlen(name) != 20 || strspn(name, "0123456789") != 20 ||
        !args_to_count(name, 1000, &first)) {
        return false;
    }
    d->from = d->from > first ? d->from : first;
    if (len == 0) {
        (void)snprintf(d->root, sizeof d->root, ".."); /* fits */
    } else {
        (void)snprintf(d->root, sizeof d->root, "%.*s/..", (int)len, path); /* checked by access */
    }
    d->end = first; /* until dump_bounds */
    return true;
}

/* Make from and end ready for the log that is there. */
static int dump_bounds(struct dump *d, const struct inspect_info *info, bool is_segment)
{
    d->end = is_segment ? d->end + info->segment_bytes : UINT64_MAX;
    d->from = d->from > info->first ? d->from : info->first;
    if (is_segment && d->from >= d->end) {
        return err_set(&d->err, ESCROW_ENOTFOUND,
                       "nothing at log offset %" PRIu64 ": the segment ends at %" PRIu64, d->from,
                       d->end);
    }
    return 0;
}

static int dump_run(struct dump *d, const char *path, bool is_segment)
{
    struct disk *disk = NULL;
    struct inspect *in = NULL;
    struct inspect_info info;
    int rc;

    if (access(path, F_OK) != 0) {
        return err_set(&d->err, ESCROW_ENOTFOUND, "no such folder or segment");
    }
    rc = disk_posix_new(d->root, &disk, &d->err);
    if (rc == 0) {
        rc = inspect_open(disk, &in, &d->err);
    }
    if (rc == 0) {
        inspect_info(in, &info);
        rc = dump_bounds(d, &info, is_segment);
    }
    if (rc == 0) {
        inspect_seek(in, d->from);
        rc = dump_records(d, in);
    }
    inspect_close(&in);
    disk_free(&disk);
    return rc;
}

int dump_main(int argc, char **argv)
{
    static struct dump d;
    static struct cli cli; /* only for its error line */
    const struct arg args[] = {
        {"from", "OFFSET", "begin at the record with this log offset", &d.from, ARG_COUNT},
        {"count", "N", "stop after so many records", &d.count, ARG_COUNT},
        {"bodies", NULL, "properties and bodies of messages too", &d.is_bodies, ARG_FLAG},
        {"json", NULL, "one JSON object per line", &d.is_json, ARG_FLAG},
    };
    const struct arg_list list = {
        "dump DATADIR|SEGMENT [OPTION]...",
        "Prints the records of a stopped broker's log, or of one segment: log offset, length, "
        "epoch, type\n"
        "('+': more of the same atomic group follow), and what is in it. core/store/FORMAT.md "
        "explains\n"
        "them. Reads only; checks every record. Exit status 1 at a record that is damaged, or if a "
        "server\n"
        "would refuse the folder; 3 when there is no such folder or segment, or --from is behind "
        "the end of\n"
        "the log.\n\n",
        args, ARG_LIST_COUNT(args)};
    enum args_result parsed = args_parse(&list, &argc, argv);
    bool is_segment;
    int rc;

    if (parsed == ARGS_GO && argc != 1) {
        parsed = args_bad(&list, "expected a data folder or a segment file");
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    is_segment = split_segment(&d, argv[0]);
    if (!is_segment) {
        (void)slice_to_cstr(slice_str(argv[0]), d.root, sizeof d.root);
    }
    buf_init(&d.out, 0);
    rc = dump_run(&d, argv[0], is_segment);
    buf_fini(&d.out);
    cli.err = d.err;
    return rc == 0 ? CLI_OK : cli_fail(&cli, rc, "dump %s", argv[0]);
}
