/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_BENCH_REPORT_H
#define REPLIKV_PROXY_CLI_BENCH_REPORT_H

#include "proxy/cli/bench_run.h"

/* What `replikv bench` says: a line each second while it measures, to standard
 * error, and the summary. */

struct bench_seconds;

/* From start_ns on. Freed with free. */
struct bench_seconds *bench_seconds_new(struct bench_run *run,
                                        int64_t start_ns);
/* Print the line of the second that is over, if one is. */
void bench_seconds_show(struct bench_seconds *seconds);

struct bench_report {
    const struct cli *cli;
    int64_t load_ns;
    uint64_t loaded, load_failed;
    int64_t measured_ns; /* to the last answer */
    uint64_t behind;     /* as bench_run_behind has it */
    struct bench_counts counts;
};

/* Print the summary, and what there is to say of it to standard error. Returns
 * the exit code. */
int bench_report_print(const struct bench_report *report, struct bench_run *run,
                       const struct histogram *all);

#endif
