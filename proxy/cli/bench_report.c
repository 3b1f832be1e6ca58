/* SPDX-License-Identifier: MIT */
#include "proxy/cli/bench_report.h"

#include <inttypes.h>
#include <stdlib.h>

#include "proxy/cli/output.h"

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static double per_second(uint64_t count, int64_t ns)
{
    return ns > 0 ? (double)count * 1e9 / (double)ns : 0;
}

/* ---- each second ---- */

#define SECOND_NS INT64_C(1000000000)

struct bench_seconds {
    struct bench_run *run;
    int64_t start_ns, shown_ns, next_ns;
    struct histogram before, now;
};

struct bench_seconds *bench_seconds_new(struct bench_run *run, int64_t start_ns)
{
    struct bench_seconds *seconds = must_have(calloc(1, sizeof(*seconds)));
    seconds->run = run;
    seconds->start_ns = seconds->shown_ns = start_ns;
    seconds->next_ns = start_ns + SECOND_NS;
    return seconds;
}

void bench_seconds_show(struct bench_seconds *seconds)
{
    int64_t now_ns = bench_now_ns();
    int64_t passed_ns = now_ns - seconds->shown_ns;
    struct bench_counts counts;
    if (now_ns < seconds->next_ns)
        return;
    bench_run_read(seconds->run, &counts, &seconds->now);
    histogram_subtract(&seconds->now, &seconds->before);
    fprintf(stderr,
            "%4.0f s  %9.0f/s  p50 %.3f ms  p99 %.3f ms  %" PRIu64 " errors\n",
            (double)(now_ns - seconds->start_ns) / 1e9,
            per_second(seconds->now.count, passed_ns),
            ms(histogram_quantile(&seconds->now, 0.5)),
            ms(histogram_quantile(&seconds->now, 0.99)), counts.failed);
    histogram_add(&seconds->before, &seconds->now);
    seconds->shown_ns = now_ns;
    while (seconds->next_ns <= now_ns)
        seconds->next_ns += SECOND_NS;
}

/* ---- the summary ---- */

static void json_set_us(json_t *object, const char *name, uint64_t ns)
{
    json_set_number(object, name, (ns + 500) / 1000);
}

/* How many, and in what time. */
static void json_set_rate(json_t *object, const char *name, uint64_t count,
                          int64_t ns)
{
    json_set_number(object, name, count);
    json_set_number(object, "milliseconds", (uint64_t)(ns / 1000000));
    json_set_number(object, "per_second", (uint64_t)per_second(count, ns));
}

static json_t *json_of_latency(const struct histogram *latency)
{
    json_t *object = must_have(json_object());
    json_set_number(object, "count", latency->count);
    for (size_t i = 0; i < HISTOGRAM_SHOWN; i++)
        json_set_us(object, histogram_shown[i].field,
                    histogram_quantile(latency, histogram_shown[i].fraction));
    json_set_us(object, "max_us", latency->max);
    return object;
}

static void json_set_options(json_t *object, const struct cli *cli)
{
    const struct bench_options *options = &cli->bench;
    json_t *mix = must_have(json_object());
    for (unsigned kind = 0; kind < BENCH_KINDS; kind++)
        if (options->share[kind] > 0)
            json_set_number(mix, bench_kind_name((enum bench_kind)kind),
                            options->share[kind]);
    if (options->workload != NULL)
        json_set_string(object, "workload", options->workload);
    json_set(object, "mix", mix);
    json_set_string(object, "distribution",
                    bench_distribution_name(options->distribution));
    json_set_number(object, "keys", options->keys);
    json_set_number(object, "value_bytes_min", options->value_bytes_min);
    json_set_number(object, "value_bytes_max", options->value_bytes_max);
    json_set_number(object, "seed", options->seed);
    json_set_number(object, "clients", options->clients);
    json_set_number(object, "inflight", cli->inflight);
    json_set_number(object, "batch", options->batch);
    if (options->rate > 0)
        json_set_number(object, "rate", options->rate);
}

static json_t *json_of_errors(const struct bench_counts *counts)
{
    json_t *list = must_have(json_array());
    for (unsigned i = 0; i < BENCH_STATUSES; i++)
        for (unsigned j = 0; j <= REPLIKV_UNKNOWN; j++) {
            if (counts->errors[i][j] == 0)
                continue;
            json_t *error = must_have(json_object());
            json_set_string(error, "status",
                            replikv_status_name((enum replikv_status)i));
            json_set_string(error, "outcome",
                            replikv_outcome_name((enum replikv_outcome)j));
            json_set_number(error, "count", counts->errors[i][j]);
            json_push(list, error);
        }
    return list;
}

