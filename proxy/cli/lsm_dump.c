/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engines/lsm/inspect.h"
#include "proxy/cli/stored_key.h"

/* lsm dump: what one file says, a line for each entry, or an object. */

struct dump {
    bool json;
    const char *file;
    struct log_replay replay; /* of a log, as far as it was read */
    uint64_t told;            /* 1 + where the last record told begins */
    bool damaged;
};

static struct replikv_bytes of(struct bytes bytes)
{
    return replikv_bytes_of(bytes.data, bytes.size);
}

static json_t *object_of(const char *type)
{
    json_t *object = must_have(json_object());
    json_set_string(object, "type", type);
    return object;
}

static void set_key(json_t *object, const char *name, struct bytes key)
{
    json_set(object, name, stored_key_json(of(key)));
}

/* The members of a key, among the object's own. */
static void set_key_here(json_t *object, struct bytes key)
{
    json_t *members = stored_key_json(of(key));
    if (json_object_update(object, members) != 0)
        must_have(NULL);
    json_decref(members);
}

static void tell_damage(void *context, const char *file, uint64_t offset,
                        const char *what)
{
    struct dump *dump = context;
    dump->damaged = true;
    if (!dump->json) {
        printf("DAMAGED at offset %" PRIu64 " of %s: %s\n", offset, file, what);
        return;
    }
    json_t *object = object_of("damage");
    json_set_string(object, "file", file);
    json_set_number(object, "offset", offset);
    json_set_string(object, "what", what);
    json_line(object);
}

/* Of a table or a log: its offset, then its sequence, if it has one. */
static void tell_entry(void *context, uint64_t offset,
                       const struct entry *entry)
{
    const struct dump *dump = context;
    struct replikv_bytes value = of(entry->value);
    if (dump->json) {
        json_t *object = object_of("entry");
        json_set_number(object, "offset", offset);
        if (entry->sequence != 0)
            json_set_number(object, "sequence", entry->sequence);
        set_key_here(object, entry->key);
        json_set(object, "removed", json_boolean(entry->removed));
        json_set_number(object, "value_bytes", value.size);
        if (value.size > SHOWN_BYTES)
            value.size = SHOWN_BYTES;
        json_set_bytes(object, "value_start", value);
        json_line(object);
        return;
    }
    struct owned key = stored_key_text(of(entry->key));
    struct owned start = printable(value, SHOWN_BYTES);
    printf("  %" PRIu64 "  %s  ",
           entry->sequence != 0 ? entry->sequence : offset, key.data);
    if (entry->removed)
        puts("removed");
    else
        printf("%zu bytes  \"%s\"\n", value.size, start.data);
    owned_fini(&key);
    owned_fini(&start);
}

static void tell_table(void *context, unsigned level, const struct table *table)
{
    const struct dump *dump = context;
    const struct table_facts *facts = &table->facts;
    (void)level; /* the manifest's */
    if (dump->json) {
        json_t *object = object_of("table");
        json_set_number(object, "number", table->number);
        json_set_number(object, "bytes", facts->bytes);
        json_set_number(object, "entries", facts->entries);
        json_set_number(object, "removals", facts->removals);
        json_set_number(object, "user_bytes", facts->user_bytes);
        set_key(object, "smallest", table->smallest);
        set_key(object, "largest", table->largest);
        json_line(object);
        return;
    }
    struct owned smallest = stored_key_text(of(table->smallest));
    struct owned largest = stored_key_text(of(table->largest));
    printf("table %" PRIu64 ": %" PRIu64 " bytes, %" PRIu64 " entries, %" PRIu64
           " of them removals, %" PRIu64 " bytes of keys and values\n"
           "from %s\nto   %s\nentries, each with the offset of its block:\n",
           table->number, facts->bytes, facts->entries, facts->removals,
           facts->user_bytes, smallest.data, largest.data);
    owned_fini(&smallest);
    owned_fini(&largest);
}

/* ---- logs ---- */

static enum status tell_operation(void *context, const struct entry *entry)
{
    struct dump *dump = context;
    uint64_t offset = dump->replay.size;
    if (dump->told != offset + 1 && dump->json) {
        json_t *object = object_of("record");
        json_set_number(object, "offset", offset);
        json_set_number(object, "sequence", entry->sequence);
        if (dump->replay.claims)
            json_set_number(object, "synced", dump->replay.synced);
        json_line(object);
    } else if (dump->told != offset + 1) {
        printf("record at offset %" PRIu64 ", ", offset);
        if (dump->replay.claims)
            printf("%" PRIu64 " bytes synced\n", dump->replay.synced);
        else
            puts("nothing known to be synced");
    }
    dump->told = offset + 1;
    tell_entry(dump, offset, entry);
    return STATUS_OK;
}

static enum status dump_log(struct dump *dump, struct disk *disk,
                            uint64_t number)
{
    const struct log_replay *replay = &dump->replay;
    enum status status =
        log_read(disk, number, tell_operation, dump, &dump->replay);
    if (status != STATUS_OK)
        return status;
    if (replay->damaged)
        tell_damage(dump, dump->file, replay->size,
                    "what had been synced is damaged");
    if (dump->json) {
        json_t *object = object_of("end");
        json_set_number(object, "offset", replay->size);
        json_set(object, "ended", json_boolean(replay->ended));
        json_line(object);
    } else {
        printf("%s at offset %" PRIu64 "\n",
               replay->ended ? "end record before" : "open, no end record",
               replay->size);
    }
    return STATUS_OK;
}

