/* SPDX-License-Identifier: MIT */
#include "tests/bench/engine/options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/bench/engine/bench.h"

static const char *const names[WORKLOAD_COUNT] = {
    [WORKLOAD_FILLSEQ] = "fillseq",
    [WORKLOAD_FILLRANDOM] = "fillrandom",
    [WORKLOAD_FILLSYNC] = "fillsync",
    [WORKLOAD_OVERWRITE] = "overwrite",
    [WORKLOAD_READRANDOM] = "readrandom",
    [WORKLOAD_READMISSING] = "readmissing",
    [WORKLOAD_READSEQ] = "readseq",
    [WORKLOAD_READREVERSE] = "readreverse",
    [WORKLOAD_SEEKRANDOM] = "seekrandom",
    [WORKLOAD_READWHILEWRITING] = "readwhilewriting",
    [WORKLOAD_DELETERANDOM] = "deleterandom",
    [WORKLOAD_RECOVERY] = "recovery",
};

static const char help[] =
    "engine_bench --engine E --workload W [OPTION]...\n"
    "\n"
    "One workload on one storage engine, with the same keys, values, cache,\n"
    "memtable, compression and durability for all of them.\n"
    "\n"
    "  --engine E            one of: %s\n"
    "  --workload W          fillseq fillrandom  each key once, into an empty\n"
    "                                            store\n"
    "                        fillsync            the same, each write synced\n"
    "                        overwrite           random keys of a full store\n"
    "                        deleterandom        each key once, of a full "
    "store\n"
    "                        readrandom          random keys; all are read "
    "once\n"
    "                                            before, as for all reads\n"
    "                        readmissing         absent keys between others\n"
    "                        readseq readreverse one scan\n"
    "                        seekrandom          a new iterator and 10 nexts\n"
    "                        readwhilewriting    random keys, beside one "
    "thread\n"
    "                                            that overwrites\n"
    "                        recovery            open after a crash, with 64 "
    "MiB\n"
    "                                            of log\n"
    "  --keys N              in the store (1000000)\n"
    "  --operations N        (as many as keys; less where they are slow)\n"
    "  --value-size B        bytes (100)\n"
    "  --threads T           that read, or else write (1)\n"
    "  --sync                sync each measured write\n"
    "  --cache-bytes B       block cache (67108864)\n"
    "  --memtable-bytes B    memtable, or write buffer (16777216)\n"
    "  --compression C       none, or fast: lz4; snappy for LevelDB (none)\n"
    "  --directory D         where to make a directory for the run, removed\n"
    "                        afterwards (TMPDIR, or /var/tmp)\n"
    "  --store S             a full store to read, made if it is not there, "
    "and\n"
    "                        kept: for many reads of one fill\n"
    "  --settle-ms M         without a write, and a store is settled (500)\n"
    "  --json                one object on one line\n"
    "  --help\n";

static const struct option longs[] = {
    {"engine", required_argument, NULL, 'e'},
    {"workload", required_argument, NULL, 'w'},
    {"keys", required_argument, NULL, 'k'},
    {"operations", required_argument, NULL, 'o'},
    {"value-size", required_argument, NULL, 'v'},
    {"threads", required_argument, NULL, 't'},
    {"sync", no_argument, NULL, 's'},
    {"cache-bytes", required_argument, NULL, 'c'},
    {"memtable-bytes", required_argument, NULL, 'm'},
    {"compression", required_argument, NULL, 'C'},
    {"directory", required_argument, NULL, 'd'},
    {"store", required_argument, NULL, 'f'},
    {"settle-ms", required_argument, NULL, 'S'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

const char *workload_name(enum workload workload)
{
    return names[workload];
}

bool workload_needs_store(enum workload workload)
{
    return workload != WORKLOAD_FILLSEQ && workload != WORKLOAD_FILLRANDOM &&
           workload != WORKLOAD_FILLSYNC && workload != WORKLOAD_RECOVERY;
}

bool workload_writes(enum workload workload)
{
    return !workload_needs_store(workload) || workload == WORKLOAD_OVERWRITE ||
           workload == WORKLOAD_DELETERANDOM;
}

static bool only_reads(enum workload workload)
{
    return !workload_writes(workload) && workload != WORKLOAD_READWHILEWRITING;
}

__attribute__((format(printf, 1, 2))) static _Noreturn void
usage(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "engine_bench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "; see --help\n");
    va_end(arguments);
    exit(2);
}

static uint64_t number(const char *option, const char *text, uint64_t min,
                       uint64_t max)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || text[0] == '-' || errno != 0 ||
        value < min || value > max)
        usage("%s is \"%s\"; it must be a number of %" PRIu64 " to %" PRIu64,
              option, text, min, max);
    return value;
}

static enum workload workload_of(const char *name)
{
    for (unsigned i = 0; i < WORKLOAD_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return (enum workload)i;
    usage("--workload is \"%s\", which there is not", name);
}

static bool compression_of(const char *name)
{
    if (strcmp(name, "none") != 0 && strcmp(name, "fast") != 0)
        usage("--compression is \"%s\"; it must be none or fast", name);
    return strcmp(name, "fast") == 0;
}

static void take(struct bench_options *options, int option, const char *text)
{
    switch (option) {
    case 'e':
        options->engine = text;
        break;
    case 'w':
        options->workload = workload_of(text);
        break;
    case 'k':
        /* Twice as many have to fit 16 digits, and 32 bits each half. */
        options->keys = number("--keys", text, 1, UINT64_C(1) << 40);
        break;
    case 'o':
        options->operations = number("--operations", text, 1, UINT64_MAX);
        break;
    case 'v':
        options->value_bytes = (size_t)number("--value-size", text, 0, 1 << 20);
        break;
    case 't':
        options->threads = (unsigned)number("--threads", text, 1, 1024);
        break;
    case 'c':
        options->cache_bytes = number("--cache-bytes", text, 1, UINT64_MAX);
        break;
    case 'm':
        options->memtable_bytes =
            number("--memtable-bytes", text, 1, UINT64_MAX);
        break;
    case 'C':
        options->compress = compression_of(text);
        break;
    case 'd':
        options->parent = text;
        break;
    case 'f':
        options->store = text;
        break;
    case 'S':
        options->settle_ms = number("--settle-ms", text, 1, 60000);
        break;
    case 's':
        options->sync = true;
        break;
    case 'j':
        options->json = true;
        break;
    case 'h':
        printf(help, bench_type_names());
        exit(0);
    default:
        exit(2); /* getopt has said why */
    }
}

void options_parse(struct bench_options *options, int argc, char **argv)
{
    int option;
    *options = (struct bench_options){
        .workload = WORKLOAD_COUNT,
        .keys = 1000000,
        .value_bytes = 100,
        .threads = 1,
        .cache_bytes = 64 << 20,
        .memtable_bytes = 16 << 20,
        .settle_ms = 500,
    };
    while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1)
        take(options, option, optarg);
    if (optind < argc)
        usage("\"%s\" is no option", argv[optind]);
    if (options->engine == NULL)
        usage("--engine is missing");
    if (options->workload == WORKLOAD_COUNT)
        usage("--workload is missing");
    if (options->workload == WORKLOAD_FILLSYNC)
        options->sync = true;
    if (options->store != NULL && !only_reads(options->workload))
        usage("--store is for what only reads, and %s writes",
              names[options->workload]);
}
