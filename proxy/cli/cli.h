/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_CLI_H
#define REPLIKV_PROXY_CLI_CLI_H

#include "proto/replikv.h"
#include "proxy/cli/bench_options.h"

/* The command line, on libreplikv, but for what looks into files. main.c reads
 * the options; each command is a function that gets them and returns the exit
 * code. It prints to standard output what was asked for, aligned for people or
 * as JSON, and to standard error everything else. */

enum exit_code {
    EXIT_DONE = 0,
    EXIT_NOT_FOUND = 1, /* digest: replicas differ; lsm: damaged */
    EXIT_USAGE = 2,
    EXIT_REFUSED = 3, /* failed, and nothing was applied */
    EXIT_UNKNOWN = 4, /* failed, and something may have been */
};

struct cli {
    const char *endpoints[REPLIKV_ENDPOINTS_MAX];
    size_t endpoint_count;
    uint32_t timeout_ms;
    bool json;
    /* Of the command: NULL, 0 or false when not given. */
    const char *bucket, *context, *request_id, *format, *resume, *out;
    int r, w; /* levels of reads and of writes */
    int64_t ttl_ms;
    uint32_t inflight;
    bool base64, overwrite, latency, partitions, full, lost, commit;
    bool has_partition;
    uint32_t partition;
    uint32_t seconds;
    struct bench_options bench;
    const char *command;
    char **args; /* what follows the command */
    int arg_count;
};

/* data.c */
int command_put(const struct cli *cli);
int command_get(const struct cli *cli);
int command_del(const struct cli *cli);
/* load.c, dump.c */
int command_load(const struct cli *cli);
int command_dump(const struct cli *cli);
/* bench.c */
int command_bench(const struct cli *cli);
/* admin.c */
int command_status(const struct cli *cli);
int command_members(const struct cli *cli);
int command_ring(const struct cli *cli);
int command_hints(const struct cli *cli);
int command_explain(const struct cli *cli);
/* cluster.c */
int command_cluster_leave(const struct cli *cli);
int command_cluster_status(const struct cli *cli);
/* latency.c: status --latency */
int command_latency(const struct cli *cli);
/* repair.c; command_partitions: status --partitions */
int command_repair(const struct cli *cli);
int command_partitions(const struct cli *cli);
/* record.c */
int command_record(const struct cli *cli);
/* digest.c */
int command_digest(const struct cli *cli);
/* lsm_check.c, lsm_dump.c */
int command_lsm_check(const struct cli *cli);
int command_lsm_dump(const struct cli *cli);

/* A client for all endpoints, or for one of them. fail_fast: do not wait for
 * nodes that are not there. Exits with EXIT_USAGE on an endpoint that cannot
 * be. */
struct replikv *cli_open(const struct cli *cli, bool fail_fast);
struct replikv *cli_open_one(const struct cli *cli, size_t endpoint);
struct replikv *cli_open_with(const struct replikv_options *options);

/* admin.c: ask each endpoint's node; results in the order of the endpoints, to
 * be freed with cli_free_each. Returns the exit code: of the first that
 * failed. */
int cli_ask_each(const struct cli *cli, enum replikv_what what,
                 struct replikv_result **results);
void cli_free_each(const struct cli *cli, struct replikv_result **results);
/* Ask whichever endpoint's node answers. NULL with *code set, having said
 * why. */
struct replikv_result *cli_ask_any(const struct cli *cli,
                                   const struct replikv_request *request,
                                   int *code);
const char *cli_state_name(enum replikv_member_state state);
/* Of STATUS, 0 for one that the node does not know. */
uint64_t cli_counter(const struct replikv_node *node, const char *name);
/* To standard error, as cli_failed, of those that failed. */
void cli_print_failures(const struct cli *cli,
                        struct replikv_result *const *results);

/* Bytes of ours, freed with owned_fini. */
struct owned {
    char *data; /* with a zero behind it */
    size_t size;
};
void owned_fini(struct owned *owned);
struct replikv_bytes owned_bytes(const struct owned *owned);
/* The argument, decoded if --base64 says so. False, having said why, when it
 * is not base64. */
bool cli_argument(const struct cli *cli, const char *what, const char *argument,
                  struct owned *out);
bool cli_key(const struct cli *cli, const char *argument, struct owned *key);

/* "one", "quorum", "all", or a number from 1 to 16. */
bool parse_level(const char *text, int *level);

int exit_code_of(const struct replikv_result *result);
/* Print to standard error what failed and what to do about it; with --json
 * also the result, to standard output. Returns the exit code. */
int cli_failed(const struct cli *cli, const struct replikv_result *result);

/* Exit with EXIT_REFUSED when there is no memory. */
void *must_have(void *memory);

/* SIGINT or SIGTERM came; they no longer end the program after the first call,
 * nor does writing to a closed pipe. */
bool interrupted(void);

#endif
