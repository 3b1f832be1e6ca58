/* SPDX-License-Identifier: MIT */
#include "engines/lsm/manifest.h"

#include <stdlib.h>

#define MANIFEST_MAGIC UINT64_C(0x323074736566696d) /* "mifest02" */

enum {
    HEAD_BYTES = 4 * 8 + 2 * 4,
    TABLE_BYTES = 8 + 4 + 8,
    CHECKSUM_BYTES = 8,
    /* A sequence and two empty keys. */
    DROP_BYTES_MIN = 8 + 1 + 1,
    DROP_BYTES_MAX = 8 + 2 * (VARINT32_MAX + ENGINE_KEY_BYTES_MAX),
    /* Three million tables; whatever claims to be more is not ours. */
    MANIFEST_BYTES_MAX = 64 << 20,
};

static const char name[] = "MANIFEST";
static const char next_name[] = "MANIFEST.next";

static const uint8_t *take_tables(const uint8_t *at, const uint8_t *end,
                                  struct manifest *manifest)
{
    unsigned level_before = 0;
    for (size_t i = 0; i < manifest->table_count; i++) {
        struct manifest_table *table = &manifest->tables[i];
        uint32_t level = 0;
        at = take_u64(at, end, &table->number);
        at = take_u32(at, end, &level);
        at = take_u64(at, end, &table->drops_applied);
        if (at == NULL || level >= LEVELS || level < level_before)
            return NULL;
        table->level = level_before = level;
    }
    return at;
}

static const uint8_t *take_drops(const uint8_t *at, const uint8_t *end,
                                 struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->drop_count; i++) {
        struct dropped_range *drop = &manifest->drops[i];
        at = take_u64(at, end, &drop->sequence);
        at = take_bytes(at, end, &drop->from);
        at = take_bytes(at, end, &drop->to);
        if (at == NULL || drop->from.size > ENGINE_KEY_BYTES_MAX ||
            drop->to.size > ENGINE_KEY_BYTES_MAX)
            return NULL;
    }
    return at;
}

/* The head, with the counts checked against the bytes that are there. */
static const uint8_t *take_head(const uint8_t *at, const uint8_t *end,
                                struct manifest *manifest)
{
    uint64_t magic = 0;
    uint32_t tables = 0, drops = 0;
    at = take_u64(at, end, &magic);
    at = take_u64(at, end, &manifest->next_file);
    at = take_u64(at, end, &manifest->log_number);
    at = take_u64(at, end, &manifest->sequence);
    at = take_u32(at, end, &tables);
    at = take_u32(at, end, &drops);
    if (at == NULL || magic != MANIFEST_MAGIC ||
        (uint64_t)tables * TABLE_BYTES + (uint64_t)drops * DROP_BYTES_MIN >
            (uint64_t)(end - at))
        return NULL;
    manifest->table_count = tables;
    manifest->drop_count = drops;
    return at;
}

static enum status parse(struct manifest *manifest)
{
    struct bytes content = buffer_bytes(&manifest->content);
    if (content.size < CHECKSUM_BYTES)
        return STATUS_CORRUPT;
    content.size -= CHECKSUM_BYTES;
    const uint8_t *at = content.data, *end = at + content.size;
    if (load_u64(end) != checksum_at(content, 0, 0))
        return STATUS_CORRUPT;
    at = take_head(at, end, manifest);
    if (at == NULL)
        return STATUS_CORRUPT;
    manifest->tables =
        calloc(manifest->table_count + 1, sizeof *manifest->tables);
    manifest->drops = calloc(manifest->drop_count + 1, sizeof *manifest->drops);
    if (manifest->tables == NULL || manifest->drops == NULL)
        return STATUS_NO_MEMORY;
    at = take_tables(at, end, manifest);
    at = at == NULL ? NULL : take_drops(at, end, manifest);
    return at == end ? STATUS_OK : STATUS_CORRUPT;
}

enum status manifest_read(struct disk *disk, struct manifest *manifest)
{
    *manifest = (struct manifest){0};
    enum status status =
        disk_read_all(disk, name, MANIFEST_BYTES_MAX, &manifest->content);
    if (status == STATUS_OK)
        status = parse(manifest);
    if (status != STATUS_OK)
        manifest_fini(manifest);
    return status == STATUS_TOO_LARGE ? STATUS_CORRUPT : status;
}

void manifest_fini(struct manifest *manifest)
{
    free(manifest->tables);
    free(manifest->drops);
    buffer_fini(&manifest->content);
    *manifest = (struct manifest){0};
}

static uint8_t *put_level(uint8_t *at, const struct version *version,
                          unsigned level)
{
    for (size_t i = 0; i < version->levels[level].count; i++) {
        const struct table *table = version->levels[level].tables[i];
        at = put_u64(at, table->number);
        at = put_u32(at, level);
        at = put_u64(at, table->drops_applied);
    }
    return at;
}

static uint8_t *put_drops(uint8_t *at, const struct version *version)
{
    for (size_t i = 0; i < version->drop_count; i++) {
        const struct dropped_range *drop = &version->drops[i];
        at = put_u64(at, drop->sequence);
        at = put_bytes(at, drop->from);
        at = put_bytes(at, drop->to);
    }
    return at;
}

static enum status format(const struct version *version, uint64_t next_file,
                          uint64_t log_number, uint64_t sequence,
                          struct buffer *content)
{
    size_t tables = 0;
    for (unsigned i = 0; i < LEVELS; i++)
        tables += version->levels[i].count;
    size_t room = HEAD_BYTES + tables * TABLE_BYTES +
                  version->drop_count * DROP_BYTES_MAX + CHECKSUM_BYTES;
    if (room > MANIFEST_BYTES_MAX)
        return STATUS_TOO_LARGE;
    enum status status = buffer_reserve(content, room);
    if (status != STATUS_OK)
        return status;
    uint8_t *at = put_u64(content->data, MANIFEST_MAGIC);
    at = put_u64(at, next_file);
    at = put_u64(at, log_number);
    at = put_u64(at, sequence);
    at = put_u32(at, (uint32_t)tables);
    at = put_u32(at, (uint32_t)version->drop_count);
    for (unsigned i = 0; i < LEVELS; i++)
        at = put_level(at, version, i);
    at = put_drops(at, version);
    content->size = (size_t)(at - content->data);
    put_u64(at, checksum_at(buffer_bytes(content), 0, 0));
    content->size += CHECKSUM_BYTES;
    return STATUS_OK;
}

static enum status write_synced(struct disk *disk, struct bytes content)
{
    struct disk_file *file;
    enum status status = disk_file_open(disk, next_name, DISK_CREATE, &file);
    if (status != STATUS_OK)
        return status;
    status = disk_file_write(file, 0, content);
    if (status == STATUS_OK)
        status = disk_file_sync(file);
    disk_file_close(file);
    return status;
}

enum status manifest_write(struct disk *disk, const struct version *version,
                           uint64_t next_file, uint64_t log_number,
                           uint64_t sequence)
{
    struct buffer content = {0};
    enum status status =
        format(version, next_file, log_number, sequence, &content);
    if (status == STATUS_OK)
        status = write_synced(disk, buffer_bytes(&content));
    buffer_fini(&content);
    if (status == STATUS_OK)
        status = disk->operations->rename(disk, next_name, name);
    if (status == STATUS_OK)
        status = disk->operations->sync_directory(disk);
    return status;
}
