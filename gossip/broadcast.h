/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_GOSSIP_BROADCAST_H
#define REPLIKV_GOSSIP_BROADCAST_H

#include "proto/arena.h"
#include "proto/bytes.h"
#include "proto/replikv.pb-c.h"

/* Epidemic dissemination of small messages, generic in their payload: members,
 * metadata and topology ride on it. Each rumour has a topic, a key and a
 * version; a higher version replaces a lower one of the same topic and key, so
 * the newest reaches everybody and the queue never outgrows the keys.
 *
 * A rumour is sent retransmit_mult * ceil(log10(n + 1)) times, the least sent
 * first (memberlist's TransmitLimitedQueue). It rides on pings and acks, and
 * on Gossip messages that membership sends at its gossip interval.
 *
 * Pure: no I/O, clock or threads. */

enum {
    RUMOUR_BYTES_MAX = 4096,    /* topic, key and payload together */
    RUMOURS_MAX = 4096,         /* distinct topic and key */
    RUMOUR_PACKET_BYTES = 1400, /* what rides on one message */
};

struct broadcast;

struct broadcast *broadcast_new(uint32_t retransmit_mult);
void broadcast_free(struct broadcast *broadcast);

/* Start a rumour of our own, or replace it by a higher version. All is copied.
 * TOO_LARGE, OVERLOADED (RUMOURS_MAX). */
enum status broadcast_offer(struct broadcast *broadcast, const char *topic,
                            struct bytes key, uint64_t version,
                            struct bytes payload) MUST_CHECK;

/* A rumour heard. Returns true if it is news: then the caller acts on it, and
 * it is queued to be passed on. Checks sizes. */
bool broadcast_hear(struct broadcast *broadcast, const Rkv__Rumour *rumour);

/* Up to bytes_max of rumours to put on a message to one node, in the arena;
 * counts each as sent once. Returns how many; *rumours is their array. */
size_t broadcast_take(struct broadcast *broadcast, size_t members,
                      size_t bytes_max, struct arena *arena,
                      Rkv__Rumour ***rumours);

/* Forget a key of a topic that can no longer matter. */
void broadcast_forget(struct broadcast *broadcast, const char *topic,
                      struct bytes key);
size_t broadcast_queued(const struct broadcast *broadcast);

#endif
