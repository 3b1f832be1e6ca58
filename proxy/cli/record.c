/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "proxy/cli/output.h"
#include "proxy/core/recording.h"

/* record: what a node has lived through, into a file. */

static bool write_all(int file, struct replikv_bytes bytes)
{
    const char *at = bytes.data;
    for (size_t left = bytes.size; left > 0;) {
        ssize_t wrote = write(file, at, left);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return false;
        at += wrote;
        left -= (size_t)wrote;
    }
    return fsync(file) == 0;
}

static void print_json(const struct cli *cli,
                       const struct replikv_result *result,
                       const struct recording_header *header)
{
    json_t *object = json_of_result(result);
    json_set_string(object, "node", result->node->node);
    json_set_string(object, "file", cli->out);
    json_set_number(object, "bytes", result->node->recording.size);
    json_set_number(object, "events",
                    header->first_events + header->last_events);
    json_set_number(object, "missing", header->missing);
    json_set(object, "whole",
             json_boolean(header->missing == 0 && !header->is_headless));
    json_document(object);
}

static void print_text(const struct cli *cli,
                       const struct replikv_result *result,
                       const struct recording_header *header)
{
    printf("%s: %" PRIu64 " events of %s, %zu bytes, with keys and values\n",
           cli->out, header->first_events + header->last_events,
           result->node->node, result->node->recording.size);
    if (header->missing > 0)
        printf("%" PRIu64 " events between the first %" PRIu64
               " and the last %" PRIu64 " are missing: the first replay\n",
               header->missing, header->first_events, header->last_events);
    if (header->is_headless)
        puts("what the node began with is missing: nothing of it replays; a "
             "larger\nlimits.recorder_mib may have room for it");
    if (header->missing == 0 && !header->is_headless)
        puts("whole: sim --replay steps through all of them");
}

static int failed(const struct cli *cli, const char *why)
{
    fprintf(stderr, "replikv: record: %s: %s\n", cli->out, why);
    return EXIT_REFUSED;
}

static int take(const struct cli *cli, const struct replikv_result *result,
                int file)
{
    struct recording recording;
    struct error error;
    struct replikv_bytes bytes = result->node->recording;
    if (recording_open(bytes_of(bytes.data, bytes.size), &recording, &error) !=
        STATUS_OK)
        return failed(cli, error.text);
    struct recording_header header = recording.header;
    recording_fini(&recording);
    if (!write_all(file, bytes))
        return failed(cli, strerror(errno));
    if (cli->json)
        print_json(cli, result, &header);
    else
        print_text(cli, result, &header);
    return EXIT_DONE;
}

int command_record(const struct cli *cli)
{
    if (cli->endpoint_count != 1 || cli->out == NULL) {
        fprintf(stderr, "replikv: record: %s\n",
                cli->out == NULL
                    ? "--out FILE is missing"
                    : "a recording is of one node: name it with --endpoint");
        return EXIT_USAGE;
    }
    int file = open(cli->out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) {
        fprintf(stderr, "replikv: record: cannot make %s: %s%s\n", cli->out,
                strerror(errno),
                errno == EEXIST ? "; name another file, or remove it" : "");
        return EXIT_USAGE;
    }
    struct replikv *client = cli_open_one(cli, 0);
    struct replikv_result *result = replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_ADMIN,
                                          .what = REPLIKV_WHAT_RECORDING});
    replikv_close(client);
    int code = result->status == REPLIKV_OK && result->node != NULL
                   ? take(cli, result, file)
                   : cli_failed(cli, result);
    if (close(file) != 0 && code == EXIT_DONE)
        code = failed(cli, strerror(errno));
    if (code != EXIT_DONE)
        unlink(cli->out);
    replikv_result_free(result);
    return code;
}
