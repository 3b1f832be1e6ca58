/* SPDX-License-Identifier: MIT */
#include "engines/lsm/inspect.h"
#include "tests/engines/lsm_tree.h"

/* What is told of a store's files, as lines of text, and how damage in them is
 * found by who only looks. */

enum { KEYS = 600, TEXT_MAX = 4096 };

static struct told {
    unsigned tables[LEVELS];
    uint64_t entries, removals, operations;
    unsigned logs, damages, entries_told;
    char text[TEXT_MAX]; /* but for tables */
    struct {
        char file[LSM_NAME_MAX];
        uint64_t offset;
    } first;                 /* damage */
    void (*meanwhile)(void); /* called at the first table */
} told;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    size_t size = strlen(told.text);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(told.text + size, TEXT_MAX - size, format, arguments);
    va_end(arguments);
}

static void note_manifest(void *context, const struct manifest *manifest)
{
    (void)context;
    for (size_t i = 0; i < manifest->drop_count; i++)
        say("drop %.*s to %.*s\n", (int)manifest->drops[i].from.size,
            (const char *)manifest->drops[i].from.data,
            (int)manifest->drops[i].to.size,
            (const char *)manifest->drops[i].to.data);
}

static void note_table(void *context, unsigned level, const struct table *table)
{
    (void)context;
    told.tables[level]++;
    told.entries += table->facts.entries;
    told.removals += table->facts.removals;
    if (told.meanwhile != NULL)
        told.meanwhile();
    told.meanwhile = NULL;
}

static void note_log(void *context, const struct log_replay *replay,
                     uint64_t operations, const char *end)
{
    (void)context;
    told.logs++;
    told.operations += operations;
    say("log %u %s %u\n", (unsigned)replay->number, end, (unsigned)operations);
}

static void note_unnamed(void *context, const char *file, const char *what)
{
    (void)context;
    (void)what;
    say("unnamed %s\n", file);
}

static void note_damage(void *context, const char *file, uint64_t offset,
                        const char *what)
{
    (void)context;
    if (told.damages++ == 0) {
        snprintf(told.first.file, sizeof told.first.file, "%s", file);
        told.first.offset = offset;
    }
    say("damage %s %u: %s\n", file, (unsigned)offset, what);
}

static void note_progress(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    assert_true(done <= total + told.logs);
}

static void note_entry(void *context, uint64_t offset,
                       const struct entry *entry)
{
    (void)context;
    assert_true(entry->key.size > 0 && (offset > 0 || told.entries > 0));
    told.entries_told++;
}

static const struct inspector inspector = {
    .manifest = note_manifest,
    .table = note_table,
    .log = note_log,
    .unnamed = note_unnamed,
    .damage = note_damage,
    .progress = note_progress,
    .entry = note_entry,
};

/* Look with nothing told before, but what is called meanwhile stays. */
static void look(enum status expected)
{
    void (*meanwhile)(void) = told.meanwhile;
    struct error error;
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    uint64_t calls = memory_disk_counts(tree.memory).calls;
    memset(&told, 0, sizeof told);
    told.meanwhile = meanwhile;
    enum status status = inspect_store(disk, &inspector, &error);
    if (status != expected)
        fail_msg("%s where %s was expected: %s", status_name(status),
                 status_name(expected), told.text);
    assert_int_equal(told.damages > 0, status == STATUS_CORRUPT);
    if (meanwhile == NULL) /* nothing was written */
        assert_int_equal(memory_disk_counts(tree.memory).calls, calls);
    disk_free(disk);
}

static void expect_text(const char *expected)
{
    assert_string_equal(told.text, expected);
}

static void expect_word(const char *word)
{
    if (strstr(told.text, word) == NULL)
        fail_msg("'%s' is not in: %s", word, told.text);
}

/* Tables in some levels, and a log with the last operations. */
static void make_store(void)
{
    tree_set("memtable_bytes", 16384);
    tree_open();
    tree_put_all(0, KEYS);
    tree_settle();
    for (unsigned i = 0; i < KEYS; i += 7)
        tree_remove(i);
    tree_sync();
}

