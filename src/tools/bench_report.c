#include "src/tools/bench.h"

#include "core/proto/json_write.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const mode_names[] = {"producer", "txn", "consumer"};
static const char *const driver_names[] = {"rocketmq", "redis", "beanstalkd"};
static const char *const header_names[] = {"json", "rocketmq", "msgpack"};
static const char *const end_names[] = {"confirmed", "answered", "oneway"};

static const struct {
    const char *name;
    uint32_t permille;
} percentiles[] = {{"p50", 500}, {"p90", 900}, {"p99", 990}, {"p99.9", 999}, {"max", 1000}};

#define PERCENTILES (sizeof percentiles / sizeof percentiles[0])

/* ---- what it costs ---- */

static double seconds_of(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

/* Fields 14, 15 (ticks) and 24 (pages) of /proc/PID/stat, counted from behind the name. */
static void server_usage(uint64_t pid, struct bench_usage *usage)
{
    char text[1024];
    FILE *f;
    const char *at;
    size_t got;
    unsigned long long user = 0;
    unsigned long long sys = 0;
    long long pages = 0;

    (void)snprintf(text, sizeof text, "/proc/%llu/stat", (unsigned long long)pid); /* fits */
    f = fopen(text, "re");
    if (f == NULL) {
        return; /* gone: zeros say so */
    }
    got = fread(text, 1, sizeof text - 1, f);
    (void)fclose(f); /* was only read */
    text[got] = '\0';
    at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 24; field++) {
        struct slice word;
        int64_t n = 0;

        at = strchr(at + 1, ' ');
        if (at == NULL) {
            break;
        }
        word = slice_of(at + 1, strcspn(at + 1, " "));
        (void)slice_to_i64(word, &n); /* the state is a letter: not wanted */
        user = field + 1 == 14 ? (unsigned long long)n : user;
        sys = field + 1 == 15 ? (unsigned long long)n : sys;
        pages = field + 1 == 24 ? n : pages;
    }
    usage->server_s = (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
    usage->server_rss = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void bench_usage_read(const struct bench *b, struct bench_usage *usage)
{
    struct rusage self;

    memset(usage, 0, sizeof *usage);
    if (getrusage(RUSAGE_SELF, &self) == 0) {
        usage->self_s = seconds_of(self.ru_utime) + seconds_of(self.ru_stime);
    }
    if (b->options.server_pid != 0) {
        server_usage(b->options.server_pid, usage);
    }
}

/* ---- words ---- */

static char *time_text(uint64_t ns, char *dst, size_t size)
{
    if (ns < 10000) {
        (void)snprintf(dst, size, "%.1f us", (double)ns / 1e3);
    } else if (ns < 1000000) {
        (void)snprintf(dst, size, "%.0f us", (double)ns / 1e3);
    } else if (ns < 1000000000) {
        (void)snprintf(dst, size, "%.2f ms", (double)ns / 1e6);
    } else {
        (void)snprintf(dst, size, "%.2f s", (double)ns / 1e9);
    }
    return dst;
}

/* 1234567 -> 1,234,567 */
static char *count_text(uint64_t n, char *dst, size_t size)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    size_t at = 0;

    for (int i = 0; i < len && at + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            dst[at++] = ',';
        }
        dst[at++] = digits[i];
    }
    dst[at] = '\0';
    return dst;
}

static double elapsed_s(const struct bench *b)
{
    double s = (double)(b->ended_ns - b->started_ns) / 1e9;

    return s > 0 ? s : 1e-9;
}

static uint64_t error_sum(const struct bench *b)
{
    uint64_t n = 0;

    for (size_t i = 0; i < b->error_count; i++) {
        n += b->errors[i].count;
    }
    return n;
}

void bench_progress(struct bench *b)
{
    char rate[32];
    char p99[32];

    (void)fprintf(stderr, "\r%12s /s   p99 %-10s errors %-8llu %s",
                  count_text(b->done - b->progress_done, rate, sizeof rate),
                  time_text(histogram_at(&b->second, 990), p99, sizeof p99),
                  (unsigned long long)error_sum(b), b->is_measuring ? "        " : "(warm-up)");
    (void)fflush(stderr);
    b->progress_done = b->done;
    histogram_init(&b->second);
}

static void report_latency(const struct bench *b)
{
    char text[32];

    (void)printf("  latency     ");
    for (size_t i = 0; i < PERCENTILES; i++) {
        (void)printf(
            "%s %s%s", percentiles[i].name,
            time_text(histogram_at(&b->latency, percentiles[i].permille), text, sizeof text),
            i + 1 == PERCENTILES ? "\n" : "   ");
    }
}

static void report_costs(const struct bench *b)
{
    double per = b->measured == 0 ? 0 : 1e6 / (double)b->measured;
    double self = b->usage[1].self_s - b->usage[0].self_s;
    double server = b->usage[1].server_s - b->usage[0].server_s;

    (void)printf("  cpu         client %.2f s (%.2f us each)", self, self * per);
    if (b->options.server_pid != 0) {
        (void)printf("   server %.2f s (%.2f us each), %.1f MiB resident", server, server * per,
                     (double)b->usage[1].server_rss / 1048576.0);
    }
    (void)printf("\n");
}

