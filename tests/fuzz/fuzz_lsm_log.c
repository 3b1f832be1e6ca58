/* SPDX-License-Identifier: MIT */
#include "engines/lsm/log.h"
#include "engines/lsm/log_format.h"
#include "proto/assert.h"
#include "tests/engines/memory_disk.h"
#include "tests/fuzz/fuzz.h"

enum { NUMBER = 7 };

struct seen {
    uint64_t operations;
    uint64_t next; /* sequence */
    uint64_t digest;
};

static enum status see(void *context, const struct entry *entry)
{
    struct seen *seen = context;
    ASSERT(entry->key.size > 0 && entry->key.size <= ENGINE_KEY_BYTES_MAX);
    ASSERT(entry->sequence >= seen->next);
    seen->operations++;
    seen->next = entry->sequence + 1;
    seen->digest = checksum_at(entry->key, seen->digest, entry->sequence);
    seen->digest = checksum_at(entry->value, seen->digest, entry->removed);
    return STATUS_OK;
}

static void write_file(struct disk *disk, const char *name, struct bytes bytes)
{
    struct disk_file *file;
    ASSERT(disk_file_open(disk, name, DISK_CREATE, &file) == STATUS_OK);
    ASSERT(disk_file_write(file, 0, bytes) == STATUS_OK);
    disk_file_close(file);
}

static void read_again(struct disk *disk, const struct seen *seen,
                       struct log_replay *replay)
{
    struct seen again = {0};
    ASSERT(log_read(disk, NUMBER, see, &again, replay) == STATUS_OK);
    ASSERT(again.operations == seen->operations);
    ASSERT(again.digest == seen->digest);
    ASSERT(!replay->damaged);
}

/* Whatever the file is, what was read from it reads back from its sound bytes
 * alone. */
static void check_log(struct bytes content)
{
    char name[LSM_NAME_MAX];
    struct memory_disk *memory = memory_disk_new();
    struct disk *disk = memory_disk_at(memory, MEMORY_DISK_PATH);
    struct log_replay replay, again;
    struct seen seen = {0};
    log_name(name, NUMBER);
    write_file(disk, name, content);
    ASSERT(log_read(disk, NUMBER, see, &seen, &replay) == STATUS_OK);
    ASSERT(replay.size <= content.size && replay.synced <= replay.size);
    ASSERT(replay.sequence == seen.next);
    ASSERT(!(replay.ended && replay.damaged));
    write_file(disk, name, bytes_of(content.data, (size_t)replay.size));
    read_again(disk, &seen, &again);
    ASSERT(again.size == replay.size && again.ended == replay.ended);
    disk_free(disk);
    memory_disk_free(memory);
}

/* Put the checksums of what looks like a row of records right, which no fuzzer
 * would guess. A size with the top bit ends the row, so that there may be
 * something bad in the middle: behind it, by as many bytes as the rest of the
 * size says, another begins. */
static void seal(uint8_t *data, size_t size)
{
    size_t at = 0;
    while (size - at >= LOG_HEADER_BYTES) {
        uint32_t told = load_u32(data + at + LOG_AT_SIZE);
        size_t skip = told & INT32_MAX;
        if (skip > size - at - LOG_HEADER_BYTES)
            return;
        skip += LOG_HEADER_BYTES;
        if (told <= INT32_MAX)
            log_seal(data + at, skip, load_u64(data + at + LOG_AT_SYNCED),
                     NUMBER, at);
        at += skip;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer sealed = {0};
    check_log(bytes_of(data, size));
    ASSERT(buffer_append(&sealed, bytes_of(data, size)) == STATUS_OK);
    seal(sealed.data, sealed.size);
    check_log(buffer_bytes(&sealed));
    buffer_fini(&sealed);
    return 0;
}