static void all_of_a_store_is_told_open_or_closed(void **state)
{
    (void)state;
    make_store();
    unsigned tables[LEVELS];
    for (unsigned i = 0; i < LEVELS; i++)
        tables[i] = (unsigned)tree_tables(i);
    assert_true(tree_levels() > 1);
    for (int closed = 0; closed < 2; closed++) {
        look(STATUS_OK);
        for (unsigned i = 0; i < LEVELS; i++)
            assert_int_equal(told.tables[i], tables[i]);
        assert_int_equal(told.operations + told.removals, KEYS / 7 + 1);
        assert_int_equal(told.entries + told.operations,
                         KEYS + told.operations + told.removals);
        tree_close();
    }
    /* Looking has left it as it was. */
    tree_open();
    tree_check();
}

static void a_dropped_range_is_told(void **state)
{
    (void)state;
    make_store();
    tree_settle();
    tree_drop(100, 200);
    look(STATUS_OK);
    expect_word("drop k000100 to k000200\n");
}

static void an_empty_store_is_sound(void **state)
{
    (void)state;
    look(STATUS_OK);
    expect_text("");
    tree_open();
    look(STATUS_OK);
    assert_int_equal(told.operations, 0);
}

/* Flip a bit every few bytes: each time it is told with the file, and a place
 * before it. */
static void flip_all(const char *name, uint64_t end, unsigned step)
{
    look(STATUS_OK);
    for (uint64_t at = 0; at < end; at += step) {
        memory_disk_flip(tree.memory, name, at, 0x04);
        look(STATUS_CORRUPT);
        assert_string_equal(told.first.file, name);
        assert_true(told.first.offset <= at);
        memory_disk_flip(tree.memory, name, at, 0x04);
    }
    look(STATUS_OK);
}

static void every_flipped_byte_of_a_table_is_told(void **state)
{
    (void)state;
    char name[MEMORY_NAME_MAX];
    make_store();
    tree_close();
    tree_files(".table", TREE_LAST, name);
    flip_all(name, memory_disk_file_bytes(tree.memory, name), 13);
}

static void every_flipped_byte_of_the_manifest_is_told(void **state)
{
    (void)state;
    make_store();
    tree_close();
    flip_all("MANIFEST", memory_disk_file_bytes(tree.memory, "MANIFEST"), 1);
}

static void a_damaged_block_is_told_at_its_offset_and_passed_over(void **state)
{
    (void)state;
    char name[LSM_NAME_MAX];
    uint64_t number;
    tree_set("memtable_bytes", 64 << 10);
    tree_set("table_bytes", 64 << 10);
    tree_open();
    tree_put_all(0, KEYS / 2);
    tree_settle();
    tree_table_name(0, name);
    tree_close();
    assert_int_equal(inspect_name(name, &number), STORE_TABLE);
    memory_disk_flip(tree.memory, name, TABLE_BLOCK_BYTES + 1000, 0x10);
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    memset(&told, 0, sizeof told);
    assert_int_equal(inspect_table(disk, number, &inspector), STATUS_CORRUPT);
    disk_free(disk);
    assert_int_equal(told.damages, 1);
    assert_true(told.first.offset > 0 &&
                told.first.offset < TABLE_BLOCK_BYTES + 1000);
    assert_true(told.entries_told < told.entries);
    assert_true(told.entries_told > told.entries - 60);
}

static void remove_file(const char *name)
{
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    assert_int_equal(disk->operations->remove(disk, name), STATUS_OK);
    disk_free(disk);
}

static void what_is_missing_is_told(void **state)
{
    (void)state;
    char name[MEMORY_NAME_MAX], word[2 * MEMORY_NAME_MAX];
    make_store();
    struct lsm *lsm = lsm_of(tree.engine);
    uint64_t log_number = lsm->flushed_log;
    tree_close();
    tree_files(".table", TREE_LAST, name);
    remove_file(name);
    look(STATUS_CORRUPT);
    snprintf(word, sizeof word, "damage %s 0: missing\n", name);
    expect_word(word);
    log_name(name, log_number);
    remove_file(name);
    look(STATUS_CORRUPT);
    assert_int_equal(told.damages, 2);
    snprintf(word, sizeof word, "damage %s 0: missing\n", name);
    expect_word(word);
    remove_file("MANIFEST");
    look(STATUS_CORRUPT);
    expect_word("damage MANIFEST 0: missing, though there is data\n");
}

