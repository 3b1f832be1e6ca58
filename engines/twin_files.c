/* SPDX-License-Identifier: MIT */
#include "engines/twin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define AGREED "AGREED"
enum { AGREED_BYTES = 48 };

enum status twin_path(const char *directory, const char *name,
                      char path[TWIN_PATH_MAX], struct error *error)
{
    if (snprintf(path, TWIN_PATH_MAX, "%s/%s", directory, name) < TWIN_PATH_MAX)
        return STATUS_OK;
    return error_set(error, STATUS_INVALID, "the path %.200s is too long",
                     directory);
}

static enum status failed(struct error *error, const char *what,
                          const char *path)
{
    return error_set(error, directory_status(errno), "cannot %s %.200s: %s",
                     what, path, strerror(errno));
}

/* --- a directory that another made --- */

/* Whether the first engine's store is in it: its own, or a twin's with the
 * same first, perhaps one that was killed while it moved files. */
static bool can_take(const struct twin_type *type, const char *owner)
{
    const char *first = type->inner[TWIN_FIRST]->name;
    /* "twin(lsm, " */
    size_t size = (size_t)(strchr(type->name, ' ') - type->name) + 1;
    return strcmp(owner, first) == 0 || strncmp(owner, type->name, size) == 0;
}

static bool stays(const char *name)
{
    static const char *const names[] = {".",          "..",   "ENGINE",
                                        "ENGINE.new", AGREED, "lost+found"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return strcmp(name, twin_places[TWIN_FIRST]) == 0 ||
           strcmp(name, twin_places[TWIN_SECOND]) == 0;
}

static enum status move_all(DIR *entries, const char *to, struct error *error)
{
    enum status status = STATUS_OK;
    if (mkdir(to, 0755) != 0 && errno != EEXIST)
        return failed(error, "make the directory", to);
    int at = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return failed(error, "open", to);
    const struct dirent *entry;
    while (status == STATUS_OK && (errno = 0, entry = readdir(entries)))
        if (!stays(entry->d_name) &&
            renameat(dirfd(entries), entry->d_name, at, entry->d_name) != 0)
            status = failed(error, "move files to", to);
    if (status == STATUS_OK && errno != 0)
        status = failed(error, "list what is beside", to);
    close(at);
    return status;
}

/* Its ENGINE file, which stayed behind, is the last that it gets. */
static enum status move_first(const struct twin_type *type,
                              const char *directory, struct error *error)
{
    char first[TWIN_PATH_MAX], owner[DIRECTORY_OWNER_MAX];
    enum status status =
        twin_path(directory, twin_places[TWIN_FIRST], first, error);
    if (status != STATUS_OK)
        return status;
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return failed(error, "list", directory);
    status = move_all(entries, first, error);
    closedir(entries);
    if (status == STATUS_OK)
        status = directory_owner(first, owner, error);
    if (status == STATUS_NOT_FOUND)
        status = directory_mark(first, type->inner[TWIN_FIRST]->name, error);
    if (status == STATUS_OK)
        status = directory_sync(directory, error);
    return status;
}

enum status twin_adopt(const struct engine_type *base, const char *directory,
                       struct error *error)
{
    const struct twin_type *type = (const struct twin_type *)base;
    char owner[DIRECTORY_OWNER_MAX];
    int lock;
    /* What is wrong with it is for directory_claim to say. */
    if (directory_owner(directory, owner, NULL) != STATUS_OK ||
        !can_take(type, owner))
        return STATUS_OK;
    enum status status = directory_lock(directory, &lock, error);
    if (status != STATUS_OK)
        return status;
    /* First, so that its engine does not open what is half moved. */
    if (strcmp(owner, type->name) != 0)
        status = directory_mark(directory, type->name, error);
    if (status == STATUS_OK)
        status = move_first(type, directory, error);
    close(lock);
    return status;
}

/* --- agreement --- */

enum status twin_claim_second(const struct engine_type *type,
                              const char *directory, struct error *error)
{
    char behind[DIRECTORY_OWNER_MAX], owner[DIRECTORY_OWNER_MAX];
    int lock;
    snprintf(behind, sizeof behind, "%s, behind its twin", type->name);
    if (directory_owner(directory, owner, NULL) != STATUS_OK ||
        strcmp(owner, type->name) != 0)
        return directory_claim(directory, behind, error);
    enum status status = directory_lock(directory, &lock, error);
    if (status != STATUS_OK)
        return status;
    status = directory_mark(directory, behind, error);
    close(lock);
    return status;
}

/* Changes with any file's size or time; 0 if they cannot be seen. */
static uint64_t trace_of(const char *directory, enum twin_place place)
{
    char path[TWIN_PATH_MAX];
    uint64_t trace = 0;
    if (twin_path(directory, twin_places[place], path, NULL) != STATUS_OK)
        return 0;
    DIR *entries = opendir(path);
    if (entries == NULL)
        return 0;
    const struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        struct stat file;
        if (strcmp(entry->d_name, "..") != 0 &&
            fstatat(dirfd(entries), entry->d_name, &file, 0) == 0)
            trace += (uint64_t)file.st_mtim.tv_sec * 1000000000 +
                     (uint64_t)file.st_mtim.tv_nsec + (uint64_t)file.st_size;
    }
    closedir(entries);
    return trace;
}

static void agreed_line(const char *directory, char line[AGREED_BYTES])
{
    snprintf(line, AGREED_BYTES, "%016" PRIx64 " %016" PRIx64 "\n",
             trace_of(directory, TWIN_FIRST), trace_of(directory, TWIN_SECOND));
}

enum status twin_take_agreed(const char *directory, bool *agreed,
                             struct error *error)
{
    char path[TWIN_PATH_MAX], wanted[AGREED_BYTES], line[AGREED_BYTES] = "";
    enum status status = twin_path(directory, AGREED, path, error);
    if (status != STATUS_OK)
        return status;
    FILE *file = fopen(path, "re");
    if (file == NULL && errno == ENOENT)
        return STATUS_OK;
    if (file == NULL)
        return failed(error, "open", path);
    agreed_line(directory, wanted);
    *agreed =
        fgets(line, sizeof line, file) != NULL && strcmp(line, wanted) == 0;
    fclose(file);
    if (unlink(path) != 0)
        return failed(error, "remove", path);
    return directory_sync(directory, error);
}

void twin_leave_agreed(const struct twin_type *type, const char *directory)
{
    char path[TWIN_PATH_MAX], line[AGREED_BYTES];
    const char *second = type->inner[TWIN_SECOND]->name;
    if (twin_path(directory, twin_places[TWIN_SECOND], path, NULL) !=
            STATUS_OK ||
        directory_mark(path, second, NULL) != STATUS_OK ||
        twin_path(directory, AGREED, path, NULL) != STATUS_OK)
        return;
    agreed_line(directory, line);
    /* Half a line is no agreement. */
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return;
    (void)fputs(line, file);
    (void)fclose(file);
    (void)!directory_sync(directory, NULL);
}
