/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engines/lsm/manifest.h"
#include "proto/assert.h"
#include "tests/engines/memory_disk.h"
#include "tests/fuzz/fuzz.h"

/* A version like the one that the manifest was written of, its tables without
 * insides. */
struct sketch {
    struct version version;
    struct table *tables;
    struct table **places;
};

static void sketch_init(struct sketch *sketch, const struct manifest *manifest)
{
    memset(sketch, 0, sizeof *sketch);
    size_t count = manifest->table_count;
    sketch->tables = calloc(count + 1, sizeof *sketch->tables);
    sketch->places = calloc(count + 1, sizeof(struct table *));
    ASSERT(sketch->tables != NULL && sketch->places != NULL);
    for (size_t i = 0; i < count; i++) {
        const struct manifest_table *of = &manifest->tables[i];
        ASSERT(of->level < LEVELS);
        struct level *level = &sketch->version.levels[of->level];
        sketch->tables[i].number = of->number;
        sketch->tables[i].drops_applied = of->drops_applied;
        sketch->places[i] = &sketch->tables[i];
        if (level->count++ == 0)
            level->tables = &sketch->places[i];
    }
    sketch->version.drops = manifest->drops;
    sketch->version.drop_count = manifest->drop_count;
}

static void expect_equal(const struct manifest *a, const struct manifest *b)
{
    ASSERT(a->next_file == b->next_file && a->log_number == b->log_number);
    ASSERT(a->sequence == b->sequence);
    ASSERT(a->table_count == b->table_count);
    for (size_t i = 0; i < a->table_count; i++) {
        ASSERT(a->tables[i].number == b->tables[i].number);
        ASSERT(a->tables[i].level == b->tables[i].level);
        ASSERT(a->tables[i].drops_applied == b->tables[i].drops_applied);
    }
    ASSERT(a->drop_count == b->drop_count);
    for (size_t i = 0; i < a->drop_count; i++) {
        ASSERT(a->drops[i].sequence == b->drops[i].sequence);
        ASSERT(bytes_equal(a->drops[i].from, b->drops[i].from));
        ASSERT(bytes_equal(a->drops[i].to, b->drops[i].to));
    }
}

/* What reads reads back when it was written again. */
static void check_manifest(struct bytes content)
{
    struct memory_disk *memory = memory_disk_new();
    struct disk *disk = memory_disk_at(memory, MEMORY_DISK_PATH);
    struct disk_file *file;
    struct manifest manifest, again;
    ASSERT(disk_file_open(disk, "MANIFEST", DISK_CREATE, &file) == STATUS_OK);
    ASSERT(disk_file_write(file, 0, content) == STATUS_OK);
    disk_file_close(file);
    enum status status = manifest_read(disk, &manifest);
    ASSERT(status == STATUS_OK || status == STATUS_CORRUPT);
    if (status == STATUS_OK) {
        struct sketch sketch;
        sketch_init(&sketch, &manifest);
        ASSERT(manifest_write(disk, &sketch.version, manifest.next_file,
                              manifest.log_number,
                              manifest.sequence) == STATUS_OK);
        ASSERT(manifest_read(disk, &again) == STATUS_OK);
        expect_equal(&manifest, &again);
        manifest_fini(&again);
        free(sketch.tables);
        free(sketch.places);
    }
    manifest_fini(&manifest);
    disk_free(disk);
    memory_disk_free(memory);
}

/* As it is, and with the checksum that no fuzzer would guess behind it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes content = bytes_of(data, size);
    uint8_t checksum[8];
    struct buffer sealed = {0};
    check_manifest(content);
    put_u64(checksum, checksum_at(content, 0, 0));
    ASSERT(buffer_append(&sealed, content) == STATUS_OK);
    ASSERT(buffer_append(&sealed, bytes_of(checksum, 8)) == STATUS_OK);
    check_manifest(buffer_bytes(&sealed));
    buffer_fini(&sealed);
    return 0;
}
