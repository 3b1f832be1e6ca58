/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engines/lsm/table_inside.h"

void table_name(char name[32], uint64_t number)
{
    snprintf(name, 32, "%08" PRIu64 ".table", number);
}

static void tell(const struct table *table, uint64_t offset, const char *what)
{
    const struct table_report *to = &table->inside->report;
    if (to->damaged != NULL)
        to->damaged(to->context, table->number, offset, what);
}

void table_read_failed(struct table *table, uint64_t offset, enum status status)
{
    if ((status == STATUS_CORRUPT || status == STATUS_IO) &&
        !atomic_exchange(&table->damaged, true))
        tell(table, offset,
             "a block is damaged: its keys cannot be read until they are "
             "written anew, and what the table overlaps is not compacted");
}

enum status table_check_part(const struct table *table, uint64_t offset,
                             const uint8_t *data, size_t size,
                             enum compression *compression)
{
    struct bytes covered = bytes_of(data, size + 1);
    if (load_u64(data + size + 1) !=
            checksum_at(covered, table->number, offset) ||
        data[size] > COMPRESSION_ZSTD)
        return STATUS_CORRUPT;
    *compression = (enum compression)data[size];
    return STATUS_OK;
}

/* Read a part that is never compressed, with its trailer, into data. */
static enum status read_part(const struct table *table, uint64_t offset,
                             size_t size, uint8_t *data)
{
    enum compression compression = COMPRESSION_NONE;
    enum status status = disk_file_read(table->inside->file, offset, data,
                                        size + TABLE_TRAILER_BYTES);
    if (status == STATUS_OK)
        status = table_check_part(table, offset, data, size, &compression);
    if (status == STATUS_OK && compression != COMPRESSION_NONE)
        status = STATUS_CORRUPT;
    return status;
}

/* The sizes of the file's sections. */
struct sections {
    uint64_t blocks; /* all of them, with their trailers */
    uint64_t filter, index, properties;
    uint64_t reading; /* where the one that is being read begins */
};

static enum status read_footer(struct table *table, struct sections *sections)
{
    struct disk_file *file = table->inside->file;
    uint8_t footer[TABLE_FOOTER_BYTES];
    enum status status = file->operations->size(file, &table->facts.bytes);
    if (status != STATUS_OK)
        return status;
    if (table->facts.bytes < TABLE_FOOTER_BYTES)
        return STATUS_CORRUPT;
    uint64_t offset = table->facts.bytes - TABLE_FOOTER_BYTES;
    sections->reading = offset;
    status = disk_file_read(file, offset, footer, sizeof footer);
    if (status != STATUS_OK)
        return status;
    sections->blocks = load_u64(footer);
    sections->filter = load_u64(footer + 8);
    sections->index = load_u64(footer + 16);
    sections->properties = load_u64(footer + 24);
    struct bytes covered = bytes_of(footer, 32);
    if (load_u64(footer + 40) != TABLE_MAGIC ||
        load_u64(footer + 32) != checksum_at(covered, table->number, offset))
        return STATUS_CORRUPT;
    /* The sections fill the file exactly. Subtracting cannot overflow. */
    uint64_t left = offset;
    const uint64_t parts[] = {sections->filter, sections->index,
                              sections->properties};
    for (size_t i = 0; i < 3; i++) {
        if (left < TABLE_TRAILER_BYTES || parts[i] > left - TABLE_TRAILER_BYTES)
            return STATUS_CORRUPT;
        left -= parts[i] + TABLE_TRAILER_BYTES;
    }
    return left == sections->blocks ? STATUS_OK : STATUS_CORRUPT;
}

static enum status read_filter(struct table *table, struct sections *sections)
{
    struct table_inside *inside = table->inside;
    uint64_t size = sections->filter;
    sections->reading = sections->blocks;
    /* filter_line multiplies 32 bits with the number of lines. */
    if (size == 0 || size % FILTER_LINE_BYTES != 0 ||
        size / FILTER_LINE_BYTES > UINT32_MAX)
        return STATUS_CORRUPT;
    uint8_t *filter =
        aligned_alloc(FILTER_LINE_BYTES, (size_t)size + FILTER_LINE_BYTES);
    if (filter == NULL)
        return STATUS_NO_MEMORY;
    enum status status =
        read_part(table, sections->blocks, (size_t)size, filter);
    if (status == STATUS_OK) {
        inside->filter_size = (size_t)size;
        inside->filter = filter;
        return STATUS_OK;
    }
    free(filter);
    if (status != STATUS_CORRUPT)
        return status;
    tell(table, sections->blocks,
         "its filter is damaged: gets are slower until it is written anew");
    return STATUS_OK;
}

