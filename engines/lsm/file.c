/* SPDX-License-Identifier: MIT */
#include "engines/lsm/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "engines/directory.h"

bool file_path(char *path, const char *directory, enum lsm_file_kind kind,
               uint64_t number)
{
    int size = snprintf(path, LSM_PATH_MAX, "%s/%08" PRIu64 ".%s", directory,
                        number, kind == LSM_FILE_LOG ? "log" : "table");
    return size > 0 && size < LSM_PATH_MAX;
}

bool file_parse_name(const char *name, enum lsm_file_kind *kind,
                     uint64_t *number)
{
    uint64_t value = 0;
    const char *at = name;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (value > (UINT64_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (at == name)
        return false;
    *number = value;
    *kind = strcmp(at, ".log") == 0 ? LSM_FILE_LOG : LSM_FILE_TABLE;
    return *kind == LSM_FILE_LOG || strcmp(at, ".table") == 0;
}

enum status file_write(int fd, struct bytes bytes)
{
    while (bytes.size > 0) {
        ssize_t written = write(fd, bytes.data, bytes.size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return directory_status(errno);
        bytes.data += written;
        bytes.size -= (size_t)written;
    }
    return STATUS_OK;
}

enum status file_read_at(int fd, uint64_t offset, void *data, size_t size)
{
    uint8_t *to = data;
    while (size > 0) {
        ssize_t got = pread(fd, to, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return STATUS_IO;
        if (got == 0)
            return STATUS_CORRUPT;
        to += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return STATUS_OK;
}

enum status file_read_all(const char *path, struct buffer *content)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? STATUS_NOT_FOUND : directory_status(errno);
    struct stat stat;
    enum status status = STATUS_IO;
    if (fstat(fd, &stat) == 0) {
        buffer_clear(content);
        status = buffer_reserve(content, (size_t)stat.st_size);
        if (status == STATUS_OK)
            status = file_read_at(fd, 0, content->data, (size_t)stat.st_size);
        if (status == STATUS_OK)
            content->size = (size_t)stat.st_size;
    }
    close(fd);
    return status;
}

uint64_t file_checksum(struct bytes bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, seed);
}

static enum status put_number(struct buffer *buffer, uint64_t value,
                              size_t size)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    return buffer_append(buffer, bytes_of(bytes, size));
}

enum status lsm_put_u8(struct buffer *buffer, uint8_t value)
{
    return put_number(buffer, value, 1);
}

enum status lsm_put_u32(struct buffer *buffer, uint32_t value)
{
    return put_number(buffer, value, 4);
}

enum status lsm_put_u64(struct buffer *buffer, uint64_t value)
{
    return put_number(buffer, value, 8);
}

enum status lsm_put_bytes(struct buffer *buffer, struct bytes bytes)
{
    if (bytes.size > UINT32_MAX)
        return STATUS_TOO_LARGE;
    enum status status = lsm_put_u32(buffer, (uint32_t)bytes.size);
    return status == STATUS_OK ? buffer_append(buffer, bytes) : status;
}

static bool take_number(struct bytes *from, size_t size, uint64_t *value)
{
    if (from->size < size)
        return false;
    *value = 0;
    for (size_t i = 0; i < size; i++)
        *value |= (uint64_t)from->data[i] << (8 * i);
    from->data += size;
    from->size -= size;
    return true;
}

bool lsm_take_u8(struct bytes *from, uint8_t *value)
{
    uint64_t number;
    bool taken = take_number(from, 1, &number);
    if (taken)
        *value = (uint8_t)number;
    return taken;
}

bool lsm_take_u32(struct bytes *from, uint32_t *value)
{
    uint64_t number;
    bool taken = take_number(from, 4, &number);
    if (taken)
        *value = (uint32_t)number;
    return taken;
}

bool lsm_take_u64(struct bytes *from, uint64_t *value)
{
    return take_number(from, 8, value);
}

bool lsm_take_bytes(struct bytes *from, struct bytes *value)
{
    uint32_t size;
    if (!lsm_take_u32(from, &size) || size > from->size)
        return false;
    *value = bytes_of(from->data, size);
    from->data += size;
    from->size -= size;
    return true;
}

enum status lsm_put_entry(struct buffer *buffer, const struct entry *entry)
{
    enum status status = lsm_put_u64(buffer, entry->sequence);
    if (status == STATUS_OK)
        status = lsm_put_u8(buffer, entry->removed);
    if (status == STATUS_OK)
        status = lsm_put_bytes(buffer, entry->key);
    if (status == STATUS_OK)
        status = lsm_put_bytes(buffer, entry->value);
    return status;
}

bool lsm_take_entry(struct bytes *from, struct entry *entry)
{
    uint8_t removed;
    if (!lsm_take_u64(from, &entry->sequence) || !lsm_take_u8(from, &removed) ||
        removed > 1 || !lsm_take_bytes(from, &entry->key) ||
        !lsm_take_bytes(from, &entry->value))
        return false;
    entry->removed = removed == 1;
    return true;
}
