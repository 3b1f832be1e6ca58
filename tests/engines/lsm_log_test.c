/* SPDX-License-Identifier: MIT */
#include "tests/engines/disk_fixture.h"

#include "engines/lsm/log.h"
#include "engines/lsm/log_format.h"

/* The log: what was appended is read, what was torn is not, and what was
 * synced and is not there any more is called damage.
 *
 * An operation is made of its sequence alone, so that a reader can check what
 * it gets. */

enum {
    BIG_BYTES = (1 << 20) + 4321, /* more than the reader reads at once */
};

static uint8_t noise[BIG_BYTES];

static int make_noise(void **state)
{
    (void)state;
    uint64_t x = 1;
    for (size_t i = 0; i < sizeof noise; i++) {
        x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
        noise[i] = (uint8_t)(x >> 56);
    }
    return 0;
}

static struct batch_operation operation_of(uint64_t sequence)
{
    static const size_t sizes[] = {0, 1, 127, 128, 20, 3};
    size_t key = 1 + sequence * 37 % ENGINE_KEY_BYTES_MAX;
    size_t value = sizes[sequence % 6];
    if (sequence % 1000 == 999)
        value = BIG_BYTES;
    return (struct batch_operation){
        .key = bytes_of(noise + sequence % 5000, key),
        .value = bytes_of(noise + (value == BIG_BYTES ? 0 : sequence), value),
        .remove = sequence % 7 == 3,
    };
}

static void put_record(struct log *log, uint64_t sequence, unsigned count,
                       bool synced)
{
    assert_int_equal(log_begin(log, sequence), STATUS_OK);
    for (unsigned i = 0; i < count; i++) {
        struct batch_operation operation = operation_of(sequence + i);
        assert_int_equal(log_put(log, &operation), STATUS_OK);
    }
    assert_int_equal(log_append(log, synced), STATUS_OK);
    if (synced)
        assert_int_equal(log_sync(log), STATUS_OK);
}

static struct log new_log(uint64_t number, uint64_t recycled)
{
    struct log log;
    assert_int_equal(log_create(&log, disk, number, recycled), STATUS_OK);
    return log;
}

static enum status check_entry(void *context, const struct entry *entry)
{
    uint64_t *next = context;
    struct batch_operation operation = operation_of(entry->sequence);
    assert_int_equal(entry->sequence, *next);
    assert_true(bytes_equal(entry->key, operation.key));
    assert_int_equal(entry->removed, operation.remove);
    if (!entry->removed)
        assert_true(bytes_equal(entry->value, operation.value));
    (*next)++;
    return STATUS_OK;
}

/* Read a log that holds operations from `first` up to `end`. */
static struct log_replay expect_log(uint64_t number, uint64_t first,
                                    uint64_t end)
{
    struct log_replay replay;
    uint64_t next = first;
    assert_int_equal(log_read(disk, number, check_entry, &next, &replay),
                     STATUS_OK);
    assert_int_equal(next, end);
    assert_int_equal(replay.number, number);
    assert_int_equal(replay.sequence, first == end ? 0 : end);
    return replay;
}

static const char *file_name(uint64_t number)
{
    static char name[LSM_NAME_MAX];
    log_name(name, number);
    return name;
}

static void an_empty_log_reads_as_empty(void **state)
{
    (void)state;
    struct log log = new_log(1, 0);
    log_close(&log);
    struct log_replay replay = expect_log(1, 1, 1);
    assert_int_equal(replay.size, 0);
    assert_false(replay.ended || replay.claims || replay.damaged);
    assert_int_equal(log_read(disk, 2, check_entry, NULL, &replay),
                     STATUS_NOT_FOUND);
}

static void records_of_all_sizes_read_back(void **state)
{
    (void)state;
    struct log log = new_log(12, 0);
    uint64_t next = 900;
    for (unsigned i = 0; i < 400; i++) {
        put_record(&log, next, 1 + i % 9, i % 50 == 0);
        next += 1 + i % 9;
    }
    uint64_t size = log.size;
    log_close(&log);
    struct log_replay replay = expect_log(12, 900, next);
    assert_int_equal(replay.size, size);
    assert_true(replay.claims);
    assert_false(replay.ended || replay.damaged);
}

static void a_log_that_ended_takes_no_memory(void **state)
{
    (void)state;
    struct log log = new_log(1, 0);
    put_record(&log, 1, 2, false);
    assert_int_not_equal(log.record.capacity, 0);
    assert_int_equal(log_end(&log, 2), STATUS_OK);
    assert_int_equal(log.record.capacity, 0);
    log_close(&log);
}

