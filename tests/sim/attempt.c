/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "sim.h"

/* What a client sent and what comes back of it, one sending at a time. */

static void attempt_free(struct attempt *attempt)
{
    attempt->used = false;
    attempt->generation++;
    buffer_clear(&attempt->request);
    buffer_clear(&attempt->reply);
}

void attempt_send(struct sim *sim, struct client *client)
{
    size_t at = 0;
    while (at < ATTEMPTS_MAX && sim->attempts[at].used)
        at++;
    ASSERT(at < ATTEMPTS_MAX);
    struct attempt *attempt = &sim->attempts[at];
    attempt->used = true;
    attempt->is_delivered = false;
    attempt->client = client->index;
    attempt->operation = client->operation;
    attempt->task = client->task;
    attempt->write = client->write;
    attempt->need = client->need;
    attempt->host =
        (uint32_t)random_below(&sim->client_random, sim->plan.hosts);
    enum status status =
        buffer_append(&attempt->request, buffer_bytes(&client->request));
    ASSERT(status == STATUS_OK);
    client->attempts++;
    int64_t delay_us = random_range(&sim->client_random, 50, 1500);
    /* Some are late enough to arrive behind their own retry. */
    if (sim->stage == SIM_FAULTS && random_chance(&sim->client_random, 30))
        delay_us = random_range(&sim->client_random, 0, 800000);
    sim_in(sim, delay_us, MOMENT_REQUEST, (uint32_t)at, attempt->generation, 0);
    client_wake_in(sim, client,
                   random_range(&sim->client_random, sim->plan.patience_us / 4,
                                sim->plan.patience_us * 2));
}

void attempt_return(struct sim *sim, struct attempt *attempt)
{
    struct client *client = &sim->clients[attempt->client];
    if (attempt->operation == client->operation && client->task != TASK_NONE) {
        const Rkv__Envelope *envelope = NULL;
        arena_reset(&sim->arena);
        if (attempt->reply.size > 0) {
            envelope = envelope_unpack(buffer_bytes(&attempt->reply),
                                       &sim->arena, NULL);
            ASSERT(envelope != NULL);
            trace_mix_bytes(&sim->trace, attempt->reply.data,
                            attempt->reply.size);
        }
        client_hear(sim, client, attempt->is_delivered, envelope);
    }
    attempt_free(attempt);
}

static void return_in(struct sim *sim, struct attempt *attempt, int64_t in_us)
{
    sim_in(sim, in_us, MOMENT_REPLY, (uint32_t)(attempt - sim->attempts),
           attempt->generation, 0);
}

void attempt_arrive(struct sim *sim, struct attempt *attempt)
{
    struct host *host = &sim->hosts[attempt->host];
    if (host->node == NULL) {
        attempt_return(sim, attempt);
        return;
    }
    attempt->is_delivered = true;
    arena_reset(&sim->arena);
    struct event event = {
        .kind = EVENT_CLIENT_REQUEST,
        .message =
            envelope_unpack(buffer_bytes(&attempt->request), &sim->arena, NULL),
    };
    ASSERT(event.message != NULL);
    event.token =
        host_expect(sim, host,
                    (struct asked){.asker = ASKER_ATTEMPT,
                                   .a = (uint32_t)(attempt - sim->attempts),
                                   .b = attempt->generation,
                                   .c = attempt->task});
    host_step(sim, host, &event);
}

static void observe_read(struct sim *sim, const struct attempt *attempt,
                         const Rkv__ReadReply *reply)
{
    uint32_t writes[VIEW_VALUES_MAX];
    size_t count = observe_values(sim, reply, writes);
    int64_t wall_ms = host_wall_ms(sim, &sim->hosts[attempt->host]);
    /* It may go by the others'. */
    if (attempt->host == sim->plan.wild) {
        int64_t right_ms = host_right_walls(sim).earliest_ms;
        wall_ms = wall_ms < right_ms ? wall_ms : right_ms;
    }
    for (size_t i = 0; i < count; i++)
        check_not_expired(&sim->history, writes[i], wall_ms, &sim->verdict);
}

static void observe_answer(struct sim *sim, const struct attempt *attempt,
                           const Rkv__Envelope *envelope)
{
    if (envelope->body_case == RKV__ENVELOPE__BODY_READ_REPLY)
        observe_read(sim, attempt, envelope->read_reply);
    if (attempt->task != TASK_WRITE ||
        envelope->body_case != RKV__ENVELOPE__BODY_WRITE_REPLY)
        return;
    const Rkv__Result *result = envelope->write_reply->result;
    if (result->outcome != RKV__OUTCOME__APPLIED)
        return;
    /* It is true whether its client still waits or not. */
    struct write *write = &sim->history.writes[attempt->write];
    if (write->fate == FATE_OPEN)
        write->fate = FATE_APPLIED;
    observe_applied(sim, attempt->write, attempt->need);
    client_check_counts(sim, attempt->need, result);
}

void attempt_answer(struct sim *sim, uint32_t index, uint32_t generation,
                    const Rkv__Envelope *envelope)
{
    struct attempt *attempt = &sim->attempts[index];
    if (!attempt->used || attempt->generation != generation)
        return;
    observe_answer(sim, attempt, envelope);
    enum status status = envelope_pack(envelope, &attempt->reply);
    ASSERT(status == STATUS_OK);
    return_in(sim, attempt, random_range(&sim->client_random, 50, 1500));
}

void attempts_night(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->plan.clients; i++)
        sim->clients[i].attempts_max = sim->clients[i].attempts;
    for (size_t i = 0; i < ATTEMPTS_MAX; i++)
        if (sim->attempts[i].used)
            attempt_free(&sim->attempts[i]);
}

void attempts_host_gone(struct sim *sim, uint32_t host)
{
    for (size_t i = 0; i < ATTEMPTS_MAX; i++) {
        struct attempt *attempt = &sim->attempts[i];
        if (attempt->used && attempt->is_delivered && attempt->host == host &&
            attempt->reply.size == 0)
            return_in(sim, attempt, 1000);
    }
}
