/* SPDX-License-Identifier: MIT */
/* Runs the corpus through a fuzz target without libFuzzer, so that every build
 * replays what fuzzing found: replay FILE... */
#include <stdio.h>
#include <stdlib.h>

#include "proto/bytes.h"
#include "tests/fuzz/fuzz.h"

static enum status read_file(const char *path, struct buffer *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return STATUS_IO;
    uint8_t chunk[4096];
    size_t size;
    enum status status = STATUS_OK;
    while (status == STATUS_OK &&
           (size = fread(chunk, 1, sizeof chunk, file)) > 0)
        status = buffer_append(out, bytes_of(chunk, size));
    if (ferror(file))
        status = STATUS_IO;
    fclose(file);
    return status;
}

int main(int count, char **paths)
{
    if (count < 2) {
        fprintf(stderr, "usage: %s FILE...\n", paths[0]);
        return EXIT_FAILURE;
    }
    for (int i = 1; i < count; i++) {
        struct buffer input = {0};
        enum status status = read_file(paths[i], &input);
        if (status != STATUS_OK) {
            fprintf(stderr, "%s: %s\n", paths[i], status_name(status));
            return EXIT_FAILURE;
        }
        LLVMFuzzerTestOneInput(input.data, input.size);
        buffer_fini(&input);
    }
    return EXIT_SUCCESS;
}
