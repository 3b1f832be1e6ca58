/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_VERDICT_H
#define REPLIKV_TESTS_SIM_VERDICT_H

#include <stdbool.h>

/* The first invariant that was found broken. */
struct verdict {
    const char *invariant; /* its name in DESIGN, static; NULL: none so far */
    bool is_liveness;      /* nothing bad happened, but nothing good either */
    char text[512];
};

void verdict_unsafe(struct verdict *verdict, const char *invariant,
                    const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void verdict_stuck(struct verdict *verdict, const char *invariant,
                   const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
