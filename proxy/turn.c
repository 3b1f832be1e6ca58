/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "proto/clock.h"
#include "proxy/log.h"
#include "proxy/server_internal.h"

/* Effects are carried out once they take this much, so that many steps in a
 * row need no more memory than one. */
enum { SETTLE_BYTES = 1 << 20 };
/* Of the buffer of a read, for the next one: any usual record. */
enum { VALUE_BYTES_KEPT = 64 << 10 };

static struct turn *turn_new(void)
{
    struct turn *turn = calloc(1, sizeof *turn);
    if (turn != NULL)
        arena_init(&turn->messages, 0);
    return turn;
}

struct turn *turn_take(struct server *server)
{
    pthread_mutex_lock(&server->turns_lock);
    struct turn *turn = server->turns;
    if (turn != NULL)
        server->turns = turn->next;
    pthread_mutex_unlock(&server->turns_lock);
    return turn == NULL ? turn_new() : turn;
}

void turn_lock(struct server *server, struct turn *turn)
{
    pthread_mutex_lock(&server->lock);
    turn->now_us = clock_now_us();
    turn->now_ms = turn->now_us / 1000;
    turn->wall_ms = clock_ms(CLOCK_REALTIME);
    server->now_ms = turn->now_ms;
    turn->steps = 0;
}

struct turn *turn_begin(struct server *server)
{
    struct turn *turn = turn_take(server);
    if (turn != NULL)
        turn_lock(server, turn);
    return turn;
}

static void turn_free(struct turn *turn)
{
    for (size_t i = 0; i < turn->read_capacity; i++) {
        buffer_fini(&turn->reads[i]->value);
        buffer_fini(&turn->reads[i]->data);
        free(turn->reads[i]);
    }
    free(turn->reads);
    free(turn->dirty);
    arena_fini(&turn->messages);
    free(turn);
}

void turns_free(struct server *server)
{
    while (server->turns != NULL) {
        struct turn *turn = server->turns;
        server->turns = turn->next;
        turn_free(turn);
    }
}

size_t turn_frames(const struct frame *frames, size_t count)
{
    size_t some = 0, bytes = 0;
    while (some < count && some < FRAMES_A_TURN &&
           (some == 0 || bytes < FRAME_BYTES_A_TURN))
        bytes += frames[some++].payload.size;
    return some;
}

void turn_unpack(struct turn *turn, const struct frame *frames, size_t count,
                 const Rkv__Envelope **messages, struct error *errors)
{
    turn->messages.budget = 0;
    for (size_t i = 0; i < count; i++)
        turn->messages.budget += envelope_budget(frames[i].payload.size);
    for (size_t i = 0; i < count; i++)
        messages[i] =
            envelope_unpack(frames[i].payload, &turn->messages, &errors[i]);
}

void turn_flush(struct turn *turn, struct connection *connection)
{
    for (size_t i = 0; i < turn->dirty_count; i++)
        if (turn->dirty[i] == connection)
            return;
    if (turn->dirty_count == turn->dirty_capacity) {
        size_t capacity = turn->dirty_capacity * 2 + 8;
        void *grown = realloc(turn->dirty, capacity * sizeof *turn->dirty);
        if (grown == NULL) {
            connection_flush(connection);
            return;
        }
        turn->dirty = grown;
        turn->dirty_capacity = capacity;
    }
    turn->dirty[turn->dirty_count++] = connection_retain(connection);
}

void server_no_reply(struct server *server, uint64_t request,
                     struct node_id from)
{
    if (server->late_count == server->late_capacity) {
        size_t capacity = server->late_capacity * 2 + 16;
        void *grown = realloc(server->late, capacity * sizeof *server->late);
        if (grown == NULL)
            return; /* its deadline will tell the node */
        server->late = grown;
        server->late_capacity = capacity;
    }
    server->late[server->late_count++] =
        (struct late){.request = request, .from = from};
}

/* --- carrying out --- */

