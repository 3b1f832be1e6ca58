/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/bench/wire/wire.h"

enum { BLOCK_BYTES = 4096 };

static void write_at(int file, const uint8_t *data, size_t size, off_t at)
{
    while (size > 0) {
        ssize_t written = pwrite(file, data, size, at);
        if (written <= 0)
            wire_fail("cannot write to a file: %s", strerror(errno));
        data += written;
        at += written;
        size -= (size_t)written;
    }
}

int disk_file(void)
{
    static const uint8_t block[BLOCK_BYTES];
    /* Here and not in /tmp, which may be memory. */
    char name[] = "replikv-wire-XXXXXX";
    int file = mkstemp(name);
    if (file < 0 || unlink(name) != 0)
        wire_fail("no file in the working directory: %s", strerror(errno));
    for (off_t at = 0; at < FILE_BYTES; at += BLOCK_BYTES)
        write_at(file, block, sizeof block, at);
    if (fsync(file) != 0)
        wire_fail("cannot sync a file: %s", strerror(errno));
    return file;
}

off_t disk_append(int file, off_t at, const uint8_t *data, size_t size)
{
    if (at + (off_t)size > FILE_BYTES)
        at = 0;
    write_at(file, data, size, at);
    if (fdatasync(file) != 0)
        wire_fail("cannot sync a file: %s", strerror(errno));
    return at + (off_t)size;
}

void disk_ask(struct run *run)
{
    static uint8_t block[BLOCK_BYTES];
    struct tally *tally = &run->tallies[0];
    run_begin(run);
    for (uint64_t now = wire_now_ns(); now < tally->end_ns;) {
        uint64_t started = now;
        block[0]++;
        (void)disk_append(run->files[0], 0, block, sizeof block);
        now = wire_now_ns();
        tally_record(tally, started, now);
    }
}
