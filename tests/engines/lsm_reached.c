/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_reached.h"

#include <inttypes.h>
#include <stdio.h>

struct reached reached;

/* A checkpoint is opened beside its store, and each has threads. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t removals_of(struct table *const *tables, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += tables[i]->facts.removals;
    return sum;
}

/* All that changes the tree's tables calls this. */
enum status __wrap_lsm_install(struct lsm *lsm, const struct version_edit *edit,
                               size_t flushed);
enum status __real_lsm_install(struct lsm *lsm, const struct version_edit *edit,
                               size_t flushed);
enum status __wrap_lsm_install(struct lsm *lsm, const struct version_edit *edit,
                               size_t flushed)
{
    uint64_t before = removals_of(edit->removed, edit->removed_count);
    uint64_t after = removals_of(edit->added, edit->added_count);
    bool merged = edit->removed_count > 0 && edit->added_count > 0;
    pthread_mutex_lock(&mutex);
    reached.flushes += flushed > 0;
    reached.recovered +=
        edit->removed_count == 0 && flushed == 0 && edit->added_count > 0;
    reached.moves += edit->moved;
    reached.covered += edit->removed_count > 0 && edit->added_count == 0;
    reached.merges += merged && !edit->moved && edit->removed_count > 1;
    reached.rewritten += merged && !edit->moved && edit->removed_count == 1;
    if (before > after && merged)
        reached.removals += before - after;
    pthread_mutex_unlock(&mutex);
    return __real_lsm_install(lsm, edit, flushed);
}

void reached_levels(struct engine *engine)
{
    struct lsm *lsm = lsm_of(engine);
    unsigned levels = 0;
    pthread_mutex_lock(&lsm->mutex);
    for (unsigned i = 0; i < LEVELS; i++)
        levels += lsm->view->version->levels[i].count > 0;
    pthread_mutex_unlock(&lsm->mutex);
    if (levels > reached.levels)
        reached.levels = levels;
}

void reached_print(void)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"batches", reached.batches},
        {"of operations", reached.operations},
        {"synced", reached.syncs},
        {"range deletes", reached.drops},
        {"gets", reached.gets},
        {"walks", reached.walks},
        {"iterators held", reached.held},
        {"flushes", reached.flushes},
        {"opens that made tables", reached.recovered},
        {"merges", reached.merges},
        {"moves", reached.moves},
        {"removals left out", reached.removals},
        {"removals of whole tables", reached.covered},
        {"tables written anew", reached.rewritten},
        {"logs used again", reached.recycled},
        {"levels", reached.levels},
        {"freezes", reached.freezes},
        {"settles", reached.settles},
        {"reopens", reached.reopens},
        {"checkpoints", reached.checkpoints},
        {"crashes", reached.crashes},
        {"within a call", reached.inside},
        {"within an open after another", reached.nested},
        {"losing a batch", reached.lost},
        {"leaving one not synced", reached.left},
        {"doing both", reached.between},
        {"whole checks", reached.checks},
    };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        printf("%" PRIu64 " %s%s", counts[i].count, counts[i].name,
               i + 1 < sizeof counts / sizeof *counts ? ", " : "\n");
}
