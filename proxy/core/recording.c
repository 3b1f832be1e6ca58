/* SPDX-License-Identifier: MIT */
#include "proxy/core/recording.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "proxy/core/visit.h"

static const char magic[8] = {'r', 'k', 'v', 'f', 'l', 'i', 'g', 'h'};

const struct step_outcome recording_unended = {
    .messages = UINT16_MAX, .operations = UINT16_MAX, .sum = UINT32_MAX};

_Static_assert(sizeof(struct step_outcome) == 8, "as an entry has it");

uint8_t *recording_entry(uint8_t *at, uint32_t size,
                         struct step_outcome outcome)
{
    memcpy(at, &size, sizeof size);
    memcpy(at + sizeof size, &outcome, sizeof outcome);
    return at + RECORDING_ENTRY_BYTES;
}

uint8_t *recording_cut(uint8_t *at, uint64_t size)
{
    *at = RECORDING_CUT;
    memcpy(at + 1, &size, sizeof size);
    return at + RECORDING_CUT_BYTES;
}

/* --- configuration --- */

static void visit_member(struct visit *visit, struct member *member)
{
    visit_raw(visit, member->id.bytes, NODE_ID_SIZE);
    visit_name(visit, member->name, sizeof member->name);
    visit_name(visit, member->zone, sizeof member->zone);
    visit_name(visit, member->peer_address, sizeof member->peer_address);
    visit_name(visit, member->client_address, sizeof member->client_address);
    visit_raw(visit, &member->incarnation, sizeof member->incarnation);
    visit_raw(visit, &member->since_ms, sizeof member->since_ms);
    visit_raw(visit, &member->boot, sizeof member->boot);
    visit_raw(visit, &member->run, sizeof member->run);
    visit_raw(visit, member->store.bytes, sizeof member->store.bytes);
    visit_raw(visit, &member->version_min, sizeof member->version_min);
    visit_raw(visit, &member->version_max, sizeof member->version_max);
}

static void visit_founding(struct visit *visit, struct founding *founding)
{
    struct placement_node *founders = visit_list(
        visit, founding->founders, &founding->founder_count, sizeof *founders);
    visit_string(visit, &founding->cluster);
    visit_raw(visit, &founding->partitions, sizeof founding->partitions);
    visit_raw(visit, &founding->replicas, sizeof founding->replicas);
    for (size_t i = 0; i < founding->founder_count && visit_is_good(visit);
         i++) {
        visit_name(visit, founders[i].name, sizeof founders[i].name);
        visit_name(visit, founders[i].zone, sizeof founders[i].zone);
    }
    if (!visit->writes)
        founding->founders = founders;
}

static void visit_seeds(struct visit *visit, struct node_config *config)
{
    const char **seeds =
        visit_list(visit, config->seeds, &config->seed_count, sizeof *seeds);
    for (size_t i = 0; i < config->seed_count && visit_is_good(visit); i++) {
        visit_string(visit, &seeds[i]);
        if (seeds[i] == NULL)
            visit->in = NULL;
    }
    if (!visit->writes)
        config->seeds = seeds;
}

static void visit_buckets(struct visit *visit, struct node_config *config)
{
    struct bucket_config *buckets = visit_list(
        visit, config->buckets, &config->bucket_count, sizeof *buckets);
    for (size_t i = 0; i < config->bucket_count && visit_is_good(visit); i++) {
        struct bucket_config *bucket = &buckets[i];
        visit_name(visit, bucket->name, sizeof bucket->name);
        visit_raw(visit, &bucket->id.value, sizeof bucket->id.value);
        visit_small(visit, &bucket->kind, RECORD_LWW);
        visit_raw(visit, &bucket->r, sizeof bucket->r);
        visit_raw(visit, &bucket->w, sizeof bucket->w);
        visit_bool(visit, &bucket->sloppy);
        visit_raw(visit, &bucket->ttl_s, sizeof bucket->ttl_s);
    }
    if (!visit->writes)
        config->buckets = buckets;
}

