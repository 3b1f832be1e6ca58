/* SPDX-License-Identifier: MIT */
#include "engines/lsm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "engines/directory.h"

/* payload size, synced offset, payload checksum, header checksum. */
enum { HEADER_BYTES = 4 + 8 + 8 + 8 };

enum status log_create(struct log *log, const char *directory, uint64_t number)
{
    char path[LSM_PATH_MAX];
    *log = (struct log){.fd = -1, .number = number};
    if (!file_path(path, directory, LSM_FILE_LOG, number))
        return STATUS_INVALID;
    log->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (log->fd < 0)
        return directory_status(errno);
    enum status status = directory_sync(directory, NULL);
    if (status != STATUS_OK)
        log_close(log);
    return status;
}

void log_close(struct log *log)
{
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
    buffer_fini(&log->scratch);
}

enum status log_begin(struct log *log)
{
    buffer_clear(&log->scratch);
    static const uint8_t header[HEADER_BYTES];
    return buffer_append(&log->scratch, bytes_of(header, sizeof header));
}

enum status log_put(struct log *log, const struct entry *entry)
{
    return lsm_put_entry(&log->scratch, entry);
}

/* The place is part of the seed: a record copied elsewhere is no record. */
static uint64_t record_seed(uint64_t number, uint64_t offset)
{
    return number * 0x9e3779b97f4a7c15u ^ offset;
}

enum status log_append(struct log *log)
{
    size_t payload = log->scratch.size - HEADER_BYTES;
    if (payload > UINT32_MAX)
        return STATUS_TOO_LARGE;
    uint64_t seed = record_seed(log->number, log->size);
    uint64_t checksum = file_checksum(
        bytes_of(log->scratch.data + HEADER_BYTES, payload), seed);
    struct buffer header = {0};
    enum status status = lsm_put_u32(&header, (uint32_t)payload);
    if (status == STATUS_OK)
        status = lsm_put_u64(&header, log->synced);
    if (status == STATUS_OK)
        status = lsm_put_u64(&header, checksum);
    if (status == STATUS_OK)
        status =
            lsm_put_u64(&header, file_checksum(buffer_bytes(&header), seed));
    if (status == STATUS_OK) {
        memcpy(log->scratch.data, header.data, HEADER_BYTES);
        status = file_write(log->fd, buffer_bytes(&log->scratch));
    }
    if (status == STATUS_OK)
        log->size += log->scratch.size;
    buffer_fini(&header);
    return status;
}

enum status log_sync(struct log *log)
{
    if (log->synced == log->size)
        return STATUS_OK;
    if (fdatasync(log->fd) != 0)
        return directory_status(errno);
    log->synced = log->size;
    return STATUS_OK;
}

/* The payload of a whole and sound record at offset, or false. */
static bool read_record(struct bytes file, uint64_t number, uint64_t offset,
                        struct bytes *payload, uint64_t *synced)
{
    if (file.size - offset < HEADER_BYTES)
        return false;
    struct bytes rest = bytes_of(file.data + offset, file.size - offset);
    struct bytes checked = bytes_of(rest.data, HEADER_BYTES - 8);
    uint64_t seed = record_seed(number, offset);
    uint32_t size;
    uint64_t checksum, header_checksum;
    if (!lsm_take_u32(&rest, &size) || !lsm_take_u64(&rest, synced) ||
        !lsm_take_u64(&rest, &checksum) ||
        !lsm_take_u64(&rest, &header_checksum))
        return false;
    if (header_checksum != file_checksum(checked, seed) || size > rest.size)
        return false;
    *payload = bytes_of(rest.data, size);
    return checksum == file_checksum(*payload, seed);
}

/* Whether anything behind a bad record proves that it had been synced. */
static bool was_synced(struct bytes file, uint64_t number, uint64_t bad)
{
    for (uint64_t at = bad + 1; at < file.size; at++) {
        struct bytes payload;
        uint64_t synced;
        if (read_record(file, number, at, &payload, &synced) && synced > bad)
            return true;
    }
    return false;
}

static enum status cut(const char *path, uint64_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return STATUS_IO;
    bool done = ftruncate(fd, (off_t)size) == 0 && fsync(fd) == 0;
    close(fd);
    return done ? STATUS_OK : STATUS_IO;
}

enum status log_replay(const char *directory, uint64_t number, bool last,
                       enum status (*apply)(void *context,
                                            const struct entry *entry),
                       void *context)
{
    char path[LSM_PATH_MAX];
    struct buffer content = {0};
    if (!file_path(path, directory, LSM_FILE_LOG, number))
        return STATUS_INVALID;
    enum status status = file_read_all(path, &content);
    struct bytes file = buffer_bytes(&content), payload;
    uint64_t offset = 0, synced;
    while (status == STATUS_OK && offset < file.size) {
        if (!read_record(file, number, offset, &payload, &synced)) {
            status = last && !was_synced(file, number, offset)
                         ? cut(path, offset)
                         : STATUS_CORRUPT;
            break;
        }
        offset += HEADER_BYTES + payload.size;
        struct entry entry;
        while (status == STATUS_OK && payload.size > 0)
            status = lsm_take_entry(&payload, &entry) ? apply(context, &entry)
                                                      : STATUS_CORRUPT;
    }
    buffer_fini(&content);
    return status;
}
