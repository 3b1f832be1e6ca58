/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/cli/output.h"

/* dump: every partition in turn, a chunk at a time, as lines of JSON. Where it
 * stands is a partition and the `next` of the last chunk that was printed
 * whole; any node can go on from there. */

struct dump {
    const struct cli *cli;
    struct replikv *client;
    uint32_t partition, partitions; /* 0: not known yet */
    struct owned after;
    uint64_t records;
    struct progress progress;
};

/* PARTITION:BASE64 */
static bool take_token(struct dump *dump, const char *token)
{
    char *end;
    unsigned long partition = strtoul(token, &end, 10);
    if (token[0] < '0' || token[0] > '9' || *end != ':' ||
        partition > UINT16_MAX ||
        !base64_decode(end + 1, strlen(end + 1), &dump->after)) {
        fprintf(stderr, "replikv: --resume: not what dump printed\n");
        return false;
    }
    dump->partition = (uint32_t)partition;
    return true;
}

static void print_items(struct dump *dump, const struct replikv_result *chunk)
{
    for (size_t i = 0; i < chunk->item_count; i++) {
        const struct replikv_item *item = &chunk->items[i];
        json_t *object = must_have(json_object());
        json_set_string(object, "bucket", item->bucket);
        json_set_bytes(object, "key", item->key);
        json_set_values(object, item->values, item->ttl_ms, item->value_count);
        if (item->value_count > 1)
            json_set_base64(object, "context", item->context);
        json_line(object);
    }
    dump->records += chunk->item_count;
}

/* False when it could not be printed. */
static bool take_chunk(struct dump *dump, const struct replikv_result *chunk)
{
    print_items(dump, chunk);
    if (fflush(stdout) != 0) {
        perror("replikv: dump: standard output");
        return false;
    }
    dump->partitions = chunk->partitions;
    owned_fini(&dump->after);
    if (chunk->done) {
        dump->partition++;
    } else {
        dump->after.data = must_have(malloc(chunk->next.size + 1));
        dump->after.size = chunk->next.size;
        memcpy(dump->after.data, chunk->next.data, chunk->next.size);
    }
    return true;
}

static int dump_all(struct dump *dump)
{
    int code = EXIT_DONE;
    while (code == EXIT_DONE && !interrupted() &&
           (dump->partitions == 0 || dump->partition < dump->partitions)) {
        struct replikv_result *chunk = replikv_call(
            dump->client,
            &(struct replikv_request){.kind = REPLIKV_LIST,
                                      .partition = dump->partition,
                                      .after = owned_bytes(&dump->after)});
        /* A chunk that goes nowhere would come again for ever. */
        bool stuck = chunk->status == REPLIKV_OK && !chunk->done &&
                     chunk->next.size == 0;
        if (chunk->status != REPLIKV_OK) {
            struct cli quiet = *dump->cli;
            quiet.json = false; /* standard output is for records */
            cli_failed(&quiet, chunk);
            code = EXIT_REFUSED;
        } else if (stuck || !take_chunk(dump, chunk)) {
            code = EXIT_REFUSED;
        }
        replikv_result_free(chunk);
        if (isatty(STDOUT_FILENO) != 1)
            progress_show(&dump->progress, dump->partition, dump->partitions,
                          dump->records);
    }
    return interrupted() ? EXIT_REFUSED : code;
}

int command_dump(const struct cli *cli)
{
    struct dump dump = {.cli = cli};
    if (cli->resume != NULL && !take_token(&dump, cli->resume))
        return EXIT_USAGE;
    interrupted();
    dump.client = cli_open(cli, false);
    progress_start(&dump.progress, "records");
    int code = dump_all(&dump);
    progress_finish(&dump.progress);
    if (code != EXIT_DONE) {
        struct owned after = base64_encode(owned_bytes(&dump.after));
        fprintf(stderr,
                "replikv: dump: stopped after %" PRIu64
                " records; go on with: replikv dump --resume %u:%s\n",
                dump.records, dump.partition, after.data);
        owned_fini(&after);
    }
    replikv_close(dump.client);
    owned_fini(&dump.after);
    return code;
}
