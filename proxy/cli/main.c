/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/output.h"

#define DEFAULT_ENDPOINT "tcp://127.0.0.1:3001"

static const struct command {
    const char *name;
    int (*run)(const struct cli *cli);
    int args_min, args_max;
    const char *options; /* letters of the options it has a use for */
    const char *synopsis, *summary;
} commands[] = {
    {"put", command_put, 1, 2, "bwcoq6x", "put KEY [VALUE|-]",
     "write a value; without VALUE or with -, standard input"},
    {"get", command_get, 1, REPLIKV_BATCH_MAX, "bcr6", "get KEY...",
     "read; siblings come with the context that resolves them"},
    {"del", command_del, 1, 1, "bwcq6", "del KEY",
     "delete what is there, or what --context has seen"},
    {"load", command_load, 0, 1, "bwfino6x", "load [FILE|-]",
     "write many: lines of JSON or KEY<tab>VALUE"},
    {"dump", command_dump, 0, 0, "u", "dump",
     "print everything as lines of JSON, which load reads"},
    {"bench", command_bench, 0, 0, "bwrio" BENCH_LETTERS, "bench",
     "put load on the nodes; print rates, latencies, errors"},
    {"status", command_status, 0, 0, "lsg", "status",
     "each endpoint's node and its counters, or latencies"},
    {"members", command_members, 0, 0, "", "members",
     "who is in the cluster, as one node sees it"},
    {"ring", command_ring, 0, 0, "", "ring", "which nodes own which partition"},
    {"hints", command_hints, 0, 0, "", "hints",
     "what each endpoint's node keeps for others"},
    {"explain", command_explain, 1, 1, "b6", "explain KEY",
     "what each replica of a key holds"},
    {"digest", command_digest, 0, 0, "", "digest",
     "whether the endpoints' nodes hold the same records"},
    {"repair", command_repair, 0, 0, "bpF", "repair",
     "compare the endpoints' nodes with all others now, and mend"},
    {"cluster leave", command_cluster_leave, 1, 1, "dm", "cluster leave NODE",
     "who would take its place; with --commit, it leaves for good"},
    {"cluster status", command_cluster_status, 0, 0, "", "cluster status",
     "who is in the cluster, and whether a node leaves"},
    {"record", command_record, 0, 0, "O", "record --out FILE",
     "what the endpoint's node has lived through, for sim --replay"},
    {"lsm check", command_lsm_check, 1, 1, "", "lsm check DIR",
     "read all files of an lsm store, open or not"},
    {"lsm dump", command_lsm_dump, 1, 1, "", "lsm dump FILE",
     "print a table, log or MANIFEST of such a store"},
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(*commands) };

