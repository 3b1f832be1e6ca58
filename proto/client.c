/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proto/client_internal.h"

enum {
    TIMEOUT_MS = 5000,
    ATTEMPT_MS = 1000,
    INFLIGHT_MAX = 4096,
    INFLIGHT_LIMIT = 1 << 20,
    INFLIGHT_BYTES_MAX = 64 << 20,
    MESSAGE_BYTES_MAX = 128 << 20,
};

/* For replikv_call when there is no memory for anything else. */
static const struct replikv_result no_memory = {
    .status = REPLIKV_NO_MEMORY,
    .outcome = REPLIKV_NOT_APPLIED,
    .message = "no memory for a request",
};

static enum replikv_status fail(struct replikv_error *error,
                                const struct error *why)
{
    if (error != NULL) {
        error->status = (enum replikv_status)why->status;
        snprintf(error->text, sizeof(error->text), "%s", why->text);
    }
    return (enum replikv_status)why->status;
}

/* ---- the lock, and what happens without it ---- */

void client_enter(struct replikv *client)
{
    pthread_mutex_lock(&client->lock);
}

static void call_back(struct request *request)
{
    buffer_fini(&request->packed);
    client_result_fill(request);
    request->callback(request->user, &request->result);
}

/* Who calls back for many at a time: what callbacks start leaves when all have
 * been called, as many requests in one system call as there were answers. What
 * ends at once is called back for then, too, on the same thread. */
struct caller {
    const struct replikv *client;
    struct request *first, **end; /* to be called back for */
    bool was_used;                /* by a callback */
};
static _Thread_local struct caller *caller;

/* With the lock, which is let go of. */
static void flush(struct replikv *client)
{
    struct connection *connections[REPLIKV_ENDPOINTS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < client->endpoint_count; i++) {
        struct endpoint *endpoint = &client->endpoints[i];
        if (endpoint->flush)
            connections[count++] = connection_retain(endpoint->connection);
        endpoint->flush = false;
    }
    pthread_mutex_unlock(&client->lock);
    for (size_t i = 0; i < count; i++) {
        connection_flush(connections[i]);
        connection_release(connections[i]);
    }
}

static struct request *take_finished(struct replikv *client)
{
    struct request *finished = client->finished;
    client->finished = NULL;
    client->finished_end = &client->finished;
    return finished;
}

static void call_back_all(struct request *request)
{
    while (request != NULL) {
        struct request *next = request->next;
        call_back(request);
        request = next;
    }
}

void client_leave(struct replikv *client)
{
    struct request *finished = take_finished(client);
    if (caller == NULL || caller->client != client) {
        flush(client);
        call_back_all(finished);
        return;
    }
    caller->was_used = true;
    *caller->end = finished;
    while (*caller->end != NULL)
        caller->end = &(*caller->end)->next;
    pthread_mutex_unlock(&client->lock);
}

void client_leave_calling(struct replikv *client)
{
    struct caller here = {.client = client, .first = take_finished(client)};
    struct caller *outer = caller;
    caller = &here;
    flush(client);
    while (here.first != NULL) {
        struct request *finished = here.first;
        here.first = NULL;
        here.end = &here.first;
        here.was_used = false;
        call_back_all(finished);
        if (here.was_used) {
            client_enter(client);
            flush(client);
        }
    }
    caller = outer;
}

void client_schedule(struct replikv *client, struct request *request,
                     int64_t due_ms)
{
    request->due_ms = due_ms;
    if (due_ms >= client->wake_at_ms)
        return;
    client->wake_at_ms = due_ms;
    pthread_cond_signal(&client->changed);
}

enum replikv_outcome client_outcome(bool is_write, const Rkv__Result *said,
                                    bool maybe_applied)
{
    if (!is_write)
        return REPLIKV_NONE;
    if (said != NULL && said->outcome == RKV__OUTCOME__APPLIED)
        return REPLIKV_APPLIED;
    if (maybe_applied ||
        (said != NULL && said->outcome == RKV__OUTCOME__UNKNOWN))
        return REPLIKV_UNKNOWN;
    return REPLIKV_NOT_APPLIED;
}

