/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engines/directory.h"
#include "engines/types.h"
#include "tests/engines/twin_fixture.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* How the second comes to hold what the first does: filled beside writes, and
 * mended after whatever may have left it behind or ahead. */

enum { KEYS = 1500 };

static void name_key(char key[16], unsigned number)
{
    snprintf(key, 16, "key%05u", number);
}

/* Mostly small, some that a chunk has no room for. */
static void put_many(struct engine *engine)
{
    static char large[1 << 20];
    char key[16], value[16];
    memset(large, 'x', sizeof large - 1);
    for (unsigned i = 0; i < KEYS; i++) {
        name_key(key, i);
        snprintf(value, sizeof value, "%u", i);
        assert_int_equal(
            write_one(engine, key, i % 500 == 250 ? large : value, false),
            STATUS_OK);
    }
    assert_int_equal(engine_write(engine, &(struct batch){0}, true), STATUS_OK);
}

/* A store of the lsm engine alone, closed. */
static void make_lsm(struct fixture *fixture)
{
    assert_int_equal(open_engine(fixture, &lsm_engine_type), STATUS_OK);
    put_many(fixture->engine);
    close_engine(fixture);
}

static void open_both(struct fixture *fixture)
{
    open_twin(fixture, &lsm_engine_type, &lsm_engine_type);
}

static void reopen_both(struct fixture *fixture)
{
    close_engine(fixture);
    open_both(fixture);
}

static void move(struct fixture *fixture, const char *from, const char *to)
{
    char old[PATH_MAX], new[PATH_MAX];
    path_in(fixture, from, old);
    path_in(fixture, to, new);
    assert_int_equal(rename(old, new), 0);
}

/* As after a crash: nothing says that they agree. */
static void forget_agreement(struct fixture *fixture)
{
    char path[PATH_MAX];
    path_in(fixture, "AGREED", path);
    assert_int_equal(unlink(path), 0);
}

static void expect_compared(struct fixture *fixture, uint64_t keys,
                            uint64_t mended)
{
    struct engine_stats stats = stats_of(fixture);
    assert_int_equal(stats.twin_behind, 0);
    assert_int_equal(stats.twin_compared, keys);
    assert_int_equal(stats.twin_mended, mended);
    assert_int_equal(stats.twin_differences, 0);
    assert_int_equal(stats.twin_failures, 0);
}

/* --- an empty second beside a full first --- */

static void an_empty_second_is_filled_from_what_was_there(void **state)
{
    struct fixture *fixture = *state;
    make_lsm(fixture);
    open_both(fixture);
    wait_same(fixture);
    expect_compared(fixture, KEYS, KEYS);
    assert_int_equal(expect_alike(fixture), KEYS);
    expect_told(fixture, 0,
                "now holds what the first does: 1500 keys "
                "compared, 1500 of them written");
    /* Either goes on alone, in its own folder. */
    close_engine(fixture);
    char path[PATH_MAX];
    path_in(fixture, "second", path);
    snprintf(fixture->store.directory, sizeof fixture->store.directory, "%s",
             path);
    assert_int_equal(open_engine(fixture, &lsm_engine_type), STATUS_OK);
    expect(fixture->engine, "key00007", "7");
    expect(fixture->engine, "key01499", "1499");
}

static void a_second_that_is_behind_is_not_opened_alone(void **state)
{
    struct fixture *fixture = *state;
    struct error error = {0};
    struct engine *alone;
    char path[PATH_MAX];
    struct engine_options options = {.directory = path};
    path_in(fixture, "second", path);
    open_both(fixture);
    put_one(fixture, TWIN_FIRST, "a", "1");
    expect(fixture->engine, "a", "1");
    close_engine(fixture);
    assert_int_equal(engine_open(&lsm_engine_type, &options, &alone, &error),
                     STATUS_REFUSED);
    assert_non_null(strstr(error.text, "\"lsm, behind its twin\""));
    open_both(fixture);
    wait_same(fixture);
    close_engine(fixture);
    assert_int_equal(engine_open(&lsm_engine_type, &options, &alone, &error),
                     STATUS_OK);
    expect(alone, "a", "1");
    engine_close(alone);
}

