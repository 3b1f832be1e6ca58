/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engines/lsm/table_inside.h"
#include "proto/assert.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes as a table's file. The first byte says whether the checksums are
 * made right, as no fuzzer would guess them, so that all behind them is
 * reached; the rest is the file. */

enum {
    TABLE = 1,
    /* What blocks may claim to hold; the table allows more, in more time. */
    UNPACKED_BYTES_MAX = 1 << 20,
};

/* A disk whose every file has the same content, to be read only. */
struct file {
    struct disk_file file;
    struct bytes content;
};

struct fuzz_disk {
    struct disk disk;
    struct file file;
};

static enum status open_file(struct disk *disk, const char *name,
                             enum disk_mode mode, struct disk_file **file)
{
    (void)name;
    ASSERT(mode == DISK_READ);
    *file = &((struct fuzz_disk *)disk)->file.file;
    return STATUS_OK;
}

static void close_file(struct disk_file *file)
{
    (void)file;
}

static enum status read_file(struct disk_file *file, uint64_t offset,
                             void *data, size_t size)
{
    struct bytes content = ((struct file *)file)->content;
    if (offset > content.size || size > content.size - offset)
        return STATUS_CORRUPT;
    if (size > 0)
        memcpy(data, content.data + offset, size);
    return STATUS_OK;
}

static enum status file_size(struct disk_file *file, uint64_t *size)
{
    *size = ((struct file *)file)->content.size;
    return STATUS_OK;
}

static void advise(struct disk_file *file, enum disk_access access)
{
    (void)file;
    (void)access;
}

static const struct disk_operations operations = {
    .open = open_file,
    .close = close_file,
    .read = read_file,
    .size = file_size,
    .advise = advise,
};

/* Make the checksum of a part right, and all but the blocks uncompressed. */
static void mend_part(uint8_t *file, uint64_t offset, size_t size, bool block)
{
    uint8_t *end = file + offset + size;
    if (!block)
        *end = COMPRESSION_NONE;
    put_u64(end + 1,
            checksum_at(bytes_of(file + offset, size + 1), TABLE, offset));
}

/* False if a block would take too much time. */
static bool mend_blocks(uint8_t *file, struct bytes content, uint64_t blocks)
{
    struct table_index index = {0};
    bool fit = true;
    enum status status = table_index_parse(&index, content, blocks);
    for (size_t i = 0; status == STATUS_OK && i < index.count; i++) {
        size_t size = table_index_size(&index, i), unpacked;
        uint8_t *data = file + index.offsets[i];
        data[size] %= COMPRESSION_ZSTD + 1;
        mend_part(file, index.offsets[i], size, true);
        fit &= decompressed_size((enum compression)data[size],
                                 bytes_of(data, size), TABLE_BLOCK_BYTES_MAX,
                                 &unpacked) != STATUS_OK ||
               unpacked <= UNPACKED_BYTES_MAX;
    }
    table_index_fini(&index);
    return fit;
}

/* Make the footer's sizes add up, and every checksum right. */
static bool mend(uint8_t *file, size_t size)
{
    if (size < TABLE_FOOTER_BYTES + 3 * TABLE_TRAILER_BYTES)
        return true;
    uint8_t *footer = file + size - TABLE_FOOTER_BYTES;
    uint64_t left = size - TABLE_FOOTER_BYTES - 3 * TABLE_TRAILER_BYTES;
    uint64_t parts[3]; /* filter, index, properties */
    for (int i = 2; i >= 0; i--) {
        parts[i] = load_u64(footer + 8 + 8 * i);
        if (parts[i] > left)
            parts[i] = left;
        left -= parts[i];
        put_u64(footer + 8 + 8 * i, parts[i]);
    }
    put_u64(footer, left);
    put_u64(footer + 32, checksum_at(bytes_of(footer, 32), TABLE,
                                     size - TABLE_FOOTER_BYTES));
    put_u64(footer + 40, TABLE_MAGIC);
    uint64_t offset = left, offsets[3];
    for (int i = 0; i < 3; i++) {
        mend_part(file, offset, parts[i], false);
        offsets[i] = offset;
        offset += parts[i] + TABLE_TRAILER_BYTES;
    }
    return mend_blocks(file, bytes_of(file + offsets[1], parts[1]), left);
}

