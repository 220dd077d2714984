/*
 * How fast the relay reads and cuts an outbox, without a broker: bench_pg_drain CONNINFO. Reads
 * everything into a sink that stores nothing, prints rows per second, the relay's own CPU time per
 * row and its memory.
 */
#include "core/io/clock.h"
#include "core/io_uv/clock_system.h"
#include "outbox/pg/relay_loop.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

struct bench {
    struct sink sink; /* first */
    struct loop loop;
    struct loop_deferred work;
    struct relay_loop *relay;
    struct sink_open *open;
    struct sink_batch *queue[4096];
    size_t count;
    uint64_t rows;
    int64_t first_ns;
    int64_t last_ns;
};

static void on_open(struct sink *s, struct sink_open *open)
{
    struct bench *b = (struct bench *)(void *)s;

    b->open = open;
    loop_defer(&b->loop, &b->work);
}

static void on_publish(struct sink *s, struct sink_batch *batch)
{
    struct bench *b = (struct bench *)(void *)s;

    b->queue[b->count++] = batch;
    loop_defer(&b->loop, &b->work);
}

static void on_work(void *arg)
{
    struct bench *b = arg;
    struct sink_open *open = b->open;
    size_t count = b->count;

    if (open != NULL) {
        b->open = NULL;
        open->code = 0;
        open->epoch = 1;
        open->position = SLICE_EMPTY;
        b->first_ns = clock_mono_ns(clock_system());
        open->cb(open);
    }
    b->count = 0;
    for (size_t i = 0; i < count; i++) {
        struct sink_batch *batch = b->queue[i];
        b->rows += batch->message_count;
        b->last_ns = clock_mono_ns(clock_system());
        batch->code = 0;
        batch->cb(batch);
    }
}

static void on_ended(void *arg, enum relay_state final, const struct err_ctx *why)
{
    (void)arg;
    (void) final;
    (void)why;
}

static void on_tick(void *arg)
{
    (void)arg; /* ends a sleep */
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct relay_loop_config cfg;
    struct loop_timer tick = {0};
    struct rusage usage;
    double seconds;
    double cpu;

    if (argc != 2 || loop_init(&b.loop) != 0) {
        (void)fprintf(stderr, "usage: bench_pg_drain CONNINFO\n");
        return EXIT_FAILURE;
    }
    b.sink.open = on_open;
    b.sink.publish = on_publish;
    loop_deferred_init(&b.work, on_work, &b);
    relay_loop_config_init(&cfg);
    cfg.relay.source = "bench";
    cfg.relay.owner = "bench";
    cfg.relay.seed = 1;
    cfg.relay.maintain_ms = 600000;
    cfg.conninfo = argv[1];
    cfg.ended = on_ended;
    b.relay = relay_loop_new(&b.loop, &b.sink, &cfg);
    relay_loop_start(b.relay);
    loop_timer_start(&b.loop, &tick, 10, 10, on_tick, NULL);
    while (relay_state(relay_loop_relay(b.relay)) != RELAY_IDLE) {
        loop_run_once(&b.loop, true);
    }
    (void)getrusage(RUSAGE_SELF, &usage); /* cannot fail for this process */
    seconds = (double)(b.last_ns - b.first_ns) / 1e9;
    cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
          (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    (void)printf("%" PRIu64 " rows in %.3f s: %.0f rows/s; relay %.2f us CPU per row, %ld KiB\n",
                 b.rows, seconds, (double)b.rows / seconds, cpu * 1e6 / (double)b.rows,
                 usage.ru_maxrss);
    relay_loop_stop(b.relay);
    loop_timer_stop(&b.loop, &tick);
    loop_run_once(&b.loop, false);
    loop_run_once(&b.loop, false);
    relay_loop_free(b.relay);
    loop_fini(&b.loop);
    return EXIT_SUCCESS;
}
