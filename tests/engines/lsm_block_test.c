/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "engines/lsm/block.h"
#include "engines/lsm/compress.h"

/* What block.h and compress.h promise. */

static struct bytes text(const char *string)
{
    return bytes_of_string(string);
}

static void add(struct block_writer *writer, struct bytes key,
                struct bytes value, bool removed)
{
    struct entry entry = {.key = key, .value = value, .removed = removed};
    size_t expected = block_writer_bytes_with(writer, &entry);
    assert_int_equal(block_writer_add(writer, &entry), STATUS_OK);
    assert_int_equal(block_writer_bytes(writer), expected);
    assert_true(bytes_equal(block_writer_last(writer), key));
}

/* The finished block, in memory that ends BLOCK_SLACK behind it, so that a
 * sanitizer sees what reads further. */
static struct buffer finish(struct block_writer *writer)
{
    struct bytes content;
    size_t expected = block_writer_bytes(writer);
    assert_int_equal(block_writer_finish(writer, &content), STATUS_OK);
    assert_int_equal(content.size, expected);
    struct buffer copy = {.data = malloc(content.size + BLOCK_SLACK),
                          .size = content.size};
    memcpy(copy.data, content.data, content.size);
    memset(copy.data + content.size, 0xff, BLOCK_SLACK);
    block_writer_fini(writer);
    return copy;
}

static struct block parse(const struct buffer *content)
{
    struct block block;
    assert_int_equal(block_parse(buffer_bytes(content), &block), STATUS_OK);
    return block;
}

static void expect_get(const struct block *block, struct bytes key,
                       struct bytes value, bool removed)
{
    struct entry entry;
    assert_int_equal(block_get(block, key, &entry), STATUS_OK);
    assert_true(bytes_equal(entry.key, key));
    assert_true(bytes_equal(entry.value, value));
    assert_int_equal(entry.removed, removed);
}

static void expect_absent(const struct block *block, struct bytes key)
{
    struct entry entry;
    assert_int_equal(block_get(block, key, &entry), STATUS_NOT_FOUND);
}

/* Keys that are each other's prefixes, that have zeros where shorter ones end,
 * that differ only behind their first 8 bytes; and an empty one. */
