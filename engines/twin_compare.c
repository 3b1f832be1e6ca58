/* SPDX-License-Identifier: MIT */
#include "engines/twin.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/* The walk over all of both that makes the second what the first is. A chunk is
 * compared without holding up writes, on snapshots of one state. A key that is
 * equal in them stays so, since writes go to both; one that is not is read once
 * more from the first, while nobody writes, and given to the second. Those are
 * not synced: a crash begins the walk again, which then only compares what was
 * copied. */

enum {
    /* Whose keys are read again while writes wait, some 5 us each. At least 2,
     * as a chunk begins with the last key of the one before. */
    CHUNK_ROWS = 64,
    CHUNK_BYTES = 1 << 20,
    /* A rest holds up a close. */
    REST_NS_MAX = 100000000,
    TOLD_EVERY = 1000000,
};

struct comparison {
    struct twin *twin;
    size_t from_size;
    uint8_t from[ENGINE_KEY_BYTES_MAX];
    size_t count; /* of what is not equal */
    struct batch_operation operations[CHUNK_ROWS];
    uint8_t keys[CHUNK_ROWS][ENGINE_KEY_BYTES_MAX];
    struct buffer value, values;
};

static struct bytes from_of(const struct comparison *comparison)
{
    return bytes_of(comparison->from, comparison->from_size);
}

static void take(struct comparison *comparison, const struct twin_row *row)
{
    struct bytes key = row->key;
    if (!bytes_equal(key, from_of(comparison)))
        atomic_fetch_add(&comparison->twin->compared, 1);
    memcpy(comparison->from, key.data, key.size);
    comparison->from_size = key.size;
    if (row->how == NULL)
        return;
    size_t i = comparison->count++;
    memcpy(comparison->keys[i], key.data, key.size);
    comparison->operations[i].key = bytes_of(comparison->keys[i], key.size);
}

/* OK if there may be more, NOT_FOUND at the end. */
static enum status compare(struct comparison *comparison)
{
    struct twin_walk *walk;
    struct twin_row row;
    size_t bytes = 0;
    enum status status =
        twin_walk_new(comparison->twin, from_of(comparison), bytes_of(NULL, 0),
                      ENGINE_FORWARD, &walk);
    if (status != STATUS_OK)
        return status;
    comparison->count = 0;
    for (int rows = 0; rows < 2 || (rows < CHUNK_ROWS && bytes < CHUNK_BYTES);
         rows++) {
        status = twin_walk_next(walk, &row);
        if (status == STATUS_OK &&
            (row.key.size == 0 || row.key.size > ENGINE_KEY_BYTES_MAX))
            status = STATUS_CORRUPT;
        if (status != STATUS_OK)
            break;
        take(comparison, &row);
        bytes += row.key.size + row.value.size;
    }
    twin_walk_free(walk);
    return status;
}

/* Under writes. */
static enum status mend(struct comparison *comparison)
{
    struct twin *twin = comparison->twin;
    struct batch batch = {.operations = comparison->operations,
                          .count = comparison->count};
    buffer_clear(&comparison->values);
    for (size_t i = 0; i < batch.count; i++) {
        struct batch_operation *operation = &comparison->operations[i];
        enum status status = engine_get(twin->inner[TWIN_FIRST], operation->key,
                                        &comparison->value);
        operation->remove = status == STATUS_NOT_FOUND;
        operation->value.size = 0;
        if (status == STATUS_OK) {
            operation->value.size = comparison->value.size;
            status = buffer_append(&comparison->values,
                                   buffer_bytes(&comparison->value));
        }
        if (!twin_answers(status))
            return status;
    }
    /* They have moved until the last one was there. */
    const uint8_t *at = comparison->values.data;
    for (size_t i = 0; i < batch.count; i++) {
        comparison->operations[i].value.data = at;
        if (comparison->operations[i].value.size > 0)
            at += comparison->operations[i].value.size;
    }
    enum status status = engine_write(twin->inner[TWIN_SECOND], &batch, false);
    twin_heard(twin, status, NULL);
    if (status == STATUS_OK)
        atomic_fetch_add(&twin->mended, batch.count);
    return status;
}

/* As compare; a failure is of either. */
static enum status step(struct comparison *comparison)
{
    struct twin *twin = comparison->twin;
    enum status status = compare(comparison);
    if (twin_answers(status) && comparison->count > 0) {
        pthread_mutex_lock(&twin->writes);
        enum status mended = mend(comparison);
        pthread_mutex_unlock(&twin->writes);
        if (mended != STATUS_OK)
            status = mended;
    }
    return atomic_load(&twin->state) == TWIN_OUT ? STATUS_BROKEN : status;
}

static void tell(struct twin *twin, const char *what)
{
    twin_report(twin,
                "the second engine, %s, %s: %" PRIuFAST64 " keys compared, "
                "%" PRIuFAST64 " of them written or removed in it",
                twin_second(twin), what, atomic_load(&twin->compared),
                atomic_load(&twin->mended));
}

/* NOT_FOUND: all is compared. */
static void finish(struct twin *twin, enum status status)
{
    enum twin_state behind = TWIN_BEHIND;
    if (status == STATUS_NOT_FOUND) {
        /* Or a write failed in it meanwhile. */
        if (atomic_compare_exchange_strong(&twin->state, &behind, TWIN_SAME) &&
            atomic_load(&twin->compared) > 0)
            tell(twin, "now holds what the first does");
    } else if (atomic_load(&twin->state) != TWIN_OUT) {
        twin_report(twin,
                    "the second engine, %s, cannot be compared further and "
                    "stays behind: the first answers %s",
                    twin_second(twin), status_name(status));
    }
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* As long as the work took: at most half of a core and of the disk. */
static void rest(int64_t since_ns)
{
    int64_t ns = now_ns() - since_ns;
    struct timespec time = {.tv_nsec = ns < REST_NS_MAX ? ns : REST_NS_MAX};
    nanosleep(&time, NULL);
}

static void comparison_free(struct comparison *comparison)
{
    buffer_fini(&comparison->value);
    buffer_fini(&comparison->values);
    free(comparison);
}

static void *comparer_main(void *argument)
{
    struct comparison *comparison = argument;
    struct twin *twin = comparison->twin;
    enum status status = STATUS_OK;
    uint64_t tell_at = TOLD_EVERY;
    while (status == STATUS_OK && !atomic_load(&twin->stop)) {
        int64_t began_ns = now_ns();
        status = step(comparison);
        if (status == STATUS_OK && atomic_load(&twin->compared) >= tell_at) {
            tell(twin, "is being compared");
            tell_at += TOLD_EVERY;
        }
        if (status == STATUS_OK)
            rest(began_ns);
    }
    if (status != STATUS_OK)
        finish(twin, status);
    comparison_free(comparison);
    return NULL;
}

enum status twin_compare_start(struct twin *twin)
{
    struct comparison *comparison = calloc(1, sizeof *comparison);
    if (comparison == NULL)
        return STATUS_NO_MEMORY;
    comparison->twin = twin;
    enum status status = step(comparison);
    if (status != STATUS_OK) {
        finish(twin, status);
        comparison_free(comparison);
        return STATUS_OK;
    }
    twin->comparing =
        pthread_create(&twin->comparer, NULL, comparer_main, comparison) == 0;
    if (twin->comparing)
        return STATUS_OK;
    comparison_free(comparison);
    return STATUS_NO_MEMORY;
}

void twin_compare_stop(struct twin *twin)
{
    atomic_store(&twin->stop, true);
    if (twin->comparing)
        pthread_join(twin->comparer, NULL);
}