static const struct option options[] = {
    {"endpoint", required_argument, NULL, 'e'},
    {"timeout", required_argument, NULL, 't'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {"bucket", required_argument, NULL, 'b'},
    {"w", required_argument, NULL, 'w'},
    {"r", required_argument, NULL, 'r'},
    {"context", required_argument, NULL, 'c'},
    {"overwrite", no_argument, NULL, 'o'},
    {"request-id", required_argument, NULL, 'q'},
    {"ttl", required_argument, NULL, 'x'},
    {"base64", no_argument, NULL, '6'},
    {"format", required_argument, NULL, 'f'},
    {"inflight", required_argument, NULL, 'i'},
    {"resume", required_argument, NULL, 'u'},
    {"latency", no_argument, NULL, 'l'},
    {"seconds", required_argument, NULL, 's'},
    {"partitions", no_argument, NULL, 'g'},
    {"partition", required_argument, NULL, 'p'},
    {"full", no_argument, NULL, 'F'},
    {"out", required_argument, NULL, 'O'},
    {"lost", no_argument, NULL, 'd'},
    {"commit", no_argument, NULL, 'm'},
};
enum { OPTION_COUNT = sizeof(options) / sizeof(*options) };

static void print_bench_help(void)
{
    puts("\n"
         "Of bench, which writes keys bench000000000000, ... to --bucket:\n"
         "      --clients N     connections, spread over the endpoints, with\n"
         "                      --inflight requests each, the next when one\n"
         "                      is answered; default 16 and 1\n"
         "      --batch N       operations in one request, 1 to 1000; default\n"
         "                      1. Rates are of operations, latencies and\n"
         "                      --rate of requests\n"
         "      --rate R        requests/s in all, whatever is answered:\n"
         "                      what finds all --inflight taken waits, and\n"
         "                      latencies begin when a request was due\n"
         "      --workload W    as YCSB's: a (get 50 %, put 50), b (get 95,\n"
         "                      put 5), c (get), d (get 95, insert 5) or f\n"
         "                      (get 50, rmw 50); default a. There is no e:\n"
         "                      scans are not offered\n"
         "      --mix M         instead: percents that sum to 100, such as\n"
         "                      get=50,put=40,delete=5,rmw=5, and insert.\n"
         "                      rmw reads, then writes over what it read; so\n"
         "                      does delete. put leaves a sibling in a\n"
         "                      bucket that keeps them, and fails when a key\n"
         "                      has 100: use one of kind lww, or --overwrite\n"
         "      --keys N        default 10000\n"
         "      --distribution D\n"
         "                      uniform, zipfian (0.99, scattered, as in\n"
         "                      YCSB) or latest; default: uniform of a mix,\n"
         "                      latest of d, else zipfian\n"
         "      --value-size B  bytes, or LEAST-MOST, drawn uniformly;\n"
         "                      default 100. They do not compress\n"
         "      --seed S        the same gives each client the same\n"
         "                      operations; default 1\n"
         "      --load          first write every key, over what is there\n"
         "      --warmup S      seconds that do not count; default 2\n"
         "      --duration S    seconds that do; default 10. Ctrl-C ends it\n"
         "      --percentiles FILE\n"
         "                      write the latencies as HdrHistogram does, in\n"
         "                      ms");
}

static void print_upkeep_help(void)
{
    puts("\n"
         "Of repair, of all that the endpoints' nodes hold or of --bucket:\n"
         "      --partition P   of this one alone\n"
         "      --full          read all that the engines hold first, so that\n"
         "                      what a disk lost without a word is seen\n"
         "\n"
         "Of cluster leave, which says who would take its partitions:\n"
         "      --commit        begin it, and wait until others have read\n"
         "                      what it holds and it has ended by itself.\n"
         "                      Interrupted, nothing is undone: the nodes go\n"
         "                      on, and the same again waits for them\n"
         "      --lost          its disk is gone, and it is away for good,\n"
         "                      as it may be while it leaves: what it held\n"
         "                      is read from the others\n"
         "\n"
         "Of record:\n"
         "      --out FILE      a new file, for its owner alone: the first\n"
         "                      events of the node and the last, as many as\n"
         "                      its limits.recorder_mib keeps, with keys and\n"
         "                      values; sim --replay FILE steps through them");
}

static void print_help(void)
{
    puts("replikv [OPTION]... COMMAND\n\nCommands:");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-18s %s\n", commands[i].synopsis, commands[i].summary);
    puts(
        "\n"
        "Options:\n"
        "  -e, --endpoint URL  a node's listen.client, tcp://HOST:PORT or\n"
        "                      ipc:///PATH; repeat it for more, which are\n"
        "                      used in turn when one fails. Or set\n"
        "                      REPLIKV_ENDPOINTS, separated by commas.\n"
        "                      Default: " DEFAULT_ENDPOINT "\n"
        "  -t, --timeout MS    deadline of each request; default 5000\n"
        "  -j, --json          print JSON; what is not UTF-8 as base64, in\n"
        "                      fields whose names end in _base64\n"
        "  -h, --help          this text\n"
        "\n"
        "Of put, get, del, load, bench and explain:\n"
        "  -b, --bucket NAME   default: default\n"
        "      --w LEVEL       replicas that must hold a write\n"
        "      --r LEVEL       replicas that must answer a read\n"
        "                      LEVEL: one, quorum, all, or a number;\n"
        "                      default: the bucket's\n"
        "      --context CTX   as get printed it: supersede what was read; of\n"
        "                      get, read nothing older.\n"
        "                      Without one, put leaves what is there as a\n"
        "                      sibling, and del reads first\n"
        "      --overwrite     of put, load, bench: read first, and supersede\n"
        "                      that\n"
        "      --request-id ID as an unknown outcome printed it: the same\n"
        "                      write again, which counts once\n"
        "      --ttl TIME      of put and load: then the value is gone; 90s,\n"
        "                      15m, 12h, 7d or never; default: as the bucket\n"
        "      --base64        KEY and VALUE are base64, and so is what get\n"
        "                      prints\n"
        "Of several keys, get prints one line of JSON each, found or not.\n"
        "\n"
        "Of load and dump:\n"
        "      --format F      of load: json or tab; default: as the first\n"
        "                      line looks. JSON lines have key or key_base64,\n"
        "                      value or value_base64, maybe bucket and ttl_ms\n"
        "      --inflight N    writes under way at once; default 128\n"
        "      --resume TOKEN  go on where dump said it stopped\n"
        "\n"
        "Of status:\n"
        "      --latency       where the time of requests goes in each node,\n"
        "                      since its start: of puts that it coordinates\n"
        "                      the wait until they are merged (queue), then\n"
        "                      its own disk and, beside that, the replicas\n"
        "                      that the level asks for; of gets its own read,\n"
        "                      and R replicas; of each the whole (answer);\n"
        "                      and what other nodes ask: stores, fetches\n"
        "      --seconds N     with --latency: wait, and show what came\n"
        "                      meanwhile; Ctrl-C ends it\n"
        "      --partitions    when each was last found equal to its other\n"
        "                      replicas");
    print_upkeep_help();
    print_bench_help();
    puts("\n"
         "Exit codes:\n"
         "  0  done\n"
         "  1  not found; digest: the replicas differ; lsm: damaged\n"
         "  2  usage: nothing was sent\n"
         "  3  refused or failed, and nothing was applied\n"
         "  4  failed, and the outcome is unknown: some replica may hold it");
}

/* found: what was given instead, or NULL. */
static int usage(const char *allowed, const char *found)
{
    fprintf(stderr, "replikv: %s", allowed);
    if (found != NULL)
        fprintf(stderr, ", not \"%s\"", found);
    fputs("\nreplikv --help says how.\n", stderr);
    return EXIT_USAGE;
}

static bool parse_number(const char *text, uint32_t max, uint32_t *number)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *number = (uint32_t)value;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 &&
           value >= 1 && value <= max;
}

