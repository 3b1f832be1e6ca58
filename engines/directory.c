/* SPDX-License-Identifier: MIT */
#include "engines/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARKER "ENGINE"
#define MARKER_NEW "ENGINE.new"

enum status directory_status(int number)
{
    if (number == ENOSPC || number == EDQUOT)
        return STATUS_NO_SPACE;
    if (number == ENOMEM)
        return STATUS_NO_MEMORY;
    return STATUS_IO;
}

static enum status failed(struct error *error, const char *what,
                          const char *path, int number)
{
    return error_set(error, directory_status(number), "cannot %s %s: %s", what,
                     path, strerror(number));
}

static int open_directory(const char *directory)
{
    return open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

enum status directory_sync(const char *directory, struct error *error)
{
    int fd = open_directory(directory);
    if (fd < 0)
        return failed(error, "open", directory, errno);
    int number = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return number == 0 ? STATUS_OK : failed(error, "sync", directory, number);
}

/* The new entry lives in the parent, so the parent is what is flushed. */
static enum status sync_parent(const char *directory, struct error *error)
{
    char parent[PATH_MAX];
    if (snprintf(parent, sizeof parent, "%s/..", directory) >=
        (int)sizeof parent)
        return error_set(error, STATUS_INVALID, "the path %.200s is too long",
                         directory);
    return directory_sync(parent, error);
}

/* 0 or an errno. */
static int write_all(int fd, const char *text)
{
    size_t size = strlen(text);
    while (size > 0) {
        ssize_t done = write(fd, text, size);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        text += done;
        size -= (size_t)done;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

enum status directory_mark(const char *directory, const char *name,
                           struct error *error)
{
    char line[DIRECTORY_OWNER_MAX];
    int number = 0;
    int fd = -1;
    int at = open_directory(directory);
    if (at < 0)
        return failed(error, "open", directory, errno);
    snprintf(line, sizeof line, "%s\n", name);
    fd = openat(at, MARKER_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        number = errno;
        goto out;
    }
    number = write_all(fd, line);
    if (close(fd) != 0 && number == 0)
        number = errno;
    if (number == 0 && renameat(at, MARKER_NEW, at, MARKER) != 0)
        number = errno;
    if (number == 0 && fsync(at) != 0)
        number = errno;
out:
    close(at);
    return number == 0
               ? STATUS_OK
               : failed(error, "write the ENGINE file of", directory, number);
}

/* What a crash before the marker, or a file system's root, may have left. */
static bool is_foreign(const char *name)
{
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strcmp(name, MARKER_NEW) != 0 && strcmp(name, "lost+found") != 0;
}

static enum status check_empty(const char *directory, struct error *error)
{
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return failed(error, "list", directory, errno);
    enum status status = STATUS_OK;
    const struct dirent *entry;
    while (status == STATUS_OK && (errno = 0, entry = readdir(entries)))
        if (is_foreign(entry->d_name))
            status = error_set(
                error, STATUS_REFUSED,
                "%.150s has files (%.40s) but no ENGINE file that says whose "
                "they are; give the engine an empty directory",
                directory, entry->d_name);
    if (status == STATUS_OK && errno != 0)
        status = failed(error, "list", directory, errno);
    closedir(entries);
    return status;
}

enum status directory_owner(const char *directory,
                            char owner[DIRECTORY_OWNER_MAX],
                            struct error *error)
{
    int at = open_directory(directory);
    if (at < 0)
        return failed(error, "open", directory, errno);
    int fd = openat(at, MARKER, O_RDONLY | O_CLOEXEC);
    int number = errno;
    close(at);
    if (fd < 0 && number == ENOENT)
        return STATUS_NOT_FOUND;
    if (fd < 0)
        return failed(error, "open the ENGINE file of", directory, number);
    ssize_t got = read(fd, owner, DIRECTORY_OWNER_MAX - 1);
    number = errno;
    close(fd);
    if (got < 0)
        return failed(error, "read the ENGINE file of", directory, number);
    owner[got] = '\0';
    owner[strcspn(owner, "\n")] = '\0';
    return STATUS_OK;
}

enum status directory_claim(const char *directory, const char *name,
                            struct error *error)
{
    char owner[DIRECTORY_OWNER_MAX];
    if (mkdir(directory, 0755) != 0 && errno != EEXIST)
        return failed(error, "make the directory", directory, errno);
    enum status status = directory_owner(directory, owner, error);
    if (status == STATUS_NOT_FOUND) {
        status = check_empty(directory, error);
        /* Also when mkdir found it: a crash may have come before the sync. */
        if (status == STATUS_OK)
            status = sync_parent(directory, error);
        if (status == STATUS_OK)
            status = directory_mark(directory, name, error);
        return status;
    }
    if (status != STATUS_OK || strcmp(owner, name) == 0)
        return status;
    return error_set(error, STATUS_REFUSED,
                     "%.120s was made by the engine \"%s\" and cannot be "
                     "opened as \"%s\"; name that engine or another directory",
                     directory, owner, name);
}

enum status directory_lock(const char *directory, int *descriptor,
                           struct error *error)
{
    int fd = open_directory(directory);
    if (fd < 0)
        return failed(error, "open", directory, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *descriptor = fd;
        return STATUS_OK;
    }
    int number = errno;
    close(fd);
    if (number != EWOULDBLOCK)
        return failed(error, "lock", directory, number);
    return error_set(error, STATUS_REFUSED,
                     "%.200s is open already, in this process or another; "
                     "a store has one process at a time",
                     directory);
}

uint64_t directory_bytes(const char *directory)
{
    DIR *entries = opendir(directory);
    if (entries == NULL)
        return 0;
    uint64_t total = 0;
    const struct dirent *entry;
    while ((entry = readdir(entries)) != NULL) {
        struct stat file;
        if (fstatat(dirfd(entries), entry->d_name, &file, 0) == 0 &&
            S_ISREG(file.st_mode))
            total += (uint64_t)file.st_blocks * 512;
    }
    closedir(entries);
    return total;
}
