/* SPDX-License-Identifier: MIT */
#include "checks.h"

static bool is_superseded(const struct history *history, uint32_t old,
                          uint32_t young, bool at_end)
{
    const struct write *write = &history->writes[young];
    return set_has(&write->seen, old) &&
           ((at_end && !history_may_split(history, old)) ||
            history->writes[old].dot_count <= 1);
}

void check_no_false_sibling(const struct history *history,
                            const uint32_t *writes, size_t count, bool at_end,
                            struct verdict *verdict)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < count; k++) {
            if (i != k && writes[i] == writes[k])
                verdict_unsafe(verdict, "no-false-sibling",
                               "write %u is there twice", writes[i]);
            else if (i != k &&
                     is_superseded(history, writes[i], writes[k], at_end))
                verdict_unsafe(verdict, "no-false-sibling",
                               "write %u is a sibling of write %u, whose "
                               "client had seen it",
                               writes[i], writes[k]);
        }
}
