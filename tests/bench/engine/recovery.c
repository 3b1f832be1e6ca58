/* SPDX-License-Identifier: MIT */
#include <unistd.h>

#include "tests/bench/engine/bench.h"

/* An open that has a log to replay: a child fills a log of that size, below
 * the size of a memtable, makes it last and dies without closing. */

enum {
    LOG_BYTES = 64 << 20,
    /* What a memtable takes for a record beyond its bytes is less. */
    RECORD_OVERHEAD_BYTES = 100,
};

static uint64_t records(const struct bench *bench)
{
    return LOG_BYTES / (KEY_BYTES + bench->keys.value_bytes) + 1;
}

static void fill_log(struct bench *bench)
{
    bench_open(bench);
    workload_fill(bench);
    struct batch nothing = {.operations = NULL, .count = 0};
    if (engine_write(bench->engine, &nothing, true) != STATUS_OK)
        bench_fail("cannot sync");
    _exit(0);
}

void recovery_run(struct bench *bench, struct outcome *outcome)
{
    struct bench_options options = *bench->options;
    uint64_t count = records(bench);
    keys_fini(&bench->keys);
    keys_init(&bench->keys, count, options.value_bytes);
    options.keys = count;
    options.memtable_bytes = 2 * LOG_BYTES + count * RECORD_OVERHEAD_BYTES;
    const struct bench_options *given = bench->options;
    bench->options = &options;
    bench_in_child(bench, fill_log);
    outcome->log_bytes = device_disk_bytes(bench->directory);
    outcome->resident_before = device_memory().resident;
    device_reset();
    uint64_t begin = bench_now_ns();
    bench_open(bench);
    outcome->seconds_ns = bench_now_ns() - begin;
    outcome->calls = device_calls();
    outcome->memory = device_memory();
    outcome->operations = count;
    outcome->live_bytes = count * (KEY_BYTES + options.value_bytes);
    histogram_record(&outcome->latency, outcome->seconds_ns, 1);
    workload_read_all(bench);
    bench_settle(bench);
    bench->options = given;
}