static void print_json(const struct bench_report *report, struct bench_run *run,
                       const struct histogram *all)
{
    const struct bench_options *options = &report->cli->bench;
    json_t *object = must_have(json_object());
    json_t *kinds = must_have(json_object());
    struct histogram *latency = must_have(calloc(1, sizeof(*latency)));
    json_set_options(object, report->cli);
    if (options->load) {
        json_t *load = must_have(json_object());
        json_set_rate(load, "loaded", report->loaded, report->load_ns);
        json_set_number(load, "failed", report->load_failed);
        json_set(object, "load", load);
    }
    json_set_rate(object, "operations", all->count, report->measured_ns);
    json_set_number(object, "not_found", report->counts.not_found);
    json_set_number(object, "siblings_max", report->counts.siblings_max);
    if (options->rate > 0)
        json_set_number(object, "never_started", report->behind);
    json_set(object, "latency", json_of_latency(all));
    for (unsigned kind = 0; kind < BENCH_KINDS; kind++) {
        if (options->share[kind] == 0)
            continue;
        bench_run_latency(run, (enum bench_kind)kind, latency);
        json_set(kinds, bench_kind_name((enum bench_kind)kind),
                 json_of_latency(latency));
    }
    json_set(object, "kinds", kinds);
    json_set_number(object, "failed", report->counts.failed);
    json_set(object, "errors", json_of_errors(&report->counts));
    json_document(object);
    free(latency);
}

static void add_row(struct grid *grid, const char *name,
                    const struct histogram *latency, int64_t ns)
{
    grid_add(grid, "%s", name);
    grid_add(grid, "%" PRIu64, latency->count);
    grid_add(grid, "%.0f", per_second(latency->count, ns));
    for (size_t i = 0; i < HISTOGRAM_SHOWN; i++)
        grid_add(grid, "%.3f",
                 ms(histogram_quantile(latency, histogram_shown[i].fraction)));
    grid_add(grid, "%.3f", ms(latency->max));
}

static void print_errors(const struct bench_counts *counts)
{
    static const char *const headers[] = {"error", "outcome", ">count"};
    struct grid grid;
    grid_init(&grid, headers, 3);
    for (unsigned i = 0; i < BENCH_STATUSES; i++)
        for (unsigned j = 0; j <= REPLIKV_UNKNOWN; j++) {
            if (counts->errors[i][j] == 0)
                continue;
            grid_add(&grid, "%s", replikv_status_name((enum replikv_status)i));
            grid_add(&grid, "%s",
                     replikv_outcome_name((enum replikv_outcome)j));
            grid_add(&grid, "%" PRIu64, counts->errors[i][j]);
        }
    putchar('\n');
    grid_finish(&grid);
}

static void print_text(const struct bench_report *report, struct bench_run *run,
                       const struct histogram *all)
{
    static const char *const headers[] = {"operation", ">count",  ">per s",
                                          ">p50 ms",   ">p90 ms", ">p99 ms",
                                          ">p99.9 ms", ">max ms"};
    const struct bench_options *options = &report->cli->bench;
    struct histogram *latency = must_have(calloc(1, sizeof(*latency)));
    struct grid grid;
    if (options->load)
        printf("loaded %" PRIu64 " keys in %.1f s, %.0f/s\n", report->loaded,
               (double)report->load_ns / 1e9,
               per_second(report->loaded, report->load_ns));
    printf("%" PRIu64 " operations in %.1f s, %.0f/s, %" PRIu64
           " errors, %" PRIu64 " not found\n",
           all->count, (double)report->measured_ns / 1e9,
           per_second(all->count, report->measured_ns), report->counts.failed,
           report->counts.not_found);
    if (options->batch > 1)
        printf("in batches of %u; a latency is that of a batch\n",
               options->batch);
    putchar('\n');
    grid_init(&grid, headers, sizeof(headers) / sizeof(*headers));
    for (unsigned kind = 0; kind < BENCH_KINDS; kind++) {
        if (options->share[kind] == 0)
            continue;
        bench_run_latency(run, (enum bench_kind)kind, latency);
        add_row(&grid, bench_kind_name((enum bench_kind)kind), latency,
                report->measured_ns);
    }
    add_row(&grid, "all", all, report->measured_ns);
    grid_finish(&grid);
    if (report->counts.failed > 0)
        print_errors(&report->counts);
    free(latency);
}

/* What a user would otherwise wonder about. */
static void remark(const struct bench_report *report,
                   const struct histogram *all)
{
    const struct bench_counts *counts = &report->counts;
    if (report->behind > 0)
        fprintf(stderr,
                "replikv: bench: %" PRIu64 " requests were due and never "
                "started: the rate is more than\nthe cluster, or so few "
                "requests at once (--clients, --inflight), can do\n",
                report->behind);
    if (all->count > 0 && counts->not_found == all->count)
        fprintf(stderr, "replikv: bench: no key was found; --load writes them "
                        "first\n");
    if (counts->siblings_max > 1)
        fprintf(stderr,
                "replikv: bench: reads found up to %" PRIu64 " siblings, "
                "which puts leave in a bucket that keeps\nthem; a bucket of "
                "kind lww keeps none, --overwrite and rmw those of clients "
                "that\nwrite a key at once\n",
                counts->siblings_max);
}

int bench_report_print(const struct bench_report *report, struct bench_run *run,
                       const struct histogram *all)
{
    uint64_t unknown = 0;
    for (size_t i = 0; i < BENCH_STATUSES; i++)
        unknown += report->counts.errors[i][REPLIKV_UNKNOWN];
    if (report->cli->json)
        print_json(report, run, all);
    else
        print_text(report, run, all);
    remark(report, all);
    if (unknown > 0)
        return EXIT_UNKNOWN;
    return report->counts.failed > 0 || report->load_failed > 0 ? EXIT_REFUSED
                                                                : EXIT_DONE;
}
