/* SPDX-License-Identifier: MIT */
#include "engines/lsm/log.h"

#include <stdio.h>

#include "engines/lsm/log_format.h"
#include "proto/assert.h"

/* How far a log that is synced often is filled ahead. Making a file grow is
 * then paid once in 2,000 records of 130 bytes; more makes the write that
 * fills, and thus one commit, longer than the sync behind it. */
enum { FILL_BYTES = 256 << 10 };

void log_name(char name[LSM_NAME_MAX], uint64_t number)
{
    snprintf(name, LSM_NAME_MAX, "%08llu.log", (unsigned long long)number);
}

/* A file that was there a moment ago: that it is gone is a failure. */
static enum status open_known(struct disk *disk, const char *name,
                              struct disk_file **file)
{
    enum status status = disk_file_open(disk, name, DISK_UPDATE, file);
    return status == STATUS_NOT_FOUND ? STATUS_IO : status;
}

/* A crash leaves the file under its old name, where nobody needs it, or under
 * the new one, where it reads as empty. */
static enum status recycle(struct log *log, struct disk *disk, const char *name,
                           uint64_t recycled)
{
    char old[LSM_NAME_MAX];
    log_name(old, recycled);
    enum status status = disk->operations->rename(disk, old, name);
    if (status == STATUS_OK)
        status = open_known(disk, name, &log->file);
    if (status == STATUS_OK)
        status = log->file->operations->size(log->file, &log->prepared);
    return status;
}

enum status log_create(struct log *log, struct disk *disk, uint64_t number,
                       uint64_t recycled)
{
    char name[LSM_NAME_MAX];
    *log = (struct log){.number = number};
    log_name(name, number);
    enum status status =
        recycled != 0 ? recycle(log, disk, name, recycled)
                      : disk_file_open(disk, name, DISK_CREATE, &log->file);
    if (status == STATUS_OK)
        status = disk->operations->sync_directory(disk);
    if (status != STATUS_OK)
        log_close(log);
    return status;
}

void log_close(struct log *log)
{
    disk_file_close(log->file);
    log->file = NULL;
    buffer_fini(&log->record);
}

enum status log_begin(struct log *log, uint64_t sequence)
{
    buffer_clear(&log->record);
    enum status status = buffer_reserve(&log->record, LOG_HEADER_BYTES);
    if (status != STATUS_OK)
        return status;
    put_u64(log->record.data + LOG_AT_SEQUENCE, sequence);
    log->record.size = LOG_HEADER_BYTES;
    return STATUS_OK;
}

enum status log_put(struct log *log, const struct batch_operation *operation)
{
    struct buffer *record = &log->record;
    struct bytes key = operation->key;
    size_t value_size = operation->remove ? 0 : operation->value.size;
    size_t room = 2 * VARINT64_MAX + key.size + value_size;
    if (value_size > UINT32_MAX || record->size + room > UINT32_MAX)
        return STATUS_TOO_LARGE;
    enum status status = buffer_reserve(record, room);
    if (status != STATUS_OK)
        return status;
    uint8_t *at = record->data + record->size;
    at = put_varint(at, (uint64_t)key.size << 1 | operation->remove);
    memcpy(at, key.data, key.size);
    at += key.size;
    if (!operation->remove)
        at = put_bytes(at, operation->value);
    record->size = (size_t)(at - record->data);
    return STATUS_OK;
}

/* Put zeros behind the record, up to the next step. */
static enum status fill_ahead(struct log *log)
{
    struct buffer *record = &log->record;
    size_t zeros =
        FILL_BYTES - (size_t)((log->size + record->size) % FILL_BYTES);
    enum status status = buffer_reserve(record, zeros);
    if (status != STATUS_OK)
        return status;
    memset(record->data + record->size, 0, zeros);
    record->size += zeros;
    return STATUS_OK;
}

enum status log_append(struct log *log, bool synced_soon)
{
    struct buffer *record = &log->record;
    ASSERT(log->file != NULL && record->size >= LOG_HEADER_BYTES);
    size_t size = record->size;
    log_seal(record->data, size, log->predecessors_synced ? log->synced + 1 : 0,
             log->number, log->size);
    enum status status = STATUS_OK;
    if (synced_soon && log->size + size > log->prepared)
        status = fill_ahead(log);
    if (status == STATUS_OK)
        status = disk_file_write(log->file, log->size, buffer_bytes(record));
    if (status != STATUS_OK)
        return status;
    uint64_t written = log->size + record->size;
    if (written > log->prepared)
        log->prepared = written;
    log->size += size;
    buffer_clear(record);
    return STATUS_OK;
}

enum status log_end(struct log *log, uint64_t next)
{
    enum status status = log_begin(log, next);
    if (status == STATUS_OK)
        status = log_append(log, false);
    buffer_fini(&log->record);
    return status;
}

enum status log_sync(struct log *log)
{
    enum status status = STATUS_OK;
    if (log->synced < log->size)
        status = disk_file_sync(log->file);
    if (status != STATUS_OK)
        return status;
    log->synced = log->size;
    log->predecessors_synced = true;
    return STATUS_OK;
}
