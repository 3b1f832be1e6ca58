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
static void tell(struct bench_run *run, const struct bench_slot *slot,
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
                bench_kind_name(slot->operation.kind), slot->key, name,
                result->message);
    }
    run->told[status] = true;
    pthread_mutex_unlock(&run->lock);
}

static void count_answer(struct bench_slot *slot,
                         const struct replikv_result *result)
{
    struct bench_counts *counts = &slot->client->counts;
    struct histogram *latency = counts->latency[slot->operation.kind];
    int64_t took_ns = bench_now_ns() - slot->from_ns;
    if (slot->client->run->loading)
        counts->loaded++;
    else
        histogram_record(latency, (uint64_t)took_ns, 1);
    counts->not_found += result->status == REPLIKV_NOT_FOUND;
    if (result->value_count > counts->siblings_max)
        counts->siblings_max = result->value_count;
}

static void record(struct bench_slot *slot, const struct replikv_result *result)
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
        tell(run, slot, status, result);
    if (!run->loading && slot->from_ns < run->measure_ns)
        return;
    pthread_mutex_lock(&client->lock);
    if (answered) {
        count_answer(slot, result);
    } else {
        client->counts.failed++;
        client->counts.errors[status][result->outcome]++;
    }
    pthread_mutex_unlock(&client->lock);
}

/* ---- one operation after the other ---- */

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

/* Whether the schedule has an operation for now; if not, whether it has one
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

/* Whether a closed loop has an operation for now. */
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

/* Whether the slot may have an operation now. If not it is idle, or has had
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

/* False when the client has loaded all that it is to load. */
static bool draw(struct bench_slot *slot)
{
    struct bench_client *client = slot->client;
    bool more = true;
    pthread_mutex_lock(&client->lock);
    if (client->run->loading)
        more = bench_stream_load(&client->stream, &slot->operation);
    else
        bench_stream_next(&client->stream, &slot->operation);
    pthread_mutex_unlock(&client->lock);
    slot->key_bytes = (size_t)snprintf(slot->key, sizeof(slot->key),
                                       "bench%012" PRIu64, slot->operation.key);
    if (!more)
        retire(client->run);
    return more;
}

static void start_operation(struct bench_slot *slot);

void bench_go_on(struct bench_slot *slot)
{
    do {
        if (!may_start(slot) || !draw(slot))
            return;
        atomic_store(&slot->turn, 0);
        start_operation(slot);
    } while (atomic_fetch_add(&slot->turn, 1) == 1);
}

static void end_operation(struct bench_slot *slot,
                          const struct replikv_result *result)
{
    record(slot, result);
    if (atomic_fetch_add(&slot->turn, 1) == 1)
        bench_go_on(slot);
}

static void on_end(void *user, struct replikv_result *result)
{
    end_operation(user, result);
    replikv_result_free(result);
}

static void start_request(struct bench_slot *slot, enum replikv_kind kind,
                          struct replikv_bytes context,
                          replikv_callback *callback)
{
    const struct bench_run *run = slot->client->run;
    const struct bench_operation *operation = &slot->operation;
    const struct replikv_request request = {
        .kind = kind,
        .bucket = run->cli->bucket,
        .key = replikv_bytes_of(slot->key, slot->key_bytes),
        .value =
            replikv_bytes_of(run->pool + operation->random % BENCH_POOL_BYTES,
                             operation->value_bytes),
        .context = context,
        .level = kind == REPLIKV_GET ? run->cli->r : run->cli->w,
    };
    struct replikv_error error;
    if (replikv_start(slot->client->connection, &request, callback, slot,
                      &error) != REPLIKV_OK)
        end_operation(
            slot, &(struct replikv_result){.status = error.status,
                                           .outcome = kind == REPLIKV_GET
                                                          ? REPLIKV_NONE
                                                          : REPLIKV_NOT_APPLIED,
                                           .message = error.text});
}

/* What is there is to be superseded; where nothing is, nothing is deleted. */
static void on_read(void *user, struct replikv_result *result)
{
    struct bench_slot *slot = user;
    bool deletes = slot->operation.kind == BENCH_DELETE;
    if (result->status == REPLIKV_OK ||
        (result->status == REPLIKV_NOT_FOUND && !deletes))
        start_request(slot, deletes ? REPLIKV_DELETE : REPLIKV_PUT,
                      result->context, on_end);
    else
        end_operation(slot, result);
    replikv_result_free(result);
}

static void start_operation(struct bench_slot *slot)
{
    const struct bench_run *run = slot->client->run;
    const struct replikv_bytes none = {NULL, 0};
    switch (slot->operation.kind) {
    case BENCH_GET:
        start_request(slot, REPLIKV_GET, none, on_end);
        return;
    case BENCH_PUT:
    case BENCH_INSERT:
        if (run->loading || run->cli->overwrite)
            start_request(slot, REPLIKV_GET, none, on_read);
        else
            start_request(slot, REPLIKV_PUT, none, on_end);
        return;
    case BENCH_DELETE:
    case BENCH_RMW:
        start_request(slot, REPLIKV_GET, none, on_read);
        return;
    case BENCH_KINDS:
        return;
    }
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
