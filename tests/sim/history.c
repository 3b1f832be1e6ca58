/* SPDX-License-Identifier: MIT */
#include "history.h"

uint32_t history_write(struct history *history, uint32_t key, bool remove,
                       const struct write_set *seen, int64_t now_us)
{
    if (history->write_count + 1 >= WRITES_MAX ||
        history->writes_of_key[key] >= WRITES_PER_KEY_MAX)
        return 0;
    uint32_t number = ++history->write_count;
    if (history->writes_of_key[key]++ == 0)
        history->key_began_us[key] = now_us;
    history->writes[number] = (struct write){
        .key = key,
        .remove = remove,
        .seen = *seen,
        .fate = FATE_OPEN,
        .issued_us = now_us,
    };
    return number;
}

void history_seen(const struct history *history, const uint32_t *writes,
                  size_t count, struct write_set *seen)
{
    *seen = (struct write_set){{0}};
    for (size_t i = 0; i < count; i++) {
        set_add(seen, writes[i]);
        set_join(seen, &history->writes[writes[i]].seen);
    }
}