static void nothing_behind_an_end_record_is_read(void **state)
{
    (void)state;
    struct log log = new_log(1, 0);
    put_record(&log, 1, 2, false);
    assert_int_equal(log_end(&log, 2), STATUS_OK);
    uint64_t size = log.size;
    put_record(&log, 3, 2, true);
    log_close(&log);
    struct log_replay replay = expect_log(1, 1, 3);
    assert_true(replay.ended);
    assert_int_equal(replay.next, 2);
    assert_int_equal(replay.size, size);
}

static void a_record_claims_what_was_synced_before(void **state)
{
    (void)state;
    struct log log = new_log(1, 0);
    put_record(&log, 1, 1, false);
    assert_false(expect_log(1, 1, 2).claims);
    assert_int_equal(log_sync(&log), STATUS_OK);
    assert_false(expect_log(1, 1, 2).claims);
    uint64_t synced = log.size;
    put_record(&log, 2, 1, false);
    assert_true(expect_log(1, 1, 3).claims);
    assert_int_equal(expect_log(1, 1, 3).synced, synced);
    log_close(&log);

    log = new_log(2, 0);
    log.predecessors_synced = true;
    put_record(&log, 3, 1, false);
    log_close(&log);
    assert_true(expect_log(2, 3, 4).claims);
    assert_int_equal(expect_log(2, 3, 4).synced, 0);
}

/* A synced record, then one that is not, in log 1; where the second begins. */
static uint64_t two_records(struct buffer *file)
{
    struct log log = new_log(1, 0);
    put_record(&log, 1, 2, false);
    assert_int_equal(log_sync(&log), STATUS_OK);
    uint64_t second = log.size;
    put_record(&log, 3, 2, false);
    log_close(&log);
    read_whole(file_name(1), file);
    return second;
}

static void a_record_torn_at_any_byte_is_not_there(void **state)
{
    (void)state;
    struct buffer file = {0};
    uint64_t second = two_records(&file);
    for (size_t size = file.size - 1; size >= second; size--) {
        cut(file_name(1), size);
        struct log_replay replay = expect_log(1, 1, 3);
        assert_int_equal(replay.size, second);
        assert_false(replay.ended || replay.damaged);
        /* As if the file had been filled ahead. */
        write_byte(file_name(1), file.size + 100, 0);
        assert_false(expect_log(1, 1, 3).damaged);
    }
    buffer_fini(&file);
}

static void any_flipped_bit_that_was_synced_is_damage(void **state)
{
    (void)state;
    struct buffer file = {0};
    uint64_t second = two_records(&file);
    for (size_t bit = 0; bit < 8 * second; bit++) {
        uint8_t byte = file.data[bit / 8];
        write_byte(file_name(1), bit / 8, byte ^ (uint8_t)(1 << bit % 8));
        struct log_replay replay = expect_log(1, 1, 1);
        assert_true(replay.damaged && replay.claims);
        assert_int_equal(replay.size, 0);
        write_byte(file_name(1), bit / 8, byte);
    }
    buffer_fini(&file);
}

/* After power loss, pages that were never synced are there in any order. */
static void a_hole_in_what_was_not_synced_is_the_end(void **state)
{
    (void)state;
    struct buffer file = {0};
    struct log log = new_log(1, 0);
    put_record(&log, 1, 2, true);
    uint64_t hole = log.size;
    put_record(&log, 3, 2, false);
    uint64_t behind = log.size;
    for (unsigned i = 0; i < 30; i++)
        put_record(&log, 5 + i, 1, false);
    log_close(&log);
    read_whole(file_name(1), &file);
    for (uint64_t at = hole; at < behind; at++) {
        write_byte(file_name(1), at, file.data[at] ^ 0x10);
        struct log_replay replay = expect_log(1, 1, 3);
        assert_int_equal(replay.size, hole);
        assert_false(replay.damaged);
        write_byte(file_name(1), at, file.data[at]);
    }
    buffer_fini(&file);
}

/* Log 2 in the file of a longer log 1; how long its records are. */
static uint64_t recycled_log(bool synced)
{
    struct log log = new_log(1, 0);
    for (uint64_t i = 1; i < 500; i++)
        put_record(&log, i, 1, i % 100 == 0);
    uint64_t old_size = log.prepared;
    assert_int_equal(log_end(&log, 2), STATUS_OK);
    log_close(&log);

    log = new_log(2, 1);
    assert_int_equal(log.prepared, old_size);
    for (uint64_t i = 500; i < 510; i++)
        put_record(&log, i, 1, synced);
    assert_int_equal(log.prepared, old_size);
    uint64_t size = log.size;
    log_close(&log);
    struct log_replay replay;
    assert_int_equal(log_read(disk, 1, check_entry, NULL, &replay),
                     STATUS_NOT_FOUND);
    return size;
}

