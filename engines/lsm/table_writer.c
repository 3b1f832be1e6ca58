/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engines/lsm/filter.h"
#include "engines/lsm/table_inside.h"
#include "proto/assert.h"

enum {
    /* What goes to the disk at once, at a multiple of it, so that Linux may
     * keep it in memory as one piece: reads and writes of 1 KB at random are a
     * sixth faster than with pieces that begin anywhere. Half of it measured
     * slower; with four times as much such writes were a third slower. */
    WRITE_BYTES = 256 * 1024,
    /* How much is dirty before its write-back is begun, which takes the sync
     * at the end from 120 ns an entry of 100 bytes to about 10, and the whole
     * from 320 to 150. */
    START_SYNC_BYTES = 1 << 20,
    VALUE_BYTES_MAX = 1 << 30,
};

struct table_writer {
    struct disk_file *file;
    uint64_t number;
    struct table_options options;
    struct table_facts facts; /* bytes: written to the file */
    uint64_t started_sync;    /* of those, whose write-back was begun */
    struct buffer out;        /* what follows them */
    struct block_writer block;
    struct compressor compressor;
    struct buffer hashes; /* u64 a key */
    struct buffer index;
    /* The block that was ended last, while it waits for the first key of the
     * next to have its line in the index; stored_size 0: none. */
    uint64_t stored_size;
    uint8_t last_key[ENGINE_KEY_BYTES_MAX];
    size_t last_size;
    uint8_t separator[ENGINE_KEY_BYTES_MAX]; /* of the line before */
    size_t separator_size;
    uint8_t smallest[ENGINE_KEY_BYTES_MAX];
    size_t smallest_size;
};

enum status table_writer_new(struct disk *disk, uint64_t number,
                             const struct table_options *options,
                             struct table_writer **result)
{
    char name[32];
    struct table_writer *writer = calloc(1, sizeof *writer);
    *result = NULL;
    if (writer == NULL)
        return STATUS_NO_MEMORY;
    writer->number = number;
    writer->options = *options;
    table_name(name, number);
    enum status status = disk_file_open(disk, name, DISK_CREATE, &writer->file);
    if (status != STATUS_OK) {
        free(writer);
        return status;
    }
    *result = writer;
    return STATUS_OK;
}

void table_writer_free(struct table_writer *writer)
{
    if (writer == NULL)
        return;
    disk_file_close(writer->file);
    buffer_fini(&writer->out);
    block_writer_fini(&writer->block);
    compressor_fini(&writer->compressor);
    buffer_fini(&writer->hashes);
    buffer_fini(&writer->index);
    free(writer);
}

uint64_t table_writer_bytes(const struct table_writer *writer)
{
    size_t block =
        writer->block.count == 0 ? 0 : block_writer_bytes(&writer->block);
    return writer->facts.bytes + writer->out.size + block;
}

/* So many bytes of what waits. */
static enum status write_out(struct table_writer *writer, size_t size)
{
    if (size == 0)
        return STATUS_OK;
    if (writer->options.pace != NULL)
        writer->options.pace(writer->options.pace_context, size);
    struct buffer *out = &writer->out;
    enum status status = disk_file_write(writer->file, writer->facts.bytes,
                                         bytes_of(out->data, size));
    if (status != STATUS_OK)
        return status;
    out->size -= size;
    memmove(out->data, out->data + size, out->size);
    writer->facts.bytes += size;
    uint64_t dirty = writer->facts.bytes - writer->started_sync;
    if (dirty >= START_SYNC_BYTES) {
        writer->file->operations->start_sync(writer->file, writer->started_sync,
                                             dirty);
        writer->started_sync = writer->facts.bytes;
    }
    return STATUS_OK;
}

/* Put the trailer behind the part that begins at `from` of out. */
static enum status end_part(struct table_writer *writer, size_t from,
                            enum compression compression)
{
    struct buffer *out = &writer->out;
    enum status status = buffer_reserve(out, TABLE_TRAILER_BYTES);
    if (status != STATUS_OK)
        return status;
    out->data[out->size++] = (uint8_t)compression;
    uint64_t checksum =
        checksum_at(bytes_of(out->data + from, out->size - from),
                    writer->number, writer->facts.bytes + from);
    out->size = (size_t)(put_u64(out->data + out->size, checksum) - out->data);
    return out->size >= WRITE_BYTES
               ? write_out(writer, out->size - out->size % WRITE_BYTES)
               : STATUS_OK;
}

static enum status put_part(struct table_writer *writer, struct bytes content)
{
    size_t from = writer->out.size;
    enum status status = buffer_append(&writer->out, content);
    return status == STATUS_OK ? end_part(writer, from, COMPRESSION_NONE)
                               : status;
}

/* Shorten last, in place, to the shortest key from it on that is before next,
 * where a prefix of next or a byte more than last's will do. */
static size_t shorten(uint8_t *last, size_t last_size, struct bytes next)
{
    size_t shared = key_shared(bytes_of(last, last_size), next);
    if (shared == last_size)
        return last_size;
    /* They differ at `shared`, so next goes on there. */
    if (next.size > shared + 1) {
        last[shared] = next.data[shared];
        return shared + 1;
    }
    if (last[shared] + 1 < next.data[shared]) {
        last[shared]++;
        return shared + 1;
    }
    return last_size;
}

