/* SPDX-License-Identifier: MIT */
#include "engines/lsm/table_inside.h"

enum {
    /* What a walk from the block of a seek does not find in the cache is read
     * in pieces, the first as large as the few entries
     * need that most walks want: a read costs 1.1 us, whether of 4 KiB or, with
     * a fifth of a us for each further 4 KiB, of more; for ten entries of 1 KiB
     * 8 and 16 KiB were a tenth slower. Then they double, so that a walk never
     * reads much more than twice what it needs, up to what still fits into a
     * processor's second cache: larger ones measured slower. */
    AHEAD_BYTES_MIN = 12 * 1024,
    AHEAD_BYTES_MAX = 256 * 1024,
    /* What a seek reads at once of a table that the walk will probably go on
     * in, beside the block: one read less than block and piece. */
    SEEK_ENTRIES = 10,
    /* Beyond it, what may not be wanted costs more than a read. */
    SEEK_BYTES_MAX = 32 * 1024,
};

void table_cursor_init(struct table_cursor *cursor, struct table *table,
                       enum table_access access)
{
    /* Not the key, which is large, and written before it is read. */
    memset(cursor, 0, offsetof(struct table_cursor, current));
    cursor->table = table;
    cursor->access = access;
    cursor->current.block.count = 0;
}

/* Leave the current block. */
static void leave(struct table_cursor *cursor)
{
    cache_release(cursor->block);
    cursor->block = NULL;
    cursor->current.block.count = 0;
}

void table_cursor_fini(struct table_cursor *cursor)
{
    leave(cursor);
    buffer_fini(&cursor->ahead);
    buffer_fini(&cursor->content);
}

static const struct table_index *index_of(const struct table_cursor *cursor)
{
    return &cursor->table->inside->index;
}

/* Enter a block that the cursor holds a reference to. */
static void enter_cached(struct table_cursor *cursor, struct cache_block *block)
{
    struct block parsed = block_of(block->data, block->size);
    cursor->block = block;
    block_cursor_init(&cursor->current, &parsed);
}

static bool is_ahead(const struct table_cursor *cursor, size_t number)
{
    const uint64_t *offsets = index_of(cursor)->offsets;
    return offsets[number] >= cursor->ahead_offset &&
           offsets[number + 1] <= cursor->ahead_offset + cursor->ahead.size;
}

/* Enter a block in the piece read ahead. */
static enum status enter_ahead(struct table_cursor *cursor, size_t number)
{
    uint64_t offset = index_of(cursor)->offsets[number];
    size_t size = table_index_size(index_of(cursor), number);
    const uint8_t *data = cursor->ahead.data + (offset - cursor->ahead_offset);
    struct bytes content = bytes_of(data, size);
    struct block parsed;
    enum compression compression;
    enum status status =
        table_check_part(cursor->table, offset, data, size, &compression);
    if (status == STATUS_OK && compression != COMPRESSION_NONE) {
        size_t unpacked = 0;
        status = decompressed_size(compression, content, TABLE_BLOCK_BYTES_MAX,
                                   &unpacked);
        if (status == STATUS_OK)
            status = buffer_reserve(&cursor->content, unpacked + BLOCK_SLACK);
        if (status == STATUS_OK)
            status = decompress(compression, content, cursor->content.data,
                                unpacked);
        content = bytes_of(cursor->content.data, unpacked);
    }
    if (status == STATUS_OK)
        status = block_parse(content, &parsed);
    if (status == STATUS_OK)
        block_cursor_init(&cursor->current, &parsed);
    else
        table_read_failed(cursor->table, offset, status);
    return status;
}

static size_t piece_bytes(const struct table_cursor *cursor)
{
    const struct table_facts *facts = &cursor->table->facts;
    size_t piece = 2 * cursor->ahead.size, limit = AHEAD_BYTES_MAX;
    if (cursor->access == TABLE_STREAM)
        return limit;
    if (cursor->walking) {
        piece = piece < AHEAD_BYTES_MIN ? AHEAD_BYTES_MIN : piece;
    } else if (cursor->leads && facts->entries < facts->bytes) {
        piece = (size_t)(facts->bytes / (facts->entries + 1)) * SEEK_ENTRIES +
                TABLE_BLOCK_BYTES;
        limit = SEEK_BYTES_MAX;
    } else {
        piece = 0;
    }
    return piece < limit ? piece : limit;
}

/* Read the blocks from first to before end. */
static enum status read_blocks(struct table_cursor *cursor, size_t first,
                               size_t end)
{
    const struct table_index *index = index_of(cursor);
    uint64_t offset = index->offsets[first];
    size_t size = (size_t)(index->offsets[end] - offset);
    buffer_clear(&cursor->ahead);
    enum status status = buffer_reserve(&cursor->ahead, size);
    if (status == STATUS_OK)
        status = disk_file_read(cursor->table->inside->file, offset,
                                cursor->ahead.data, size);
    if (status == STATUS_OK) {
        cursor->ahead_offset = offset;
        cursor->ahead.size = size;
    }
    return status;
}

