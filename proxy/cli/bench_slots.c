/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "proxy/cli/bench_internal.h"

enum {
    /* The last that are due before the end may be started so much later, so
     * that they are not missing for a moment's delay. */
    OVERTIME_MS = 100,
    /* How soon the pacer sees that it is to stop. */
    PACER_WAKES_MS = 100,
    /* Of a slot whose request could not be sent, in a closed loop. Where nobody
     * listens, and the time-out is shorter than the client's pauses, it would
     * fail a hundred thousand times a second. */
    REST_MS = 100,
};

/* ---- what came of it ---- */

/* One example of each status; the count comes with the summary. What a request
 * is refused for when it is wrong is the same for all that follow. */
static void tell(struct bench_run *run, const struct bench_item *item,
                 size_t status, const struct replikv_result *result)
{
    const char *name = replikv_status_name(result->status);
    pthread_mutex_lock(&run->lock);
    if (result->status == REPLIKV_INVALID ||
        result->status == REPLIKV_UNSUPPORTED) {
        snprintf(run->refusal, sizeof(run->refusal), "%s: %s", name,
                 result->message);
        atomic_store(&run->stop, true);
    } else if (!run->told[status]) {
        fprintf(stderr, "replikv: bench: %s %s: %s: %s\n",
                bench_kind_name(item->operation.kind), item->key, name,
                result->message);
    }
    run->told[status] = true;
    pthread_mutex_unlock(&run->lock);
}

static void count_answer(struct bench_slot *slot, const struct bench_item *item,
                         const struct replikv_result *result)
{
    struct bench_counts *counts = &slot->client->counts;
    struct histogram *latency = counts->latency[item->operation.kind];
    int64_t took_ns = bench_now_ns() - slot->from_ns;
    if (slot->client->run->loading)
        counts->loaded++;
    else
        histogram_record(latency, (uint64_t)took_ns, 1);
    counts->not_found += result->status == REPLIKV_NOT_FOUND;
    if (result->value_count > counts->siblings_max)
        counts->siblings_max = result->value_count;
}

static void record(struct bench_slot *slot, const struct bench_item *item,
                   const struct replikv_result *result)
{
    struct bench_client *client = slot->client;
    struct bench_run *run = client->run;
    bool answered =
        result->status == REPLIKV_OK || result->status == REPLIKV_NOT_FOUND;
    size_t status = (size_t)result->status;
    if (result->status == REPLIKV_CLOSED)
        return;
    if (status >= BENCH_STATUSES)
        status = BENCH_STATUSES - 1;
    slot->unsent = !answered && result->attempts == 0;
    if (!answered)
        tell(run, item, status, result);
    if (!run->loading && slot->from_ns < run->measure_ns)
        return;
    pthread_mutex_lock(&client->lock);
    if (answered) {
        count_answer(slot, item, result);
    } else {
        client->counts.failed++;
        client->counts.errors[status][result->outcome]++;
    }
    pthread_mutex_unlock(&client->lock);
}

/* ---- one request after the other ---- */

/* With the lock. */
static void retire_locked(struct bench_run *run)
{
    if (--run->running == 0) {
        pthread_cond_signal(&run->done);
        pthread_cond_signal(&run->idle_again);
    }
}

static void retire(struct bench_run *run)
{
    pthread_mutex_lock(&run->lock);
    retire_locked(run);
    pthread_mutex_unlock(&run->lock);
}

static int64_t due_ns(const struct bench_run *run)
{
    uint64_t rate = run->plan->options->rate;
    return run->start_ns + (int64_t)((double)run->started * 1e9 / (double)rate);
}

/* Whether the schedule has a request for now; if not, whether it has one
 * later. Called with the lock. */
static bool take_due(struct bench_run *run, int64_t *from_ns, bool *over)
{
    int64_t now_ns = bench_now_ns();
    *from_ns = due_ns(run);
    *over = atomic_load(&run->stop) || *from_ns >= run->end_ns ||
            now_ns >= run->end_ns + OVERTIME_MS * 1000000;
    if (*over || *from_ns > now_ns)
        return false;
    run->started++;
    return true;
}

