/* SPDX-License-Identifier: MIT */
#include "replay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/core/event_codec.h"

enum {
    EFFECTS_BYTES = 1 << 30, /* no less than a node has */
    EVENT_ARENA_BYTES = 1 << 30,
    FILE_BYTES_MAX = 64 << 20, /* recorders have 15 MiB at most */
};

struct replaying {
    struct recording recording;
    struct node *node; /* NULL: it cannot be made */
    struct effects effects;
    struct arena arena; /* of the event */
    uint64_t number, total;
    int64_t began_us;
    bool tells, is_past_gap;
};

static const char *plural(unsigned count)
{
    return count == 1 ? "" : "s";
}

static void print_outcome(const char *did, struct step_outcome outcome)
{
    printf("%s %u message%s and %u operation%s, sum %08x", did,
           outcome.messages, plural(outcome.messages), outcome.operations,
           plural(outcome.operations), outcome.sum);
}

static void tell_event(struct replaying *r, const struct event *event)
{
    if (r->number == 1)
        r->began_us = event->now_us;
    if (!r->tells)
        return;
    printf("%7llu [%12.3f ms]", (unsigned long long)r->number,
           (double)(event->now_us - r->began_us) / 1000);
    story_event(r->node == NULL ? NULL : node_topology(r->node), event);
    fflush(stdout); /* should an assertion fail */
}

static void tell_recorded(const struct replaying *r,
                          const struct recorded *recorded)
{
    if (r->tells && recorded->has_ended)
        print_outcome(" ->", recorded->outcome);
    if (r->tells)
        puts("");
}

static void tell_cut(struct replaying *r, const struct recorded *recorded)
{
    r->number++;
    if (r->tells)
        printf("%7llu an event of %llu bytes, which had no room",
               (unsigned long long)r->number,
               (unsigned long long)recorded->cut_bytes);
    tell_recorded(r, recorded);
}

static enum replay_end step(struct replaying *r, const struct event *event,
                            const struct recorded *recorded)
{
    if (!recorded->has_ended) {
        printf("%sevent %llu had not ended when this was written: now it is "
               "stepped\n",
               r->tells ? "\n" : "", (unsigned long long)r->number);
        fflush(stdout);
    }
    effects_reset(&r->effects);
    node_step(r->node, event, &r->effects);
    if (r->tells) {
        story_effects(node_topology(r->node), &r->effects);
        puts("");
    }
    struct step_outcome did = effects_outcome(&r->effects, 0, 0);
    if (!recorded->has_ended ||
        memcmp(&did, &recorded->outcome, sizeof did) == 0)
        return REPLAY_SAME;
    printf("event %llu of %llu:", (unsigned long long)r->number,
           (unsigned long long)r->total);
    print_outcome(" did", did);
    print_outcome("; recorded are", recorded->outcome);
    puts("; is this the version that recorded it?");
    return REPLAY_OTHER;
}

/* The node does not doubt what its disk answers; a file may be anybody's. */
static bool is_of_cluster(const struct replaying *r, const struct event *event)
{
    uint32_t partitions = r->recording.config.founding.partitions;
    const struct storage_result *result = event->storage;
    if (result == NULL)
        return true;
    bool is_right = result->op->key.partition.value < partitions;
    for (size_t i = 0; i < result->row_count; i++)
        is_right &= result->rows[i].key.partition.value < partitions;
    return is_right;
}

static enum replay_end take(struct replaying *r,
                            const struct recorded *recorded)
{
    struct event event;
    arena_reset(&r->arena);
    r->number++;
    if (!event_decode(recorded->bytes, &r->arena, &event) ||
        (r->node != NULL && !is_of_cluster(r, &event))) {
        printf("event %llu cannot be read\n", (unsigned long long)r->number);
        return REPLAY_NO_RECORDING;
    }
    tell_event(r, &event);
    if (r->node != NULL && !r->is_past_gap)
        return step(r, &event, recorded);
    tell_recorded(r, recorded);
    return REPLAY_SAME;
}

static void print_end(const struct replaying *r)
{
    const struct recording_header *header = &r->recording.header;
    unsigned long long first = header->first_events, last = header->last_events;
    if (r->node == NULL)
        printf("what the node began with is missing: its %llu events can be "
               "told (--trace), but not stepped\n",
               first + last);
    else if (header->missing == 0)
        printf("the whole of %llu events: the node did the same\n",
               first + last);
    else
        printf("the first %llu events: the node did the same; then %llu are "
               "missing, and the last %llu can be told (--trace), but not "
               "stepped\n",
               first, (unsigned long long)header->missing, last);
}

static void pass_gap(struct replaying *r)
{
    uint64_t missing = r->recording.header.missing;
    r->is_past_gap = true;
    r->number += missing;
    if (r->tells)
        printf("        %llu events are missing\n",
               (unsigned long long)missing);
}

static enum replay_end run(struct replaying *r)
{
    enum replay_end end = REPLAY_SAME;
    while (end == REPLAY_SAME) {
        struct recorded recorded = recording_next(&r->recording);
        switch (recorded.kind) {
        case RECORDED_TREES:
            if (r->node != NULL)
                node_restore(r->node, recorded.bytes);
            break;
        case RECORDED_EVENT:
            end = take(r, &recorded);
            break;
        case RECORDED_CUT:
            tell_cut(r, &recorded);
            break;
        case RECORDED_GAP:
            pass_gap(r);
            break;
        case RECORDED_END:
            print_end(r);
            return REPLAY_SAME;
        case RECORDED_WRONG:
            puts("the recording ends in the middle of an event");
            return REPLAY_NO_RECORDING;
        }
    }
    return end;
}

enum replay_end replay(const char *name, struct bytes file, bool tells)
{
    struct replaying r = {.tells = tells};
    struct error error;
    enum status status = recording_open(file, &r.recording, &error);
    const struct recording_header *header = &r.recording.header;
    if (status == STATUS_OK && !header->is_headless)
        status = node_new(&r.recording.config, &r.node, &error);
    if (status != STATUS_OK) {
        printf("%s: %s\n", name, error.text);
        return REPLAY_NO_RECORDING;
    }
    r.total = header->first_events + header->missing + header->last_events;
    if (r.node != NULL) {
        printf("%s:", name);
        story_text(" node ", r.recording.config.self.name);
        story_text(" of replikvd ", r.recording.version);
        puts("");
    }
    arena_init(&r.arena, EVENT_ARENA_BYTES);
    effects_init(&r.effects, EFFECTS_BYTES);
    enum replay_end end = run(&r);
    effects_fini(&r.effects);
    arena_fini(&r.arena);
    node_free(r.node);
    recording_fini(&r.recording);
    return end;
}

enum replay_end replay_file(const char *path, bool tells)
{
    struct buffer bytes = {0};
    FILE *file = fopen(path, "rb");
    bool is_read = file != NULL;
    for (size_t got = 1; is_read && got > 0 && bytes.size <= FILE_BYTES_MAX;) {
        is_read = buffer_reserve(&bytes, 1 << 20) == STATUS_OK;
        got = !is_read ? 0 : fread(bytes.data + bytes.size, 1, 1 << 20, file);
        bytes.size += got;
        is_read = is_read && !ferror(file);
    }
    enum replay_end end = REPLAY_NO_RECORDING;
    if (is_read && bytes.size > FILE_BYTES_MAX)
        printf("%s: it is too large for a recording\n", path);
    else if (is_read)
        end = replay(path, buffer_bytes(&bytes), tells);
    else
        perror(path);
    if (file != NULL)
        fclose(file);
    buffer_fini(&bytes);
    return end;
}
