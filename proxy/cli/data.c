/* SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proxy/cli/output.h"

/* put, get and del. */

static bool read_all(FILE *file, struct owned *out)
{
    size_t capacity = 0;
    for (;;) {
        if (out->size + 1 >= capacity) {
            capacity = capacity == 0 ? 65536 : capacity * 2;
            out->data = must_have(realloc(out->data, capacity));
        }
        size_t size =
            fread(out->data + out->size, 1, capacity - out->size - 1, file);
        out->size += size;
        out->data[out->size] = '\0';
        if (size == 0)
            return !ferror(file);
    }
}

static bool value_argument(const struct cli *cli, struct owned *value)
{
    if (cli->arg_count > 1 && strcmp(cli->args[1], "-") != 0)
        return cli_argument(cli, "VALUE", cli->args[1], value);
    struct owned input = {0};
    bool good = read_all(stdin, &input);
    if (!good)
        perror("replikv: standard input");
    else if (cli->base64)
        good = cli_argument(cli, "VALUE", input.data, value);
    else
        *value = input;
    if (!good || cli->base64)
        owned_fini(&input);
    return good;
}

/* What the command line says of a write, on its way to be one. */
struct write {
    struct owned key, value, context, id;
    struct replikv_request request;
};

static void write_fini(struct write *write)
{
    owned_fini(&write->key);
    owned_fini(&write->value);
    owned_fini(&write->context);
    owned_fini(&write->id);
}

static bool context_option(const struct cli *cli, struct owned *context)
{
    if (cli->context == NULL ||
        base64_decode(cli->context, strlen(cli->context), context))
        return true;
    fprintf(stderr, "replikv: --context: not what `get` printed as context\n");
    return false;
}

static bool write_options(const struct cli *cli, struct write *write)
{
    if (!context_option(cli, &write->context))
        return false;
    if (cli->request_id != NULL &&
        (!base64_decode(cli->request_id, strlen(cli->request_id), &write->id) ||
         write->id.size != REPLIKV_REQUEST_ID_BYTES)) {
        fprintf(stderr, "replikv: --request-id: not what an unknown outcome "
                        "printed\n");
        return false;
    }
    write->request.bucket = cli->bucket;
    write->request.key = owned_bytes(&write->key);
    write->request.value = owned_bytes(&write->value);
    write->request.context = owned_bytes(&write->context);
    write->request.level = cli->w;
    write->request.ttl_ms = cli->ttl_ms;
    write->request.request_id = (const uint8_t *)write->id.data;
    return true;
}

/* The context of what is there now, so that the write supersedes it. False
 * with *code set when there is none. */
static bool read_context(const struct cli *cli, struct replikv *client,
                         struct write *write, int *code)
{
    struct replikv_result *result = replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_GET,
                                          .bucket = cli->bucket,
                                          .key = write->request.key});
    bool there = result->status == REPLIKV_OK;
    bool answered = there || result->status == REPLIKV_NOT_FOUND;
    *code = there ? EXIT_DONE : EXIT_NOT_FOUND;
    if (!answered) {
        *code = cli_failed(cli, result);
    } else {
        struct replikv_bytes context = result->context;
        write->context.data = must_have(malloc(context.size + 1));
        write->context.size = context.size;
        if (context.size > 0)
            memcpy(write->context.data, context.data, context.size);
        write->request.context = owned_bytes(&write->context);
    }
    if (result->status == REPLIKV_NOT_FOUND &&
        write->request.kind == REPLIKV_DELETE) {
        answered = false;
        if (cli->json)
            json_document(json_of_result(result));
        else
            fprintf(stderr, "replikv: not found: %s\n", cli->args[0]);
    }
    replikv_result_free(result);
    return answered;
}

static int print_written(const struct cli *cli, struct replikv_result *result)
{
    int code = exit_code_of(result);
    if (code != EXIT_DONE) {
        code = cli_failed(cli, result);
    } else if (cli->json) {
        json_t *object = json_of_result(result);
        json_set_base64(object, "context", result->context);
        json_document(object);
    } else {
        printf("%s on %u replica%s, %u needed\n",
               replikv_outcome_name(result->outcome), result->got,
               result->got == 1 ? "" : "s", result->need);
    }
    replikv_result_free(result);
    return code;
}

static int send_write(const struct cli *cli, struct write *write,
                      bool read_first)
{
    int code;
    struct replikv *client = cli_open(cli, true);
    if (!read_first || read_context(cli, client, write, &code))
        code = print_written(cli, replikv_call(client, &write->request));
    replikv_close(client);
    return code;
}

int command_put(const struct cli *cli)
{
    struct write write = {.request.kind = REPLIKV_PUT};
    int code = EXIT_USAGE;
    if (cli->overwrite && cli->context != NULL)
        fprintf(stderr, "replikv: --overwrite reads the context itself; give "
                        "one of it and --context\n");
    else if (cli_key(cli, cli->args[0], &write.key) &&
             value_argument(cli, &write.value) && write_options(cli, &write))
        code = send_write(cli, &write, cli->overwrite);
    write_fini(&write);
    return code;
}