static bool parse_partition(const char *text, uint32_t *partition)
{
    *partition = 0;
    return strcmp(text, "0") == 0 || parse_number(text, UINT16_MAX, partition);
}

/* 90s, 15m, 12h or 7d, or never. */
static bool parse_ttl(const char *text, int64_t *ttl_ms)
{
    enum { DAY_S = 86400, YEARS_MAX = 1000 };
    static const struct {
        char unit;
        int64_t ms;
    } units[] = {
        {'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', DAY_S * 1000}};
    char *end;
    *ttl_ms = REPLIKV_TTL_NEVER;
    if (strcmp(text, "never") == 0)
        return true;
    errno = 0;
    unsigned long long count = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || count == 0)
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        uint64_t most =
            (uint64_t)YEARS_MAX * 365 * DAY_S * 1000 / (uint64_t)units[i].ms;
        if (end[0] == units[i].unit && end[1] == '\0' && count <= most) {
            *ttl_ms = (int64_t)count * units[i].ms;
            return true;
        }
    }
    return false;
}

bool parse_level(const char *text, int *level)
{
    enum { REPLICAS_MAX = 16 };
    static const struct {
        const char *name;
        int level;
    } names[] = {{"one", REPLIKV_LEVEL_ONE},
                 {"quorum", REPLIKV_LEVEL_QUORUM},
                 {"all", REPLIKV_LEVEL_ALL}};
    uint32_t number;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(text, names[i].name) == 0) {
            *level = names[i].level;
            return true;
        }
    if (!parse_number(text, REPLICAS_MAX, &number))
        return false;
    *level = (int)number;
    return true;
}

