/* SPDX-License-Identifier: MIT */
#include "tests/engines/disk_fixture.h"

#include "engines/lsm/manifest.h"

/* The manifest reads back as it was written, or is CORRUPT, or the one before
 * is still there. */

/* A version of some tables and drops, without the tables' insides. */
struct sample {
    struct table tables[5];
    struct table *places[5];
    struct dropped_range drops[3];
    struct version version;
};

static char long_key[ENGINE_KEY_BYTES_MAX];

static void make_sample(struct sample *sample)
{
    memset(sample, 0, sizeof *sample);
    memset(long_key, 'k', sizeof long_key);
    for (uint64_t i = 0; i < 5; i++) {
        sample->tables[i].number = 70 - i;
        sample->tables[i].drops_applied = i << 40;
        sample->places[i] = &sample->tables[i];
    }
    sample->drops[0].to = bytes_of_string("b");
    sample->drops[0].sequence = 5;
    sample->drops[1].from = bytes_of(long_key, sizeof long_key);
    sample->drops[1].sequence = 6;
    sample->drops[2].from = bytes_of_string("c");
    sample->drops[2].to = bytes_of(long_key, sizeof long_key);
    sample->drops[2].sequence = UINT64_C(7) << 50;
    sample->version.levels[0].tables = sample->places;
    sample->version.levels[0].count = 2;
    sample->version.levels[3].tables = sample->places + 2;
    sample->version.levels[3].count = 1;
    sample->version.levels[LEVELS - 1].tables = sample->places + 3;
    sample->version.levels[LEVELS - 1].count = 2;
    sample->version.drops = sample->drops;
    sample->version.drop_count = 3;
}

static void write_sample(struct sample *sample, uint64_t next_file)
{
    assert_int_equal(manifest_write(disk, &sample->version, next_file, 8, 77),
                     STATUS_OK);
}

static void expect_sample(const struct sample *sample, uint64_t next_file)
{
    static const unsigned levels[] = {0, 0, 3, LEVELS - 1, LEVELS - 1};
    struct manifest manifest;
    assert_int_equal(manifest_read(disk, &manifest), STATUS_OK);
    assert_int_equal(manifest.next_file, next_file);
    assert_int_equal(manifest.log_number, 8);
    assert_int_equal(manifest.sequence, 77);
    assert_int_equal(manifest.table_count, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(manifest.tables[i].number, sample->tables[i].number);
        assert_int_equal(manifest.tables[i].level, levels[i]);
        assert_int_equal(manifest.tables[i].drops_applied,
                         sample->tables[i].drops_applied);
    }
    assert_int_equal(manifest.drop_count, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct dropped_range *drop = &sample->drops[i];
        assert_true(bytes_equal(manifest.drops[i].from, drop->from));
        assert_true(bytes_equal(manifest.drops[i].to, drop->to));
        assert_int_equal(manifest.drops[i].sequence, drop->sequence);
    }
    manifest_fini(&manifest);
}

static void expect_status(enum status status)
{
    struct manifest manifest;
    assert_int_equal(manifest_read(disk, &manifest), status);
    manifest_fini(&manifest);
}

static void a_manifest_reads_back(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    expect_status(STATUS_NOT_FOUND);
    write_sample(&sample, 71);
    expect_sample(&sample, 71);
    write_sample(&sample, 99);
    expect_sample(&sample, 99);
}

static void an_empty_version_reads_back(void **state)
{
    (void)state;
    const struct version version = {0};
    struct manifest manifest;
    assert_int_equal(manifest_write(disk, &version, 2, 1, 0), STATUS_OK);
    assert_int_equal(manifest_read(disk, &manifest), STATUS_OK);
    assert_int_equal(manifest.table_count, 0);
    assert_int_equal(manifest.drop_count, 0);
    assert_int_equal(manifest.next_file, 2);
    manifest_fini(&manifest);
}

static void any_flipped_bit_is_corrupt(void **state)
{
    (void)state;
    struct sample sample;
    struct buffer file = {0};
    make_sample(&sample);
    write_sample(&sample, 71);
    read_whole("MANIFEST", &file);
    for (size_t bit = 0; bit < 8 * file.size; bit++) {
        uint8_t byte = file.data[bit / 8];
        write_byte("MANIFEST", bit / 8, byte ^ (uint8_t)(1 << bit % 8));
        expect_status(STATUS_CORRUPT);
        write_byte("MANIFEST", bit / 8, byte);
    }
    buffer_fini(&file);
}

static void any_other_length_is_corrupt(void **state)
{
    (void)state;
    struct sample sample;
    struct buffer file = {0};
    make_sample(&sample);
    write_sample(&sample, 71);
    read_whole("MANIFEST", &file);
    write_byte("MANIFEST", file.size, 0);
    expect_status(STATUS_CORRUPT);
    for (size_t size = file.size; size > 0; size--) {
        cut("MANIFEST", size - 1);
        expect_status(STATUS_CORRUPT);
    }
    buffer_fini(&file);
}

