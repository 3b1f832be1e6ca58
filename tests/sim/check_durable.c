/* SPDX-License-Identifier: MIT */
#include "checks.h"

static bool is_expired(const struct history *history, uint32_t write)
{
    return history->writes[write].expires &&
           history->writes[write].expires_max_ms <= history->wall_ms_max;
}

/* Which writes of the key had an effect that lasts: they are live, or a delete
 * that was stored, or expired and were then superseded by whoever was not shown
 * them any more, or were superseded by one that lasts. A put that nobody
 * answered for and that is gone without a trace excuses nothing. A write is
 * superseded only by later numbers, so one pass from the last down is enough.
 */
static void find_lasting(const struct history *history, uint32_t key,
                         const struct write_set *live, bool *lasting)
{
    for (uint32_t w = history->write_count; w > 0; w--) {
        const struct write *write = &history->writes[w];
        lasting[w] = false;
        if (write->key != key || write->fate == FATE_NOT_APPLIED)
            continue;
        lasting[w] = ((write->remove || is_expired(history, w)) &&
                      (write->observed || write->prepared)) ||
                     set_has(live, w);
        for (uint32_t v = w + 1; v <= history->write_count && !lasting[w]; v++)
            lasting[w] = lasting[v] && history->writes[v].key == key &&
                         set_has(&history->writes[v].seen, w);
    }
}

static void check_siblings_bucket(const struct history *history, uint32_t key,
                                  const struct write_set *live,
                                  struct verdict *verdict)
{
    bool lasting[WRITES_MAX];
    find_lasting(history, key, live, lasting);
    for (uint32_t w = 1; w <= history->write_count; w++) {
        const struct write *write = &history->writes[w];
        if (write->key != key || write->fate != FATE_APPLIED)
            continue;
        if (!lasting[w])
            verdict_unsafe(verdict, "acked-durable",
                           "key %u: write %u was acknowledged, and is neither "
                           "there nor superseded",
                           key, w);
        for (uint32_t v = 1; v < w; v++)
            if (set_has(&write->seen, v) && set_has(live, v) &&
                !(history_may_split(history, v) &&
                  history->writes[v].dot_count > 1))
                verdict_unsafe(verdict, "no-resurrection",
                               "key %u: write %u is back, though write %u "
                               "replaced it and was acknowledged",
                               key, v, w);
    }
}

static void check_lww_bucket(const struct history *history, uint32_t key,
                             const uint32_t *live, size_t count,
                             struct verdict *verdict)
{
    if (count > 1)
        verdict_unsafe(verdict, "acked-durable",
                       "key %u: %zu values in a lww bucket", key, count);
    for (uint32_t w = 1; w <= history->write_count; w++) {
        const struct write *write = &history->writes[w];
        if (write->key != key || write->fate != FATE_APPLIED ||
            (write->remove && count == 0))
            continue;
        /* Coordinated again, it may have come back as a later write. */
        if (count == 1 && set_has(&write->seen, live[0]) &&
            history->writes[live[0]].dot_count == 1)
            verdict_unsafe(verdict, "acked-durable",
                           "key %u: write %u was acknowledged, and what it "
                           "replaced is there",
                           key, w);
        /* Nothing live: some delete, of any fate, has a higher stamp, or what
         * has it is expired. */
        bool excused = count == 1 &&
                       history->writes[live[0]].stamp_max >= write->stamp_min;
        for (uint32_t v = 1; v <= history->write_count && count == 0; v++)
            excused |= history->writes[v].key == key &&
                       (history->writes[v].remove || is_expired(history, v)) &&
                       history->writes[v].stamp_max >= write->stamp_min;
        if (!excused)
            verdict_unsafe(verdict, "acked-durable",
                           "key %u: write %u was acknowledged, and what is "
                           "there has a lower stamp",
                           key, w);
    }
}

void check_lifetime(const struct history *history,
                    const struct record_view *record, struct verdict *verdict)
{
    for (size_t i = 0; i < record->value_count; i++) {
        const struct view_value *value = &record->values[i];
        if (value->tombstone || value->write > history->write_count)
            continue;
        const struct write *write = &history->writes[value->write];
        /* The clock that was wrong may have been asked later. */
        bool may = write->expires
                       ? value->expires_ms >= write->expires_min_ms ||
                             history->clock_was_wrong
                       : value->expires_ms == 0;
        if (!may)
            verdict_unsafe(verdict, "acked-durable",
                           "write %u expires at %lld, which is too early",
                           value->write, (long long)value->expires_ms);
    }
}

void check_not_expired(const struct history *history, uint32_t write,
                       int64_t wall_ms, struct verdict *verdict)
{
    if (write == 0 || write > history->write_count)
        return;
    int64_t expires_ms = history->writes[write].expires_max_ms;
    if (history->writes[write].expires && expires_ms <= wall_ms)
        verdict_unsafe(verdict, "no-resurrection",
                       "write %u is shown %lld ms after it expired", write,
                       (long long)(wall_ms - expires_ms));
}

void check_acked_durable(const struct history *history, uint32_t key,
                         const uint32_t *live, size_t count,
                         struct verdict *verdict)
{
    struct write_set set = {{0}};
    if (history->key_is_lww[key]) {
        check_lww_bucket(history, key, live, count, verdict);
        return;
    }
    for (size_t i = 0; i < count; i++)
        set_add(&set, live[i]);
    check_siblings_bucket(history, key, &set, verdict);
}