static void records_of_a_recycled_log_are_not_read(void **state)
{
    (void)state;
    struct buffer file = {0};
    uint64_t size = recycled_log(false);
    read_whole(file_name(2), &file);
    assert_true(file.size > 10 * size);
    struct log_replay replay = expect_log(2, 500, 510);
    assert_int_equal(replay.size, size);
    assert_false(replay.damaged || replay.claims || replay.ended);
    for (size_t at = 0; at < size; at += 3) {
        write_byte(file_name(2), at, file.data[at] ^ 4);
        uint64_t next = 500;
        assert_int_equal(log_read(disk, 2, check_entry, &next, &replay),
                         STATUS_OK);
        assert_true(next < 510);
        assert_false(replay.damaged || replay.claims);
        write_byte(file_name(2), at, file.data[at]);
    }
    buffer_fini(&file);
}

static void damage_in_a_recycled_file_is_found(void **state)
{
    (void)state;
    struct buffer file = {0};
    recycled_log(true);
    read_whole(file_name(2), &file);
    enum { AT = LOG_HEADER_BYTES + 3 };
    write_byte(file_name(2), AT, file.data[AT] ^ 1);
    assert_true(expect_log(2, 500, 500).damaged);
    buffer_fini(&file);
}

static void a_log_synced_often_is_filled_ahead(void **state)
{
    (void)state;
    struct log log = new_log(1, 0);
    struct memory_counts before = memory_disk_counts(memory);
    uint64_t grown = 0, size = 0;
    for (uint64_t i = 1; i < 900; i++) {
        put_record(&log, i, 1, true);
        uint64_t now = memory_disk_file_bytes(memory, file_name(1));
        grown += now != size;
        size = now;
        assert_true(now >= log.size && now == log.prepared);
    }
    struct memory_counts after = memory_disk_counts(memory);
    assert_int_equal(after.syncs - before.syncs, 899);
    assert_int_equal(after.calls - before.calls, 2 * 899);
    assert_true(grown <= 2);
    log_close(&log);
    assert_false(expect_log(1, 1, 900).damaged);
}

/* A sealed record at offset 0 of log 1, with this payload. */
static struct log_replay read_forged(struct bytes payload, uint64_t size_told,
                                     uint64_t sequence, uint64_t synced)
{
    uint8_t record[256] = {0};
    size_t size = LOG_HEADER_BYTES + payload.size;
    if (payload.size > 0)
        memcpy(record + LOG_HEADER_BYTES, payload.data, payload.size);
    put_u64(record + LOG_AT_SEQUENCE, sequence);
    log_seal(record, size, synced, 1, 0);
    if (size_told != payload.size) {
        put_u32(record + LOG_AT_SIZE, (uint32_t)size_told);
        put_u32(record + LOG_AT_CHECK, log_check(record, 1, 0));
    }
    write_whole(file_name(1), bytes_of(record, size));
    return expect_log(1, 1, 1);
}

static void a_size_beyond_the_file_is_no_record(void **state)
{
    (void)state;
    struct bytes payload = bytes_of("\x03k", 2);
    for (unsigned shift = 1; shift < 32; shift++) {
        struct log_replay replay =
            read_forged(payload, (UINT64_C(2) << shift) - 1, 1, 0);
        assert_int_equal(replay.size, 0);
        assert_false(replay.damaged);
    }
}

static void sealed_nonsense_is_damage(void **state)
{
    (void)state;
    const struct bytes payloads[] = {
        bytes_of("\x00", 1),                         /* no key */
        bytes_of("\x05k", 2),                        /* half a key */
        bytes_of("\x02k", 2),                        /* no value */
        bytes_of("\x02k\x02v", 4),                   /* half a value */
        bytes_of("\x03k\x03", 3),                    /* something behind */
        bytes_of("\xff\xff\xff\xff\xff\x7f", 6),     /* a key too long */
        bytes_of("\x02k\xff\xff\xff\xff\xff\x7f", 8) /* a value too long */
    };
    for (size_t i = 0; i < sizeof payloads / sizeof payloads[0]; i++)
        assert_true(read_forged(payloads[i], payloads[i].size, 1, 0).damaged);
    struct bytes sound = bytes_of("\x03k", 2);
    assert_true(read_forged(sound, 2, UINT64_MAX, 0).damaged);
    assert_true(read_forged(sound, 2, 1, 7).damaged);
    struct bytes none = bytes_of("", 0);
    assert_true(read_forged(none, 0, 1, 0).damaged);
    assert_true(read_forged(none, 0, 0, 0).ended);
}

static enum status refuse_third(void *context, const struct entry *entry)
{
    (void)context;
    return entry->sequence == 3 ? STATUS_NO_MEMORY : STATUS_OK;
}

