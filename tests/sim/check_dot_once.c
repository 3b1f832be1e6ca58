/* SPDX-License-Identifier: MIT */
#include "checks.h"

static bool is_equal(const struct view_dot *a, const struct view_dot *b)
{
    return a->incarnation == b->incarnation && a->epoch == b->epoch &&
           a->counter == b->counter;
}

/* The write that the dot names, after naming it if it is new. */
static uint32_t name(struct dot_ledger *ledger, struct history *history,
                     const struct view_dot *dot, uint32_t write)
{
    uint64_t hash = (dot->incarnation ^ dot->epoch) * 31 + dot->counter * 7;
    for (size_t i = 0; i < DOTS_MAX; i++) {
        size_t at = (hash + i) % DOTS_MAX;
        if (ledger->slots[at].write == 0) {
            if (ledger->count + 1 == DOTS_MAX)
                return write; /* full: it checks no new ones */
            ledger->count++;
            ledger->slots[at].dot = *dot;
            ledger->slots[at].write = write;
            if (write < WRITES_MAX)
                history->writes[write].dot_count++;
            return write;
        }
        if (is_equal(&ledger->slots[at].dot, dot))
            return ledger->slots[at].write;
    }
    return write;
}

static void judge(struct dot_ledger *ledger, struct history *history,
                  const struct view_dot *dot, uint32_t write,
                  struct verdict *verdict)
{
    uint32_t named = name(ledger, history, dot, write);
    if (named != write)
        verdict_unsafe(verdict, "dot-once",
                       "dot (%016llx, %u, %llu) names write %u and write %u",
                       (unsigned long long)dot->incarnation, dot->epoch,
                       (unsigned long long)dot->counter, named, write);
}

void check_dot_once(struct dot_ledger *ledger, struct history *history,
                    const struct record_view *record, struct verdict *verdict)
{
    for (size_t i = 0; i < record->value_count; i++) {
        const struct view_value *value = &record->values[i];
        for (size_t k = 0; k < value->dot_count; k++)
            judge(ledger, history, &value->dots[k], value->write, verdict);
        if (value->write >= WRITES_MAX)
            continue;
        struct write *write = &history->writes[value->write];
        if (write->stamp_max == 0 || value->stamp < write->stamp_min)
            write->stamp_min = value->stamp;
        if (value->stamp > write->stamp_max)
            write->stamp_max = value->stamp;
        if (value->expires_ms > write->expires_max_ms)
            write->expires_max_ms = value->expires_ms;
    }
    for (size_t i = 0; i < record->superseded_count; i++)
        judge(ledger, history, &record->superseded[i].dot,
              record->superseded[i].write, verdict);
}