static void it_is_filled_beside_writes(void **state)
{
    struct fixture *fixture = *state;
    uint64_t random = 5;
    make_lsm(fixture);
    open_both(fixture);
    for (int i = 0; stats_of(fixture).twin_behind || i < 100; i++) {
        char key[16], value[16];
        name_key(key, (unsigned)(store_random(&random) % (KEYS + 100)));
        snprintf(value, sizeof value, "new %d", i);
        bool remove = store_random(&random) % 2 == 0;
        assert_int_equal(
            write_one(fixture->engine, key, remove ? NULL : value, false),
            STATUS_OK);
        expect(fixture->engine, key, remove ? NULL : value);
    }
    assert_int_equal(stats_of(fixture).twin_differences, 0);
    assert_true(expect_alike(fixture) > 0);
}

static void a_fill_that_was_closed_goes_on(void **state)
{
    struct fixture *fixture = *state;
    make_lsm(fixture);
    open_both(fixture);
    for (int i = 0; i < 3; i++)
        reopen_both(fixture);
    wait_same(fixture);
    assert_int_equal(stats_of(fixture).twin_differences, 0);
    assert_int_equal(expect_alike(fixture), KEYS);
}

static void what_was_copied_is_not_copied_again(void **state)
{
    struct fixture *fixture = *state;
    char key[16];
    open_both(fixture);
    put_many(fixture->engine);
    for (unsigned i = KEYS - 200; i < KEYS; i++) {
        name_key(key, i);
        put_one(fixture, TWIN_SECOND, key, NULL);
    }
    close_engine(fixture);
    forget_agreement(fixture);
    open_both(fixture);
    wait_same(fixture);
    expect_compared(fixture, KEYS, 200);
    assert_int_equal(expect_alike(fixture), KEYS);
}

static void a_second_that_was_removed_is_filled_anew(void **state)
{
    struct fixture *fixture = *state;
    make_lsm(fixture);
    open_both(fixture);
    wait_same(fixture);
    close_engine(fixture);
    move(fixture, "second", "../aside");
    open_both(fixture);
    wait_same(fixture);
    expect_compared(fixture, KEYS, KEYS);
    assert_int_equal(expect_alike(fixture), KEYS);
}

static void a_first_that_cannot_be_read_ends_the_comparison(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(fault_put(bytes_of_string("a"), bytes_of_string("1")),
                     STATUS_OK);
    fault_fail_reads(STATUS_CORRUPT);
    open_twin(fixture, &fault_engine_type, &memory_engine_type);
    expect_told(fixture, 0, "cannot be compared further");
    assert_int_equal(stats_of(fixture).twin_behind, 1);
    assert_int_equal(stats_of(fixture).twin_failures, 0);
}

static void a_second_that_fails_while_it_is_filled_is_out(void **state)
{
    struct fixture *fixture = *state;
    make_lsm(fixture);
    fault_fail_write();
    open_twin(fixture, &lsm_engine_type, &fault_engine_type);
    assert_int_equal(stats_of(fixture).twin_failures, 1);
    assert_int_equal(fixture->told_count, 1);
    expect(fixture->engine, "key00007", "7");
    close_engine(fixture);
    open_twin(fixture, &lsm_engine_type, &fault_engine_type);
    wait_same(fixture);
    expect_compared(fixture, KEYS, KEYS);
}

/* --- agreement --- */

/* What a power loss leaves of times and sizes may look as if nothing was
 * written since: only that it is gone while they are open does not. */