static void visit_limits(struct visit *visit, struct node_limits *limits)
{
    visit_raw(visit, &limits->value_bytes_max, sizeof limits->value_bytes_max);
    visit_raw(visit, &limits->inflight_max, sizeof limits->inflight_max);
    visit_raw(visit, &limits->inflight_bytes_max,
              sizeof limits->inflight_bytes_max);
    visit_raw(visit, &limits->hint_bytes_max, sizeof limits->hint_bytes_max);
    visit_raw(visit, &limits->fallback_bytes_max,
              sizeof limits->fallback_bytes_max);
    visit_raw(visit, &limits->list_bytes_max, sizeof limits->list_bytes_max);
}

static void visit_starts(struct visit *visit, struct disk_starts *starts)
{
    struct bytes stored = disk_starts_bytes(starts);
    visit_bytes(visit, &stored);
    if (!visit->writes)
        disk_starts_read(starts, stored);
}

_Static_assert(sizeof(struct node_timeouts) == 10 * sizeof(uint32_t),
               "without gaps");
_Static_assert(sizeof(struct membership_config) == 10 * sizeof(uint32_t),
               "without gaps");

static void visit_config(struct visit *visit, struct node_config *config)
{
    visit_member(visit, &config->self);
    visit_founding(visit, &config->founding);
    visit_seeds(visit, config);
    visit_buckets(visit, config);
    visit_limits(visit, &config->limits);
    visit_raw(visit, &config->timeouts, sizeof config->timeouts);
    visit_raw(visit, &config->membership, sizeof config->membership);
    visit_bool(visit, &config->replace);
    visit_bool(visit, &config->amnesiac);
    visit_starts(visit, &config->starts);
    visit_raw(visit, &config->trees_of_run, sizeof config->trees_of_run);
    visit_string(visit, &config->engine);
    visit_raw(visit, &config->seed, sizeof config->seed);
}

uint8_t *recording_config(uint8_t *at, const char *version,
                          const struct node_config *config)
{
    struct visit visit = {.writes = true, .out = at};
    unsigned kind = RECORDING_CONFIG;
    visit_small(&visit, &kind, UINT8_MAX);
    visit_string(&visit, &version);
    visit_config(&visit, visit_writes(config));
    return visit.out;
}

static bool take_config(struct recording *recording, struct bytes bytes)
{
    struct visit visit = {.in = bytes.data,
                          .end = bytes.data + bytes.size,
                          .arena = &recording->arena};
    unsigned kind = 0;
    visit_small(&visit, &kind, UINT8_MAX);
    if (kind != RECORDING_CONFIG)
        return false;
    visit_string(&visit, &recording->version);
    visit_config(&visit, &recording->config);
    const struct member *self = &recording->config.self;
    return visit.in == visit.end && recording->version != NULL &&
           !node_id_is_zero(self->id) && self->incarnation < INT32_MAX &&
           recording->config.founding.cluster != NULL &&
           recording->config.engine != NULL;
}

/* --- the header --- */

static uint64_t sum_of(const uint8_t *header, const struct bytes *parts,
                       size_t part_count)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, header, RECORDING_SUMMED_BYTES);
    for (size_t i = 0; i < part_count; i++)
        XXH3_64bits_update(&state, parts[i].data, parts[i].size);
    return XXH3_64bits_digest(&state);
}

/* As it is in the file; the sum is the last. */
struct file_header {
    char magic[sizeof magic];
    uint32_t format, is_headless;
    uint64_t first_events, first_bytes, missing, last_events, last_bytes, sum;
};
_Static_assert(sizeof(struct file_header) == RECORDING_HEADER_BYTES,
               "without gaps");

void recording_seal(const struct recording_header *header,
                    const struct bytes *parts, size_t part_count,
                    uint8_t out[RECORDING_HEADER_BYTES])
{
    struct file_header file = {
        .format = RECORDING_FORMAT,
        .is_headless = header->is_headless,
        .first_events = header->first_events,
        .first_bytes = header->first_bytes,
        .missing = header->missing,
        .last_events = header->last_events,
        .last_bytes = header->last_bytes,
    };
    memcpy(file.magic, magic, sizeof magic);
    memcpy(out, &file, sizeof file);
    file.sum = sum_of(out, parts, part_count);
    memcpy(out, &file, sizeof file);
}

/* --- reading --- */