/* Change a u32 of the file and put its checksum right again. */
static void forge(struct buffer *file, size_t at, uint32_t value)
{
    uint32_t old = load_u32(file->data + at);
    uint8_t *end = file->data + file->size - 8;
    put_u32(file->data + at, value);
    put_u64(end, checksum_at(bytes_of(file->data, file->size - 8), 0, 0));
    write_whole("MANIFEST", buffer_bytes(file));
    expect_status(STATUS_CORRUPT);
    put_u32(file->data + at, old);
}

static void sealed_lies_are_corrupt_and_cost_no_memory(void **state)
{
    (void)state;
    struct sample sample;
    struct buffer file = {0};
    make_sample(&sample);
    write_sample(&sample, 71);
    read_whole("MANIFEST", &file);
    enum { TABLES_AT = 32, DROPS_AT = 36, LEVEL_AT = 40 + 8 };
    assert_int_equal(load_u32(file.data + TABLES_AT), 5);
    assert_int_equal(load_u32(file.data + DROPS_AT), 3);
    forge(&file, TABLES_AT, UINT32_MAX);
    forge(&file, TABLES_AT, 4);
    forge(&file, DROPS_AT, UINT32_MAX);
    forge(&file, DROPS_AT, 2);
    forge(&file, LEVEL_AT, LEVELS);
    forge(&file, LEVEL_AT, 1); /* above that of the next one */
    forge(&file, 0, 0);
    buffer_fini(&file);
}

static struct sample shared;
static uint64_t newest;

/* It is the one that was written last, or the one being written. */
static void crash(void *context, enum memory_call call, const char *name)
{
    (void)call;
    (void)name;
    unsigned *crashes = context;
    struct disk *alive = disk;
    for (unsigned i = 0; i < 32; i++) {
        const struct memory_crash how = {
            .bytes = (enum memory_survival)(i % 4),
            .names = (enum memory_survival)(i / 4 % 4),
            .seed = i + 32 * (*crashes)++,
        };
        struct manifest manifest;
        struct memory_disk *after = memory_disk_after(memory, &how);
        disk = memory_disk_at(after, MEMORY_DISK_PATH);
        assert_int_equal(manifest_read(disk, &manifest), STATUS_OK);
        uint64_t found = manifest.next_file;
        manifest_fini(&manifest);
        assert_in_range(found, newest, newest + 1);
        expect_sample(&shared, found);
        disk_free(disk);
        memory_disk_free(after);
        disk = alive;
    }
}

static void a_crash_leaves_the_old_one_or_the_new(void **state)
{
    (void)state;
    unsigned crashes = 0;
    make_sample(&shared);
    newest = 100;
    write_sample(&shared, newest);
    memory_disk_watch(memory, crash, &crashes);
    for (unsigned i = 0; i < 20; i++) {
        write_sample(&shared, newest + 1);
        newest++;
    }
    memory_disk_watch(memory, NULL, NULL);
    assert_int_equal(crashes, 20 * 5 * 32);
}

static void a_failure_leaves_the_old_one_or_the_new(void **state)
{
    (void)state;
    make_sample(&shared);
    write_sample(&shared, 100);
    for (unsigned call = 1; call <= 5; call++) {
        uint64_t calls = memory_disk_counts(memory).calls;
        memory_disk_fail(memory, &(struct memory_fault){.call = calls + call,
                                                        .status = STATUS_IO,
                                                        .seed = call});
        assert_int_equal(manifest_write(disk, &shared.version, 101, 8, 77),
                         STATUS_IO);
        struct manifest manifest;
        assert_int_equal(manifest_read(disk, &manifest), STATUS_OK);
        uint64_t found = manifest.next_file;
        manifest_fini(&manifest);
        assert_in_range(found, 100, 101);
        expect_sample(&shared, found);
        disk_free(disk); /* a failed sync of the directory is for good */
        disk = memory_disk_at(memory, MEMORY_DISK_PATH);
        write_sample(&shared, 100);
    }
    assert_int_equal(memory_disk_counts(memory).files_open, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REAL_CASE(a_manifest_reads_back),
        REAL_CASE(an_empty_version_reads_back),
        REAL_CASE(any_flipped_bit_is_corrupt),
        REAL_CASE(any_other_length_is_corrupt),
        REAL_CASE(sealed_lies_are_corrupt_and_cost_no_memory),
        MEMORY_CASE(a_crash_leaves_the_old_one_or_the_new),
        MEMORY_CASE(a_failure_leaves_the_old_one_or_the_new),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
