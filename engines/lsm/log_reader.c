/* SPDX-License-Identifier: MIT */
#include "engines/lsm/log.h"
#include "engines/lsm/log_format.h"

/* What is read at once: small enough to stay in the processor's cache until
 * its records are applied. */
enum { PIECE_BYTES = 1 << 20 };

struct reader {
    struct disk_file *file;
    uint64_t number;
    uint64_t file_size;
    struct buffer piece; /* of the file, from piece_at on */
    uint64_t piece_at;
    enum status (*apply)(void *context, const struct entry *entry);
    void *context;
};

struct record {
    uint64_t synced; /* as LOG_AT_SYNCED */
    uint64_t sequence;
    struct bytes payload; /* in the reader's piece */
};

static uint64_t piece_end(const struct reader *reader)
{
    return reader->piece_at + reader->piece.size;
}

/* The file's bytes from offset on, at least size of them, which the file has,
 * up to the end of the piece. Valid until the next call. */
static enum status see(struct reader *reader, uint64_t offset, size_t size,
                       const uint8_t **bytes)
{
    if (offset < reader->piece_at || offset + size > piece_end(reader)) {
        uint64_t left = reader->file_size - offset;
        size_t wanted = size < PIECE_BYTES ? PIECE_BYTES : size;
        if (wanted > left)
            wanted = (size_t)left;
        buffer_clear(&reader->piece);
        enum status status = buffer_reserve(&reader->piece, wanted);
        if (status == STATUS_OK)
            status = disk_file_read(reader->file, offset, reader->piece.data,
                                    wanted);
        if (status != STATUS_OK)
            return status;
        reader->piece_at = offset;
        reader->piece.size = wanted;
    }
    *bytes = reader->piece.data + (offset - reader->piece_at);
    return STATUS_OK;
}

/* The record at offset; NOT_FOUND if there is no sound one. */
static enum status read_record(struct reader *reader, uint64_t offset,
                               struct record *record)
{
    const uint8_t *at;
    if (reader->file_size - offset < LOG_HEADER_BYTES)
        return STATUS_NOT_FOUND;
    enum status status = see(reader, offset, LOG_HEADER_BYTES, &at);
    if (status != STATUS_OK)
        return status;
    uint64_t size = (uint64_t)load_u32(at + LOG_AT_SIZE) + LOG_HEADER_BYTES;
    if (load_u32(at + LOG_AT_CHECK) != log_check(at, reader->number, offset) ||
        size > reader->file_size - offset)
        return STATUS_NOT_FOUND;
    status = see(reader, offset, (size_t)size, &at);
    if (status != STATUS_OK)
        return status;
    if (load_u64(at + LOG_AT_CHECKSUM) !=
        log_checksum(at, (size_t)size, reader->number, offset))
        return STATUS_NOT_FOUND;
    record->synced = load_u64(at + LOG_AT_SYNCED);
    record->sequence = load_u64(at + LOG_AT_SEQUENCE);
    record->payload =
        bytes_of(at + LOG_HEADER_BYTES, (size_t)size - LOG_HEADER_BYTES);
    return STATUS_OK;
}

static const uint8_t *take_operation(const uint8_t *at, const uint8_t *end,
                                     struct entry *entry)
{
    uint64_t head = 0;
    at = take_varint(at, end, &head);
    uint64_t key_size = head >> 1;
    if (at == NULL || key_size == 0 || key_size > ENGINE_KEY_BYTES_MAX ||
        key_size > (uint64_t)(end - at))
        return NULL;
    entry->key = bytes_of(at, (size_t)key_size);
    entry->value = (struct bytes){0};
    entry->removed = head & 1;
    at += key_size;
    return entry->removed ? at : take_bytes(at, end, &entry->value);
}

/* Whether the payload is operations from end to end. */
static bool is_whole(struct bytes payload)
{
    const uint8_t *at = payload.data, *end = at + payload.size;
    struct entry entry;
    while (at != NULL && at < end)
        at = take_operation(at, end, &entry);
    return at != NULL;
}

/* A record that passes its checksum was written so; if it makes no sense
 * nevertheless, what was meant is lost. No store comes to half of all
 * sequences. */
