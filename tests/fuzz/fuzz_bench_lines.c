/*
 * Answers of Redis and beanstalkd to the load generator. However the bytes are cut on their way,
 * the answers are the same.
 */
#include "core/base/check.h"
#include "src/tools/bench_lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    size_t answers;
    size_t errors;
    size_t bytes;
};

static void on_line(void *arg, bool is_ok, struct slice line)
{
    struct seen *seen = arg;

    CHECK(line.len == 0 || (line.ptr[0] != '\n' && line.ptr[line.len - 1] != '\n'));
    seen->answers++;
    seen->errors += is_ok ? 0 : 1;
    seen->bytes += line.len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole = {0};
    struct seen parts = {0};
    bool is_redis;
    size_t used;
    size_t at = 0;

    if (size == 0) {
        return 0;
    }
    is_redis = data[0] % 2 == 0;
    used = bench_lines_read(slice_of(data, size), is_redis, on_line, &whole);
    CHECK(used <= size);
    for (size_t end = 1; end <= size; end++) {
        at += bench_lines_read(slice_of(data + at, end - at), is_redis, on_line, &parts);
        CHECK(at <= end);
    }
    CHECK(at == used);
    CHECK(parts.answers == whole.answers && parts.errors == whole.errors &&
          parts.bytes == whole.bytes);
    return 0;
}