void bench_report_text(const struct bench *b)
{
    const struct bench_options *o = &b->options;
    double s = elapsed_s(b);
    char text[32];

    (void)printf("%s  %s", mode_names[o->mode], b->addr);
    if (o->driver == BENCH_ROCKETMQ) {
        (void)printf("  topic %s, %d queues, headers %s", o->topic, b->queues,
                     header_names[o->header]);
    } else {
        (void)printf("  %s", driver_names[o->driver]);
    }
    if (o->mode == BENCH_CONSUMER) {
        (void)printf("  %u connections\n", b->conn_count);
    } else {
        (void)printf("  %u connections x %llu, %llu bytes\n", b->conn_count,
                     (unsigned long long)o->window, (unsigned long long)o->size_bytes);
    }
    (void)printf("  %-11s %s in %.2f s\n", o->mode == BENCH_TXN ? "transactions" : "messages",
                 count_text(b->measured, text, sizeof text), s);
    (void)printf("  rate        %s /s   %.1f MiB/s\n",
                 count_text((uint64_t)((double)b->measured / s), text, sizeof text),
                 (double)b->measured_bytes / s / 1048576.0);
    report_latency(b);
    if (o->mode == BENCH_TXN) {
        (void)printf("  decided     %llu committed, %llu rolled back, %llu left (%s)\n",
                     (unsigned long long)b->committed, (unsigned long long)b->rolled_back,
                     (unsigned long long)b->left, end_names[o->end]);
    }
    report_costs(b);
    (void)printf("  errors      %llu", (unsigned long long)error_sum(b));
    (void)printf(b->missing > 0 ? "   %llu unanswered\n" : "\n", (unsigned long long)b->missing);
    for (size_t i = 0; i < b->error_count; i++) {
        (void)printf("    %llu x %d: %s\n", (unsigned long long)b->errors[i].count,
                     b->errors[i].code, b->errors[i].text);
    }
}

static void put_f64(struct json_writer *w, const char *key, double value)
{
    json_write_key(w, key);
    json_write_f64(w, value);
}

static void json_latency(const struct bench *b, struct json_writer *w)
{
    json_write_key(w, "latencyUs");
    json_write_object_begin(w);
    for (size_t i = 0; i < PERCENTILES; i++) {
        put_f64(w, percentiles[i].name,
                (double)histogram_at(&b->latency, percentiles[i].permille) / 1e3);
    }
    put_f64(w, "mean", histogram_mean(&b->latency) / 1e3);
    json_write_object_end(w);
}

static void json_errors(const struct bench *b, struct json_writer *w)
{
    json_put_i64(w, "errors", (int64_t)error_sum(b));
    json_put_i64(w, "unanswered", (int64_t)b->missing);
    json_write_key(w, "errorKinds");
    json_write_array_begin(w);
    for (size_t i = 0; i < b->error_count; i++) {
        json_write_object_begin(w);
        json_put_i64(w, "code", b->errors[i].code);
        json_put_i64(w, "count", (int64_t)b->errors[i].count);
        json_put_string(w, "text", slice_str(b->errors[i].text));
        json_write_object_end(w);
    }
    json_write_array_end(w);
}

int bench_report_json(const struct bench *b)
{
    const struct bench_options *o = &b->options;
    double s = elapsed_s(b);
    struct buf out;
    struct json_writer w;
    int rc;

    buf_init(&out, 0);
    w = json_writer_to(&out);
    json_write_object_begin(&w);
    json_put_string(&w, "mode", slice_str(mode_names[o->mode]));
    json_put_string(&w, "driver", slice_str(driver_names[o->driver]));
    json_put_string(&w, "address", slice_str(b->addr));
    json_put_string(&w, "header", slice_str(header_names[o->header]));
    json_put_string(&w, "topic", slice_str(o->topic));
    json_put_i64(&w, "queues", b->queues);
    json_put_i64(&w, "connections", b->conn_count);
    json_put_i64(&w, "window", (int64_t)o->window);
    json_put_i64(&w, "sizeBytes", (int64_t)o->size_bytes);
    json_put_i64(&w, "targetRate", (int64_t)o->rate);
    put_f64(&w, "seconds", s);
    json_put_i64(&w, "messages", (int64_t)b->measured);
    put_f64(&w, "rate", (double)b->measured / s);
    put_f64(&w, "mibPerSecond", (double)b->measured_bytes / s / 1048576.0);
    json_latency(b, &w);
    json_put_i64(&w, "late", (int64_t)b->late);
    json_put_i64(&w, "committed", (int64_t)b->committed);
    json_put_i64(&w, "rolledBack", (int64_t)b->rolled_back);
    json_put_i64(&w, "left", (int64_t)b->left);
    put_f64(&w, "clientCpuSeconds", b->usage[1].self_s - b->usage[0].self_s);
    put_f64(&w, "serverCpuSeconds", b->usage[1].server_s - b->usage[0].server_s);
    json_put_i64(&w, "serverRssBytes", (int64_t)b->usage[1].server_rss);
    json_errors(b, &w);
    json_write_object_end(&w);
    buf_append_str(&out, "\n");
    rc = buf_failed(&out) ? ESCROW_ENOMEM : 0;
    (void)fwrite(out.ptr, 1, out.len, stdout); /* a closed stdout is the caller's wish */
    buf_fini(&out);
    return rc;
}
