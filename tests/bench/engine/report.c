/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "tests/bench/engine/bench.h"

/* A run as lines for people, or as one object. Units end the names. */

struct report {
    bool json;
    const char *between;
};

static void name(struct report *report, const char *text)
{
    if (report->json)
        printf("%s\"%s\": ", report->between, text);
    else
        printf("%-26s ", text);
    report->between = ", ";
}

static void word(struct report *report, const char *text, const char *value)
{
    name(report, text);
    printf(report->json ? "\"%s\"" : "%s\n", value);
}

static void number(struct report *report, const char *text, double value,
                   int decimals)
{
    name(report, text);
    printf("%.*f%s", decimals, value, report->json ? "" : "\n");
}

static void whole(struct report *report, const char *text, uint64_t value)
{
    number(report, text, (double)value, 0);
}

static double us(uint64_t ns)
{
    return (double)ns / 1e3;
}

static double ratio(uint64_t a, uint64_t b)
{
    return b == 0 ? 0 : (double)a / (double)b;
}

static void print_options(struct report *report, const struct bench *bench)
{
    const struct bench_options *options = bench->options;
    word(report, "engine", bench->type->name);
    word(report, "workload", workload_name(options->workload));
    whole(report, "keys", options->keys);
    whole(report, "value_bytes", options->value_bytes);
    whole(report, "threads", options->threads);
    word(report, "writes", options->sync ? "synced" : "unsynced");
    word(report, "writers", bench->serial ? "one at a time" : "together");
    word(report, "compression", options->compress ? "fast" : "none");
    whole(report, "cache_bytes", options->cache_bytes);
    whole(report, "memtable_bytes", options->memtable_bytes);
}

static void print_rates(struct report *report, const struct outcome *outcome)
{
    const struct histogram *latency = &outcome->latency;
    double seconds = (double)outcome->seconds_ns / 1e9;
    whole(report, "operations", outcome->operations);
    number(report, "seconds", seconds, 3);
    number(report, "ops_per_s", (double)outcome->operations / seconds, 0);
    number(report, "cpu_us_per_op",
           ratio((uint64_t)(outcome->cpu_seconds * 1e9), outcome->operations) /
               1e3,
           3);
    number(report, "p50_us", us(histogram_quantile(latency, 0.5)), 2);
    number(report, "p99_us", us(histogram_quantile(latency, 0.99)), 2);
    number(report, "p999_us", us(histogram_quantile(latency, 0.999)), 2);
    number(report, "max_us", us(latency->max), 1);
}

static void print_writer(struct report *report, const struct outcome *outcome)
{
    const struct histogram *latency = &outcome->write_latency;
    if (outcome->writes == 0)
        return;
    number(report, "writer_ops_per_s",
           (double)outcome->writes / ((double)outcome->writes_ns / 1e9), 0);
    number(report, "writer_p50_us", us(histogram_quantile(latency, 0.5)), 2);
    number(report, "writer_p99_us", us(histogram_quantile(latency, 0.99)), 2);
    number(report, "writer_p999_us", us(histogram_quantile(latency, 0.999)), 2);
    number(report, "writer_max_us", us(latency->max), 1);
}

/* The amplification is of what was given to write, the same for every engine;
 * the engine's own count, where it has one, stands beside it. */
static void print_written(struct report *report, const struct outcome *outcome)
{
    const struct engine_stats *stats = &outcome->stats;
    if (outcome->user_bytes == 0)
        return;
    whole(report, "user_bytes", outcome->user_bytes);
    whole(report, "written_bytes", outcome->written.wchar);
    whole(report, "device_bytes", outcome->written.write_bytes);
    number(report, "write_amplification",
           ratio(outcome->written.wchar, outcome->user_bytes), 2);
    if (stats->user_bytes != 0) {
        number(report, "engine_amplification",
               ratio(stats->stored_bytes, stats->user_bytes), 2);
        whole(report, "engine_stall_us", stats->stall_us);
        whole(report, "engine_stall_us_max", stats->stall_us_max);
    }
    number(report, "settle_s", (double)outcome->settle_ns / 1e9, 2);
}

static void print_disk(struct report *report, const struct outcome *outcome)
{
    if (outcome->log_bytes != 0)
        whole(report, "log_bytes", outcome->log_bytes);
    whole(report, "disk_bytes", outcome->disk_bytes);
    number(report, "space_amplification",
           ratio(outcome->disk_bytes, outcome->live_bytes), 3);
    whole(report, "syncs", outcome->calls.syncs);
    number(report, "sync_max_us", us(outcome->calls.sync_ns_max), 1);
    whole(report, "renames", outcome->calls.renames);
    number(report, "rename_max_us", us(outcome->calls.rename_ns_max), 1);
}

static void print_memory(struct report *report, const struct outcome *outcome)
{
    const struct device_memory *memory = &outcome->memory;
    whole(report, "rss_before_bytes", outcome->resident_before);
    whole(report, "rss_peak_bytes", memory->resident_peak);
    whole(report, "rss_anon_peak_bytes", memory->anonymous_peak);
    whole(report, "rss_anon_bytes", memory->anonymous);
    whole(report, "rss_file_bytes", memory->file);
}

void report_print(const struct bench *bench, const struct outcome *outcome)
{
    struct report report = {.json = bench->options->json, .between = ""};
    if (report.json)
        printf("{");
    print_options(&report, bench);
    print_rates(&report, outcome);
    print_writer(&report, outcome);
    print_written(&report, outcome);
    print_disk(&report, outcome);
    print_memory(&report, outcome);
    printf(report.json ? "}\n" : "");
}