/* A place for one more read, or NULL. */
static struct turn_read *read_take(struct turn *turn)
{
    if (turn->read_count < turn->read_capacity)
        return turn->reads[turn->read_count++];
    void *grown =
        realloc(turn->reads, (turn->read_capacity + 1) * sizeof *turn->reads);
    if (grown == NULL)
        return NULL;
    turn->reads = grown;
    turn->reads[turn->read_capacity] = calloc(1, sizeof(struct turn_read));
    if (turn->reads[turn->read_capacity] == NULL)
        return NULL;
    turn->read_capacity++;
    return turn->reads[turn->read_count++];
}

/* The operation borrows from effects that are reset before it runs. */
static void add_read(struct turn *turn, const struct storage_op *op)
{
    struct turn_read *read = read_take(turn);
    if (read == NULL)
        return; /* its deadline will tell the node */
    buffer_clear(&read->data);
    if (buffer_append(&read->data, op->data) != STATUS_OK) {
        turn->read_count--;
        return; /* likewise */
    }
    read->op = *op;
    read->op.data = buffer_bytes(&read->data);
    if (op->key.key.size > 0)
        memcpy(read->key, op->key.key.data, op->key.key.size);
    if (op->after.size > 0)
        memcpy(read->after, op->after.data, op->after.size);
    read->op.key.key.data = read->key;
    read->op.after.data = read->after;
}

static void carry_out_storage(struct server *server, struct turn *turn)
{
    struct effects *effects = &server->effects;
    if (effects->renew_incarnation)
        storage_renew(server->storage);
    for (size_t i = 0; i < effects->storage_count; i++) {
        const struct storage_op *op = &effects->storage[i];
        if (op->kind == STORAGE_READ || op->kind == STORAGE_SCAN) {
            add_read(turn, op);
        } else {
            storage_submit(server->storage, op);
            turn->has_writes = true;
        }
    }
}

static void carry_out(struct server *server, struct turn *turn)
{
    struct effects *effects = &server->effects;
    for (size_t i = 0; i < effects->out.count; i++) {
        const struct message_out *message = &effects->out.messages[i];
        if (message->kind == MESSAGE_REQUEST)
            links_send(server, turn, message);
        else
            sessions_reply(server, turn, message->token, message->envelope);
    }
    links_forget(&server->links);
    carry_out_storage(server, turn);
    if (effects->log != NULL)
        log_line("%s", effects->log);
    if (effects->halt != NULL && !server->is_halted) {
        snprintf(server->halted, sizeof server->halted, "%s", effects->halt);
        __atomic_store_n(&server->is_halted, true, __ATOMIC_RELEASE);
    }
    effects_reset(effects);
}

bool turn_step(struct server *server, struct turn *turn, struct event *event)
{
    event->now_us = turn->now_us;
    event->wall_ms = turn->wall_ms;
    turn->steps++;
    struct effects *effects = &server->effects;
    recorder_begin(&server->recorder, event, effects);
    node_step(server->node, event, effects);
    recorder_end(&server->recorder, effects);
    bool hangs_up = effects->hang_up;
    effects->hang_up = false; /* it is of this event only */
    if (effects->arena.used > SETTLE_BYTES || effects->log != NULL ||
        effects->halt != NULL)
        carry_out(server, turn);
    return hangs_up;
}

/* What could not be sent is told, and what the node does about that may not
 * be sent either: it ends, because every machine asks a node once. */
void turn_settle(struct server *server, struct turn *turn)
{
    carry_out(server, turn);
    while (server->late_count > 0) {
        struct late late = server->late[--server->late_count];
        struct event event = {
            .kind = EVENT_NO_REPLY, .request = late.request, .from = late.from};
        turn_step(server, turn, &event);
        carry_out(server, turn);
    }
}

/* What this turn still has to read or write, and may wait for. */
static bool waits_for_disk(const struct server *server, const struct turn *turn)
{
    return (turn->has_writes || turn->read_count > 0) &&
           storage_blocks(server->storage);
}