static bool makes_sense(const struct record *record,
                        const struct log_replay *replay)
{
    if (record->synced > replay->size + 1)
        return false;
    if (record->payload.size == 0)
        return record->sequence == 0 || record->sequence > replay->number;
    return (record->sequence >= replay->sequence &&
            record->sequence < UINT64_MAX / 2 && is_whole(record->payload));
}

static enum status apply_record(const struct reader *reader,
                                const struct record *record,
                                struct log_replay *replay)
{
    const uint8_t *at = record->payload.data;
    const uint8_t *end = at + record->payload.size;
    struct entry entry = {.sequence = record->sequence};
    for (; at < end; entry.sequence++) {
        at = take_operation(at, end, &entry);
        enum status status = reader->apply(reader->context, &entry);
        if (status != STATUS_OK)
            return status;
    }
    replay->sequence = entry.sequence;
    return STATUS_OK;
}

static enum status take_record(const struct reader *reader,
                               const struct record *record,
                               struct log_replay *replay)
{
    replay->damaged = !makes_sense(record, replay);
    if (replay->damaged)
        return STATUS_OK;
    replay->ended = record->payload.size == 0;
    if (record->synced != 0) {
        replay->claims = true;
        replay->synced = record->synced - 1;
    }
    enum status status = STATUS_OK;
    if (replay->ended)
        replay->next = record->sequence;
    else
        status = apply_record(reader, record, replay);
    if (status != STATUS_OK)
        return status;
    replay->size += LOG_HEADER_BYTES + record->payload.size;
    return STATUS_OK;
}

/* The first of count places, the first being `offset`, where there is the
 * header of a record that says something of what was synced; count if none.
 * What it may say is so little of all numbers that it is looked at first. */
static size_t find_claim(const uint8_t *places, size_t count, uint64_t number,
                         uint64_t offset)
{
    for (size_t i = 0; i < count; i++) {
        const uint8_t *header = places + i;
        if (load_u64(header + LOG_AT_SYNCED) - 1 <= offset + i &&
            load_u32(header + LOG_AT_CHECK) ==
                log_check(header, number, offset + i))
            return i;
    }
    return count;
}

/* Whether a sound record behind what is bad says that this had been synced.
 * After a crash there may be sound records that do not: what was not synced is
 * there in any order. */
static enum status look_behind(struct reader *reader, struct log_replay *replay)
{
    uint64_t at = replay->size + 1;
    while (!replay->damaged && at < reader->file_size &&
           reader->file_size - at >= LOG_HEADER_BYTES) {
        const uint8_t *bytes;
        struct record record;
        enum status status = see(reader, at, LOG_HEADER_BYTES, &bytes);
        if (status != STATUS_OK)
            return status;
        size_t count = (size_t)(piece_end(reader) - at) - LOG_HEADER_BYTES + 1;
        size_t passed = find_claim(bytes, count, reader->number, at);
        at += passed;
        if (passed == count)
            continue;
        status = read_record(reader, at, &record);
        if (status == STATUS_OK) {
            replay->claims = true;
            replay->damaged = record.synced - 1 > replay->size;
        } else if (status != STATUS_NOT_FOUND) {
            return status;
        }
        at++;
    }
    return STATUS_OK;
}

static enum status read_records(struct reader *reader,
                                struct log_replay *replay)
{
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !replay->ended && !replay->damaged) {
        struct record record;
        status = read_record(reader, replay->size, &record);
        if (status == STATUS_NOT_FOUND)
            return look_behind(reader, replay);
        if (status == STATUS_OK)
            status = take_record(reader, &record, replay);
    }
    return status;
}

enum status log_read(struct disk *disk, uint64_t number,
                     enum status (*apply)(void *context,
                                          const struct entry *entry),
                     void *context, struct log_replay *replay)
{
    char name[LSM_NAME_MAX];
    struct reader reader = {
        .number = number, .apply = apply, .context = context};
    *replay = (struct log_replay){.number = number};
    log_name(name, number);
    enum status status = disk_file_open(disk, name, DISK_READ, &reader.file);
    if (status != STATUS_OK)
        return status;
    reader.file->operations->advise(reader.file, DISK_SEQUENTIAL);
    status = reader.file->operations->size(reader.file, &reader.file_size);
    if (status == STATUS_OK)
        status = read_records(&reader, replay);
    disk_file_close(reader.file);
    buffer_fini(&reader.piece);
    return status;
}