void client_finish(struct replikv *client, struct request *request,
                   enum replikv_status status)
{
    request->result.status = status;
    request->result.outcome = client_outcome(
        request->is_write,
        request->answer == NULL ? NULL : client_result_of(request->answer),
        request->maybe_applied);
    if (request->batch != NULL)
        client_batch_end(request);
    client->table[request->id & client->mask] = NULL;
    client->inflight -= request->weight;
    client->inflight_bytes -= request->packed.size;
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        client->requests = request->next;
    if (request->next != NULL)
        request->next->previous = request->previous;
    request->next = NULL;
    *client->finished_end = request;
    client->finished_end = &request->next;
}

/* ---- deadlines ---- */

/* All are looked at, but only when the earliest is due: while answers come in
 * time that is about once per attempt_ms. */
static void look_at_all(struct replikv *client, int64_t now_ms)
{
    client->wake_at_ms = INT64_MAX;
    struct request *next;
    for (struct request *r = client->requests; r != NULL; r = next) {
        next = r->next;
        if (r->due_ms <= now_ms)
            client_due(client, r, now_ms);
        else if (r->due_ms < client->wake_at_ms)
            client->wake_at_ms = r->due_ms;
    }
}

static void *timer_main(void *argument)
{
    struct replikv *client = argument;
    client_enter(client);
    while (!client->stopping) {
        if (client->wake_at_ms == INT64_MAX) {
            pthread_cond_wait(&client->changed, &client->lock);
            continue;
        }
        int64_t now_ms = clock_now_ms();
        if (now_ms >= client->wake_at_ms) {
            look_at_all(client, now_ms);
            client_leave(client);
            client_enter(client);
            continue;
        }
        struct timespec until = {
            .tv_sec = client->wake_at_ms / 1000,
            .tv_nsec = client->wake_at_ms % 1000 * 1000000,
        };
        pthread_cond_timedwait(&client->changed, &client->lock, &until);
    }
    client_leave(client);
    return NULL;
}

/* ---- open and close ---- */

static void set_options(struct replikv *client,
                        const struct replikv_options *options)
{
    struct replikv_options *own = &client->options;
    *own = *options;
    own->endpoints = NULL;
    if (own->timeout_ms == 0)
        own->timeout_ms = TIMEOUT_MS;
    if (own->attempt_ms == 0)
        own->attempt_ms = ATTEMPT_MS;
    if (own->inflight_max == 0)
        own->inflight_max = INFLIGHT_MAX;
    if (own->inflight_bytes_max == 0)
        own->inflight_bytes_max = INFLIGHT_BYTES_MAX;
    if (own->message_bytes_max == 0)
        own->message_bytes_max = MESSAGE_BYTES_MAX;
}

static enum status set_endpoints(struct replikv *client,
                                 const struct replikv_options *options,
                                 struct error *error)
{
    if (options->endpoint_count < 1 ||
        options->endpoint_count > REPLIKV_ENDPOINTS_MAX)
        return error_set(error, STATUS_INVALID,
                         "endpoints: %zu, allowed are 1 to %d",
                         options->endpoint_count, REPLIKV_ENDPOINTS_MAX);
    for (size_t i = 0; i < options->endpoint_count; i++) {
        const char *address = options->endpoints[i];
        struct endpoint *endpoint = &client->endpoints[i];
        bool known = strncmp(address, "tcp://", 6) == 0 ||
                     strncmp(address, "ipc://", 6) == 0;
        if (!known || strlen(address) >= sizeof(endpoint->address))
            return error_set(error, STATUS_INVALID,
                             "endpoint \"%.128s\": must be tcp://HOST:PORT or "
                             "ipc:///PATH, at most %zu bytes",
                             address, sizeof(endpoint->address) - 1);
        strcpy(endpoint->address, address);
        endpoint->client = client;
    }
    client->endpoint_count = options->endpoint_count;
    return STATUS_OK;
}

static enum status make_table(struct replikv *client, struct error *error)
{
    uint32_t size = 2;
    if (client->options.inflight_max > INFLIGHT_LIMIT)
        return error_set(error, STATUS_INVALID,
                         "inflight_max: %u, allowed are 1 to %d",
                         client->options.inflight_max, INFLIGHT_LIMIT);
    while (size < 2 * client->options.inflight_max)
        size *= 2;
    client->mask = size - 1;
    client->table = calloc(size, sizeof(struct request *));
    if (client->table == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for a client");
    return STATUS_OK;
}

static enum status start_timer(struct replikv *client, struct error *error)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&client->lock, NULL);
    pthread_cond_init(&client->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    client->wake_at_ms = INT64_MAX;
    int failure = pthread_create(&client->timer, NULL, timer_main, client);
    if (failure == 0)
        return STATUS_OK;
    pthread_cond_destroy(&client->changed);
    pthread_mutex_destroy(&client->lock);
    return error_set(error, STATUS_IO, "cannot start a thread: %s",
                     strerror(failure));
}

