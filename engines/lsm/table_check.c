/* SPDX-License-Identifier: MIT */
#include "engines/lsm/table_inside.h"

struct check {
    struct table *table;
    void (*each)(void *context, uint64_t offset, const char *what);
    void *context;
    bool failed;
    struct table_facts found;
    struct block_cursor last; /* the entry before; of no block: none */
    struct block_cursor current;
};

static void tell(struct check *check, uint64_t offset, const char *what)
{
    check->failed = true;
    check->each(check->context, offset, what);
}

static struct bytes key_of(const struct block_cursor *cursor)
{
    return bytes_of(cursor->key, cursor->key_size);
}

static const char *check_entry(struct check *check, size_t number)
{
    const struct table *table = check->table;
    const struct table_inside *inside = table->inside;
    struct bytes key = key_of(&check->current);
    check->found.entries++;
    check->found.removals += check->current.removed;
    check->found.user_bytes += key.size + check->current.value.size;
    if (check->found.entries > 1 &&
        bytes_compare(key_of(&check->last), key) >= 0)
        return "its keys do not ascend";
    if (table_index_compare(&inside->index, number, key) < 0 ||
        (number > 0 &&
         table_index_compare(&inside->index, number - 1, key) >= 0))
        return "the index does not lead to its keys";
    if (!table_may_contain(inside, key_hash(key)))
        return "the filter denies its keys";
    if (number == 0 && check->found.entries == 1 &&
        !bytes_equal(key, table->smallest))
        return "its first key is not the table's smallest";
    return NULL;
}

static void check_block(struct check *check, size_t number,
                        const struct block *block)
{
    const char *wrong = NULL;
    block_cursor_init(&check->current, block);
    for (uint32_t i = 0; i < block->count; i++) {
        (void)block_cursor_move(&check->current, i);
        const char *found = check_entry(check, number);
        if (wrong == NULL)
            wrong = found;
        memcpy(check->last.key, check->current.key, check->current.key_size);
        check->last.key_size = check->current.key_size;
    }
    if (wrong != NULL)
        tell(check, check->table->inside->index.offsets[number], wrong);
}

static void check_facts(struct check *check)
{
    const struct table_facts *facts = &check->table->facts;
    const struct table_facts *found = &check->found;
    if (found->entries != facts->entries ||
        found->removals != facts->removals ||
        found->user_bytes != facts->user_bytes)
        tell(check, facts->bytes, "the properties miscount the entries");
    if (found->entries > 0 &&
        !bytes_equal(key_of(&check->last), check->table->largest))
        tell(check, facts->bytes, "the last key is not the table's largest");
}

enum status table_check(struct table *table,
                        void (*each)(void *context, uint64_t offset,
                                     const char *what),
                        void *context)
{
    struct check check = {.table = table, .each = each, .context = context};
    const struct table_index *index = &table->inside->index;
    for (size_t i = 0; i < index->count; i++) {
        struct cache_block *block = NULL;
        enum status status = table_read_block(table, i, &block);
        if (status == STATUS_CORRUPT || status == STATUS_IO) {
            tell(&check, index->offsets[i],
                 status == STATUS_IO ? "the block cannot be read"
                                     : "the block is damaged");
            continue;
        }
        if (status != STATUS_OK)
            return status;
        struct block parsed = block_of(block->data, block->size);
        check_block(&check, i, &parsed);
        cache_release(block);
    }
    if (!check.failed)
        check_facts(&check);
    return check.failed ? STATUS_CORRUPT : STATUS_OK;
}