static enum status check_header(struct bytes file, struct recording *recording,
                                struct error *error)
{
    struct file_header header;
    if (file.size < sizeof header ||
        memcmp(file.data, magic, sizeof magic) != 0)
        return error_set(error, STATUS_INVALID,
                         "it is no recording of replikvd");
    memcpy(&header, file.data, sizeof header);
    if (header.format != RECORDING_FORMAT)
        return error_set(error, STATUS_INVALID,
                         "it is of format %u, this program reads %d: use the "
                         "one that was built with the node",
                         header.format, RECORDING_FORMAT);
    struct bytes rest =
        bytes_of(file.data + sizeof header, file.size - sizeof header);
    if (header.first_bytes > rest.size ||
        header.last_bytes != rest.size - header.first_bytes)
        return error_set(error, STATUS_INVALID,
                         "it has %zu bytes, not as many as it says: copy it "
                         "again",
                         file.size);
    if (header.sum != sum_of(file.data, &rest, 1))
        return error_set(error, STATUS_INVALID,
                         "its bytes are not those that were written: copy it "
                         "again");
    recording->header = (struct recording_header){
        .is_headless = header.is_headless != 0,
        .first_events = header.first_events,
        .first_bytes = header.first_bytes,
        .missing = header.missing,
        .last_events = header.last_events,
        .last_bytes = header.last_bytes,
    };
    recording->at = rest.data;
    recording->first_end = rest.data + header.first_bytes;
    recording->end = rest.data + rest.size;
    return STATUS_OK;
}

enum status recording_open(struct bytes file, struct recording *recording,
                           struct error *error)
{
    *recording = (struct recording){.version = ""};
    enum status status = check_header(file, recording, error);
    if (status != STATUS_OK || recording->header.is_headless)
        return status;
    arena_init(&recording->arena, 4 * RECORDING_CONFIG_BYTES_MAX);
    struct recorded head = recording_next(recording);
    if (head.kind == RECORDED_EVENT && take_config(recording, head.bytes))
        return STATUS_OK;
    recording_fini(recording);
    return error_set(error, STATUS_INVALID,
                     "what the node was made of cannot be read");
}

void recording_fini(struct recording *recording)
{
    arena_fini(&recording->arena);
    *recording = (struct recording){.version = ""};
}

static void set_kind(struct recorded *entry)
{
    struct bytes bytes = entry->bytes;
    entry->kind = RECORDED_EVENT;
    if (*bytes.data == RECORDING_TREES) {
        entry->kind = RECORDED_TREES;
        entry->bytes = bytes_of(bytes.data + 1, bytes.size - 1);
    } else if (*bytes.data == RECORDING_CUT &&
               bytes.size == RECORDING_CUT_BYTES) {
        entry->kind = RECORDED_CUT;
        memcpy(&entry->cut_bytes, bytes.data + 1, sizeof entry->cut_bytes);
    }
}

struct recorded recording_next(struct recording *recording)
{
    struct recorded entry = {.kind = RECORDED_WRONG};
    if (recording->at == NULL)
        return entry;
    bool is_first = recording->at < recording->first_end;
    if (!is_first && !recording->is_past_gap) {
        recording->is_past_gap = true;
        if (recording->header.missing > 0)
            return (struct recorded){.kind = RECORDED_GAP};
    }
    const uint8_t *end = is_first ? recording->first_end : recording->end;
    size_t room = (size_t)(end - recording->at);
    if (room == 0)
        return (struct recorded){.kind = RECORDED_END};
    if (room <= RECORDING_ENTRY_BYTES ||
        recording_entry_size(recording->at) > room ||
        recording_entry_size(recording->at) == RECORDING_ENTRY_BYTES) {
        recording->at = NULL;
        return entry;
    }
    memcpy(&entry.outcome, recording->at + sizeof(uint32_t),
           sizeof entry.outcome);
    entry.bytes =
        bytes_of(recording->at + RECORDING_ENTRY_BYTES,
                 recording_entry_size(recording->at) - RECORDING_ENTRY_BYTES);
    set_kind(&entry);
    entry.has_ended =
        memcmp(&entry.outcome, &recording_unended, sizeof entry.outcome) != 0;
    recording->at += recording_entry_size(recording->at);
    return entry;
}
