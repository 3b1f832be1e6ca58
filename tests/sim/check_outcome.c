/* SPDX-License-Identifier: MIT */
#include "checks.h"

void check_applied(uint32_t write, uint32_t need, const struct copy *copies,
                   size_t count, struct verdict *verdict)
{
    static struct record_view view; /* large; one thread */
    bool held[COPIES_MAX] = {false};
    uint32_t slots = 0;
    for (size_t i = 0; i < count; i++) {
        if (copies[i].slot >= COPIES_MAX || held[copies[i].slot] ||
            !record_view_read(&view, copies[i].data, copies[i].size) ||
            !view_knows(&view, write))
            continue;
        held[copies[i].slot] = true;
        slots++;
    }
    if (slots < need)
        verdict_unsafe(verdict, "outcome-true",
                       "write %u was said to be applied on %u, and %u have it "
                       "on disk",
                       write, need, slots);
}

void check_observed(struct history *history, uint32_t write,
                    struct verdict *verdict)
{
    if (write == 0 || write > history->write_count) {
        verdict_unsafe(verdict, "outcome-true", "write %u was never made",
                       write);
        return;
    }
    history->writes[write].observed = true;
    if (history->writes[write].fate == FATE_NOT_APPLIED)
        verdict_unsafe(verdict, "outcome-true",
                       "write %u was said not to be applied, and is seen",
                       write);
}

void check_not_applied(struct history *history, uint32_t write,
                       struct verdict *verdict)
{
    history->writes[write].fate = FATE_NOT_APPLIED;
    if (history->writes[write].observed)
        verdict_unsafe(verdict, "outcome-true",
                       "write %u was seen, and is said not to be applied",
                       write);
}
