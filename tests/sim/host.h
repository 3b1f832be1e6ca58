/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_SIM_HOST_H
#define REPLIKV_TESTS_SIM_HOST_H

#include "proxy/core/node.h"
#include "proxy/recorder.h"
#include "storage.h"

/* One machine: its disk, its clocks, and the process on it, which is the
 * production node with a simulated edge around it. */

struct sim;

enum asker { ASKER_NONE, ASKER_SESSION, ASKER_ATTEMPT, ASKER_OPERATOR };

/* Whom a request's reply goes to. */
struct asked {
    enum asker asker;
    uint32_t generation;
    /* Session, its generation, number; or attempt, its, the client's task. */
    uint32_t a, b, c;
    bool is_hello;
    int64_t since_us;
};

/* What the disk lost of what the node had said to hold; until it is replaced,
 * filled, and the others have noted the new one. The others know it with more
 * of them, or with another disk. */
enum lost { LOST_NOTHING, LOST_LATEST, LOST_ALL };

struct host {
    uint32_t index;
    char name[8], address[16];
    struct node_id id;
    struct node *node; /* NULL: no process */
    struct replica replica;
    struct effects effects;
    struct recorder recorder; /* of this life; mostly off */
    struct storage storage;
    uint64_t epoch; /* of the topology that it went by last */
    uint32_t life;  /* counts processes: moments of an earlier one are void */
    uint32_t leaving_life; /* the one that has said goodbye */
    int64_t paused_until_us;
    /* Monotonic and wall clock against the simulation's time. */
    int64_t drift_ppm, mono_offset_us, wall_offset_ms;
    struct asked *asked;
    size_t asked_count, asked_capacity;
    bool is_halting;
    enum lost lost;
    uint64_t boot;                     /* of the process */
    uint64_t copied_boot;              /* of that whose disk was copied, or 0 */
    uint32_t version_min, version_max; /* of the build */
    uint32_t own_version_max;          /* of the one that it had first */
    int64_t full_until_us, slow_until_us; /* the disk is */
    int64_t damaged_us; /* some of the disk was, last; 0: never */
    bool with_replace;  /* how the operator starts it next */
    bool runs_replace;  /* how this process was started */
    bool is_replaced;   /* the operator has given his word for it */
    bool is_filled;     /* since then */
    bool knows_clocks;  /* this process could ask two others for theirs */
    bool is_lost;       /* for good: nobody starts it again */
    bool has_left;      /* and is settled: nobody does either */
};

void host_init(struct sim *sim, struct host *host, uint32_t index);
void host_fini(struct sim *sim, struct host *host);

int64_t host_mono_us(const struct sim *sim, const struct host *host);
int64_t host_mono_ms(const struct sim *sim, const struct host *host);
int64_t host_wall_ms(const struct sim *sim, const struct host *host);

/* What any clock may show from now on, and may have shown so far. */
struct host_walls {
    int64_t earliest_ms, latest_ms;
};
struct host_walls host_walls(const struct sim *sim);
/* But for one that is wild. */
struct host_walls host_right_walls(const struct sim *sim);

void host_start(struct sim *sim, struct host *host);
/* Write what the recorder has, if it is on. False, having said why, if that
 * cannot be. */
bool host_write_recording(const struct host *host, const char *path);
/* Power is cut. */
void host_crash(struct sim *sim, struct host *host);
/* The process has done what it was asked, and saves its hash trees. */
void host_save_trees(struct sim *sim, struct host *host);
/* Whether all others have on disk which disk the host has, and its boot. */
bool host_is_known(const struct sim *sim, const struct host *host);
/* It is to run, whether or not it does now. */
static inline bool host_is_here(const struct host *host)
{
    return !host->is_lost && !host->has_left;
}
bool host_is_full(const struct sim *sim, const struct host *host);
/* Some partitions are still to be filled from the others. */
bool host_is_being_filled(const struct host *host);
void host_tick(struct sim *sim, struct host *host);

/* Step the node and carry out what it says. True: it hangs up. */
bool host_step(struct sim *sim, struct host *host, struct event *event);
/* A token for a request that the host is about to hear. */
struct reply_token host_expect(struct sim *sim, struct host *host,
                               struct asked asked);
/* Requests that are unanswered for longer than this. */
size_t host_unanswered(const struct sim *sim, const struct host *host,
                       int64_t longer_us);

#endif
