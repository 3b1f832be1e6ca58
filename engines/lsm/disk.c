/* SPDX-License-Identifier: MIT */
#include "engines/lsm/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engines/directory.h"
#include "proto/assert.h"

struct real_disk {
    struct disk disk;
    int fd; /* of the directory; with disk_open it holds the lock */
    pthread_mutex_t sync_mutex; /* held over a sync of the directory */
    bool sync_failed;           /* as below */
};

struct real_file {
    struct disk_file file;
    int fd;
    /* The kernel tells of a failed write-back once and then takes the pages
     * for clean: asked again, it would say that all is well. */
    atomic_bool sync_failed;
};

static const struct disk_operations real_operations;

static struct real_disk *real_of(struct disk *disk)
{
    ASSERT(disk->operations == &real_operations);
    return (struct real_disk *)disk;
}

static int directory_of(struct disk *disk)
{
    return real_of(disk)->fd;
}

static int descriptor_of(struct disk_file *file)
{
    return ((struct real_file *)file)->fd;
}

/* Of a call that answers 0, or -1 and errno. */
static enum status answer(int result)
{
    return result == 0 ? STATUS_OK : directory_status(errno);
}

/* The same, where what is named may not be there. */
static enum status answer_found(int result)
{
    return result != 0 && errno == ENOENT ? STATUS_NOT_FOUND : answer(result);
}

static enum status real_open(struct disk *disk, const char *name,
                             enum disk_mode mode, struct disk_file **file)
{
    static const int flags[] = {
        [DISK_READ] = O_RDONLY,
        [DISK_CREATE] = O_RDWR | O_CREAT | O_TRUNC,
        [DISK_UPDATE] = O_RDWR,
    };
    *file = NULL;
    struct real_file *opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        return STATUS_NO_MEMORY;
    opened->file.operations = &real_operations;
    opened->fd =
        openat(directory_of(disk), name, flags[mode] | O_CLOEXEC, 0644);
    if (opened->fd < 0) {
        enum status status =
            mode == DISK_CREATE ? answer(-1) : answer_found(-1);
        free(opened);
        return status;
    }
    *file = &opened->file;
    return STATUS_OK;
}

static void real_close(struct disk_file *file)
{
    close(descriptor_of(file));
    free(file);
}

