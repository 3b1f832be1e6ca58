/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engines/lsm/compaction.h"

static uint64_t level_target(unsigned level, uint64_t level1_bytes)
{
    uint64_t target = level1_bytes;
    for (unsigned i = 1; i < level; i++)
        target *= COMPACTION_LEVEL_FACTOR;
    return target;
}

static bool is_damaged(const struct table *table)
{
    return atomic_load_explicit(&table->damaged, memory_order_relaxed);
}

bool compaction_any_damaged(struct table *const *tables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_damaged(tables[i]))
            return true;
    }
    return false;
}

static size_t level0_due(const struct version *version, bool quiet)
{
    if (!quiet)
        return COMPACTION_LEVEL0_TABLES;
    return version->levels[0].bytes * COMPACTION_LEVEL0_SMALL <
                   version->levels[1].bytes
               ? COMPACTION_LEVEL0_TABLES_SMALL
               : COMPACTION_LEVEL0_TABLES_QUIET;
}

static double level_score(const struct version *version, unsigned level,
                          uint64_t level1_bytes, bool quiet)
{
    const struct level *of = &version->levels[level];
    if (level == 0)
        return (double)of->count / (double)level0_due(version, quiet);
    return (double)of->bytes / (double)level_target(level, level1_bytes);
}

/* The inputs: a run of tables of a level, and if they go down, what they
 * overlap in the next. NOT_FOUND if one of the latter is damaged. */
static enum status take(const struct version *version, unsigned level,
                        unsigned output_level, struct table *const *upper,
                        size_t count, struct compaction *compaction)
{
    const struct level *below = &version->levels[output_level];
    struct bytes smallest = upper[0]->smallest, largest = upper[0]->largest;
    size_t first = 0, overlapping = 0;
    for (size_t i = 1; i < count; i++) {
        if (bytes_compare(upper[i]->smallest, smallest) < 0)
            smallest = upper[i]->smallest;
        if (bytes_compare(upper[i]->largest, largest) > 0)
            largest = upper[i]->largest;
    }
    if (output_level > level)
        version_overlap(below, smallest, largest, &first, &overlapping);
    if (compaction_any_damaged(below->tables + first, overlapping))
        return STATUS_NOT_FOUND;
    struct table **inputs = calloc(count + overlapping, sizeof *inputs);
    if (inputs == NULL)
        return STATUS_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        inputs[i] = upper[i];
    for (size_t i = 0; i < overlapping; i++)
        inputs[count + i] = below->tables[first + i];
    *compaction = (struct compaction){
        .level = level,
        .output_level = output_level,
        .inputs = inputs,
        .upper_count = count,
        .lower_count = overlapping,
    };
    return STATUS_OK;
}

/* Tables of level 0 that follow each other without overlapping, as when keys
 * are written in order, need no merge. */
static bool are_disjoint(const struct table *const *tables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (size_t j = i + 1; j < count; j++) {
            if (bytes_compare(tables[i]->smallest, tables[j]->largest) <= 0 &&
                bytes_compare(tables[j]->smallest, tables[i]->largest) <= 0)
                return false;
        }
    }
    return true;
}

static int compare_tables(const void *a, const void *b)
{
    const struct table *const *x = a, *const *y = b;
    return bytes_compare((*x)->smallest, (*y)->smallest);
}

static enum status pick_level0(const struct version *version,
                               struct compaction *compaction)
{
    const struct level *level = &version->levels[0];
    enum status status =
        compaction_any_damaged(level->tables, level->count)
            ? STATUS_NOT_FOUND
            : take(version, 0, 1, level->tables, level->count, compaction);
    if (status != STATUS_OK)
        return status;
    size_t count = compaction->upper_count;
    compaction->move =
        compaction->lower_count == 0 &&
        are_disjoint((const struct table *const *)compaction->inputs, count);
    if (compaction->move)
        qsort(compaction->inputs, count, sizeof *compaction->inputs,
              compare_tables);
    return STATUS_OK;
}

bool compaction_held_up(const struct version *version)
{
    const struct level *levels = version->levels;
    return compaction_any_damaged(levels[0].tables, levels[0].count) ||
           compaction_any_damaged(levels[1].tables, levels[1].count);
}

/* Level 0 cannot go down: merge the newest tables up to the first that is
 * damaged, or larger than all of them, having been merged before. */
static enum status pick_within_level0(const struct version *version,
                                      struct compaction *compaction)
{
    const struct level *level = &version->levels[0];
    uint64_t bytes = 0;
    size_t count = 0;
    for (; count < level->count; count++) {
        const struct table *table = level->tables[count];
        if (is_damaged(table) || (count > 0 && table->facts.bytes > bytes))
            break;
        bytes += table->facts.bytes;
    }
    if (count < COMPACTION_LEVEL0_TABLES)
        return STATUS_NOT_FOUND;
    return take(version, 0, 0, level->tables, count, compaction);
}

