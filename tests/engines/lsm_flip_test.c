/* SPDX-License-Identifier: MIT */
#include "tests/engines/lsm_workload.h"

#include <stdio.h>
#include <stdlib.h>

/* lsm_flip_test [SEED [STEPS [PLACES]]]: what a workload left on the disk is
 * damaged, at PLACES places in each file, one at a time. The store may refuse
 * to open, naming the file, or answer CORRUPT for what is damaged, telling
 * where; it never answers anything that is not so, then or later. */

static struct {
    uint64_t seed, steps, places;
} arguments = {1, 300, 150};

enum {
    /* Steps behind the damage, which flush and compact around it. */
    LATER_STEPS = 60,
    /* Done in one case of so many. */
    LATER_EVERY = 4,
    FILES_MAX = 100,
    LOG_BYTES_MIN = 4000,
};

enum damage {
    DAMAGE_FLIP, /* of bits of a byte */
    DAMAGE_ZERO, /* of a sector */
    DAMAGE_CUT,  /* of the file */
    DAMAGES,
};

static struct {
    struct workload workload;
    struct memory_disk *memory;
    /* What a store holds that opens on it. The last batch is not synced, so
     * damage to it may pass for the torn end of a crash. */
    size_t last;
    char files[FILES_MAX][MEMORY_NAME_MAX];
    size_t file_count;
    struct randomness random;
    char at[200]; /* for people */
    unsigned refused, refused_logs, corrupt, unharmed, later;
} run;

static void fail_at(const char *what, const char *why)
{
    fail_msg("seed %u, %u steps, %s: %s: %s", (unsigned)arguments.seed,
             (unsigned)arguments.steps, run.at, what, why);
}

static enum status add_file(void *context, const char *name)
{
    (void)context;
    assert_true(run.file_count < FILES_MAX);
    snprintf(run.files[run.file_count++], MEMORY_NAME_MAX, "%s", name);
    return STATUS_OK;
}

/* Do the steps, and some more until a batch with sync and one without end
 * them, in a log with others before. The disk is as it is then, not closed. */
static void start(void)
{
    const struct memory_crash kept = {MEMORY_EVERYTHING, MEMORY_EVERYTHING, 0};
    struct workload_store store = {.memory = memory_disk_new()};
    const struct workload *workload = &run.workload;
    memset(&run, 0, sizeof run);
    run.random.state = arguments.seed;
    workload_init(&run.workload, arguments.seed,
                  arguments.steps + LATER_STEPS * 10);
    assert_int_equal(workload_open(&store), STATUS_OK);
    for (bool ended = false; !ended || run.last < arguments.steps;) {
        const struct step *step = &workload->steps[++run.last];
        assert_int_equal(workload_do(workload, run.last, &store), STATUS_OK);
        ended = step->kind == STEP_WRITE && !step->sync &&
                step[-1].kind == STEP_WRITE && step[-1].sync &&
                lsm_of(store.engine)->log.size > LOG_BYTES_MIN;
    }
    assert_true(run.last + LATER_STEPS <= workload->count);
    run.memory = memory_disk_after(store.memory, &kept);
    workload_close(&store);
    memory_disk_free(store.memory);
    struct disk *disk = memory_disk_at(run.memory, MEMORY_DISK_PATH);
    assert_int_equal(disk->operations->list(disk, add_file, NULL), STATUS_OK);
    disk_free(disk);
}

static void stop(void)
{
    memory_disk_free(run.memory);
    workload_fini(&run.workload);
}

static bool is_log(const char *name)
{
    return strstr(name, ".log") != NULL;
}

/* Where a log's records end and only zeros follow; of others, the end. */
static uint64_t used_bytes(const char *name)
{
    struct disk *disk = memory_disk_at(run.memory, MEMORY_DISK_PATH);
    struct buffer content = {0};
    assert_int_equal(disk_read_all(disk, name, SIZE_MAX, &content), STATUS_OK);
    size_t size = content.size;
    while (is_log(name) && size > 0 && content.data[size - 1] == 0)
        size--;
    buffer_fini(&content);
    disk_free(disk);
    return size;
}

static void harm(struct memory_disk *memory, const char *name,
                 enum damage damage, uint64_t offset)
{
    static const uint8_t zeros[MEMORY_SECTOR_BYTES];
    struct disk *disk = memory_disk_at(memory, MEMORY_DISK_PATH);
    struct disk_file *file;
    uint64_t size = memory_disk_file_bytes(memory, name);
    enum status status = disk_file_open(disk, name, DISK_UPDATE, &file);
    assert_int_equal(status, STATUS_OK);
    switch (damage) {
    case DAMAGE_FLIP:
        memory_disk_flip(memory, name, offset,
                         (uint8_t)(1u << random_below(&run.random, 8)));
        break;
    case DAMAGE_ZERO:
        offset -= offset % sizeof zeros;
        size = size - offset < sizeof zeros ? size - offset : sizeof zeros;
        status = disk_file_write(file, offset, bytes_of(zeros, size));
        break;
    case DAMAGE_CUT:
        status = file->operations->truncate(file, offset);
        break;
    case DAMAGES:
        break;
    }
    assert_int_equal(status, STATUS_OK);
    disk_file_close(file);
    disk_free(disk);
}

