/* escrow verify: is a stopped broker's data folder sound? */
#include "core/io_uv/disk_posix.h"
#include "core/store/inspect.h"
#include "src/tools/cli.h"
#include "src/tools/commands.h"
#include "src/tools/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define FINDINGS_SHOWN 100 /* without --all: the first ones say where to look */

struct verify {
    struct err_ctx err;
    uint64_t findings;
    bool is_json;
    bool is_all;
    bool is_tty;
    uint64_t shown; /* percent */
};

static void on_finding(void *arg, int code, const char *text)
{
    struct verify *v = arg;

    if (++v->findings > FINDINGS_SHOWN && !v->is_all) {
        return; /* say_more tells how many */
    }
    (void)fprintf(stderr, "%s%s: %s\n", v->is_tty ? "\r\033[K" : "", escrow_error_name(code), text);
}

static void say_more(const struct verify *v)
{
    if (v->findings > FINDINGS_SHOWN && !v->is_all) {
        (void)fprintf(stderr, "escrow: verify: %" PRIu64 " more findings; --all shows them\n",
                      v->findings - FINDINGS_SHOWN);
    }
}

static void on_progress(void *arg, uint64_t done, uint64_t total)
{
    struct verify *v = arg;
    uint64_t percent = total == 0 ? 0 : (uint64_t)((double)done * 100 / (double)total);

    if (v->is_tty && percent != v->shown) {
        v->shown = percent;
        (void)fprintf(stderr, "\r%3" PRIu64 " %%  %" PRIu64 " of %" PRIu64 " MiB", percent,
                      done >> 20, total >> 20);
        (void)fflush(stderr);
    }
}

static int report(const struct verify *v, const struct inspect_report *r)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {{"records", r->records},  {"messages", r->messages},
                {"halves", r->halves},    {"decisions", r->decisions},
                {"held", r->held},        {"releases", r->releases},
                {"bytes", r->bytes},      {"tornBytes", r->torn_bytes},
                {"queues", r->queues},    {"queueEntries", r->queue_entries},
                {"findings", r->findings}};
    struct buf out;
    struct json_writer w;
    int rc;

    buf_init(&out, 0);
    w = json_writer_to(&out);
    if (v->is_json) {
        json_write_object_begin(&w);
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (v->is_json) {
            json_put_i64(&w, rows[i].name, (int64_t)rows[i].value);
        } else {
            buf_append_fmt(&out, "%-13s %" PRIu64 "\n", rows[i].name, rows[i].value);
        }
    }
    if (v->is_json) {
        json_write_object_end(&w);
        buf_append_u8(&out, '\n');
    } else {
        buf_append_str(&out, r->findings == 0 ? "sound\n" : "NOT SOUND\n");
    }
    rc = out_flush(&out) ? 0 : ESCROW_EIO;
    buf_fini(&out);
    return rc;
}

static int verify_run(struct verify *v, const char *root, bool *is_sound)
{
    struct inspect_verify how = {.finding = on_finding, .progress = on_progress, .arg = v};
    struct inspect_report result = {.findings = 0};
    struct disk *disk = NULL;
    struct inspect *in = NULL;
    int rc;

    if (access(root, F_OK) != 0) {
        return err_set(&v->err, ESCROW_ENOTFOUND, "no such folder");
    }
    rc = disk_posix_new(root, &disk, &v->err);
    if (rc == 0) {
        rc = inspect_open(disk, &in, &v->err);
    }
    if (rc == 0) {
        rc = inspect_verify(in, &how, &result, &v->err);
        (void)fprintf(stderr, "%s", v->is_tty ? "\r\033[K" : "");
        say_more(v);
    }
    if (rc == 0) {
        rc = report(v, &result);
    }
    *is_sound = result.findings == 0;
    inspect_close(&in);
    disk_free(&disk);
    return rc;
}

int verify_main(int argc, char **argv)
{
    static struct verify v;
    static struct cli cli; /* only for its error line */
    const struct arg args[] = {
        {"all", NULL, "every finding (the first 100)", &v.is_all, ARG_FLAG},
        {"json", NULL, "machine-readable: one JSON document", &v.is_json, ARG_FLAG}};
    const struct arg_list list = {"verify DATADIR [OPTION]...",
                                  "Reads all of a stopped broker's data: every record of the log, "
                                  "every queue entry against the record\n"
                                  "it points to, every page of the key index, the checkpoint, and "
                                  "whether they fit together as a\n"
                                  "start wants it. Changes nothing. "
                                  "Exit status 0 sound, 1 not sound or not readable, 3 no such "
                                  "folder, or no store in it.\n\n",
                                  args, ARG_LIST_COUNT(args)};
    enum args_result parsed = args_parse(&list, &argc, argv);
    bool is_sound = false;
    int rc;

    if (parsed == ARGS_GO && argc != 1) {
        parsed = args_bad(&list, "expected a data folder");
    }
    if (parsed != ARGS_GO) {
        return parsed == ARGS_HELP ? CLI_OK : CLI_USAGE;
    }
    v.is_tty = isatty(STDERR_FILENO) == 1;
    rc = verify_run(&v, argv[0], &is_sound);
    if (rc != 0) {
        cli.err = v.err;
        return cli_fail(&cli, rc, "verify %s", argv[0]);
    }
    return is_sound ? CLI_OK : CLI_FAILED;
}