static enum status open_client(struct replikv *client,
                               const struct replikv_options *options,
                               struct error *error)
{
    client->finished_end = &client->finished;
    set_options(client, options);
    const struct transport_limits limits = {
        .frame_bytes_max = client->options.message_bytes_max,
        /* What is under way fits, once more if it is sent again. */
        .queue_bytes_max = 4 * client->options.inflight_bytes_max,
        .handshake_ms = client->options.attempt_ms,
        .loops = 1,
    };
    enum status status = set_endpoints(client, options, error);
    if (status == STATUS_OK)
        status = make_table(client, error);
    if (status == STATUS_OK)
        status = transport_open(&limits, &client->transport, error);
    if (status == STATUS_OK)
        status = start_timer(client, error);
    return status;
}

static void free_client(struct replikv *client)
{
    transport_close(client->transport);
    free(client->table);
    free(client);
}

enum replikv_status replikv_open(const struct replikv_options *options,
                                 struct replikv **out,
                                 struct replikv_error *error)
{
    struct error why = {.status = STATUS_NO_MEMORY,
                        .text = "no memory for a client"};
    struct replikv *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return fail(error, &why);
    if (open_client(client, options, &why) != STATUS_OK) {
        free_client(client);
        return fail(error, &why);
    }
    *out = client;
    return REPLIKV_OK;
}

void replikv_close(struct replikv *client)
{
    if (client == NULL)
        return;
    client_enter(client);
    client->stopping = true;
    pthread_cond_signal(&client->changed);
    while (client->requests != NULL) {
        struct request *request = client->requests;
        if (request->state == ATTEMPT_SENT)
            request->maybe_applied = true;
        error_set(&request->last, STATUS_CLOSED,
                  "the client was closed before an answer came");
        client_finish(client, request, REPLIKV_CLOSED);
    }
    client_leave(client);
    pthread_join(client->timer, NULL);
    transport_close(client->transport);
    client->transport = NULL;
    pthread_cond_destroy(&client->changed);
    pthread_mutex_destroy(&client->lock);
    free_client(client);
}

/* ---- requests ---- */

void client_number(struct replikv *client, struct request *request)
{
    do
        request->id = ++client->next_id | ID_TOP_BIT;
    while (client->table[request->id & client->mask] != NULL);
    client->table[request->id & client->mask] = request;
}

static enum status admit(struct replikv *client, struct request *request,
                         struct error *error)
{
    const struct replikv_options *options = &client->options;
    if (client->stopping)
        return error_set(error, STATUS_CLOSED, "the client is closed");
    /* One that is larger than a bound goes alone. */
    if (client->inflight > 0 &&
        client->inflight + request->weight > options->inflight_max)
        return error_set(error, STATUS_OVERLOADED,
                         "%zu requests are under way, inflight_max is %u",
                         client->inflight, options->inflight_max);
    if (client->inflight > 0 && client->inflight_bytes + request->packed.size >
                                    options->inflight_bytes_max)
        return error_set(error, STATUS_OVERLOADED,
                         "%zu bytes are under way, inflight_bytes_max is %zu",
                         client->inflight_bytes, options->inflight_bytes_max);
    client_number(client, request);
    client->inflight += request->weight;
    client->inflight_bytes += request->packed.size;
    request->next = client->requests;
    if (request->next != NULL)
        request->next->previous = request;
    client->requests = request;
    return STATUS_OK;
}

enum replikv_status replikv_start(struct replikv *client,
                                  const struct replikv_request *from,
                                  replikv_callback *callback, void *user,
                                  struct replikv_error *error)
{
    struct request *request = NULL;
    struct error why;
    if (request_new(client, from, &request, &why) != STATUS_OK)
        return fail(error, &why);
    request->callback = callback;
    request->user = user;
    client_enter(client);
    enum status status = admit(client, request, &why);
    if (status == STATUS_OK)
        client_attempt(client, request, client->preferred, clock_now_ms());
    client_leave(client);
    if (status == STATUS_OK)
        return REPLIKV_OK;
    request_free(request);
    return fail(error, &why);
}

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t done;
    struct replikv_result *result;
};