static const struct bytes hard_keys[] = {
    {(const uint8_t *)"", 0},
    {(const uint8_t *)"\0", 1},
    {(const uint8_t *)"\0\0", 2},
    {(const uint8_t *)"\0\0\0\0\0\0\0\0", 8},
    {(const uint8_t *)"\0\0\0\0\0\0\0\0\0", 9},
    {(const uint8_t *)"a", 1},
    {(const uint8_t *)"a\0", 2},
    {(const uint8_t *)"aaaaaaa", 7},
    {(const uint8_t *)"aaaaaaaa", 8},
    {(const uint8_t *)"aaaaaaaa\0", 9},
    {(const uint8_t *)"aaaaaaaaa", 9},
    {(const uint8_t *)"aaaaaaaab", 9},
    {(const uint8_t *)"aaaaaaaabbbbbbbb", 16},
    {(const uint8_t *)"b", 1},
    {(const uint8_t *)"\xff", 1},
    {(const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff\xff", 9},
};
enum { HARD_KEYS = sizeof hard_keys / sizeof *hard_keys };

static void hard_keys_are_found_and_others_not(void **state)
{
    (void)state;
    /* With every subset of a few bits left out, and of several prefixes. */
    for (unsigned skip = 0; skip < 64; skip++) {
        struct block_writer writer = {0};
        bool in[HARD_KEYS];
        for (unsigned i = 0; i < HARD_KEYS; i++) {
            in[i] = (skip >> (i % 6) & 1) == 0 || i == skip % HARD_KEYS;
            if (in[i])
                add(&writer, hard_keys[i], text("value"), i % 3 == 0);
        }
        struct buffer content = finish(&writer);
        struct block block = parse(&content);
        uint32_t at_or_behind = 0;
        for (unsigned i = 0; i < HARD_KEYS; i++) {
            assert_int_equal(block_search(&block, hard_keys[i]), at_or_behind);
            if (in[i])
                expect_get(&block, hard_keys[i],
                           i % 3 == 0 ? text("") : text("value"), i % 3 == 0);
            else
                expect_absent(&block, hard_keys[i]);
            at_or_behind += in[i];
        }
        free(content.data);
    }
}

static void walk_goes_both_ways_and_stops_at_the_ends(void **state)
{
    (void)state;
    struct block_writer writer = {0};
    char key[32];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key%05d", i);
        add(&writer, text(key), bytes_of(key, (size_t)i % 9), false);
    }
    struct buffer content = finish(&writer);
    struct block block = parse(&content);
    struct block_cursor cursor = {.number = 0};
    block_cursor_init(&cursor, &block);
    assert_true(block_cursor_move(&cursor, 0));
    for (int step = 0; step < 200; step++) {
        int i = step < 100 ? step : 199 - step;
        snprintf(key, sizeof key, "key%05d", i);
        assert_true(
            bytes_equal(bytes_of(cursor.key, cursor.key_size), text(key)));
        assert_true(bytes_equal(cursor.value, bytes_of(key, (size_t)i % 9)));
        bool moved = block_cursor_move(&cursor, step < 100 ? cursor.number + 1
                                                           : cursor.number - 1);
        assert_int_equal(moved, step != 99 && step != 199);
    }
    free(content.data);
}

static void shared_beginning_is_stored_once(void **state)
{
    (void)state;
    struct block_writer writer = {0};
    uint8_t key[ENGINE_KEY_BYTES_MAX];
    memset(key, 'p', sizeof key);
    for (int i = 0; i < 50; i++) {
        key[sizeof key - 1] = (uint8_t)i;
        add(&writer, bytes_of(key, sizeof key), text("v"), false);
    }
    struct buffer content = finish(&writer);
    assert_true(content.size < sizeof key + 50 * 10);
    struct block block = parse(&content);
    for (int i = 0; i < 50; i++) {
        key[sizeof key - 1] = (uint8_t)i;
        expect_get(&block, bytes_of(key, sizeof key), text("v"), false);
    }
    expect_absent(&block, bytes_of(key, sizeof key - 1));
    key[0] = 'q';
    assert_int_equal(block_search(&block, bytes_of(key, 1)), 50);
    key[0] = 'o';
    assert_int_equal(block_search(&block, bytes_of(key, sizeof key)), 0);
    free(content.data);
}

static void entry_of_any_size_makes_a_block(void **state)
{
    (void)state;
    size_t size = 3 << 20;
    uint8_t *value = calloc(1, size);
    value[size - 1] = 7;
    struct block_writer writer = {0};
    add(&writer, text("huge"), bytes_of(value, size), false);
    struct entry more = {.key = text("more")};
    assert_int_equal(block_writer_add(&writer, &more), STATUS_TOO_LARGE);
    struct buffer content = finish(&writer);
    struct block block = parse(&content);
    expect_get(&block, text("huge"), bytes_of(value, size), false);
    free(content.data);
    free(value);
}

static void place_that_fits_no_slot_is_refused(void **state)
{
    (void)state;
    struct block_writer writer = {0};
    uint8_t key[ENGINE_KEY_BYTES_MAX] = {0};
    enum status status = STATUS_OK;
    size_t count = 0;
    while (status == STATUS_OK) {
        key[0] = (uint8_t)count; /* so that nothing is shared */
        struct entry entry = {.key = bytes_of(key, sizeof key)};
        status = block_writer_add(&writer, &entry);
        count += status == STATUS_OK;
    }
    assert_int_equal(status, STATUS_TOO_LARGE);
    assert_int_equal(count, BLOCK_KEYS_MAX / sizeof key);
    struct buffer content = finish(&writer);
    struct block block = parse(&content);
    assert_int_equal(block.count, count);
    for (size_t i = 0; i < count; i++) {
        key[0] = (uint8_t)i;
        expect_get(&block, bytes_of(key, sizeof key), text(""), false);
    }
    free(content.data);
}

/* Use everything of a block whose bytes may be any. */
static void use(struct bytes content)
{
    struct block block;
    if (block_parse(content, &block) != STATUS_OK)
        return;
    struct block_cursor cursor;
    struct entry entry;
    uint64_t sum = 0;
    block_cursor_init(&cursor, &block);
    for (uint32_t i = 0; block_cursor_move(&cursor, i); i++) {
        assert_in_range(cursor.key_size, 0, ENGINE_KEY_BYTES_MAX);
        for (size_t j = 0; j < cursor.value.size; j++)
            sum += cursor.value.data[j];
    }
    for (unsigned i = 0; i < HARD_KEYS; i++) {
        assert_in_range(block_search(&block, hard_keys[i]), 0, block.count);
        if (block_get(&block, hard_keys[i], &entry) == STATUS_OK)
            sum += entry.value.size;
    }
    assert_true(sum < UINT64_MAX);
}

static void block_of_any_bytes_stays_in_bounds(void **state)
{
    (void)state;
    struct block_writer writer = {0};
    for (unsigned i = 5; i < HARD_KEYS; i++)
        add(&writer, hard_keys[i], text("value"), i % 3 == 0);
    struct buffer content = finish(&writer);
    for (size_t i = 0; i < content.size; i++) {
        for (unsigned change = 1; change < 256; change++) {
            content.data[i] ^= (uint8_t)change;
            use(buffer_bytes(&content));
            content.data[i] ^= (uint8_t)change;
        }
    }
    for (size_t size = 0; size < content.size; size++) {
        uint8_t *cut = malloc(size + BLOCK_SLACK);
        memcpy(cut, content.data, size + BLOCK_SLACK);
        use(bytes_of(cut, size));
        free(cut);
    }
    free(content.data);
}

static void key_that_is_too_long_is_corrupt(void **state)
{
    (void)state;
    for (size_t size = ENGINE_KEY_BYTES_MAX - 1; size < 600; size++) {
        /* One entry whose key is all behind the prefix, or half of it. */
        for (size_t prefix = 0; prefix <= size; prefix += size / 2) {
            uint8_t content[700] = {1, 0};
            size_t rest = size - prefix;
            content[2] = (uint8_t)prefix;
            content[3] = (uint8_t)(prefix >> 8);
            content[4] = (uint8_t)rest;
            content[5] = (uint8_t)(rest >> 8);
            struct block block;
            assert_int_equal(
                block_parse(bytes_of(content, sizeof content), &block),
                size <= ENGINE_KEY_BYTES_MAX ? STATUS_OK : STATUS_CORRUPT);
        }
    }
}

static const enum compression compressions[] = {
    COMPRESSION_NONE, COMPRESSION_LZ4, COMPRESSION_ZSTD};

static void what_is_compressed_comes_back(void **state)
{
    (void)state;
    struct compressor compressor = {0};
    uint8_t content[5000], back[sizeof content];
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (uint8_t)(i / 100);
    for (int i = 0; i < 3; i++) {
        struct buffer out = {0};
        enum compression stored;
        assert_int_equal(buffer_append(&out, text("before")), STATUS_OK);
        assert_int_equal(compress(&compressor, compressions[i],
                                  bytes_of(content, sizeof content), &out,
                                  &stored),
                         STATUS_OK);
        assert_int_equal(stored, compressions[i]);
        assert_memory_equal(out.data, "before", 6);
        struct bytes bytes = bytes_of(out.data + 6, out.size - 6);
        assert_true(i == 0 || bytes.size < sizeof content / 4);
        size_t size;
        assert_int_equal(
            decompressed_size(stored, bytes, sizeof content, &size), STATUS_OK);
        assert_int_equal(size, sizeof content);
        assert_int_equal(
            decompressed_size(stored, bytes, sizeof content - 1, &size),
            STATUS_CORRUPT);
        assert_int_equal(decompress(stored, bytes, back, sizeof content),
                         STATUS_OK);
        assert_memory_equal(back, content, sizeof content);
        assert_int_equal(decompress(stored, bytes, back, sizeof content - 1),
                         STATUS_CORRUPT);
        bytes.size--;
        assert_int_equal(decompress(stored, bytes, back, sizeof content),
                         STATUS_CORRUPT);
        buffer_fini(&out);
    }
    compressor_fini(&compressor);
}

static void what_does_not_shrink_is_stored_as_it_is(void **state)
{
    (void)state;
    struct compressor compressor = {0};
    uint8_t content[4096];
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof content; i++) {
        random = random * UINT64_C(6364136223846793005) + 1;
        content[i] = (uint8_t)(random >> 56);
    }
    for (int i = 0; i < 3; i++) {
        struct buffer out = {0};
        enum compression stored;
        assert_int_equal(compress(&compressor, compressions[i],
                                  bytes_of(content, sizeof content), &out,
                                  &stored),
                         STATUS_OK);
        assert_int_equal(stored, COMPRESSION_NONE);
        assert_int_equal(out.size, sizeof content);
        assert_memory_equal(out.data, content, sizeof content);
        buffer_fini(&out);
    }
    compressor_fini(&compressor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_keys_are_found_and_others_not),
        cmocka_unit_test(walk_goes_both_ways_and_stops_at_the_ends),
        cmocka_unit_test(shared_beginning_is_stored_once),
        cmocka_unit_test(entry_of_any_size_makes_a_block),
        cmocka_unit_test(place_that_fits_no_slot_is_refused),
        cmocka_unit_test(block_of_any_bytes_stays_in_bounds),
        cmocka_unit_test(key_that_is_too_long_is_corrupt),
        cmocka_unit_test(what_is_compressed_comes_back),
        cmocka_unit_test(what_does_not_shrink_is_stored_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
