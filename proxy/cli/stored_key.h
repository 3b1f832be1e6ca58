/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_STORED_KEY_H
#define REPLIKV_PROXY_CLI_STORED_KEY_H

#include "proxy/cli/output.h"

/* A key as a node's engine has it, taken apart into what proxy/core made it of;
 * a file apart, since the words of core and of engines are not the same. */

/* data/PARTITION/BUCKET/KEY, hints/NODE/PARTITION/BUCKET/KEY, meta/NAME, or, if
 * it is none of these, the bytes in quotes; what is not printable is \xHH. */
struct owned stored_key_text(struct replikv_bytes stored);
/* An object of table, node, partition, bucket and key; or of key only. */
json_t *stored_key_json(struct replikv_bytes stored);

#endif
