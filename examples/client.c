/* SPDX-License-Identifier: MIT */
/* A client on libreplikv: client [URL]...
 *
 * Write, read, meet siblings and resolve them, delete; then a thousand writes
 * at once. With several URLs the library goes on with the next one when a node
 * fails. */
#include <replikv.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct replikv *client;

static struct replikv_bytes text(const char *string)
{
    return replikv_bytes_of(string, strlen(string));
}

static void check(const char *what, const struct replikv_result *result)
{
    if (result->status == REPLIKV_OK)
        return;
    fprintf(stderr, "%s: %s: %s\n", what, replikv_status_name(result->status),
            result->message);
    if (result->outcome == REPLIKV_UNKNOWN)
        fprintf(stderr, "some replica may hold it\n");
    exit(1);
}

static void put(const char *key, const char *value,
                struct replikv_bytes context)
{
    struct replikv_result *result =
        replikv_put(client, text(key), text(value), context);
    check("put", result);
    printf("put %s: %s, %u of %u replicas needed\n", value,
           replikv_outcome_name(result->outcome), result->got, result->need);
    replikv_result_free(result);
}

/* The caller frees it: its context is for the next write. */
static struct replikv_result *get(const char *key)
{
    struct replikv_result *result = replikv_get(client, text(key));
    if (result->status != REPLIKV_NOT_FOUND)
        check("get", result);
    printf("get: %zu values", result->value_count);
    for (size_t i = 0; i < result->value_count; i++)
        printf(" \"%.*s\"", (int)result->values[i].size,
               (const char *)result->values[i].data);
    putchar('\n');
    return result;
}

static void tell_the_story(const char *key)
{
    struct replikv_bytes nothing_seen = {NULL, 0};
    put(key, "tea", nothing_seen);
    replikv_result_free(get(key));

    /* Neither has seen the other, so neither may be dropped. */
    put(key, "coffee", nothing_seen);
    struct replikv_result *siblings = get(key);
    put(key, "tea and coffee", siblings->context);
    replikv_result_free(siblings);

    struct replikv_result *resolved = get(key);
    struct replikv_result *deleted =
        replikv_delete(client, text(key), resolved->context);
    check("delete", deleted);
    printf("delete: %s\n", replikv_outcome_name(deleted->outcome));
    replikv_result_free(deleted);
    replikv_result_free(resolved);
    replikv_result_free(get(key));
}

static atomic_int applied, ended;

static void on_written(void *user, struct replikv_result *result)
{
    (void)user;
    if (result->outcome == REPLIKV_APPLIED)
        atomic_fetch_add(&applied, 1);
    replikv_result_free(result);
    atomic_fetch_add(&ended, 1);
}

static void write_many_at_once(const char *prefix)
{
    enum { COUNT = 1000 };
    struct replikv_error error;
    for (int i = 0; i < COUNT; i++) {
        char key[80];
        snprintf(key, sizeof(key), "%s-%d", prefix, i);
        const struct replikv_request request = {
            .kind = REPLIKV_PUT, .key = text(key), .value = text("many")};
        if (replikv_start(client, &request, on_written, NULL, &error) !=
            REPLIKV_OK) {
            fprintf(stderr, "start: %s\n", error.text);
            exit(1);
        }
    }
    while (atomic_load(&ended) < COUNT)
        usleep(1000);
    printf("%d of %d writes at once applied\n", atomic_load(&applied), COUNT);
}

int main(int argc, char **argv)
{
    static const char *const local[] = {"tcp://127.0.0.1:3001"};
    char key[40];
    struct replikv_error error;
    struct replikv_options options = {.endpoints = local, .endpoint_count = 1};
    if (argc > 1) {
        options.endpoints = (const char *const *)argv + 1;
        options.endpoint_count = (size_t)argc - 1;
    }
    if (replikv_open(&options, &client, &error) != REPLIKV_OK) {
        fprintf(stderr, "open: %s\n", error.text);
        return 1;
    }
    snprintf(key, sizeof(key), "example-client-%ld", (long)getpid());
    tell_the_story(key);
    write_many_at_once(key);
    replikv_close(client);
    return 0;
}