/* Read a piece that begins with the block, or walking back, ends with it. Where
 * the disk cannot read all of it, the block alone. */
static enum status read_ahead(struct table_cursor *cursor, size_t number,
                              bool back)
{
    const struct table_index *index = index_of(cursor);
    size_t piece = piece_bytes(cursor);
    size_t first = number, end = number + 1;
    if (back) {
        while (first > 0 &&
               index->offsets[end] - index->offsets[first - 1] <= piece)
            first--;
    } else {
        while (end < index->count &&
               index->offsets[end + 1] - index->offsets[first] <= piece)
            end++;
    }
    enum status status = read_blocks(cursor, first, end);
    if (status == STATUS_IO && end - first > 1)
        status = read_blocks(cursor, number, number + 1);
    table_read_failed(cursor->table, index->offsets[number], status);
    return status;
}

/* The block, if the cache has it, or if it is of a seek and the cache wants it.
 * NULL if not. What seeks read but once goes to memory that is used again at
 * once, which is faster to write to than what a full cache lets go of. */
static enum status find_cached(struct table_cursor *cursor, size_t number,
                               struct cache_block **block)
{
    struct table *table = cursor->table;
    struct cache *cache = table->inside->cache;
    uint64_t offset = table->inside->index.offsets[number];
    if (cursor->access != TABLE_CACHED || cache == NULL)
        return STATUS_OK;
    *block = cache_get(cache, table->number, offset);
    if (*block != NULL || cursor->walking ||
        !cache_wants(cache, table->number, offset,
                     table_index_size(&table->inside->index, number)))
        return STATUS_OK;
    enum status status = table_read_block(table, number, block);
    if (status == STATUS_OK)
        cache_put(cache, table->number, offset, *block);
    return status;
}

/* Enter a block, wherever it is. */
static enum status enter(struct table_cursor *cursor, size_t number, bool back)
{
    struct cache_block *block = NULL;
    leave(cursor);
    cursor->block_number = number;
    if (is_ahead(cursor, number))
        return enter_ahead(cursor, number);
    enum status status = find_cached(cursor, number, &block);
    if (block != NULL)
        enter_cached(cursor, block);
    if (status != STATUS_OK || block != NULL)
        return status;
    status = read_ahead(cursor, number, back);
    return status == STATUS_OK ? enter_ahead(cursor, number) : status;
}

/* Enter the first or the last entry of the block beside the current one. */
static enum status step(struct table_cursor *cursor, bool back)
{
    size_t number = cursor->block_number;
    if (back ? number == 0 : number + 1 == index_of(cursor)->count)
        return STATUS_NOT_FOUND;
    cursor->walking = true;
    enum status status = enter(cursor, back ? number - 1 : number + 1, back);
    if (status == STATUS_OK)
        (void)block_cursor_move(&cursor->current,
                                back ? cursor->current.block.count - 1 : 0);
    return status;
}

/* Enter the block that key would be in, for a seek. */
static enum status enter_for(struct table_cursor *cursor, size_t number,
                             bool back)
{
    cursor->walking = false;
    buffer_clear(&cursor->ahead);
    return enter(cursor, number, back);
}

enum status table_cursor_seek(struct table_cursor *cursor, struct bytes key)
{
    size_t number = table_index_find(index_of(cursor), key);
    if (number == index_of(cursor)->count)
        return STATUS_NOT_FOUND;
    enum status status = enter_for(cursor, number, false);
    if (status != STATUS_OK)
        return status;
    struct block_cursor *current = &cursor->current;
    if (block_cursor_move(current, block_search(&current->block, key)))
        return STATUS_OK;
    /* The separator may lie behind the block's last key. */
    return step(cursor, false);
}

enum status table_cursor_seek_before(struct table_cursor *cursor,
                                     struct bytes key)
{
    const struct table_index *index = index_of(cursor);
    size_t number = index->count;
    if (key.size > 0)
        number = table_index_find(index, key);
    bool behind_all = number == index->count;
    if (index->count == 0)
        return STATUS_NOT_FOUND;
    enum status status =
        enter_for(cursor, behind_all ? number - 1 : number, true);
    if (status != STATUS_OK)
        return status;
    struct block_cursor *current = &cursor->current;
    uint32_t at =
        behind_all ? current->block.count : block_search(&current->block, key);
    return block_cursor_move(current, at - 1) ? STATUS_OK : step(cursor, true);
}

bool table_block_covers(const struct table *table, size_t block_number,
                        struct bytes key)
{
    return bytes_compare(key, table->smallest) >= 0 &&
           bytes_compare(key, table->largest) <= 0 &&
           table_index_find(&table->inside->index, key) == block_number;
}

enum status table_cursor_next(struct table_cursor *cursor)
{
    struct block_cursor *current = &cursor->current;
    if (block_cursor_move(current, current->number + 1))
        return STATUS_OK;
    return step(cursor, false);
}

enum status table_cursor_previous(struct table_cursor *cursor)
{
    struct block_cursor *current = &cursor->current;
    if (block_cursor_move(current, current->number - 1))
        return STATUS_OK;
    return step(cursor, true);
}
