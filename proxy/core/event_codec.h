/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_EVENT_CODEC_H
#define REPLIKV_PROXY_CORE_EVENT_CODEC_H

#include "proxy/core/event.h"

/* An event as bytes: all that node_step reads of it. Of the operation in a
 * storage's result that is what it knows it by: kind, tokens, asked_us, key;
 * request of COORDINATE; data, after and bytes_max of SCAN. What a step reads
 * beside that has to be visited, too: sim --record and --replay of some seeds,
 * which are a test, find what was forgotten.
 *
 * The layout is known to recording.h alone, and changes with it. */

/* No event takes more than this. */
size_t event_bytes_max(const struct event *event);
/* Returns the place behind, within room of event_bytes_max. A message that the
 * edge has as it came (event.packed) is copied, another one packed. */
uint8_t *event_encode(const struct event *event, uint8_t *at);
/* All of bytes. The event lives as long as they and the arena's content. False
 * for what is no event, or when the arena is spent. */
bool event_decode(struct bytes bytes, struct arena *arena,
                  struct event *event) MUST_CHECK;

#endif
