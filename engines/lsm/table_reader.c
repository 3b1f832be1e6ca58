/* SPDX-License-Identifier: MIT */
#include "engines/lsm/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engines/directory.h"

uint64_t table_key_hash(struct bytes key)
{
    return file_checksum(key, 0);
}

bool table_filter_may_contain(struct bytes filter, uint64_t hash)
{
    uint64_t bits = (uint64_t)filter.size * 8;
    if (bits == 0)
        return false;
    uint64_t step = hash >> 33 | 1;
    for (int i = 0; i < TABLE_FILTER_PROBES; i++, hash += step) {
        if ((filter.data[hash % bits / 8] >> (hash % 8) & 1) == 0)
            return false;
    }
    return true;
}

/* Read size bytes at offset and the checksum behind them. The caller has
 * bounded both by the file's size. */
static enum status read_part(const struct table *table, uint64_t offset,
                             size_t size, struct buffer *part)
{
    buffer_clear(part);
    enum status status = buffer_reserve(part, size + 8);
    if (status == STATUS_OK)
        status = file_read_at(table->fd, offset, part->data, size + 8);
    if (status != STATUS_OK)
        return status;
    part->size = size;
    struct bytes stored = bytes_of(part->data + size, 8);
    uint64_t checksum = 0;
    if (!lsm_take_u64(&stored, &checksum) ||
        checksum != file_checksum(buffer_bytes(part),
                                  table_seed(table->number, offset)))
        return STATUS_CORRUPT;
    return STATUS_OK;
}

/* Turn the index's bytes into an array, checking every bound, so that no read
 * can ask for more memory than the file has bytes. */
static enum status parse_index(struct table *table, uint64_t data_bytes)
{
    struct bytes rest = buffer_bytes(&table->index);
    size_t room = rest.size / 16; /* an index entry has at least 16 bytes */
    table->blocks = calloc(room + 1, sizeof *table->blocks);
    if (table->blocks == NULL)
        return STATUS_NO_MEMORY;
    while (rest.size > 0) {
        struct table_block block;
        if (!lsm_take_bytes(&rest, &block.last_key) ||
            !lsm_take_u64(&rest, &block.offset) ||
            !lsm_take_u32(&rest, &block.size))
            return STATUS_CORRUPT;
        if (block.offset > data_bytes ||
            (uint64_t)block.size + 8 > data_bytes - block.offset)
            return STATUS_CORRUPT;
        table->blocks[table->block_count++] = block;
    }
    return STATUS_OK;
}

static enum status read_footer(struct table *table, uint64_t *index_offset,
                               uint64_t *index_size, uint64_t *filter_size)
{
    struct stat stat;
    if (fstat(table->fd, &stat) != 0)
        return STATUS_IO;
    table->bytes = (uint64_t)stat.st_size;
    if (table->bytes < TABLE_FOOTER_BYTES)
        return STATUS_CORRUPT;
    uint8_t footer[TABLE_FOOTER_BYTES];
    uint64_t body = table->bytes - TABLE_FOOTER_BYTES;
    enum status status = file_read_at(table->fd, body, footer, sizeof footer);
    if (status != STATUS_OK)
        return status;
    struct bytes rest = bytes_of(footer, sizeof footer);
    uint64_t checksum = 0, magic = 0;
    if (!lsm_take_u64(&rest, index_offset) ||
        !lsm_take_u64(&rest, index_size) || !lsm_take_u64(&rest, filter_size) ||
        !lsm_take_u64(&rest, &table->entries) ||
        !lsm_take_u64(&rest, &table->sequence) ||
        !lsm_take_u64(&rest, &checksum) || !lsm_take_u64(&rest, &magic) ||
        magic != TABLE_MAGIC ||
        checksum != file_checksum(bytes_of(footer, TABLE_FOOTER_BYTES - 16),
                                  table_seed(table->number, 0)))
        return STATUS_CORRUPT;
    /* Data, index and filter fill the body exactly. */
    if (*index_offset > body || *index_size > body || *filter_size > body ||
        *index_offset + *index_size + *filter_size + 16 != body)
        return STATUS_CORRUPT;
    return STATUS_OK;
}