static void a_table_that_was_cut_short_is_told(void **state)
{
    (void)state;
    char name[MEMORY_NAME_MAX];
    struct disk_file *file;
    make_store();
    tree_close();
    tree_files(".table", TREE_LAST, name);
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    for (uint64_t size = memory_disk_file_bytes(tree.memory, name); size > 0;
         size -= size > 100 ? 100 : size) {
        assert_int_equal(disk_file_open(disk, name, DISK_UPDATE, &file),
                         STATUS_OK);
        assert_int_equal(file->operations->truncate(file, size - 1), STATUS_OK);
        disk_file_close(file);
        look(STATUS_CORRUPT);
        assert_string_equal(told.first.file, name);
    }
    disk_free(disk);
}

static void make_file(const char *name)
{
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    struct disk_file *file;
    assert_int_equal(disk_file_open(disk, name, DISK_CREATE, &file), STATUS_OK);
    disk_file_close(file);
    disk_free(disk);
}

static void files_that_nobody_names_are_no_damage(void **state)
{
    (void)state;
    make_store();
    make_file("00099999.table");
    make_file("MANIFEST.next");
    make_file("ENGINE");
    look(STATUS_OK);
    expect_word("unnamed 00099999.table\n");
    expect_word("unnamed MANIFEST.next\n");
    assert_null(strstr(told.text, "unnamed ENGINE"));
    assert_null(strstr(told.text, "unnamed MANIFEST\n"));
}

static void compact_all(void)
{
    for (unsigned round = 0; round < 3; round++) {
        tree_put_all(0, KEYS);
        tree_settle();
    }
}

static void a_store_that_is_written_meanwhile_is_sound(void **state)
{
    (void)state;
    make_store();
    uint64_t before = lsm_of(tree.engine)->flushed_log;
    size_t tables = tree_tables(0) + tree_tables(1) + tree_tables(2);
    told.meanwhile = compact_all;
    look(STATUS_OK);
    assert_true(lsm_of(tree.engine)->flushed_log > before);
    /* Most tables had gone before they could be read. */
    assert_true(told.tables[0] + told.tables[1] + told.tables[2] < tables);
}

static void tables_of_a_level_that_overlap_are_told(void **state)
{
    (void)state;
    struct manifest manifest;
    tree_set("memtable_bytes", 64 << 10);
    tree_open();
    for (int i = 0; i < 2; i++) {
        tree_put_all(0, 10);
        tree_flush();
    }
    tree_close();
    look(STATUS_OK);
    assert_int_equal(told.tables[0], 2);
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    assert_int_equal(manifest_read(disk, &manifest), STATUS_OK);
    struct table *tables[2];
    struct table_report nobody = {NULL, NULL};
    for (int i = 0; i < 2; i++)
        assert_int_equal(table_open(disk, NULL, manifest.tables[i].number,
                                    &nobody, &tables[i]),
                         STATUS_OK);
    struct version *version = version_new();
    struct level level = {.tables = tables, .count = 2};
    version->levels[3] = level;
    assert_int_equal(manifest_write(disk, version, manifest.next_file,
                                    manifest.log_number, manifest.sequence),
                     STATUS_OK);
    version->levels[3] = (struct level){0};
    version_unref(version);
    table_unref(tables[0]);
    table_unref(tables[1]);
    manifest_fini(&manifest);
    disk_free(disk);
    look(STATUS_CORRUPT);
    assert_int_equal(told.damages, 1);
    assert_int_equal(told.tables[3], 2);
}

/* ---- logs, made by hand ---- */

static void append(struct log *log, unsigned number, bool synced)
{
    struct batch_operation operation = {.key = tree_key(number),
                                        .value = bytes_of_string("value")};
    assert_int_equal(log_begin(log, number), STATUS_OK);
    assert_int_equal(log_put(log, &operation), STATUS_OK);
    assert_int_equal(log_append(log, synced), STATUS_OK);
    if (synced)
        assert_int_equal(log_sync(log), STATUS_OK);
}

static uint64_t named = 2; /* by the end record of log 1 */

/* A store of logs 1 and 2 only, two records each. Returns where the second
 * record of the first log begins. */