static void flush(struct server *server, struct turn *turn)
{
    bool now = waits_for_disk(server, turn);
    for (size_t i = 0; i < turn->dirty_count; i++) {
        if (now)
            connection_flush(turn->dirty[i]);
        else
            connection_flush_soon(turn->dirty[i]);
        connection_release(turn->dirty[i]);
    }
    turn->dirty_count = 0;
}

/* What a large one left is not kept for the next turn. */
static void trim(struct buffer *buffer)
{
    if (buffer->capacity > VALUE_BYTES_KEPT)
        buffer_fini(buffer);
}

/* Those that were run here come first; the others belong to readers now. */
static void run_reads(struct server *server, struct turn *turn)
{
    size_t here = 0;
    for (size_t i = 0; i < turn->read_count; i++) {
        struct turn_read *read = turn->reads[i];
        if (!storage_read(server->storage, &read->op, &read->value,
                          &read->result)) {
            trim(&read->data); /* copied */
            continue;
        }
        turn->reads[i] = turn->reads[here];
        turn->reads[here++] = read;
    }
    turn->read_count = here;
}

/* A step may ask for more reads: they come behind the first `ran`, whose
 * results are borrowed until all is carried out. */
static void step_reads(struct server *server, struct turn *turn)
{
    size_t ran = turn->read_count;
    for (size_t i = 0; i < ran; i++) {
        struct event event = {.kind = EVENT_STORED,
                              .storage = &turn->reads[i]->result};
        turn_step(server, turn, &event);
    }
    turn_settle(server, turn);
    for (size_t i = 0; i < ran; i++)
        trim(&turn->reads[i]->value);
    for (size_t i = ran; i < turn->read_count; i++) {
        struct turn_read *read = turn->reads[i];
        turn->reads[i] = turn->reads[i - ran];
        turn->reads[i - ran] = read;
    }
    turn->read_count -= ran;
}

static void run_out(struct server *server, struct turn *turn)
{
    turn_settle(server, turn);
    for (;;) {
        pthread_mutex_unlock(&server->lock);
        flush(server, turn);
        if (waits_for_disk(server, turn))
            loop_flush_due();
        if (turn->has_writes)
            storage_run(server->storage);
        turn->has_writes = false;
        if (turn->read_count == 0)
            break;
        run_reads(server, turn);
        turn_lock(server, turn);
        step_reads(server, turn);
    }
}

void turn_pause(struct server *server, struct turn *turn)
{
    run_out(server, turn);
    turn_lock(server, turn);
}

void turn_end(struct server *server, struct turn *turn)
{
    run_out(server, turn);
    arena_reset(&turn->messages);
    pthread_mutex_lock(&server->turns_lock);
    turn->next = server->turns;
    server->turns = turn;
    pthread_mutex_unlock(&server->turns_lock);
}

/* --- what the storage says --- */

static void storage_done(void *user, const struct storage_done *done,
                         size_t count)
{
    struct server *server = user;
    struct turn *turn = turn_begin(server);
    if (turn == NULL) {
        __atomic_store_n(&server->has_lost_results, true, __ATOMIC_RELEASE);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct event event = {.kind = done[i].kind, .storage = &done[i].result};
        turn_step(server, turn, &event);
    }
    turn_end(server, turn);
}

static void storage_reopened(void *user)
{
    struct server *server = user;
    struct turn *turn = turn_begin(server);
    struct event event = {.kind = EVENT_REOPENED};
    if (turn == NULL) {
        __atomic_store_n(&server->has_lost_results, true, __ATOMIC_RELEASE);
        return;
    }
    turn_step(server, turn, &event);
    turn_end(server, turn);
}

static void storage_log(void *user, const char *line)
{
    (void)user;
    log_line("%s", line);
}

const struct storage_handlers server_storage_handlers = {
    .done = storage_done,
    .reopened = storage_reopened,
    .log = storage_log,
};