static enum status read_index(struct table *table, struct sections *sections)
{
    uint64_t offset = sections->blocks + sections->filter + TABLE_TRAILER_BYTES;
    sections->reading = offset;
    size_t size = (size_t)sections->index;
    uint8_t *data = malloc(size + TABLE_TRAILER_BYTES);
    if (data == NULL)
        return STATUS_NO_MEMORY;
    enum status status = read_part(table, offset, size, data);
    if (status == STATUS_OK)
        status = table_index_parse(&table->inside->index, bytes_of(data, size),
                                   sections->blocks);
    free(data);
    return status;
}

static enum status take_properties(struct table *table, struct bytes content)
{
    struct bytes smallest, largest;
    const uint8_t *at = content.data, *end = at + content.size;
    at = take_u64(at, end, &table->facts.entries);
    at = take_u64(at, end, &table->facts.removals);
    at = take_u64(at, end, &table->facts.user_bytes);
    at = take_bytes(at, end, &smallest);
    at = take_bytes(at, end, &largest);
    if (at != end || smallest.size > ENGINE_KEY_BYTES_MAX ||
        largest.size > ENGINE_KEY_BYTES_MAX ||
        bytes_compare(smallest, largest) > 0)
        return STATUS_CORRUPT;
    uint8_t *keys = malloc(smallest.size + largest.size + 1);
    if (keys == NULL)
        return STATUS_NO_MEMORY;
    memcpy(keys, smallest.data, smallest.size);
    memcpy(keys + smallest.size, largest.data, largest.size);
    table->smallest = bytes_of(keys, smallest.size);
    table->largest = bytes_of(keys + smallest.size, largest.size);
    return STATUS_OK;
}

static enum status read_properties(struct table *table,
                                   struct sections *sections)
{
    uint8_t data[TABLE_PROPERTIES_MAX + TABLE_TRAILER_BYTES];
    size_t size = (size_t)sections->properties;
    uint64_t offset =
        table->facts.bytes - TABLE_FOOTER_BYTES - TABLE_TRAILER_BYTES - size;
    sections->reading = offset;
    if (size > TABLE_PROPERTIES_MAX)
        return STATUS_CORRUPT;
    enum status status = read_part(table, offset, size, data);
    if (status == STATUS_OK)
        status = take_properties(table, bytes_of(data, size));
    return status;
}

static enum status open_file(struct disk *disk, struct table *table)
{
    char name[32];
    table_name(name, table->number);
    struct disk_file **file = &table->inside->file;
    enum status status = disk_file_open(disk, name, DISK_READ, file);
    /* Gets read one block; walks read ahead for themselves. */
    if (status == STATUS_OK)
        (*file)->operations->advise(*file, DISK_RANDOM);
    return status;
}

static void free_table(struct table *table)
{
    struct table_inside *inside = table->inside;
    if (inside != NULL) {
        disk_file_close(inside->file);
        free(inside->filter);
        table_index_fini(&inside->index);
    }
    free(inside);
    free((void *)(uintptr_t)table->smallest.data);
    free(table);
}

enum status table_open(struct disk *disk, struct cache *cache, uint64_t number,
                       const struct table_report *report, struct table **result)
{
    *result = NULL;
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return STATUS_NO_MEMORY;
    atomic_init(&table->references, 1);
    atomic_init(&table->damaged, false);
    table->number = number;
    table->inside = calloc(1, sizeof *table->inside);
    enum status status = STATUS_NO_MEMORY;
    struct sections sections = {.reading = 0};
    if (table->inside != NULL) {
        table->inside->report = *report;
        status = open_file(disk, table);
    }
    if (status == STATUS_OK)
        status = read_footer(table, &sections);
    if (status == STATUS_OK)
        status = read_filter(table, &sections);
    if (status == STATUS_OK)
        status = read_index(table, &sections);
    if (status == STATUS_OK)
        status = read_properties(table, &sections);
    if (status == STATUS_CORRUPT)
        tell(table, sections.reading,
             "damaged or cut short, so that none of it can be read");
    if (status != STATUS_OK) {
        free_table(table);
        return status;
    }
    table->inside->cache = cache;
    if (cache != NULL)
        cache_charge(cache, (ptrdiff_t)table_memory_bytes(table));
    *result = table;
    return STATUS_OK;
}

