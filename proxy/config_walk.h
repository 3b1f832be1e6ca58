/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CONFIG_WALK_H
#define REPLIKV_PROXY_CONFIG_WALK_H

#include <yaml.h>

#include "proxy/config.h"

/* Whether the node is among the founders: others cannot join yet. */
bool config_is_founder(const struct config *config);
/* Read a document, which has a root and no aliases, into config, which holds
 * the defaults; add what is wrong to mistakes, in no order. */
void config_walk(yaml_document_t *document, const char *file,
                 config_engine_find *find, struct config *config,
                 struct config_mistakes *mistakes);

#endif
