/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_CHECKS_H
#define REPLIKV_TESTS_SIM_CHECKS_H

#include "history.h"
#include "record_view.h"
#include "verdict.h"

/* The invariants of DESIGN, each in a file of its own. They see what clients
 * see, and the bytes on the disks; they share no code with what they check,
 * and each is itself tested against bad histories (checks_test.c). */

/* --- check_dot_once.c: no dot ever names two values --- */

enum { DOTS_MAX = 8192 };

struct dot_ledger {
    struct {
        struct view_dot dot;
        uint32_t write; /* 0: free */
    } slots[DOTS_MAX];
    size_t count;
};

/* A record was stored somewhere. Also learns under how many dots each write
 * goes, and its stamp. */
void check_dot_once(struct dot_ledger *ledger, struct history *history,
                    const struct record_view *record, struct verdict *verdict);

/* --- check_siblings.c: siblings are only truly concurrent writes --- */

/* Values live side by side, in a reply or in a record. A write that was
 * coordinated twice may be seen beside what superseded it until its copies
 * have met, so those are judged at the end only; and not at all when a disk was
 * lost, because that may have had the only copy under the dot that a client was
 * shown, or when a night fell, in which the request was forgotten: then nobody
 * knows any more that both dots are one write. */
void check_no_false_sibling(const struct history *history,
                            const uint32_t *writes, size_t count, bool at_end,
                            struct verdict *verdict);

/* --- check_outcome.c: what a client was told of its write is true --- */

enum { COPIES_MAX = 32 };

/* A record on a disk, synced: what a crash would leave. */
struct copy {
    uint32_t slot; /* which of the key's primaries it is of, or stands in for */
    const uint8_t *data;
    size_t size;
};

/* "applied" is being said: enough of the slots have it. */
void check_applied(uint32_t write, uint32_t need, const struct copy *copies,
                   size_t count, struct verdict *verdict);
/* The write was seen in a record or a reply. */
void check_observed(struct history *history, uint32_t write,
                    struct verdict *verdict);
/* A client concluded that nothing was attempted. */
void check_not_applied(struct history *history, uint32_t write,
                       struct verdict *verdict);

/* --- check_durable.c: acked-durable, no-resurrection --- */

/* After healing: what every replica together holds of a key. */
void check_acked_durable(const struct history *history, uint32_t key,
                         const uint32_t *live, size_t count,
                         struct verdict *verdict);

/* A record that was written: its values are kept as long as was asked. */
void check_lifetime(const struct history *history,
                    const struct record_view *record, struct verdict *verdict);
/* A node whose wall clock shows that answers a read with the write. */
void check_not_expired(const struct history *history, uint32_t write,
                       int64_t wall_ms, struct verdict *verdict);

/* --- check_forgotten.c: nothing is forgotten that is still needed --- */

/* A replica lets go of what this record knew. copies: all others of the key on
 * any disk, hints too. */
void check_forgotten(uint32_t key, const struct record_view *before,
                     const struct copy *copies, size_t count,
                     struct verdict *verdict);

/* --- check_converged.c: replicas hold equal records --- */

bool copies_are_equal(const struct copy *copies, size_t count);
void check_converged(uint32_t key, const struct copy *copies, size_t count,
                     size_t replicas, struct verdict *verdict);

/* --- check_monotonic.c: quorum reads never go back --- */

enum { FLOOR_DOTS_MAX = 256 };

/* What every later read by quorum must show at least, by contexts. */
struct read_floor {
    struct view_dot dots[FLOOR_DOTS_MAX];
    size_t count;
};

void floor_raise(struct read_floor *floor, const struct record_view *context);
/* Of what replicas have let go since, nothing is asked. */
void floor_forget(struct read_floor *floor, const struct read_floor *forgotten);
/* floor is that of the moment when the read began. */
void check_monotonic_quorum(uint32_t key, const struct read_floor *floor,
                            const struct record_view *context,
                            struct verdict *verdict);
/* seen: what the context that came with the read names. */
void check_session(uint32_t key, const struct read_floor *seen,
                   const struct record_view *context, struct verdict *verdict);

/* --- check_bounded.c: no queue, hint store or buffer outgrows its limit --- */

void check_bounded(const char *who, const char *what, uint64_t has,
                   uint64_t limit, struct verdict *verdict);

/* --- check_false_death.c: who answers is not held for dead for long --- */

/* Eight of the longest probe intervals (plan.c). */
enum { FALSE_DEATH_US_MAX = 2500 * 1000 };

/* For how long who has held whom for dead, and for how long it was in reach,
 * if only by way of a third. */
void check_no_false_death(const char *who, const char *whom,
                          int64_t held_dead_us, int64_t reachable_us,
                          struct verdict *verdict);

/* --- check_clock.c: who can ask others goes by no clock that is wrong --- */

/* What a node goes by, and what it may, by the others' clocks. */
void check_clock(const char *who, int64_t wall_ms, int64_t earliest_ms,
                 int64_t latest_ms, struct verdict *verdict);

/* --- check_placement.c: distinct and balanced --- */

/* owners: partitions * replicas indexes of nodes; zones: of each node; NULL:
 * nodes have left since, and the balance is another. */
void check_placement(const uint32_t *owners, size_t partitions, size_t replicas,
                     const uint32_t *zones, size_t nodes,
                     struct verdict *verdict);
/* What made an epoch is the same for all. */
void check_one_decree(const char *who, uint64_t epoch, bool is_same,
                      struct verdict *verdict);
/* One that has left owns nothing. */
void check_owns_nothing(const uint32_t *owners, size_t count, uint32_t node,
                        struct verdict *verdict);
/* A change moves no more than it must: one owner of a partition at most. */
void check_moved_little(const uint32_t *before, const uint32_t *after,
                        size_t replicas, struct verdict *verdict);

#endif
