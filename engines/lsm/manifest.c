/* SPDX-License-Identifier: MIT */
#include "engines/lsm/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engines/directory.h"

#define MANIFEST_MAGIC UINT64_C(0x313074736566696d) /* "mifest01" */

/* A table's number and tier. */
enum { TABLE_BYTES = 8 + 4 };

static bool manifest_path(char *path, const char *directory, const char *name)
{
    int size = snprintf(path, LSM_PATH_MAX, "%s/%s", directory, name);
    return size > 0 && size < LSM_PATH_MAX;
}

static enum status parse(struct bytes content, struct manifest *manifest)
{
    uint64_t magic, checksum;
    uint32_t count;
    if (content.size < 8)
        return STATUS_CORRUPT;
    struct bytes end = bytes_of(content.data + content.size - 8, 8);
    content.size -= 8;
    if (!lsm_take_u64(&end, &checksum) ||
        checksum != file_checksum(content, 0) ||
        !lsm_take_u64(&content, &magic) || magic != MANIFEST_MAGIC ||
        !lsm_take_u64(&content, &manifest->next_file) ||
        !lsm_take_u64(&content, &manifest->log_number) ||
        !lsm_take_u64(&content, &manifest->sequence) ||
        !lsm_take_u32(&content, &count) ||
        content.size != (uint64_t)count * TABLE_BYTES)
        return STATUS_CORRUPT;
    manifest->tables = calloc((size_t)count + 1, sizeof *manifest->tables);
    if (manifest->tables == NULL)
        return STATUS_NO_MEMORY;
    for (; manifest->table_count < count; manifest->table_count++) {
        uint64_t number;
        uint32_t tier;
        if (!lsm_take_u64(&content, &number) || !lsm_take_u32(&content, &tier))
            return STATUS_CORRUPT;
        manifest->tables[manifest->table_count] =
            (struct manifest_table){.number = number, .tier = tier};
    }
    return STATUS_OK;
}

enum status manifest_read(const char *directory, struct manifest *manifest)
{
    char path[LSM_PATH_MAX];
    *manifest = (struct manifest){0};
    if (!manifest_path(path, directory, "MANIFEST"))
        return STATUS_INVALID;
    struct buffer content = {0};
    enum status status = file_read_all(path, &content);
    if (status == STATUS_OK)
        status = parse(buffer_bytes(&content), manifest);
    buffer_fini(&content);
    if (status != STATUS_OK)
        manifest_fini(manifest);
    return status;
}

static enum status format(const struct manifest *manifest,
                          struct buffer *content)
{
    enum status status = lsm_put_u64(content, MANIFEST_MAGIC);
    if (status == STATUS_OK)
        status = lsm_put_u64(content, manifest->next_file);
    if (status == STATUS_OK)
        status = lsm_put_u64(content, manifest->log_number);
    if (status == STATUS_OK)
        status = lsm_put_u64(content, manifest->sequence);
    if (status == STATUS_OK)
        status = lsm_put_u32(content, (uint32_t)manifest->table_count);
    for (size_t i = 0; status == STATUS_OK && i < manifest->table_count; i++) {
        status = lsm_put_u64(content, manifest->tables[i].number);
        if (status == STATUS_OK)
            status = lsm_put_u32(content, manifest->tables[i].tier);
    }
    if (status == STATUS_OK)
        status = lsm_put_u64(content, file_checksum(buffer_bytes(content), 0));
    return status;
}

static enum status write_synced(const char *path, struct bytes content)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return directory_status(errno);
    enum status status = file_write(fd, content);
    if (status == STATUS_OK && fsync(fd) != 0)
        status = directory_status(errno);
    close(fd);
    return status;
}

enum status manifest_write(const char *directory,
                           const struct manifest *manifest)
{
    char path[LSM_PATH_MAX], next[LSM_PATH_MAX];
    if (!manifest_path(path, directory, "MANIFEST") ||
        !manifest_path(next, directory, "MANIFEST.next"))
        return STATUS_INVALID;
    struct buffer content = {0};
    enum status status = format(manifest, &content);
    if (status == STATUS_OK)
        status = write_synced(next, buffer_bytes(&content));
    buffer_fini(&content);
    if (status == STATUS_OK && rename(next, path) != 0)
        status = directory_status(errno);
    return status == STATUS_OK ? directory_sync(directory, NULL) : status;
}

void manifest_fini(struct manifest *manifest)
{
    free(manifest->tables);
    *manifest = (struct manifest){0};
}