static bool add_endpoint(struct cli *cli, const char *endpoint)
{
    if (cli->endpoint_count == REPLIKV_ENDPOINTS_MAX)
        return false;
    cli->endpoints[cli->endpoint_count++] = endpoint;
    return true;
}

/* What the command line does not say the environment may. */
static bool default_endpoints(struct cli *cli, char *environment)
{
    if (cli->endpoint_count > 0)
        return true;
    char *rest = environment;
    for (char *one; rest != NULL && (one = strsep(&rest, ", \t\n")) != NULL;)
        if (*one != '\0' && !add_endpoint(cli, one))
            return false;
    return cli->endpoint_count > 0 || add_endpoint(cli, DEFAULT_ENDPOINT);
}

/* What an option without an argument sets, or NULL. */
static bool *flag_of(struct cli *cli, int letter)
{
    switch (letter) {
    case 'l':
        return &cli->latency;
    case 'g':
        return &cli->partitions;
    case 'F':
        return &cli->full;
    case 'd':
        return &cli->lost;
    case 'm':
        return &cli->commit;
    case 'o':
        return &cli->overwrite;
    case '6':
        return &cli->base64;
    case 'j':
        return &cli->json;
    default:
        return NULL;
    }
}

/* NULL, or what is wrong with the option's argument. */
static const char *take_option(struct cli *cli, int letter)
{
    enum { TIMEOUT_MAX_MS = 3600 * 1000, INFLIGHT_MAX = 65536 };
    enum { SECONDS_MAX = 86400 };
    bool *flag = flag_of(cli, letter);
    if (flag != NULL) {
        *flag = true;
        return NULL;
    }
    switch (letter) {
    case 'e':
        return add_endpoint(cli, optarg) ? NULL : "--endpoint: at most 16";
    case 't':
        return parse_number(optarg, TIMEOUT_MAX_MS, &cli->timeout_ms)
                   ? NULL
                   : "--timeout: 1 to 3600000 ms";
    case 'i':
        return parse_number(optarg, INFLIGHT_MAX, &cli->inflight)
                   ? NULL
                   : "--inflight: 1 to 65536";
    case 'w':
    case 'r':
        return parse_level(optarg, letter == 'w' ? &cli->w : &cli->r)
                   ? NULL
                   : "level: one, quorum, all, or 1 to 16";
    case 'f':
        cli->format = optarg;
        return strcmp(optarg, "json") == 0 || strcmp(optarg, "tab") == 0
                   ? NULL
                   : "--format: json or tab";
    case 'b':
        cli->bucket = optarg;
        return NULL;
    case 'c':
        cli->context = optarg;
        return NULL;
    case 'q':
        cli->request_id = optarg;
        return NULL;
    case 'O':
        cli->out = optarg;
        return NULL;
    case 'u':
        cli->resume = optarg;
        return NULL;
    case 's':
        return parse_number(optarg, SECONDS_MAX, &cli->seconds)
                   ? NULL
                   : "--seconds: 1 to 86400";
    case 'x':
        return parse_ttl(optarg, &cli->ttl_ms)
                   ? NULL
                   : "--ttl: 90s, 15m, 12h or 7d, to 1000 years, or never";
    case 'p':
        cli->has_partition = true;
        return parse_partition(optarg, &cli->partition)
                   ? NULL
                   : "--partition: 0 to 65535";
    default:
        return bench_take_option(&cli->bench, letter, optarg);
    }
}