/* Give the block that waits for it its line, its separator being last_key. */
static enum status put_index(struct table_writer *writer)
{
    struct buffer *index = &writer->index;
    struct bytes key = bytes_of(writer->last_key, writer->last_size);
    size_t shared =
        key_shared(bytes_of(writer->separator, writer->separator_size), key);
    enum status status = buffer_reserve(index, key.size + 3 * VARINT64_MAX);
    if (status != STATUS_OK)
        return status;
    uint8_t *at = put_varint(index->data + index->size, shared);
    at = put_bytes(at, bytes_of(key.data + shared, key.size - shared));
    at = put_varint(at, writer->stored_size);
    index->size = (size_t)(at - index->data);
    memcpy(writer->separator, key.data, key.size);
    writer->separator_size = key.size;
    writer->stored_size = 0;
    return STATUS_OK;
}

static enum status end_block(struct table_writer *writer)
{
    struct bytes content, last = block_writer_last(&writer->block);
    size_t from = writer->out.size;
    memcpy(writer->last_key, last.data, last.size);
    writer->last_size = last.size;
    enum compression stored = COMPRESSION_NONE;
    enum status status = block_writer_finish(&writer->block, &content);
    if (status == STATUS_OK)
        status = compress(&writer->compressor, writer->options.compression,
                          content, &writer->out, &stored);
    writer->stored_size = writer->out.size - from;
    if (status == STATUS_OK)
        status = end_part(writer, from, stored);
    block_writer_clear(&writer->block);
    return status;
}

static bool ascends(const struct table_writer *writer, struct bytes key)
{
    struct bytes last = writer->block.count > 0
                            ? block_writer_last(&writer->block)
                            : bytes_of(writer->last_key, writer->last_size);
    return writer->facts.entries == 0 || bytes_compare(last, key) < 0;
}

static void count(struct table_writer *writer, const struct entry *entry)
{
    struct table_facts *facts = &writer->facts;
    if (facts->entries++ == 0) {
        if (entry->key.size > 0)
            memcpy(writer->smallest, entry->key.data, entry->key.size);
        writer->smallest_size = entry->key.size;
    }
    facts->removals += entry->removed;
    facts->user_bytes +=
        entry->key.size + (entry->removed ? 0 : entry->value.size);
}

enum status table_writer_add(struct table_writer *writer,
                             const struct entry *entry)
{
    struct block_writer *block = &writer->block;
    if (!entry->removed && entry->value.size > VALUE_BYTES_MAX)
        return STATUS_TOO_LARGE;
    if (!ascends(writer, entry->key))
        return STATUS_CORRUPT;
    enum status status = STATUS_OK;
    if (block->count > 0 &&
        block_writer_bytes_with(block, entry) > TABLE_BLOCK_BYTES)
        status = end_block(writer);
    if (status == STATUS_OK && writer->stored_size > 0) {
        writer->last_size =
            shorten(writer->last_key, writer->last_size, entry->key);
        status = put_index(writer);
    }
    if (status == STATUS_OK)
        status = block_writer_add(block, entry);
    uint64_t hash = key_hash(entry->key);
    if (status == STATUS_OK)
        status = buffer_append(&writer->hashes, bytes_of(&hash, sizeof hash));
    if (status == STATUS_OK)
        count(writer, entry);
    return status;
}

static enum status put_filter(struct table_writer *writer)
{
    size_t size = filter_bytes(writer->facts.entries);
    size_t from = writer->out.size;
    enum status status = buffer_reserve(&writer->out, size);
    if (status != STATUS_OK)
        return status;
    uint8_t *filter = writer->out.data + from;
    memset(filter, 0, size);
    for (size_t i = 0; i < writer->hashes.size; i += sizeof(uint64_t))
        filter_add(filter, size, load_u64(writer->hashes.data + i));
    writer->out.size += size;
    return end_part(writer, from, COMPRESSION_NONE);
}

static enum status put_properties(struct table_writer *writer,
                                  uint64_t *properties_size)
{
    const struct table_facts *facts = &writer->facts;
    uint8_t properties[TABLE_PROPERTIES_MAX];
    uint8_t *at = put_u64(properties, facts->entries);
    at = put_u64(at, facts->removals);
    at = put_u64(at, facts->user_bytes);
    at = put_bytes(at, bytes_of(writer->smallest, writer->smallest_size));
    at = put_bytes(at, bytes_of(writer->last_key, writer->last_size));
    *properties_size = (uint64_t)(at - properties);
    return put_part(writer, bytes_of(properties, (size_t)*properties_size));
}

static enum status put_footer(struct table_writer *writer, uint64_t blocks,
                              uint64_t properties)
{
    uint8_t footer[TABLE_FOOTER_BYTES];
    uint8_t *at = put_u64(footer, blocks);
    at = put_u64(at, filter_bytes(writer->facts.entries));
    at = put_u64(at, writer->index.size);
    at = put_u64(at, properties);
    uint64_t offset = writer->facts.bytes + writer->out.size;
    at = put_u64(at, checksum_at(bytes_of(footer, (size_t)(at - footer)),
                                 writer->number, offset));
    put_u64(at, TABLE_MAGIC);
    return buffer_append(&writer->out, bytes_of(footer, sizeof footer));
}

enum status table_writer_finish(struct table_writer *writer,
                                struct table_facts *facts)
{
    uint64_t properties = 0;
    enum status status = STATUS_OK;
    if (writer->block.count > 0)
        status = end_block(writer);
    if (status == STATUS_OK && writer->stored_size > 0)
        status = put_index(writer);
    uint64_t blocks = writer->facts.bytes + writer->out.size;
    if (status == STATUS_OK)
        status = put_filter(writer);
    if (status == STATUS_OK)
        status = put_part(writer, buffer_bytes(&writer->index));
    if (status == STATUS_OK)
        status = put_properties(writer, &properties);
    if (status == STATUS_OK)
        status = put_footer(writer, blocks, properties);
    if (status == STATUS_OK)
        status = write_out(writer, writer->out.size);
    if (status == STATUS_OK)
        status = disk_file_sync(writer->file);
    *facts = writer->facts;
    return status;
}
