/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "proto/assert.h"
#include "proxy/config.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes are a configuration or have mistakes, in the order of their lines,
 * each with a sentence of one line; a configuration makes a node or says why
 * it does not. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = calloc(1, sizeof *config);
    struct config_mistakes *mistakes = calloc(1, sizeof *mistakes);
    ASSERT(config != NULL && mistakes != NULL);
    enum status status = config_parse("file", bytes_of(data, size),
                                      engine_type_find, config, mistakes);
    ASSERT(status == STATUS_OK || status == STATUS_INVALID);
    ASSERT((status == STATUS_OK) == (mistakes->count == 0));
    ASSERT(mistakes->count <= CONFIG_MISTAKES_MAX);
    for (size_t i = 0; i < mistakes->count; i++) {
        const struct config_mistake *mistake = &mistakes->list[i];
        ASSERT(i == 0 || mistake->line >= mistake[-1].line);
        ASSERT(strlen(mistake->text) > 0);
        ASSERT(strpbrk(mistake->text, "\n\r\x1b") == NULL);
    }
    if (status == STATUS_OK) {
        struct node_config node_config = config_node_config(config);
        ASSERT(node_config.bucket_count > 0);
        ASSERT(node_config.founding.founder_count > 0);
    }
    free(mistakes);
    free(config);
    return 0;
}