void table_ref(struct table *table)
{
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
}

void table_unref(struct table *table)
{
    if (table == NULL || atomic_fetch_sub(&table->references, 1) != 1)
        return;
    if (table->inside->cache != NULL)
        cache_charge(table->inside->cache,
                     -(ptrdiff_t)table_memory_bytes(table));
    free_table(table);
}

size_t table_memory_bytes(const struct table *table)
{
    const struct table_inside *inside = table->inside;
    return sizeof *table + sizeof *inside + inside->filter_size +
           FILTER_LINE_BYTES + inside->index.bytes + table->smallest.size +
           table->largest.size;
}

/* Put the block that *read holds as stored in its place, decompressed. */
static enum status unpack(struct cache *cache, struct cache_block **read,
                          size_t size, enum compression compression)
{
    struct bytes stored = bytes_of((*read)->data, size);
    size_t unpacked_size;
    enum status status = decompressed_size(
        compression, stored, TABLE_BLOCK_BYTES_MAX, &unpacked_size);
    if (status != STATUS_OK)
        return status;
    struct cache_block *unpacked = cache_block_new(cache, unpacked_size);
    if (unpacked == NULL)
        return STATUS_NO_MEMORY;
    status = decompress(compression, stored, unpacked->data, unpacked_size);
    cache_release(status == STATUS_OK ? *read : unpacked);
    if (status == STATUS_OK)
        *read = unpacked;
    return status;
}

enum status table_read_block(struct table *table, size_t number,
                             struct cache_block **block)
{
    const struct table_inside *inside = table->inside;
    uint64_t offset = inside->index.offsets[number];
    size_t size = table_index_size(&inside->index, number);
    struct cache_block *read =
        cache_block_new(inside->cache, size + TABLE_TRAILER_BYTES);
    if (read == NULL)
        return STATUS_NO_MEMORY;
    enum compression compression = COMPRESSION_NONE;
    struct block parsed;
    enum status status = disk_file_read(inside->file, offset, read->data,
                                        size + TABLE_TRAILER_BYTES);
    if (status == STATUS_OK)
        status =
            table_check_part(table, offset, read->data, size, &compression);
    if (status == STATUS_OK && compression == COMPRESSION_NONE)
        read->size = (uint32_t)size; /* the trailer becomes slack */
    else if (status == STATUS_OK)
        status = unpack(inside->cache, &read, size, compression);
    if (status == STATUS_OK)
        status = block_parse(bytes_of(read->data, read->size), &parsed);
    if (status == STATUS_OK) {
        *block = read;
        return STATUS_OK;
    }
    cache_release(read);
    table_read_failed(table, offset, status);
    return status;
}

/* Out of the cache, or read, and put there if the cache wants it. One that it
 * does not goes to memory that is used again at once: a tenth faster, if most
 * reads miss. */
static enum status get_block(struct table *table, size_t number,
                             struct cache_block **block)
{
    struct cache *cache = table->inside->cache;
    if (cache == NULL)
        return table_read_block(table, number, block);
    uint64_t offset = table->inside->index.offsets[number];
    *block = cache_get(cache, table->number, offset);
    if (*block != NULL)
        return STATUS_OK;
    bool wanted = cache_wants(cache, table->number, offset,
                              table_index_size(&table->inside->index, number));
    enum status status = table_read_block(table, number, block);
    if (status == STATUS_OK && wanted)
        cache_put(cache, table->number, offset, *block);
    return status;
}

enum status table_get(struct table *table, struct bytes key, uint64_t hash,
                      struct cache_block **block, struct entry *entry)
{
    const struct table_inside *inside = table->inside;
    *block = NULL;
    if (!table_may_contain(inside, hash))
        return STATUS_NOT_FOUND;
    size_t number = table_index_find(&inside->index, key);
    if (number == inside->index.count)
        return STATUS_NOT_FOUND;
    enum status status = get_block(table, number, block);
    if (status != STATUS_OK)
        return status;
    struct block parsed = block_of((*block)->data, (*block)->size);
    status = block_get(&parsed, key, entry);
    if (status != STATUS_OK) {
        cache_release(*block);
        *block = NULL;
    }
    return status;
}