static void wake(void *user, struct replikv_result *result)
{
    struct waiter *waiter = user;
    pthread_mutex_lock(&waiter->lock);
    waiter->result = result;
    pthread_cond_signal(&waiter->done);
    pthread_mutex_unlock(&waiter->lock);
}

static struct replikv_result *refusal(const struct replikv_request *from,
                                      const struct replikv_error *why)
{
    union {
        const struct replikv_result *in;
        struct replikv_result *out;
    } cast = {.in = &no_memory};
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL)
        return cast.out;
    request->result.status = why->status;
    if (client_is_write(from))
        request->result.outcome = REPLIKV_NOT_APPLIED;
    memcpy(request->last.text, why->text, sizeof(why->text));
    request->result.message = request->last.text;
    return &request->result;
}

struct replikv_result *replikv_call(struct replikv *client,
                                    const struct replikv_request *request)
{
    struct waiter waiter = {.lock = PTHREAD_MUTEX_INITIALIZER,
                            .done = PTHREAD_COND_INITIALIZER};
    struct replikv_error why;
    if (replikv_start(client, request, wake, &waiter, &why) != REPLIKV_OK)
        return refusal(request, &why);
    pthread_mutex_lock(&waiter.lock);
    while (waiter.result == NULL)
        pthread_cond_wait(&waiter.done, &waiter.lock);
    pthread_mutex_unlock(&waiter.lock);
    pthread_cond_destroy(&waiter.done);
    pthread_mutex_destroy(&waiter.lock);
    return waiter.result;
}

void replikv_result_free(struct replikv_result *result)
{
    if (result != NULL && result != &no_memory)
        request_free((struct request *)result);
}

struct replikv_result *replikv_get(struct replikv *client,
                                   struct replikv_bytes key)
{
    return replikv_call(
        client, &(struct replikv_request){.kind = REPLIKV_GET, .key = key});
}

struct replikv_result *replikv_put(struct replikv *client,
                                   struct replikv_bytes key,
                                   struct replikv_bytes value,
                                   struct replikv_bytes context)
{
    return replikv_call(client, &(struct replikv_request){.kind = REPLIKV_PUT,
                                                          .key = key,
                                                          .value = value,
                                                          .context = context});
}

struct replikv_result *replikv_delete(struct replikv *client,
                                      struct replikv_bytes key,
                                      struct replikv_bytes context)
{
    return replikv_call(
        client, &(struct replikv_request){
                    .kind = REPLIKV_DELETE, .key = key, .context = context});
}

static struct replikv_result *call_batch(struct replikv *client,
                                         struct replikv_request *requests,
                                         size_t count)
{
    static const struct replikv_error spent = {.status = REPLIKV_NO_MEMORY,
                                               .text = "no memory for a batch"};
    const struct replikv_request batch = {
        .kind = REPLIKV_BATCH, .requests = requests, .request_count = count};
    struct replikv_result *result =
        requests == NULL ? refusal(&(struct replikv_request){0}, &spent)
                         : replikv_call(client, &batch);
    free(requests);
    return result;
}

struct replikv_result *replikv_get_many(struct replikv *client,
                                        const struct replikv_bytes *keys,
                                        size_t count)
{
    struct replikv_request *requests = calloc(count + 1, sizeof(*requests));
    for (size_t i = 0; requests != NULL && i < count; i++)
        requests[i] =
            (struct replikv_request){.kind = REPLIKV_GET, .key = keys[i]};
    return call_batch(client, requests, count);
}

struct replikv_result *replikv_put_many(struct replikv *client,
                                        const struct replikv_bytes *keys,
                                        const struct replikv_bytes *values,
                                        const struct replikv_bytes *contexts,
                                        size_t count)
{
    struct replikv_request *requests = calloc(count + 1, sizeof(*requests));
    for (size_t i = 0; requests != NULL && i < count; i++) {
        requests[i] = (struct replikv_request){
            .kind = REPLIKV_PUT, .key = keys[i], .value = values[i]};
        if (contexts != NULL)
            requests[i].context = contexts[i];
    }
    return call_batch(client, requests, count);
}
