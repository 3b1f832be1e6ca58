/* SPDX-License-Identifier: MIT */
#include "proxy/cli/cli.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "proxy/cli/output.h"

void *must_have(void *memory)
{
    if (memory == NULL) {
        fputs("replikv: no memory\n", stderr);
        exit(EXIT_REFUSED);
    }
    return memory;
}

struct replikv *cli_open_with(const struct replikv_options *options)
{
    struct replikv *client = NULL;
    struct replikv_error error;
    if (replikv_open(options, &client, &error) != REPLIKV_OK) {
        fprintf(stderr, "replikv: %s\n", error.text);
        exit(EXIT_USAGE);
    }
    return client;
}

static struct replikv *open_client(const struct cli *cli,
                                   const char *const *endpoints, size_t count,
                                   bool fail_fast)
{
    return cli_open_with(&(struct replikv_options){
        .endpoints = endpoints,
        .endpoint_count = count,
        .timeout_ms = cli->timeout_ms,
        .inflight_max = cli->inflight,
        .fail_fast = fail_fast,
    });
}

struct replikv *cli_open(const struct cli *cli, bool fail_fast)
{
    return open_client(cli, cli->endpoints, cli->endpoint_count, fail_fast);
}

struct replikv *cli_open_one(const struct cli *cli, size_t endpoint)
{
    return open_client(cli, &cli->endpoints[endpoint], 1, true);
}

void owned_fini(struct owned *owned)
{
    free(owned->data);
    *owned = (struct owned){0};
}

struct replikv_bytes owned_bytes(const struct owned *owned)
{
    return replikv_bytes_of(owned->data, owned->size);
}

bool cli_argument(const struct cli *cli, const char *what, const char *argument,
                  struct owned *out)
{
    size_t size = strlen(argument);
    if (!cli->base64) {
        out->data = must_have(strdup(argument));
        out->size = size;
        return true;
    }
    while (size > 0 && argument[size - 1] == '\n')
        size--;
    if (base64_decode(argument, size, out))
        return true;
    fprintf(stderr, "replikv: %s: not base64, as --base64 asks for\n", what);
    return false;
}

bool cli_key(const struct cli *cli, const char *argument, struct owned *key)
{
    if (!cli_argument(cli, "KEY", argument, key))
        return false;
    if (key->size >= 1 && key->size <= REPLIKV_KEY_BYTES_MAX)
        return true;
    fprintf(stderr, "replikv: KEY: %zu bytes, allowed are 1 to %d\n", key->size,
            REPLIKV_KEY_BYTES_MAX);
    owned_fini(key);
    return false;
}

int exit_code_of(const struct replikv_result *result)
{
    if (result->status == REPLIKV_OK)
        return EXIT_DONE;
    if (result->status == REPLIKV_NOT_FOUND)
        return EXIT_NOT_FOUND;
    return result->outcome == REPLIKV_UNKNOWN ? EXIT_UNKNOWN : EXIT_REFUSED;
}

static const char *advice(const struct cli *cli,
                          const struct replikv_result *result)
{
    if (result->epoch != 0 && strncmp(cli->command, "cluster ", 8) == 0)
        return "`replikv cluster status` shows where it stands.";
    switch ((int)result->status) {
    case REPLIKV_UNAVAILABLE:
        if (result->epoch == 0)
            return "Is a node there, and that its listen.client? Start one, or "
                   "name another with\n--endpoint or REPLIKV_ENDPOINTS.";
        return "`replikv members` shows who is there; a lower level (--w, "
               "--r) needs fewer replicas.";
    case REPLIKV_TIMEOUT:
        return "`replikv members` shows who is there; --timeout gives it "
               "longer.";
    case REPLIKV_OVERLOADED:
        return "Try again in a moment, with less at once.";
    case REPLIKV_REFUSED:
        return "`replikv get KEY` prints the context of that key.";
    case REPLIKV_NO_SPACE:
        return "Free space on the node's disk.";
    default:
        return NULL;
    }
}

int cli_failed(const struct cli *cli, const struct replikv_result *result)
{
    const char *next = advice(cli, result);
    struct owned id = {0};
    fprintf(stderr, "replikv: %s: %s: %s\n", cli->command,
            replikv_status_name(result->status), result->message);
    if (result->need > 0)
        fprintf(stderr, "%u replicas were needed, %u answered.\n", result->need,
                result->got);
    if (result->outcome == REPLIKV_UNKNOWN) {
        id = base64_encode(
            replikv_bytes_of(result->request_id, sizeof(result->request_id)));
        fprintf(stderr,
                "Outcome unknown: some replica may hold it. Read the key, or "
                "write the same again\nwith --request-id %s\n",
                id.data);
    } else if (result->outcome == REPLIKV_NOT_APPLIED) {
        fprintf(stderr, "Nothing was applied.\n");
    }
    if (next != NULL)
        fprintf(stderr, "%s\n", next);
    if (cli->json) {
        json_t *object = json_of_result(result);
        if (id.data != NULL)
            json_set_string(object, "request_id", id.data);
        json_document(object);
    }
    owned_fini(&id);
    return exit_code_of(result);
}

static volatile sig_atomic_t interruptions;

static void note_interruption(int signal_number)
{
    (void)signal_number;
    interruptions = 1;
}

bool interrupted(void)
{
    static bool prepared;
    if (!prepared) {
        prepared = true;
        /* Not restarted: a read that waits for a terminal ends. */
        const struct sigaction action = {.sa_handler = note_interruption};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        signal(SIGPIPE, SIG_IGN);
    }
    return interruptions != 0;
}