static void what_was_closed_in_agreement_is_not_compared_again(void **state)
{
    struct fixture *fixture = *state;
    char path[PATH_MAX];
    path_in(fixture, "AGREED", path);
    make_lsm(fixture);
    open_both(fixture);
    wait_same(fixture);
    close_engine(fixture);
    assert_int_equal(access(path, F_OK), 0);
    open_both(fixture);
    assert_int_not_equal(access(path, F_OK), 0);
    expect_compared(fixture, 0, 0);
    put(fixture->engine, "more", "1");
    reopen_both(fixture);
    expect_compared(fixture, 0, 0);
    assert_int_equal(expect_alike(fixture), KEYS + 1);
}

static void what_memory_keeps_agrees_with_nothing_later(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &lsm_engine_type, &memory_engine_type);
    put(fixture->engine, "a", "1");
    close_engine(fixture);
    open_twin(fixture, &lsm_engine_type, &memory_engine_type);
    expect_compared(fixture, 1, 1);
}

static void a_second_that_is_behind_or_ahead_is_mended(void **state)
{
    struct fixture *fixture = *state;
    open_both(fixture);
    put(fixture->engine, "b", "1");
    put_one(fixture, TWIN_SECOND, "a", "ahead");
    put_one(fixture, TWIN_SECOND, "b", "ahead");
    put_one(fixture, TWIN_FIRST, "c", "1");
    put_one(fixture, TWIN_SECOND, "d", "ahead");
    close_engine(fixture);
    forget_agreement(fixture);
    open_both(fixture);
    expect_compared(fixture, 4, 4);
    assert_int_equal(expect_alike(fixture), 2);
    expect_rows(fixture->engine, ENGINE_FORWARD, "b=1 c=1 ");
}

static void what_differed_is_mended_at_the_next_open(void **state)
{
    struct fixture *fixture = *state;
    open_both(fixture);
    put_one(fixture, TWIN_SECOND, "a", "1");
    expect(fixture->engine, "a", NULL);
    assert_int_equal(stats_of(fixture).twin_differences, 1);
    reopen_both(fixture);
    expect_compared(fixture, 1, 1);
    assert_int_equal(expect_alike(fixture), 0);
}

static void opening_either_alone_ends_the_agreement(void **state)
{
    struct fixture *fixture = *state;
    static const char *const places[] = {"first", "second"};
    for (int i = 0; i < TWIN_BOTH; i++) {
        char path[PATH_MAX];
        struct engine *alone;
        open_both(fixture);
        put(fixture->engine, "a", "1");
        close_engine(fixture);
        path_in(fixture, places[i], path);
        struct engine_options options = {.directory = path};
        assert_int_equal(engine_open(&lsm_engine_type, &options, &alone, NULL),
                         STATUS_OK);
        put(alone, "a", "alone");
        engine_close(alone);
        open_both(fixture);
        expect_compared(fixture, 1, 1);
        expect(fixture->engine, "a", i == TWIN_FIRST ? "alone" : "1");
        close_engine(fixture);
    }
}

/* --- a crash between the writes --- */

static void *put_blocked(void *argument)
{
    put(argument, "b", "1");
    return NULL;
}

/* As a child: write, and say when the first has it and the second not yet. */
static void write_half(struct fixture *fixture, int end)
{
    pthread_t thread;
    if (open_engine(fixture, twin_type_of(&lsm_engine_type,
                                          &fault_engine_type)) != STATUS_OK)
        _exit(1);
    fault_block_writes(true);
    if (pthread_create(&thread, NULL, put_blocked, fixture->engine) != 0 ||
        !fault_wait_blocked_writes(1) || write(end, "b", 1) != 1)
        _exit(2);
    for (;;)
        pause();
}

/* The disk of the fault engine is memory, so this process's lacks what the
 * child's would have got. */