static void check(struct workload_store *store, size_t number, const char *what)
{
    const char *why;
    if (!workload_agrees(store, &run.workload.states[number], STATUS_CORRUPT,
                         &why))
        fail_at(what, why);
}

/* Write on, over what is damaged. A store that cannot be opened any more has
 * to say so. */
static void go_on(struct workload_store *store, const char *name)
{
    run.later++;
    for (size_t i = run.last + 1; i <= run.last + LATER_STEPS; i++) {
        enum status status = workload_do(&run.workload, i, store);
        if (store->engine == NULL && status == STATUS_CORRUPT &&
            strstr(store->error.text, name) != NULL)
            return;
        if (status != STATUS_OK)
            fail_at("a later step", status_name(status));
    }
    check(store, run.last + LATER_STEPS, "later");
}

/* What was damaged is told, by an error or by a report. */
static void check_message(const char *message, const char *name)
{
    if (strstr(message, name) == NULL)
        fail_at("it does not name the file", message);
}

/* Which state it holds. */
static size_t check_opened(struct workload_store *store, const char *name)
{
    const char *why;
    size_t last = run.last;
    if (is_log(name)) {
        last = workload_find(store, run.workload.states, run.last - 1, run.last,
                             &why);
        if (last == SIZE_MAX)
            fail_at("opened", why);
    }
    check(store, last, "opened");
    if (store->reports > 0) {
        run.corrupt++;
        check_message(store->report, name);
    } else if (!workload_agrees(store, &run.workload.states[last], STATUS_OK,
                                &why)) {
        fail_at("damage that is not reported", why);
    } else {
        run.unharmed++;
    }
    return last;
}

static void try_damage(const char *name, enum damage damage, uint64_t offset)
{
    const struct memory_crash kept = {MEMORY_EVERYTHING, MEMORY_EVERYTHING, 0};
    struct workload_store store = {.memory =
                                       memory_disk_after(run.memory, &kept)};
    snprintf(run.at, sizeof run.at, "%s %s at %u of %u",
             damage == DAMAGE_FLIP   ? "flipped"
             : damage == DAMAGE_ZERO ? "zeroed"
                                     : "cut",
             name, (unsigned)offset,
             (unsigned)memory_disk_file_bytes(run.memory, name));
    harm(store.memory, name, damage, offset);
    enum status status = workload_open(&store);
    if (status == STATUS_OK) {
        size_t last = check_opened(&store, name);
        if (last == run.last && random_below(&run.random, LATER_EVERY) == 0)
            go_on(&store, name);
    } else {
        run.refused++;
        run.refused_logs += is_log(name);
        if (status != STATUS_CORRUPT)
            fail_at("opening", store.error.text);
        check_message(store.error.text, name);
    }
    workload_close(&store);
    memory_disk_free(store.memory);
}

/* Of a log only bits are flipped: without the records that follow, what is
 * missing at its end is as if it had never been. */
static void damage_is_never_taken_for_data(void **state)
{
    (void)state;
    start();
    for (size_t i = 0; i < run.file_count; i++) {
        const char *name = run.files[i];
        uint64_t used = used_bytes(name);
        for (uint64_t place = 0; place < arguments.places; place++) {
            uint64_t from = used * place / arguments.places;
            uint64_t to = used * (place + 1) / arguments.places;
            if (from < to)
                try_damage(name, is_log(name) ? DAMAGE_FLIP : place % DAMAGES,
                           from + random_below(&run.random, to - from));
        }
    }
    print_message("%zu files: %u refused, %u with reads that are corrupt, %u "
                  "unharmed; %u written on\n",
                  run.file_count, run.refused, run.corrupt, run.unharmed,
                  run.later);
    assert_true(run.refused > run.refused_logs && run.refused_logs > 0);
    assert_true(run.corrupt > 0 && run.unharmed > 0 && run.later > 0);
    stop();
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    const struct memory_crash kept = {MEMORY_EVERYTHING, MEMORY_EVERYTHING, 0};
    unsigned refused = 0;
    start();
    for (size_t i = 0; i < run.file_count; i++) {
        const char *name = run.files[i];
        struct workload_store store = {
            .memory = memory_disk_after(run.memory, &kept)};
        struct disk *disk = memory_disk_at(store.memory, MEMORY_DISK_PATH);
        snprintf(run.at, sizeof run.at, "without %s", name);
        assert_int_equal(disk->operations->remove(disk, name), STATUS_OK);
        disk_free(disk);
        enum status status = workload_open(&store);
        if (status == STATUS_OK) {
            check(&store, run.last, "opened");
        } else {
            refused++;
            assert_int_equal(status, STATUS_CORRUPT);
            check_message(store.error.text, name);
        }
        workload_close(&store);
        memory_disk_free(store.memory);
    }
    assert_true(refused > 3);
    stop();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_is_never_taken_for_data),
        cmocka_unit_test(a_missing_file_is_named),
    };
    uint64_t *const numbers[] = {&arguments.seed, &arguments.steps,
                                 &arguments.places, NULL};
    workload_arguments(argc, argv, "[SEED [STEPS [PLACES]]]", numbers);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