/* ---- the manifest ---- */

static void tell_named(const struct dump *dump,
                       const struct manifest_table *table)
{
    char name[LSM_NAME_MAX];
    table_name(name, table->number);
    if (!dump->json) {
        printf("  level %u  %s  drops applied up to %" PRIu64 "\n",
               table->level, name, table->drops_applied);
        return;
    }
    json_t *object = object_of("table");
    json_set_string(object, "file", name);
    json_set_number(object, "level", table->level);
    json_set_number(object, "drops_applied", table->drops_applied);
    json_line(object);
}

static void tell_drop(const struct dump *dump, const struct dropped_range *drop)
{
    if (dump->json) {
        json_t *object = object_of("drop");
        json_set_number(object, "sequence", drop->sequence);
        set_key(object, "from", drop->from);
        set_key(object, "to", drop->to);
        json_line(object);
        return;
    }
    struct owned from = stored_key_text(of(drop->from));
    struct owned to = stored_key_text(of(drop->to));
    printf("  dropped at %" PRIu64 ": from %s to %s\n", drop->sequence,
           from.data, drop->to.size == 0 ? "the end" : to.data);
    owned_fini(&from);
    owned_fini(&to);
}

static enum status dump_manifest(struct dump *dump, struct disk *disk)
{
    struct manifest manifest;
    enum status status = manifest_read(disk, &manifest);
    if (status == STATUS_CORRUPT)
        tell_damage(dump, dump->file, 0, "its checksum does not fit");
    if (status != STATUS_OK)
        return status;
    if (dump->json) {
        json_t *object = object_of("manifest");
        json_set_number(object, "next_file", manifest.next_file);
        json_set_number(object, "log_number", manifest.log_number);
        json_set_number(object, "sequence", manifest.sequence);
        json_line(object);
    } else {
        printf("next file %" PRIu64 ", first log %" PRIu64 ", sequence %" PRIu64
               ", %zu tables, %zu dropped ranges\n",
               manifest.next_file, manifest.log_number, manifest.sequence,
               manifest.table_count, manifest.drop_count);
    }
    for (size_t i = 0; i < manifest.table_count; i++)
        tell_named(dump, &manifest.tables[i]);
    for (size_t i = 0; i < manifest.drop_count; i++)
        tell_drop(dump, &manifest.drops[i]);
    manifest_fini(&manifest);
    return STATUS_OK;
}

/* ---- */

static enum status dump_file(struct dump *dump, struct disk *disk,
                             struct error *error)
{
    uint64_t number;
    struct inspector inspector = {.context = dump,
                                  .table = tell_table,
                                  .entry = tell_entry,
                                  .damage = tell_damage};
    enum status status = STATUS_OK;
    switch (inspect_name(dump->file, &number)) {
    case STORE_TABLE:
        status = inspect_table(disk, number, &inspector);
        break;
    case STORE_LOG:
        status = dump_log(dump, disk, number);
        break;
    case STORE_MANIFEST:
        status = dump_manifest(dump, disk);
        break;
    case STORE_OTHER:
        return error_set(error, STATUS_INVALID,
                         "%.100s: a table, a log or a manifest has the name "
                         "it has in a store, as 00000007.table, 00000012.log "
                         "or MANIFEST, since checksums cover the number",
                         dump->file);
    }
    return status == STATUS_OK || status == STATUS_CORRUPT
               ? status
               : error_set(error, status, "%.100s: %s", dump->file,
                           status_name(status));
}

/* The directory that a path's file is in. */
static struct owned directory_of(const char *path, const char *file)
{
    struct owned directory = {0};
    size_t size = (size_t)(file - path);
    directory.data = must_have(size == 0 ? strdup(".") : strndup(path, size));
    return directory;
}

int command_lsm_dump(const struct cli *cli)
{
    const char *path = cli->args[0], *slash = strrchr(path, '/');
    struct dump dump = {.json = cli->json,
                        .file = slash == NULL ? path : slash + 1};
    struct owned directory = directory_of(path, dump.file);
    struct disk *disk = NULL;
    struct error error;
    struct stat found;
    enum status status = STATUS_INVALID;
    if (stat(path, &found) != 0)
        error_set(&error, status, "%.200s: %s", path, strerror(errno));
    else if (!S_ISREG(found.st_mode))
        error_set(&error, status,
                  "%.200s is no file; replikv lsm check reads a directory",
                  path);
    else
        status = disk_open_to_read(directory.data, &disk, &error);
    if (disk != NULL)
        status = dump_file(&dump, disk, &error);
    disk_free(disk);
    owned_fini(&directory);
    if (status == STATUS_OK || status == STATUS_CORRUPT)
        return dump.damaged ? EXIT_NOT_FOUND : EXIT_DONE;
    fprintf(stderr, "replikv: lsm dump: %s\n", error.text);
    return status == STATUS_INVALID || status == STATUS_NOT_FOUND
               ? EXIT_USAGE
               : EXIT_REFUSED;
}