static enum status real_read(struct disk_file *file, uint64_t offset,
                             void *data, size_t size)
{
    uint8_t *at = data;
    while (size > 0) {
        ssize_t done = pread(descriptor_of(file), at, size, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return directory_status(errno);
        if (done == 0)
            return STATUS_CORRUPT;
        at += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
    return STATUS_OK;
}

static enum status real_write(struct disk_file *file, uint64_t offset,
                              struct bytes bytes)
{
    while (bytes.size > 0) {
        ssize_t done =
            pwrite(descriptor_of(file), bytes.data, bytes.size, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return directory_status(errno);
        if (done == 0)
            return STATUS_IO;
        bytes = bytes_of(bytes.data + done, bytes.size - (size_t)done);
        offset += (uint64_t)done;
    }
    return STATUS_OK;
}

/* Of a sync whose like has failed before. */
static enum status in_doubt(void)
{
    errno = EIO;
    return STATUS_IO;
}

static enum status real_sync(struct disk_file *file)
{
    struct real_file *real = (struct real_file *)file;
    if (atomic_load(&real->sync_failed))
        return in_doubt();
    int result;
    do
        result = fdatasync(real->fd);
    while (result != 0 && errno == EINTR);
    if (result != 0)
        atomic_store(&real->sync_failed, true);
    return answer(result);
}

/* Failures are of no matter here: sync waits for the same bytes, and tells. */
static void real_start_sync(struct disk_file *file, uint64_t offset,
                            uint64_t size)
{
    (void)sync_file_range(descriptor_of(file), (off_t)offset, (off_t)size,
                          SYNC_FILE_RANGE_WRITE);
}

static enum status real_size(struct disk_file *file, uint64_t *size)
{
    struct stat found;
    if (fstat(descriptor_of(file), &found) != 0)
        return directory_status(errno);
    *size = (uint64_t)found.st_size;
    return STATUS_OK;
}

static enum status real_truncate(struct disk_file *file, uint64_t size)
{
    int result;
    do
        result = ftruncate(descriptor_of(file), (off_t)size);
    while (result != 0 && errno == EINTR);
    return answer(result);
}

static void real_advise(struct disk_file *file, enum disk_access access)
{
    static const int advice[] = {
        [DISK_RANDOM] = POSIX_FADV_RANDOM,
        [DISK_SEQUENTIAL] = POSIX_FADV_SEQUENTIAL,
    };
    (void)posix_fadvise(descriptor_of(file), 0, 0, advice[access]);
}

static enum status real_rename(struct disk *disk, const char *from,
                               const char *to)
{
    int at = directory_of(disk);
    return answer(renameat(at, from, at, to));
}

static enum status real_remove(struct disk *disk, const char *name)
{
    return answer_found(unlinkat(directory_of(disk), name, 0));
}

static enum status real_link(struct disk *disk, const char *name,
                             struct disk *other)
{
    int result = linkat(directory_of(disk), name, directory_of(other), name, 0);
    return result != 0 && errno == EXDEV ? STATUS_REFUSED : answer(result);
}

static bool is_file(const struct dirent *entry)
{
    return entry->d_type != DT_DIR && strcmp(entry->d_name, ".") != 0 &&
           strcmp(entry->d_name, "..") != 0;
}

static enum status
real_list(struct disk *disk,
          enum status (*each)(void *context, const char *name), void *context)
{
    /* Opened anew: a duplicate would share its position with others. */
    int fd =
        openat(directory_of(disk), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return directory_status(errno);
    DIR *entries = fdopendir(fd);
    if (entries == NULL) {
        enum status status = directory_status(errno);
        close(fd);
        return status;
    }
    enum status status = STATUS_OK;
    const struct dirent *entry;
    while (status == STATUS_OK && (errno = 0, entry = readdir(entries))) {
        if (is_file(entry))
            status = each(context, entry->d_name);
    }
    if (status == STATUS_OK && errno != 0)
        status = directory_status(errno);
    closedir(entries);
    return status;
}

/* The failure is told to one caller, whoever has the descriptor: the others
 * wait, to hear of it from here. */
static enum status real_sync_directory(struct disk *disk)
{
    struct real_disk *real = real_of(disk);
    int result = 0;
    pthread_mutex_lock(&real->sync_mutex);
    bool failed = real->sync_failed;
    if (!failed) {
        do
            result = fsync(real->fd);
        while (result != 0 && errno == EINTR);
        real->sync_failed = result != 0;
    }
    pthread_mutex_unlock(&real->sync_mutex);
    if (failed)
        return in_doubt();
    return result == 0 ? STATUS_OK : STATUS_IO;
}

static uint64_t real_free_bytes(struct disk *disk)
{
    struct statvfs found;
    return fstatvfs(directory_of(disk), &found) == 0
               ? (uint64_t)found.f_bavail * found.f_frsize
               : UINT64_MAX;
}

/* The new name lives in the parent, so the parent is what is flushed. */
static int sync_parent(struct disk *disk)
{
    int fd =
        openat(directory_of(disk), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int number = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return number;
}

static enum status real_make_directory(struct disk *disk, const char *path,
                                       struct disk **other, struct error *error)
{
    (void)disk; /* path is the process's, as the disk's own was */
    *other = NULL;
    if (mkdir(path, 0755) != 0)
        return error_set(error, directory_status(errno),
                         "cannot make the directory %.200s: %s", path,
                         strerror(errno));
    enum status status = disk_open(path, other, error);
    if (status == STATUS_OK) {
        int number = sync_parent(*other);
        if (number == 0)
            return STATUS_OK;
        status = error_set(error, directory_status(number),
                           "cannot sync what %.200s is in: %s", path,
                           strerror(number));
        disk_free(*other);
        *other = NULL;
    }
    rmdir(path);
    return status;
}

static void real_free(struct disk *disk)
{
    struct real_disk *real = real_of(disk);
    close(real->fd);
    pthread_mutex_destroy(&real->sync_mutex);
    free(real);
}

static const struct disk_operations real_operations = {
    .open = real_open,
    .close = real_close,
    .read = real_read,
    .write = real_write,
    .sync = real_sync,
    .start_sync = real_start_sync,
    .size = real_size,
    .truncate = real_truncate,
    .advise = real_advise,
    .rename = real_rename,
    .remove = real_remove,
    .link = real_link,
    .list = real_list,
    .sync_directory = real_sync_directory,
    .free_bytes = real_free_bytes,
    .make_directory = real_make_directory,
    .free = real_free,
};

static enum status disk_of(int fd, struct disk **disk, struct error *error)
{
    struct real_disk *real = calloc(1, sizeof *real);
    if (real == NULL) {
        close(fd);
        return error_set(error, STATUS_NO_MEMORY, "no memory for a disk");
    }
    real->disk.operations = &real_operations;
    real->fd = fd;
    pthread_mutex_init(&real->sync_mutex, NULL);
    *disk = &real->disk;
    return STATUS_OK;
}

enum status disk_open(const char *path, struct disk **disk, struct error *error)
{
    int fd;
    *disk = NULL;
    enum status status = directory_lock(path, &fd, error);
    return status == STATUS_OK ? disk_of(fd, disk, error) : status;
}

enum status disk_open_to_read(const char *path, struct disk **disk,
                              struct error *error)
{
    *disk = NULL;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int number = errno;
        return error_set(error, answer_found(-1), "cannot open %.200s: %s",
                         path, strerror(number));
    }
    return disk_of(fd, disk, error);
}

void disk_free(struct disk *disk)
{
    if (disk != NULL)
        disk->operations->free(disk);
}

enum status disk_read_all(struct disk *disk, const char *name, size_t max,
                          struct buffer *content)
{
    struct disk_file *file;
    uint64_t size;
    buffer_clear(content);
    enum status status = disk_file_open(disk, name, DISK_READ, &file);
    if (status != STATUS_OK)
        return status;
    status = file->operations->size(file, &size);
    if (status == STATUS_OK && size > max)
        status = STATUS_TOO_LARGE;
    if (status == STATUS_OK)
        status = buffer_reserve(content, (size_t)size);
    if (status == STATUS_OK)
        status = disk_file_read(file, 0, content->data, (size_t)size);
    if (status == STATUS_OK)
        content->size = (size_t)size;
    disk_file_close(file);
    return status;
}