static uint64_t make_logs(bool ended, bool synced)
{
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    struct version *version = version_new();
    struct log log = {.file = NULL};
    assert_int_equal(manifest_write(disk, version, 3, 1, 0), STATUS_OK);
    version_unref(version);
    assert_int_equal(log_create(&log, disk, 1, 0), STATUS_OK);
    log.predecessors_synced = true;
    append(&log, 1, true);
    uint64_t second = log.size;
    append(&log, 2, true);
    if (ended) {
        assert_int_equal(log_end(&log, named), STATUS_OK);
        assert_int_equal(log_sync(&log), STATUS_OK);
    }
    log_close(&log);
    assert_int_equal(log_create(&log, disk, 2, 0), STATUS_OK);
    log.predecessors_synced = synced;
    append(&log, 3, synced);
    append(&log, 4, synced);
    log_close(&log);
    disk_free(disk);
    return second;
}

/* Whoever opens it agrees. */
static void open_after(enum status expected)
{
    assert_int_equal(tree_try_open_at(MEMORY_DISK_PATH), expected);
}

static void logs_are_told_with_how_they_end(void **state)
{
    (void)state;
    make_logs(true, true);
    look(STATUS_OK);
    expect_text("log 1 ended 2\nlog 2 open 2\n");
    open_after(STATUS_OK);
}

static void an_end_record_need_not_name_the_next_log(void **state)
{
    named = 0;
    logs_are_told_with_how_they_end(state);
    named = 2;
}

static void a_log_that_another_names_is_missed(void **state)
{
    (void)state;
    make_logs(true, true);
    struct disk *disk = memory_disk_at(tree.memory, MEMORY_DISK_PATH);
    assert_int_equal(disk->operations->remove(disk, "00000002.log"), STATUS_OK);
    disk_free(disk);
    look(STATUS_CORRUPT);
    expect_word("damage 00000002.log 0: missing\n");
    open_after(STATUS_CORRUPT);
}

static void a_log_behind_a_torn_one_is_ignored(void **state)
{
    (void)state;
    make_logs(false, false);
    look(STATUS_OK);
    expect_text("log 1 open 2\nlog 2 ignored 2\n");
    open_after(STATUS_OK);
}

static void a_log_that_ends_before_what_was_synced_is_damaged(void **state)
{
    (void)state;
    make_logs(false, true);
    look(STATUS_CORRUPT);
    expect_word("damage 00000001.log ");
    expect_word("more than this had been synced\n");
    assert_int_equal(told.damages, 1);
    open_after(STATUS_CORRUPT);
}

static void a_damaged_record_is_told_where_it_begins(void **state)
{
    (void)state;
    uint64_t second = make_logs(true, true);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t begins = i == 0 ? 0 : second;
        memory_disk_flip(tree.memory, "00000001.log", begins + 3, 0x01);
        look(STATUS_CORRUPT);
        assert_string_equal(told.first.file, "00000001.log");
        assert_int_equal(told.first.offset, begins);
        assert_int_equal(told.damages, 1);
        memory_disk_flip(tree.memory, "00000001.log", begins + 3, 0x01);
    }
    look(STATUS_OK);
    memory_disk_flip(tree.memory, "00000001.log", second, 0x01);
    open_after(STATUS_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_CASE(all_of_a_store_is_told_open_or_closed),
        TREE_CASE(a_dropped_range_is_told),
        TREE_CASE(an_empty_store_is_sound),
        TREE_CASE(every_flipped_byte_of_a_table_is_told),
        TREE_CASE(every_flipped_byte_of_the_manifest_is_told),
        TREE_CASE(a_damaged_block_is_told_at_its_offset_and_passed_over),
        TREE_CASE(what_is_missing_is_told),
        TREE_CASE(a_table_that_was_cut_short_is_told),
        TREE_CASE(files_that_nobody_names_are_no_damage),
        TREE_CASE(a_store_that_is_written_meanwhile_is_sound),
        TREE_CASE(tables_of_a_level_that_overlap_are_told),
        TREE_CASE(logs_are_told_with_how_they_end),
        TREE_CASE(an_end_record_need_not_name_the_next_log),
        TREE_CASE(a_log_that_another_names_is_missed),
        TREE_CASE(a_log_behind_a_torn_one_is_ignored),
        TREE_CASE(a_log_that_ends_before_what_was_synced_is_damaged),
        TREE_CASE(a_damaged_record_is_told_where_it_begins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