static void rest_locked(struct bench_slot *slot)
{
    struct bench_run *run = slot->client->run;
    if (run->idle == NULL)
        pthread_cond_signal(&run->idle_again);
    slot->next = NULL;
    *run->idle_end = slot;
    run->idle_end = &slot->next;
}

static bool is_open_loop(const struct bench_run *run)
{
    return !run->loading && run->plan->options->rate > 0;
}

/* Whether a closed loop has a request for now. */
static bool take_next(struct bench_slot *slot, bool *over)
{
    const struct bench_run *run = slot->client->run;
    bool rests = slot->unsent;
    slot->unsent = false;
    slot->from_ns = bench_now_ns();
    *over = atomic_load(&run->stop) ||
            (!run->loading && slot->from_ns >= run->end_ns);
    return !*over && !rests;
}

/* Whether the slot may have a request now. If not it is idle, or has had
 * its last. */
static bool may_start(struct bench_slot *slot)
{
    struct bench_run *run = slot->client->run;
    bool over, open = is_open_loop(run);
    if (!open && take_next(slot, &over))
        return true;
    pthread_mutex_lock(&run->lock);
    bool due = open && take_due(run, &slot->from_ns, &over);
    /* Asked with the lock: the pacer is gone when it was stopped. */
    if (over || (!due && atomic_load(&run->stop)))
        retire_locked(run);
    else if (!due)
        rest_locked(slot);
    pthread_mutex_unlock(&run->lock);
    return due;
}

static bool draw_one(struct bench_client *client,
                     struct bench_operation *operation)
{
    if (client->run->loading)
        return bench_stream_load(&client->stream, operation);
    bench_stream_next(&client->stream, operation);
    return true;
}

/* Whether a get comes before its write. */
static bool reads_first(const struct bench_run *run, enum bench_kind kind)
{
    switch (kind) {
    case BENCH_PUT:
    case BENCH_INSERT:
        return run->loading || run->cli->overwrite;
    case BENCH_DELETE:
    case BENCH_RMW:
        return true;
    case BENCH_GET:
    case BENCH_KINDS:
        break;
    }
    return false;
}

/* False when the client has loaded all that it is to load. */
static bool draw(struct bench_slot *slot)
{
    struct bench_client *client = slot->client;
    const struct bench_run *run = client->run;
    size_t count = 0;
    pthread_mutex_lock(&client->lock);
    while (count < run->plan->options->batch &&
           draw_one(client, &slot->items[count].operation))
        count++;
    pthread_mutex_unlock(&client->lock);
    slot->item_count = count;
    for (size_t i = 0; i < count; i++) {
        struct bench_item *item = &slot->items[i];
        item->ended = false;
        item->reads = reads_first(run, item->operation.kind);
        item->context = replikv_bytes_of(NULL, 0);
        item->key_bytes =
            (size_t)snprintf(item->key, sizeof(item->key), "bench%012" PRIu64,
                             item->operation.key);
    }
    if (count == 0)
        retire(client->run);
    return count > 0;
}

static void send_request(struct bench_slot *slot);

void bench_go_on(struct bench_slot *slot)
{
    do {
        if (!may_start(slot) || !draw(slot))
            return;
        atomic_store(&slot->turn, 0);
        send_request(slot);
    } while (atomic_fetch_add(&slot->turn, 1) == 1);
}

static void end_request(struct bench_slot *slot)
{
    if (atomic_fetch_add(&slot->turn, 1) == 1)
        bench_go_on(slot);
}

/* Whether the item goes on. What is there is to be superseded; where nothing
 * is, nothing is deleted. */
static bool hear(struct bench_slot *slot, struct bench_item *item,
                 const struct replikv_result *result)
{
    bool deletes = item->operation.kind == BENCH_DELETE;
    bool writes = result->status == REPLIKV_OK ||
                  (result->status == REPLIKV_NOT_FOUND && !deletes);
    if (item->reads && writes) {
        item->reads = false;
        item->context = result->context;
        return true;
    }
    record(slot, item, result);
    item->ended = true;
    return false;
}