static void what_apply_answers_ends_the_reading(void **state)
{
    (void)state;
    struct log log = new_log(1, 0);
    struct log_replay replay;
    put_record(&log, 1, 1, false);
    uint64_t first = log.size;
    put_record(&log, 2, 5, false);
    log_close(&log);
    assert_int_equal(log_read(disk, 1, refuse_third, NULL, &replay),
                     STATUS_NO_MEMORY);
    assert_int_equal(replay.size, first);
    assert_int_equal(replay.sequence, 2);
}

static void a_record_is_bounded(void **state)
{
    (void)state;
    struct log log = new_log(1, 0);
    struct batch_operation operation = operation_of(1);
    operation.value.size = UINT32_MAX;
    assert_int_equal(log_begin(&log, 1), STATUS_OK);
    assert_int_equal(log_put(&log, &operation), STATUS_TOO_LARGE);
    put_record(&log, 1, 1, false);
    log_close(&log);
    expect_log(1, 1, 2);
}

/* What crashes at every call are checked with: the disk as it comes back. */
struct crashes {
    void (*check)(void);
    uint64_t seed;
    unsigned checked;
};

static void crash(void *context, enum memory_call call, const char *name)
{
    (void)call;
    (void)name;
    struct crashes *crashes = context;
    struct disk *alive = disk;
    for (unsigned i = 0; i < 4 * 6; i++) {
        const struct memory_crash how = {
            .bytes = (enum memory_survival)(i % 4),
            .names = (enum memory_survival)(i / 4 % 4),
            .seed = crashes->seed++,
        };
        struct memory_disk *after = memory_disk_after(memory, &how);
        disk = memory_disk_at(after, MEMORY_DISK_PATH);
        crashes->check();
        disk_free(disk);
        memory_disk_free(after);
        disk = alive;
    }
    crashes->checked++;
}

/* From 1 on without a gap, to somewhere in [durable, appended]. */
static uint64_t durable, appended;
static void check_log_after_crash(void)
{
    struct log_replay replay;
    uint64_t next = 1;
    enum status status = log_read(disk, 1, check_entry, &next, &replay);
    if (status == STATUS_NOT_FOUND) {
        assert_int_equal(durable, 0); /* log_create was under way */
        return;
    }
    assert_int_equal(status, STATUS_OK);
    assert_false(replay.damaged);
    assert_in_range(next, durable + 1, appended + 1);
}

static void crashes_lose_nothing_synced_and_damage_nothing(void **state)
{
    (void)state;
    for (uint64_t run = 0; run < 6; run++) {
        struct crashes crashes = {check_log_after_crash, run * 1000000, 0};
        durable = appended = 0;
        bool recycle = run % 2 == 1;
        if (recycle) {
            struct log old = new_log(100 + run, 0);
            for (unsigned i = 0; i < 40; i++)
                put_record(&old, 1 + i, 1, i % 4 == 0);
            log_close(&old);
        }
        memory_disk_watch(memory, crash, &crashes);
        struct log log = new_log(1, recycle ? 100 + run : 0);
        for (unsigned i = 0; i < 12; i++) {
            unsigned count = 1 + (unsigned)((i + run) % 4);
            bool synced = (i * 7 + run) % 3 == 0;
            appended += count;
            put_record(&log, appended - count + 1, count, synced);
            durable = synced ? appended : durable;
        }
        assert_int_equal(log_end(&log, 2), STATUS_OK);
        assert_int_equal(log_sync(&log), STATUS_OK);
        durable = appended;
        log_close(&log);
        assert_int_equal(disk->operations->remove(disk, file_name(1)),
                         STATUS_OK);
        assert_true(crashes.checked >= 12 + 2);
        memory_disk_watch(memory, NULL, NULL);
        assert_int_equal(disk->operations->sync_directory(disk), STATUS_OK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REAL_CASE(an_empty_log_reads_as_empty),
        REAL_CASE(records_of_all_sizes_read_back),
        REAL_CASE(a_log_that_ended_takes_no_memory),
        REAL_CASE(nothing_behind_an_end_record_is_read),
        REAL_CASE(a_record_claims_what_was_synced_before),
        REAL_CASE(a_record_torn_at_any_byte_is_not_there),
        REAL_CASE(any_flipped_bit_that_was_synced_is_damage),
        REAL_CASE(a_hole_in_what_was_not_synced_is_the_end),
        REAL_CASE(records_of_a_recycled_log_are_not_read),
        REAL_CASE(damage_in_a_recycled_file_is_found),
        MEMORY_CASE(a_log_synced_often_is_filled_ahead),
        REAL_CASE(a_size_beyond_the_file_is_no_record),
        REAL_CASE(sealed_nonsense_is_damage),
        REAL_CASE(what_apply_answers_ends_the_reading),
        REAL_CASE(a_record_is_bounded),
        MEMORY_CASE(crashes_lose_nothing_synced_and_damage_nothing),
    };
    return cmocka_run_group_tests(tests, make_noise, NULL);
}
