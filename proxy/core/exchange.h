/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CORE_EXCHANGE_H
#define REPLIKV_PROXY_CORE_EXCHANGE_H

#include "proxy/core/node_internal.h"

/* Anti-entropy: with each other replica in turn we compare hash trees, and
 * what differs goes both ways through the ordinary merge.
 *
 *   IDLE -> COMPARING roots of all partitions that we share, then the levels
 *    ^        |       below in groups of partitions, the leaves a while later,
 *    |        |       when what was on its way is there; then one by one:
 *    |        v
 *    |      SCANNING, LISTING, PULLING, STORING, READING, PUSHING: reconcile.c
 *    |        |
 *    +----- COMPARING its root once more
 *
 * The peer keeps nothing of it: it answers scans. Between partitions we rest
 * for as long as the last one took, and longer when the node is busy. Of a
 * partition that cannot be read here or there, and of a key that one of us
 * refuses, the rest goes on, and a later round tries again. */

/* reconcile.c: begin with exchange->partition and ->leaves. */
void reconcile(struct node *node, struct effects *effects);
void reconcile_scan_reply(struct node *node, const Rkv__ScanReply *reply,
                          struct effects *effects);
/* Behind exchange_pause. */
void reconcile_go_on(struct node *node, struct effects *effects);
/* No usable answer of a peer that is there: a smaller chunk. */
void reconcile_unanswered(struct node *node, struct effects *effects);
/* What became of the push; CLOSED: there was no answer. */
void reconcile_pushed(struct node *node, enum status status,
                      struct effects *effects);
void reconcile_stored(struct node *node, const struct storage_result *result,
                      struct effects *effects);

/* exchange.c */
void exchange_go_to(struct node *node, enum exchange_stage stage);
/* The number of what is under way. */
uint64_t exchange_number(const struct node *node);
/* Ask the peer and go to stage; message NULL: the arena was spent. */
void exchange_ask(struct node *node, enum exchange_stage stage,
                  const Rkv__Envelope *message, struct effects *effects);
void exchange_partition_done(struct node *node, struct effects *effects);
/* Rest between chunks. */
void exchange_pause(struct node *node);
/* This partition cannot be read, here or there: on to the next. */
void exchange_skip(struct node *node);

/* equal.c: when it was, with that owner of it; NULL: it is none. 0: never, or
 * it has missed some. */
int64_t *exchange_equal_ms(const struct node *node, struct partition partition,
                           struct node_id owner);
/* Now, with the peer of the round. */
void exchange_found_equal(struct node *node, struct partition partition);
/* The owner has missed some of the partition for good. */
void exchange_missed(struct node *node, struct node_id owner,
                     struct partition partition);
/* Of rows of the partition that were asked for: that chunk begins again. */
void exchange_let_go(struct node *node, struct partition partition);

#endif