static void a_crash_between_the_writes_is_mended(void **state)
{
    struct fixture *fixture = *state;
    int ends[2];
    char byte;
    open_twin(fixture, &lsm_engine_type, &fault_engine_type);
    put(fixture->engine, "a", "1");
    close_engine(fixture);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        write_half(fixture, ends[1]);
    close(ends[1]);
    ssize_t got = read(ends[0], &byte, 1);
    close(ends[0]);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(got, 1);
    open_twin(fixture, &lsm_engine_type, &fault_engine_type);
    expect_compared(fixture, 2, 1);
    assert_int_equal(expect_alike(fixture), 2);
    expect_rows(fixture->engine, ENGINE_FORWARD, "a=1 b=1 ");
}

/* --- whose directory --- */

static void expect_owner(struct fixture *fixture, const char *name)
{
    char owner[DIRECTORY_OWNER_MAX];
    assert_int_equal(directory_owner(fixture->store.directory, owner, NULL),
                     STATUS_OK);
    assert_string_equal(owner, name);
}

static void a_crash_while_files_are_moved_loses_none(void **state)
{
    struct fixture *fixture = *state;
    char path[PATH_MAX];
    make_lsm(fixture);
    assert_int_equal(
        directory_mark(fixture->store.directory, "twin(lsm, memory)", NULL),
        STATUS_OK);
    path_in(fixture, "first", path);
    assert_int_equal(mkdir(path, 0755), 0);
    move(fixture, "MANIFEST", "first/MANIFEST");
    open_both(fixture);
    expect_owner(fixture, "twin(lsm, lsm)");
    wait_same(fixture);
    expect_compared(fixture, KEYS, KEYS);
}

static void a_store_that_is_open_is_not_taken_over(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(open_engine(fixture, &lsm_engine_type), STATUS_OK);
    struct engine_options options = {.directory = fixture->store.directory};
    struct engine *twin;
    assert_int_equal(engine_open(engine_type_find("twin(lsm, lsm)"), &options,
                                 &twin, &fixture->error),
                     STATUS_REFUSED);
    expect_owner(fixture, "lsm");
}

static void
another_first_and_a_store_of_another_second_are_refused(void **state)
{
    struct fixture *fixture = *state;
    open_twin(fixture, &lsm_engine_type, &memory_engine_type);
    put(fixture->engine, "a", "1");
    close_engine(fixture);
    assert_int_equal(
        open_engine(fixture, engine_type_find("twin(memory, lsm)")),
        STATUS_REFUSED);
    expect_owner(fixture, "twin(lsm, memory)");
    assert_int_equal(open_engine(fixture, engine_type_find("twin(lsm, lsm)")),
                     STATUS_REFUSED);
    assert_non_null(strstr(fixture->error.text, "second was made by"));
    move(fixture, "second", "../aside");
    open_both(fixture);
    expect_compared(fixture, 1, 1);
}

int main(void)
{
#define CLAIM(test)                                                            \
    cmocka_unit_test_setup_teardown(test, fixture_set_up, fixture_tear_down)
    const struct CMUnitTest tests[] = {
        CLAIM(an_empty_second_is_filled_from_what_was_there),
        CLAIM(a_second_that_is_behind_is_not_opened_alone),
        CLAIM(it_is_filled_beside_writes),
        CLAIM(a_fill_that_was_closed_goes_on),
        CLAIM(what_was_copied_is_not_copied_again),
        CLAIM(a_second_that_was_removed_is_filled_anew),
        CLAIM(a_first_that_cannot_be_read_ends_the_comparison),
        CLAIM(a_second_that_fails_while_it_is_filled_is_out),
        CLAIM(what_was_closed_in_agreement_is_not_compared_again),
        CLAIM(what_memory_keeps_agrees_with_nothing_later),
        CLAIM(a_second_that_is_behind_or_ahead_is_mended),
        CLAIM(what_differed_is_mended_at_the_next_open),
        CLAIM(opening_either_alone_ends_the_agreement),
        CLAIM(a_crash_between_the_writes_is_mended),
        CLAIM(a_crash_while_files_are_moved_loses_none),
        CLAIM(a_store_that_is_open_is_not_taken_over),
        CLAIM(another_first_and_a_store_of_another_second_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
