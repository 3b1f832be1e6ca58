/* SPDX-License-Identifier: MIT */
#include "proto/assert.h"
#include "proxy/core/event.h"

void effects_init(struct effects *effects, size_t budget_bytes)
{
    *effects = (struct effects){0};
    arena_init(&effects->arena, budget_bytes);
    outbox_init(&effects->out, &effects->arena);
}

void effects_fini(struct effects *effects)
{
    arena_fini(&effects->arena);
    *effects = (struct effects){0};
}

void effects_reset(struct effects *effects)
{
    arena_reset(&effects->arena);
    outbox_init(&effects->out, &effects->arena);
    effects->storage = NULL;
    effects->storage_count = effects->storage_capacity = 0;
    effects->renew_incarnation = effects->hang_up = false;
    effects->halt = effects->log = NULL;
}

bool effects_storage(struct effects *effects, const struct storage_op *op)
{
    if (effects->storage_count == effects->storage_capacity) {
        size_t capacity =
            effects->storage_capacity == 0 ? 8 : effects->storage_capacity * 2;
        struct storage_op *grown =
            arena_alloc(&effects->arena, capacity * sizeof *grown);
        if (grown == NULL)
            return false;
        if (effects->storage_count > 0)
            memcpy(grown, effects->storage,
                   effects->storage_count * sizeof *grown);
        effects->storage = grown;
        effects->storage_capacity = capacity;
    }
    effects->storage[effects->storage_count++] = *op;
    return true;
}

/* As good as it has to be against an accident. */
static uint64_t mix(uint64_t sum, uint64_t number)
{
    sum = (sum ^ number) * UINT64_C(0x9e3779b97f4a7c15);
    return sum ^ sum >> 29;
}

static uint64_t mix_message(uint64_t sum, const struct message_out *message)
{
    uint64_t to;
    memcpy(&to, message->to.bytes, sizeof to);
    return mix(sum, (to ^ message->request ^ message->token.value) +
                        ((uint64_t)message->envelope->body_case << 40 |
                         (uint64_t)message->lane << 34 |
                         (uint64_t)message->kind << 32));
}

static uint64_t mix_operation(uint64_t sum, const struct storage_op *op)
{
    return mix(sum, (op->token ^ op->reply_token) +
                        ((uint64_t)op->data.size << 24 |
                         (uint64_t)op->key.partition.value << 8 |
                         (uint64_t)op->kind));
}

static uint16_t at_most_16_bits(size_t count)
{
    return count < UINT16_MAX ? (uint16_t)count : UINT16_MAX;
}

struct step_outcome effects_outcome(const struct effects *effects,
                                    size_t messages, size_t operations)
{
    /* Not renew_incarnation, which an earlier step may have set. */
    uint64_t sum =
        mix(0, (effects->hang_up ? 1 : 0) | (effects->halt != NULL ? 2 : 0) |
                   (effects->log != NULL ? 4 : 0));
    for (size_t i = messages; i < effects->out.count; i++)
        sum = mix_message(sum, &effects->out.messages[i]);
    for (size_t i = operations; i < effects->storage_count; i++)
        sum = mix_operation(sum, &effects->storage[i]);
    return (struct step_outcome){
        .messages = at_most_16_bits(effects->out.count - messages),
        .operations = at_most_16_bits(effects->storage_count - operations),
        .sum = (uint32_t)(sum >> 32),
    };
}

bool effects_meta(struct effects *effects, const char *name, uint64_t token,
                  struct bytes value)
{
    void *copy = arena_copy(&effects->arena, value.data, value.size);
    struct storage_op op = {
        .kind = STORAGE_SET,
        .token = token,
        .key = {.table = TABLE_META, .key = bytes_of_string(name)},
        .data = bytes_of(copy, value.size),
    };
    return copy != NULL && effects_storage(effects, &op);
}
