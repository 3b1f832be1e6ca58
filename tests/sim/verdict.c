/* SPDX-License-Identifier: MIT */
#include "verdict.h"

#include <stdarg.h>
#include <stdio.h>

static void say(struct verdict *verdict, const char *invariant,
                bool is_liveness, const char *format, va_list arguments)
    __attribute__((format(printf, 4, 0)));

static void say(struct verdict *verdict, const char *invariant,
                bool is_liveness, const char *format, va_list arguments)
{
    if (verdict->invariant != NULL)
        return;
    verdict->invariant = invariant;
    verdict->is_liveness = is_liveness;
    vsnprintf(verdict->text, sizeof verdict->text, format, arguments);
}

void verdict_unsafe(struct verdict *verdict, const char *invariant,
                    const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(verdict, invariant, false, format, arguments);
    va_end(arguments);
}

void verdict_stuck(struct verdict *verdict, const char *invariant,
                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(verdict, invariant, true, format, arguments);
    va_end(arguments);
}
