/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_SHRINK_H
#define REPLIKV_TESTS_SIM_SHRINK_H

#include <stdbool.h>
#include <stdint.h>

/* Which of a run's faults a failure needs. They are numbered from 1, as they
 * strike. */

enum { SHRINK_FAULTS_MAX = 511 };

struct fault_set {
    uint64_t bits[(SHRINK_FAULTS_MAX + 1) / 64];
};

bool fault_set_has(const struct fault_set *set, uint32_t number);
/* From first to last, both included. */
void fault_set_add(struct fault_set *set, uint32_t first, uint32_t last);

/* Whether the run fails in the same way with these faults alone. */
typedef bool shrink_try(void *context, const struct fault_set *faults);

/* Leave out halves, quarters and so on of needed, in which are the faults 1 to
 * count, as long as it fails; then single ones, until none can be spared (delta
 * debugging: Zeller and Hildebrandt, "Simplifying and isolating
 * failure-inducing input", 2002). */
void shrink(struct fault_set *needed, uint32_t count, shrink_try *still_fails,
            void *context);

#endif
