/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/bench_report.h"
#include "proxy/cli/output.h"

/* bench: load, warm up, measure, report. The clients run by themselves; this
 * thread waits, draws the progress and sees that it was interrupted. */

#define SECOND_NS INT64_C(1000000000)

enum {
    LOOK_EVERY_MS = 50,
    /* What is under way may end by itself after an interruption. */
    LEAVE_MS = 1000,
};

/* One read, to say at once that there is no node or no such bucket. */
static int probe(const struct cli *cli)
{
    struct replikv *client = cli_open(cli, true);
    struct replikv_result *result = replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_GET,
                                          .bucket = cli->bucket,
                                          .key = replikv_bytes_of("bench", 5),
                                          .level = cli->r});
    int code =
        result->status == REPLIKV_OK || result->status == REPLIKV_NOT_FOUND
            ? EXIT_DONE
            : cli_failed(cli, result);
    replikv_result_free(result);
    replikv_close(client);
    return code;
}

/* Until all is done, or the user has had enough. */
static bool wait_a_little(struct bench_run *run)
{
    if (!interrupted())
        return bench_run_wait(run, LOOK_EVERY_MS);
    bench_run_stop(run);
    bench_run_wait(run, LEAVE_MS);
    return true;
}

/* False when there is nothing to measure. */
static bool load(const struct cli *cli, struct bench_run *run,
                 struct bench_report *report)
{
    struct bench_counts counts;
    struct progress progress;
    int64_t start_ns = bench_now_ns();
    bool done = false;
    progress_start(&progress, "loaded");
    bench_run_load(run);
    while (!done) {
        done = wait_a_little(run);
        bench_run_read(run, &counts, NULL);
        progress_show(&progress, counts.loaded + counts.failed, cli->bench.keys,
                      counts.loaded);
    }
    progress_finish(&progress);
    report->load_ns = bench_now_ns() - start_ns;
    report->loaded = counts.loaded;
    report->load_failed = counts.failed;
    if (counts.failed > 0)
        fprintf(stderr, "replikv: bench: %" PRIu64 " keys were not loaded\n",
                counts.failed);
    return !interrupted() && counts.loaded > 0;
}

/* False when it was over before it began. */
static bool measure(const struct cli *cli, struct bench_run *run,
                    struct bench_report *report)
{
    const struct bench_options *options = &cli->bench;
    int64_t now_ns = bench_now_ns();
    int64_t start_ns = now_ns + options->warmup_s * SECOND_NS;
    int64_t end_ns = start_ns + options->duration_s * SECOND_NS;
    struct bench_seconds *seconds = bench_seconds_new(run, start_ns);
    if (options->warmup_s > 0)
        fprintf(stderr, "replikv: bench: warming up for %u s\n",
                options->warmup_s);
    bench_run_start(run, now_ns);
    while (!wait_a_little(run))
        bench_seconds_show(seconds);
    bench_seconds_show(seconds);
    now_ns = bench_now_ns();
    /* The last of a schedule may be answered before its time is over. */
    if (now_ns < end_ns && !interrupted())
        now_ns = end_ns;
    report->measured_ns = now_ns - start_ns;
    report->behind = bench_run_behind(run, now_ns);
    free(seconds);
    return now_ns > start_ns;
}

static int write_percentiles(const char *path, FILE *file,
                             const struct histogram *all)
{
    histogram_print(all, file);
    if (fflush(file) == 0 && ferror(file) == 0)
        return EXIT_DONE;
    fprintf(stderr, "replikv: --percentiles: %s: %s\n", path, strerror(errno));
    return EXIT_REFUSED;
}

static int run_it(const struct cli *cli, FILE *percentiles)
{
    struct bench_plan plan;
    struct bench_report report = {.cli = cli};
    int code = EXIT_REFUSED;
    bench_plan_init(&plan, &cli->bench);
    struct bench_run *run = bench_run_new(cli, &plan);
    bool measured = (!cli->bench.load || load(cli, run, &report)) &&
                    measure(cli, run, &report);
    bench_run_close(run);
    const char *refusal = bench_run_refusal(run);
    if (refusal != NULL) {
        fprintf(stderr, "replikv: bench: stopped: %s\n", refusal);
    } else if (measured) {
        struct histogram *all = must_have(calloc(1, sizeof(*all)));
        bench_run_read(run, &report.counts, all);
        code = bench_report_print(&report, run, all);
        if (percentiles != NULL &&
            write_percentiles(cli->bench.percentiles, percentiles, all) !=
                EXIT_DONE)
            code = EXIT_REFUSED;
        free(all);
    } else {
        fprintf(stderr, "replikv: bench: nothing was measured\n");
    }
    bench_run_free(run);
    return code;
}

int command_bench(const struct cli *cli)
{
    struct cli own = *cli;
    FILE *percentiles = NULL;
    if (own.inflight == 0)
        own.inflight = 1;
    const char *wrong = bench_settle(&own.bench, own.inflight);
    if (wrong != NULL) {
        fprintf(stderr, "replikv: %s\nreplikv --help says how.\n", wrong);
        return EXIT_USAGE;
    }
    int code = probe(&own);
    if (code != EXIT_DONE)
        return code;
    if (own.bench.percentiles != NULL) {
        percentiles = fopen(own.bench.percentiles, "w");
        if (percentiles == NULL) {
            fprintf(stderr, "replikv: --percentiles: %s: %s\n",
                    own.bench.percentiles, strerror(errno));
            return EXIT_USAGE;
        }
    }
    interrupted();
    code = run_it(&own, percentiles);
    if (percentiles != NULL)
        fclose(percentiles);
    return code;
}