/* The general options and those of bench, with an end mark. */
static const struct option *all_options(void)
{
    static struct option all[OPTION_COUNT + BENCH_OPTION_COUNT + 1];
    memcpy(all, options, sizeof(options));
    memcpy(all + OPTION_COUNT, bench_option_table, sizeof(bench_option_table));
    return all;
}

static const char *name_of(int letter)
{
    for (const struct option *o = all_options(); o->name != NULL; o++)
        if (o->val == letter)
            return o->name;
    return "";
}

/* NULL if there is none. A second word of its name is taken off args. */
static const struct command *find_command(struct cli *cli)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        const char *name = commands[i].name;
        const char *second = strchr(name, ' ');
        if (second == NULL && strcmp(name, cli->command) == 0)
            return &commands[i];
        if (second != NULL && cli->arg_count > 0 &&
            strlen(cli->command) == (size_t)(second - name) &&
            strncmp(name, cli->command, (size_t)(second - name)) == 0 &&
            strcmp(second + 1, cli->args[0]) == 0) {
            cli->args++;
            cli->arg_count--;
            return &commands[i];
        }
    }
    return NULL;
}

static int run(struct cli *cli, const char *used)
{
    const struct command *command = find_command(cli);
    if (command == NULL && strcmp(cli->command, "lsm") == 0)
        return usage("lsm: check DIR or dump FILE",
                     cli->arg_count > 0 ? cli->args[0] : NULL);
    if (command == NULL && strcmp(cli->command, "cluster") == 0)
        return usage("cluster: leave NODE or status",
                     cli->arg_count > 0 ? cli->args[0] : NULL);
    if (command == NULL)
        return usage("a command of --help", cli->command);
    cli->command = command->name;
    if (cli->arg_count < command->args_min ||
        cli->arg_count > command->args_max) {
        fprintf(stderr, "replikv: too %s: it is replikv %s\n",
                cli->arg_count < command->args_min ? "little" : "much",
                command->synopsis);
        return EXIT_USAGE;
    }
    for (; *used != '\0'; used++)
        if (strchr(command->options, *used) == NULL) {
            fprintf(stderr, "replikv: %s has no use for --%s\n", command->name,
                    name_of(*used));
            return EXIT_USAGE;
        }
    return command->run(cli);
}

int main(int argc, char **argv)
{
    struct cli cli = {.bench = bench_defaults};
    char used[OPTION_COUNT + BENCH_OPTION_COUNT + 1] = "";
    int letter;
    while ((letter = getopt_long(argc, argv, "e:t:jhb:", all_options(),
                                 NULL)) != -1) {
        if (letter == 'h') {
            print_help();
            return EXIT_DONE;
        }
        if (letter == '?')
            return usage("that option is not known or not complete", NULL);
        const char *wrong = take_option(&cli, letter);
        if (wrong != NULL)
            return usage(wrong, optarg);
        if (strchr("etj", letter) == NULL && strchr(used, letter) == NULL)
            used[strlen(used)] = (char)letter;
    }
    if (optind == argc)
        return usage("a command is missing", NULL);
    cli.command = argv[optind];
    cli.args = argv + optind + 1;
    cli.arg_count = argc - optind - 1;
    const char *environment = getenv("REPLIKV_ENDPOINTS");
    char *copy = environment == NULL ? NULL : must_have(strdup(environment));
    int code = default_endpoints(&cli, copy)
                   ? run(&cli, used)
                   : usage("REPLIKV_ENDPOINTS: at most 16", environment);
    free(copy);
    if ((fflush(stdout) != 0 || ferror(stdout)) && code == EXIT_DONE) {
        perror("replikv: standard output");
        code = EXIT_REFUSED;
    }
    return code;
}