static bool is_expected(enum status status)
{
    return status == STATUS_OK || status == STATUS_NOT_FOUND ||
           status == STATUS_CORRUPT;
}

/* A get of the key, which is there if the table is in order. */
static void get(struct table *table, const struct entry *expected, bool sound)
{
    struct cache_block *block;
    struct entry entry;
    enum status status = table_get(table, expected->key,
                                   key_hash(expected->key), &block, &entry);
    ASSERT(is_expected(status));
    ASSERT(!sound || status == STATUS_OK);
    if (sound)
        ASSERT(bytes_equal(entry.value, expected->value) &&
               entry.removed == expected->removed);
    cache_release(block);
}

/* How many entries there are, up to what is damaged. */
static uint64_t walk(struct table *table, enum table_access access, bool back,
                     bool sound)
{
    struct table_cursor cursor;
    uint64_t count = 0;
    table_cursor_init(&cursor, table, access);
    enum status status =
        back ? table_cursor_seek_before(&cursor, bytes_of(NULL, 0))
             : table_cursor_seek(&cursor, bytes_of(NULL, 0));
    while (status == STATUS_OK) {
        struct entry entry = table_cursor_entry(&cursor);
        ASSERT(entry.key.size <= ENGINE_KEY_BYTES_MAX);
        if (access == TABLE_CACHED && count % 8 == 0)
            get(table, &entry, sound);
        count++;
        status =
            back ? table_cursor_previous(&cursor) : table_cursor_next(&cursor);
    }
    ASSERT(is_expected(status));
    ASSERT(!sound || status == STATUS_NOT_FOUND);
    table_cursor_fini(&cursor);
    return count;
}

static void seek(struct table *table, struct bytes key)
{
    struct table_cursor cursor;
    table_cursor_init(&cursor, table, TABLE_CACHED);
    if (table_cursor_seek(&cursor, key) == STATUS_OK)
        ASSERT(is_expected(table_cursor_previous(&cursor)));
    if (table_cursor_seek_before(&cursor, key) == STATUS_OK)
        ASSERT(is_expected(table_cursor_next(&cursor)));
    table_cursor_fini(&cursor);
}

static void tell(void *context, uint64_t offset, const char *what)
{
    (void)offset;
    (void)what;
    ++*(uint64_t *)context;
}

static void tell_open(void *context, uint64_t number, uint64_t offset,
                      const char *what)
{
    ASSERT(number == TABLE);
    tell(context, offset, what);
}

static void use(struct table *table)
{
    uint64_t told = 0;
    enum status status = table_check(table, tell, &told);
    bool sound = status == STATUS_OK;
    ASSERT(sound ? told == 0 : status == STATUS_CORRUPT && told > 0);
    uint64_t count = walk(table, TABLE_CACHED, false, sound);
    ASSERT(!sound || count == table->facts.entries);
    for (int i = 1; i < 4; i++) {
        uint64_t again = walk(table, i % 2 == 0 ? TABLE_CACHED : TABLE_STREAM,
                              i / 2 == 1, sound);
        ASSERT(!sound || again == count);
    }
    seek(table, table->smallest);
    seek(table, table->largest);
    seek(table, bytes_of_string("key"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    uint8_t *file = malloc(size);
    ASSERT(file != NULL);
    memcpy(file, data + 1, size - 1);
    if (data[0] % 2 == 0 || mend(file, size - 1)) {
        struct fuzz_disk disk = {
            .disk = {&operations},
            .file = {{&operations}, bytes_of(file, size - 1)},
        };
        uint64_t opened = 0;
        struct table_report report = {tell_open, &opened};
        struct table *table;
        enum status status =
            table_open(&disk.disk, NULL, TABLE, &report, &table);
        ASSERT(status == STATUS_OK || status == STATUS_CORRUPT);
        ASSERT(status == STATUS_OK || opened > 0);
        if (status == STATUS_OK)
            use(table);
        table_unref(table);
    }
    free(file);
    return 0;
}