/* The bytes of the next level that a table overlaps; UINT64_MAX if it cannot
 * be taken. */
static uint64_t overlap_bytes(const struct version *version, unsigned level,
                              const struct table *table)
{
    const struct level *below = &version->levels[level + 1];
    size_t first, count;
    uint64_t bytes = 0;
    version_overlap(below, table->smallest, table->largest, &first, &count);
    if (is_damaged(table) ||
        compaction_any_damaged(below->tables + first, count))
        return UINT64_MAX;
    for (size_t i = 0; i < count; i++)
        bytes += below->tables[first + i]->facts.bytes;
    return bytes;
}

static enum status pick_from(const struct version *version, unsigned level,
                             struct compaction *compaction)
{
    const struct level *of = &version->levels[level];
    struct table *best = NULL;
    double least = 0;
    for (size_t i = 0; i < of->count; i++) {
        struct table *table = of->tables[i];
        uint64_t bytes = overlap_bytes(version, level, table);
        if (bytes == UINT64_MAX)
            continue;
        double ratio = (double)bytes / (double)table->facts.bytes;
        if (best == NULL || ratio < least) {
            best = table;
            least = ratio;
        }
    }
    if (best == NULL)
        return STATUS_NOT_FOUND;
    enum status status = take(version, level, level + 1, &best, 1, compaction);
    compaction->move = status == STATUS_OK && compaction->lower_count == 0;
    return status;
}

/* Whether the table holds what a drop hides; *covered: nothing else. */
static bool is_dropped(const struct version *version, const struct table *table,
                       bool *covered)
{
    bool touched = false;
    *covered = false;
    for (size_t i = 0; i < version->drop_count && !*covered; i++) {
        const struct dropped_range *drop = &version->drops[i];
        if (!version_needs(table, drop))
            continue;
        touched = true;
        *covered =
            drop_has(drop, table->smallest) && drop_has(drop, table->largest);
    }
    return touched;
}

/* All tables that drops cover, even damaged ones, at once. */
static enum status pick_covered(const struct version *version,
                                struct compaction *compaction)
{
    size_t count = 0;
    if (version->drop_count == 0)
        return STATUS_NOT_FOUND;
    for (unsigned i = 0; i < LEVELS; i++)
        count += version->levels[i].count;
    *compaction = (struct compaction){.remove = true};
    compaction->inputs = calloc(count + 1, sizeof *compaction->inputs);
    if (compaction->inputs == NULL)
        return STATUS_NO_MEMORY;
    for (unsigned i = 0; i < LEVELS; i++) {
        const struct level *level = &version->levels[i];
        for (size_t j = 0; j < level->count; j++) {
            bool covered;
            if (is_dropped(version, level->tables[j], &covered) && covered)
                compaction->inputs[compaction->upper_count++] =
                    level->tables[j];
        }
    }
    if (compaction->upper_count > 0)
        return STATUS_OK;
    compaction_fini(compaction);
    return STATUS_NOT_FOUND;
}

/* One table that a drop covers in part. The order of level 0 is that of age,
 * which a table written anew would break, so there all go down. */
static enum status pick_touched(const struct version *version,
                                struct compaction *compaction)
{
    for (unsigned i = 0; i < LEVELS; i++) {
        const struct level *level = &version->levels[i];
        for (size_t j = 0; j < level->count; j++) {
            struct table *table = level->tables[j];
            bool covered;
            if (!is_dropped(version, table, &covered) || is_damaged(table))
                continue;
            enum status status =
                i == 0 ? pick_level0(version, compaction)
                       : take(version, i, i, &table, 1, compaction);
            if (status != STATUS_NOT_FOUND)
                return status;
        }
    }
    return STATUS_NOT_FOUND;
}

enum status compaction_pick(const struct version *version,
                            uint64_t level1_bytes, bool quiet,
                            struct compaction *compaction)
{
    *compaction = (struct compaction){0};
    enum status covered = pick_covered(version, compaction);
    if (covered != STATUS_NOT_FOUND)
        return covered;
    bool tried[LEVELS] = {false};
    for (;;) {
        unsigned best = LEVELS;
        double most = 1;
        /* The last level has no next one. */
        for (unsigned i = 0; i + 1 < LEVELS; i++) {
            double score = level_score(version, i, level1_bytes, quiet);
            if (!tried[i] && score >= most) {
                best = i;
                most = score;
            }
        }
        if (best == LEVELS)
            return pick_touched(version, compaction);
        tried[best] = true;
        enum status status = best == 0 ? pick_level0(version, compaction)
                                       : pick_from(version, best, compaction);
        if (status == STATUS_NOT_FOUND && best == 0)
            status = pick_within_level0(version, compaction);
        if (status != STATUS_NOT_FOUND)
            return status;
    }
}

void compaction_fini(struct compaction *compaction)
{
    free(compaction->inputs);
    *compaction = (struct compaction){0};
}
