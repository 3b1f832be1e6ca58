/* SPDX-License-Identifier: MIT */
#include "engines/lsm/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "engines/directory.h"
#include "proto/assert.h"

enum status table_writer_open(struct table_writer *writer,
                              const char *directory, uint64_t number)
{
    char path[LSM_PATH_MAX];
    *writer = (struct table_writer){.fd = -1, .number = number};
    if (!file_path(path, directory, LSM_FILE_TABLE, number))
        return STATUS_INVALID;
    writer->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return writer->fd >= 0 ? STATUS_OK : directory_status(errno);
}

void table_writer_fini(struct table_writer *writer)
{
    if (writer->fd >= 0)
        close(writer->fd);
    buffer_fini(&writer->block);
    buffer_fini(&writer->last_key);
    buffer_fini(&writer->index);
    buffer_fini(&writer->hashes);
    *writer = (struct table_writer){.fd = -1};
}

/* Append part, with its checksum behind it, to the file. */
static enum status write_part(struct table_writer *writer, struct buffer *part)
{
    uint64_t seed = table_seed(writer->number, writer->offset);
    enum status status =
        lsm_put_u64(part, file_checksum(buffer_bytes(part), seed));
    if (status == STATUS_OK)
        status = file_write(writer->fd, buffer_bytes(part));
    if (status == STATUS_OK)
        writer->offset += part->size;
    return status;
}

static enum status end_block(struct table_writer *writer)
{
    if (writer->block.size == 0)
        return STATUS_OK;
    enum status status =
        lsm_put_bytes(&writer->index, buffer_bytes(&writer->last_key));
    if (status == STATUS_OK)
        status = lsm_put_u64(&writer->index, writer->offset);
    if (status == STATUS_OK && writer->block.size > UINT32_MAX)
        status = STATUS_TOO_LARGE;
    if (status == STATUS_OK)
        status = lsm_put_u32(&writer->index, (uint32_t)writer->block.size);
    if (status == STATUS_OK)
        status = write_part(writer, &writer->block);
    buffer_clear(&writer->block);
    return status;
}

enum status table_writer_add(struct table_writer *writer,
                             const struct entry *entry)
{
    ASSERT(writer->entries == 0 ||
           bytes_compare(buffer_bytes(&writer->last_key), entry->key) < 0);
    size_t more = entry->key.size + entry->value.size;
    enum status status = STATUS_OK;
    if (writer->block.size + more > TABLE_BLOCK_BYTES)
        status = end_block(writer);
    if (status == STATUS_OK)
        status = lsm_put_entry(&writer->block, entry);
    if (status == STATUS_OK)
        status = lsm_put_u64(&writer->hashes, table_key_hash(entry->key));
    buffer_clear(&writer->last_key);
    if (status == STATUS_OK)
        status = buffer_append(&writer->last_key, entry->key);
    if (entry->sequence > writer->sequence)
        writer->sequence = entry->sequence;
    writer->entries++;
    return status;
}

static enum status make_filter(struct table_writer *writer,
                               struct buffer *filter)
{
    uint64_t bits = (writer->entries * TABLE_FILTER_BITS + 63) / 64 * 64;
    enum status status = buffer_reserve(filter, bits / 8);
    if (status != STATUS_OK || bits == 0)
        return status;
    memset(filter->data, 0, bits / 8);
    filter->size = bits / 8;
    struct bytes hashes = buffer_bytes(&writer->hashes);
    uint64_t hash;
    while (lsm_take_u64(&hashes, &hash)) {
        uint64_t step = hash >> 33 | 1;
        for (int i = 0; i < TABLE_FILTER_PROBES; i++, hash += step)
            filter->data[hash % bits / 8] |= (uint8_t)(1u << (hash % 8));
    }
    return STATUS_OK;
}

static enum status put_footer(struct table_writer *writer,
                              struct buffer *footer, const uint64_t *fields,
                              size_t count)
{
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < count; i++)
        status = lsm_put_u64(footer, fields[i]);
    if (status == STATUS_OK)
        status =
            lsm_put_u64(footer, file_checksum(buffer_bytes(footer),
                                              table_seed(writer->number, 0)));
    if (status == STATUS_OK)
        status = lsm_put_u64(footer, TABLE_MAGIC);
    if (status == STATUS_OK)
        status = file_write(writer->fd, buffer_bytes(footer));
    return status;
}

enum status table_writer_finish(struct table_writer *writer)
{
    struct buffer filter = {0}, footer = {0};
    enum status status = end_block(writer);
    uint64_t index_offset = writer->offset;
    uint64_t index_size = writer->index.size;
    if (status == STATUS_OK)
        status = make_filter(writer, &filter);
    uint64_t filter_size = filter.size;
    if (status == STATUS_OK)
        status = write_part(writer, &writer->index);
    if (status == STATUS_OK)
        status = write_part(writer, &filter);
    if (status == STATUS_OK) {
        uint64_t fields[] = {index_offset, index_size, filter_size,
                             writer->entries, writer->sequence};
        status = put_footer(writer, &footer, fields, 5);
    }
    if (status == STATUS_OK && fsync(writer->fd) != 0)
        status = directory_status(errno);
    buffer_fini(&filter);
    buffer_fini(&footer);
    return status;
}
