/* SPDX-License-Identifier: MIT */
#include "tally.h"

#include <stdio.h>

static const char *const names[FAULT_COUNT] = {
    [FAULT_RESET] = "sessions_reset",
    [FAULT_CUT] = "links_cut",
    [FAULT_CUT_ONE_WAY] = "links_cut_one_way",
    [FAULT_ISOLATE] = "nodes_isolated",
    [FAULT_SPLIT] = "clusters_split",
    [FAULT_CLOG] = "links_clogged",
    [FAULT_CRASH] = "nodes_crashed",
    [FAULT_PAUSE] = "nodes_paused",
    [FAULT_WALL_JUMP] = "wall_clock_jumps",
    [FAULT_WIPE] = "disks_wiped",
    [FAULT_OLD_COPY] = "older_disks_put_back",
    [FAULT_DAMAGE] = "disks_damaged",
    [FAULT_FULL] = "disks_full",
    [FAULT_SLOW] = "disks_slow",
    [FAULT_OTHER_BUILD] = "nodes_of_other_builds",
    [FAULT_STOP] = "nodes_stopped",
    [FAULT_NIGHT] = "nights",
    [FAULT_LEAVE] = "nodes_told_to_leave",
    [FAULT_LOST_FOR_GOOD] = "nodes_lost_for_good",
    [FAULT_FAILED_WRITE] = "batches_failed",
    [FAULT_SLOW_WRITE] = "batches_slow",
    [FAULT_BATCH_LOST] = "batches_lost_in_crash",
    [FAULT_BATCH_KEPT] = "batches_kept_in_crash",
    [FAULT_FAILED_OPEN] = "opens_failed",
    [FAULT_CRASH_IN_OPEN] = "crashes_in_open",
    [FAULT_FAILED_SEND] = "sends_failed",
    [FAULT_UNKNOWN_REQUEST] = "requests_of_later_builds",
    [FAULT_FRAMES_LOST] = "frames_lost",
    [FAULT_LATE_FRAMES] = "sessions_ended_with_late_frames",
    [FAULT_NIGHT_LATE] = "sessions_late_after_nights",
    [FAULT_LANE_TIMEOUT] = "lanes_timed_out",
    [FAULT_CLIENT_TIMEOUT] = "client_timeouts",
    [FAULT_CLIENT_RETRY] = "client_retries",
    [FAULT_CLIENT_MISTAKE] = "client_mistakes",
    [FAULT_HALT] = "nodes_refused",
    [FAULT_REPLACE] = "nodes_replaced",
    [FAULT_META_DAMAGED] = "nodes_that_cannot_read_who_they_are",
    [FAULT_SAVED_TREES] = "trees_saved",
    [FAULT_LEFT] = "nodes_that_left",
};

void tally_node(struct tally *tally, const struct node *node)
{
    const struct membership_counters *counts =
        membership_counters(node_membership(node));
    for (size_t i = 0; i < node_counter_count(); i++)
        tally->counters[i] += node_counter(node, i);
    tally->members.suspicions += counts->suspicions;
    tally->members.refutations += counts->refutations;
    tally->members.deaths += counts->deaths;
    tally->members.false_deaths += counts->false_deaths;
    tally->members.indirect_probes += counts->indirect_probes;
}

static void print_path(const char *name, uint64_t count)
{
    printf("  %-32s %10llu\n", name, (unsigned long long)count);
}

void tally_print(const struct tally *tally, double seconds)
{
    double simulated = (double)tally->simulated_us / 1e6;
    printf("seeds %llu in %.1f s, %.1f a second\n"
           "simulated %.0f s: %.0f simulated seconds a real second\n",
           (unsigned long long)tally->seeds, seconds,
           (double)tally->seeds / seconds, simulated, simulated / seconds);
    printf("events %llu, reads %llu, writes %llu, acknowledged %llu\n",
           (unsigned long long)tally->events, (unsigned long long)tally->reads,
           (unsigned long long)tally->writes,
           (unsigned long long)tally->acknowledged);
    if (tally->tables > 0)
        printf("tables written by LSM trees %llu, entries in damaged blocks "
               "%llu\n",
               (unsigned long long)tally->tables,
               (unsigned long long)tally->unreadable);
    printf("faults, and what they weigh where they are drawn:\n");
    for (size_t i = 0; i < FAULT_COUNT; i++) {
        printf("  %-32s %10llu", names[i],
               (unsigned long long)tally->faults[i]);
        if (i < FAULT_KIND_COUNT)
            printf(" %4u", fault_weight((enum fault)i));
        putchar('\n');
    }
    printf("paths:\n");
    for (size_t i = 0; i < node_counter_count(); i++)
        print_path(node_counter_name(i), tally->counters[i]);
    print_path("stored_with_siblings", tally->with_siblings);
    const struct membership_counters *members = &tally->members;
    print_path("suspicions", members->suspicions);
    print_path("refutations", members->refutations);
    print_path("deaths", members->deaths);
    print_path("false_deaths", members->false_deaths);
    print_path("indirect_probes", members->indirect_probes);
}