enum status table_open(const char *directory, uint64_t number, unsigned tier,
                       struct table **result)
{
    char path[LSM_PATH_MAX];
    *result = NULL;
    if (!file_path(path, directory, LSM_FILE_TABLE, number))
        return STATUS_INVALID;
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL)
        return STATUS_NO_MEMORY;
    atomic_init(&table->references, 1);
    table->number = number;
    table->tier = tier;
    table->fd = open(path, O_RDONLY | O_CLOEXEC);
    enum status status = STATUS_OK;
    if (table->fd < 0)
        status = errno == ENOENT ? STATUS_NOT_FOUND : directory_status(errno);
    uint64_t index_offset = 0, index_size = 0, filter_size = 0;
    if (status == STATUS_OK)
        status = read_footer(table, &index_offset, &index_size, &filter_size);
    if (status == STATUS_OK)
        status = read_part(table, index_offset, index_size, &table->index);
    if (status == STATUS_OK)
        status = read_part(table, index_offset + index_size + 8, filter_size,
                           &table->filter);
    if (status == STATUS_OK)
        status = parse_index(table, index_offset);
    if (status != STATUS_OK) {
        table_unref(table);
        return status;
    }
    *result = table;
    return STATUS_OK;
}

void table_ref(struct table *table)
{
    atomic_fetch_add(&table->references, 1);
}

void table_unref(struct table *table)
{
    if (table == NULL || atomic_fetch_sub(&table->references, 1) != 1)
        return;
    if (table->fd >= 0)
        close(table->fd);
    free(table->blocks);
    buffer_fini(&table->index);
    buffer_fini(&table->filter);
    free(table);
}

/* The first block whose last key is at or after key. */
static size_t find_block(const struct table *table, struct bytes key)
{
    size_t low = 0, high = table->block_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (bytes_compare(table->blocks[middle].last_key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum status table_get(struct table *table, struct bytes key, uint64_t hash,
                      struct buffer *block, struct entry *entry)
{
    if (!table_filter_may_contain(buffer_bytes(&table->filter), hash))
        return STATUS_NOT_FOUND;
    size_t at = find_block(table, key);
    if (at == table->block_count)
        return STATUS_NOT_FOUND;
    enum status status = read_part(table, table->blocks[at].offset,
                                   table->blocks[at].size, block);
    if (status != STATUS_OK)
        return status;
    struct bytes rest = buffer_bytes(block);
    while (rest.size > 0) {
        if (!lsm_take_entry(&rest, entry))
            return STATUS_CORRUPT;
        int order = bytes_compare(entry->key, key);
        if (order == 0)
            return STATUS_OK;
        if (order > 0)
            break;
    }
    return STATUS_NOT_FOUND;
}

enum status table_cursor_seek(struct table_cursor *cursor, struct table *table,
                              struct bytes key)
{
    cursor->table = table;
    cursor->next_block = find_block(table, key);
    cursor->rest = (struct bytes){0};
    if (cursor->next_block == table->block_count)
        return STATUS_OK;
    const struct table_block *block = &table->blocks[cursor->next_block++];
    enum status status =
        read_part(table, block->offset, block->size, &cursor->block);
    if (status != STATUS_OK)
        return status;
    struct bytes ahead = buffer_bytes(&cursor->block);
    struct entry entry = {.key = {0}};
    do {
        cursor->rest = ahead;
        if (ahead.size > 0 && !lsm_take_entry(&ahead, &entry))
            return STATUS_CORRUPT;
    } while (cursor->rest.size > 0 && bytes_compare(entry.key, key) < 0);
    return STATUS_OK;
}

enum status table_cursor_next(struct table_cursor *cursor, struct entry *entry)
{
    while (cursor->rest.size == 0) {
        if (cursor->next_block == cursor->table->block_count)
            return STATUS_NOT_FOUND;
        const struct table_block *block =
            &cursor->table->blocks[cursor->next_block++];
        enum status status = read_part(cursor->table, block->offset,
                                       block->size, &cursor->block);
        if (status != STATUS_OK)
            return status;
        cursor->rest = buffer_bytes(&cursor->block);
    }
    return lsm_take_entry(&cursor->rest, entry) ? STATUS_OK : STATUS_CORRUPT;
}

void table_cursor_fini(struct table_cursor *cursor)
{
    buffer_fini(&cursor->block);
}