static void on_answer(void *user, struct replikv_result *result)
{
    struct bench_slot *slot = user;
    size_t next = 0;
    bool more = false;
    for (size_t i = 0; i < slot->item_count; i++) {
        if (slot->items[i].ended)
            continue;
        const struct replikv_result *one =
            next < result->result_count ? &result->results[next] : result;
        more |= hear(slot, &slot->items[i], one);
        next++;
    }
    if (more)
        send_request(slot);
    else
        end_request(slot);
    replikv_result_free(result);
}

static struct replikv_request request_of(const struct bench_slot *slot,
                                         const struct bench_item *item)
{
    const struct bench_run *run = slot->client->run;
    const struct bench_operation *operation = &item->operation;
    enum replikv_kind kind = REPLIKV_PUT;
    if (item->reads || operation->kind == BENCH_GET)
        kind = REPLIKV_GET;
    else if (operation->kind == BENCH_DELETE)
        kind = REPLIKV_DELETE;
    return (struct replikv_request){
        .kind = kind,
        .bucket = run->cli->bucket,
        .key = replikv_bytes_of(item->key, item->key_bytes),
        .value =
            replikv_bytes_of(run->pool + operation->random % BENCH_POOL_BYTES,
                             operation->value_bytes),
        .context = item->context,
        .level = kind == REPLIKV_GET ? run->cli->r : run->cli->w,
    };
}

/* The library took none of it. */
static void refuse(struct bench_slot *slot, const struct replikv_error *error)
{
    for (size_t i = 0; i < slot->item_count; i++) {
        struct bench_item *item = &slot->items[i];
        bool gets = item->reads || item->operation.kind == BENCH_GET;
        if (item->ended)
            continue;
        hear(slot, item,
             &(struct replikv_result){.status = error->status,
                                      .outcome = gets ? REPLIKV_NONE
                                                      : REPLIKV_NOT_APPLIED,
                                      .message = error->text});
    }
    end_request(slot);
}

/* Ask for what has not ended. */
static void send_request(struct bench_slot *slot)
{
    const struct bench_run *run = slot->client->run;
    struct replikv_error error;
    size_t count = 0;
    for (size_t i = 0; i < slot->item_count; i++)
        if (!slot->items[i].ended)
            slot->requests[count++] = request_of(slot, &slot->items[i]);
    const struct replikv_request batch = {.kind = REPLIKV_BATCH,
                                          .requests = slot->requests,
                                          .request_count = count};
    bool alone = run->plan->options->batch == 1;
    if (replikv_start(slot->client->connection, alone ? slot->requests : &batch,
                      on_answer, slot, &error) != REPLIKV_OK)
        refuse(slot, &error);
}

/* ---- the pacer ---- */

/* When the slot that is idle longest is to go on. */
static int64_t wake_due_ns(const struct bench_run *run)
{
    if (is_open_loop(run))
        return due_ns(run);
    return run->idle->from_ns + REST_MS * 1000000;
}

/* With the lock, which it gives up meanwhile. */
static void wake_first(struct bench_run *run)
{
    struct bench_slot *slot = run->idle;
    run->idle = slot->next;
    if (run->idle == NULL)
        run->idle_end = &run->idle;
    pthread_mutex_unlock(&run->lock);
    bench_go_on(slot);
    pthread_mutex_lock(&run->lock);
}

void *bench_pacer_main(void *argument)
{
    struct bench_run *run = argument;
    bool open = is_open_loop(run);
    /* Else the kernel wakes it 50 us late, which would count. */
    prctl(PR_SET_TIMERSLACK, 1);
    pthread_mutex_lock(&run->lock);
    while (run->running > 0 &&
           (run->idle != NULL || !atomic_load(&run->stop))) {
        int64_t now_ns = bench_now_ns();
        int64_t wake_ns = now_ns + PACER_WAKES_MS * 1000000;
        int64_t due = run->idle != NULL ? wake_due_ns(run) : INT64_MAX;
        bool over = atomic_load(&run->stop) || (open && due >= run->end_ns);
        if (run->idle != NULL && (over || due <= now_ns))
            wake_first(run);
        else
            bench_wait_until(run, &run->idle_again,
                             due < wake_ns ? due : wake_ns);
    }
    pthread_mutex_unlock(&run->lock);
    return NULL;
}