int command_del(const struct cli *cli)
{
    struct write write = {.request.kind = REPLIKV_DELETE};
    int code = EXIT_USAGE;
    if (cli_key(cli, cli->args[0], &write.key) && write_options(cli, &write))
        code = send_write(cli, &write, cli->context == NULL);
    write_fini(&write);
    return code;
}

static void print_value(const struct cli *cli, struct replikv_bytes value)
{
    struct owned text = {0};
    if (cli->base64) {
        text = base64_encode(value);
        value = owned_bytes(&text);
    }
    if (value.size > 0)
        fwrite(value.data, 1, value.size, stdout);
    owned_fini(&text);
}

/* A value alone is printed as it is, so that it can be piped; the newline is
 * for a terminal. */
static void print_values(const struct cli *cli,
                         const struct replikv_result *result)
{
    struct owned context = base64_encode(result->context);
    bool terminal = isatty(STDOUT_FILENO) == 1;
    if (result->value_count == 1) {
        print_value(cli, result->values[0]);
        if (terminal || cli->base64)
            putchar('\n');
        if (terminal)
            fprintf(stderr, "context: %s\n", context.data);
    } else {
        printf("%zu siblings, from concurrent writes:\n", result->value_count);
        for (size_t i = 0; i < result->value_count; i++) {
            printf("--- %zu of %zu, %zu bytes\n", i + 1, result->value_count,
                   result->values[i].size);
            print_value(cli, result->values[i]);
            putchar('\n');
        }
        printf("--- resolve them: replikv put KEY VALUE --context %s\n",
               context.data);
    }
    owned_fini(&context);
}

static json_t *json_of_get(const struct owned *key,
                           const struct replikv_result *result)
{
    json_t *object = json_of_result(result);
    json_set_bytes(object, "key", owned_bytes(key));
    json_set_values(object, result->values, result->ttl_ms,
                    result->value_count);
    json_set_number(object, "siblings", result->value_count);
    json_set_base64(object, "context", result->context);
    return object;
}

static struct replikv_request get_request(const struct cli *cli,
                                          const struct owned *key)
{
    return (struct replikv_request){.kind = REPLIKV_GET,
                                    .bucket = cli->bucket,
                                    .key = owned_bytes(key),
                                    .level = cli->r};
}

static int get_one(const struct cli *cli, const struct owned *key)
{
    struct owned context = {0};
    if (!context_option(cli, &context))
        return EXIT_USAGE;
    struct replikv *client = cli_open(cli, true);
    struct replikv_request request = get_request(cli, key);
    request.context = owned_bytes(&context);
    struct replikv_result *result = replikv_call(client, &request);
    int code = exit_code_of(result);
    if (code != EXIT_DONE && code != EXIT_NOT_FOUND)
        code = cli_failed(cli, result);
    else if (cli->json)
        json_document(json_of_get(key, result));
    else if (code == EXIT_NOT_FOUND)
        fprintf(stderr, "replikv: not found: %s\n", cli->args[0]);
    else
        print_values(cli, result);
    replikv_result_free(result);
    replikv_close(client);
    owned_fini(&context);
    return code;
}

/* In one message; a line each. */
static int get_many(const struct cli *cli, const struct owned *keys)
{
    size_t count = (size_t)cli->arg_count;
    struct replikv *client = cli_open(cli, true);
    struct replikv_request *requests =
        must_have(calloc(count, sizeof(*requests)));
    for (size_t i = 0; i < count; i++)
        requests[i] = get_request(cli, &keys[i]);
    struct replikv_result *batch =
        replikv_call(client, &(struct replikv_request){.kind = REPLIKV_BATCH,
                                                       .requests = requests,
                                                       .request_count = count});
    int code = batch->result_count == 0 ? cli_failed(cli, batch) : EXIT_DONE;
    for (size_t i = 0; i < batch->result_count; i++) {
        const struct replikv_result *result = &batch->results[i];
        if (exit_code_of(result) > code)
            code = exit_code_of(result);
        json_line(json_of_get(&keys[i], result));
    }
    replikv_result_free(batch);
    free(requests);
    replikv_close(client);
    return code;
}

int command_get(const struct cli *cli)
{
    int code = EXIT_USAGE, count = 0;
    if (cli->context != NULL && cli->arg_count > 1) {
        fprintf(stderr, "replikv: --context is of one key\n");
        return code;
    }
    struct owned *keys =
        must_have(calloc((size_t)cli->arg_count, sizeof(*keys)));
    while (count < cli->arg_count &&
           cli_key(cli, cli->args[count], &keys[count]))
        count++;
    if (count == cli->arg_count)
        code = count == 1 ? get_one(cli, keys) : get_many(cli, keys);
    while (count > 0)
        owned_fini(&keys[--count]);
    free(keys);
    return code;
}
