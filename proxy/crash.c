/* SPDX-License-Identifier: MIT */
#include "proxy/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static const int watched[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
enum { WATCHED = sizeof watched / sizeof *watched };

/* Written before the handler is installed, and read by it. */
static struct recorder *_Atomic recorder_of_process;
static char path[4096], fresh[4096 + sizeof ".new"];

static bool write_all(int file, struct bytes bytes)
{
    while (bytes.size > 0) {
        ssize_t wrote = write(file, bytes.data, bytes.size);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        bytes = bytes_of(bytes.data + wrote, bytes.size - (size_t)wrote);
    }
    return true;
}

/* Beside the last one and then in its place, whatever that is: a full disk
 * leaves it, and a link is not followed. */
static bool write_recording(const struct recorder *recorder)
{
    uint8_t header[RECORDING_HEADER_BYTES];
    struct bytes parts[RECORDER_PARTS];
    size_t count = recorder_parts(recorder, header, parts);
    (void)unlink(fresh);
    int file = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool wrote = file >= 0;
    for (size_t i = 0; i < count && wrote; i++)
        wrote = write_all(file, parts[i]);
    if (file >= 0 && close(file) != 0)
        wrote = false;
    wrote = wrote && rename(fresh, path) == 0;
    if (!wrote && file >= 0) {
        int why = errno;
        (void)unlink(fresh);
        errno = why;
    }
    return wrote;
}

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

/* strerror may take a lock. */
static const char *why_not(int number)
{
    return number == ENOSPC   ? ": no space left"
           : number == EACCES ? ": not allowed"
           : number == EROFS  ? ": read-only"
           : number == ENOENT ? ": no such directory"
                              : "";
}

/* Its own disposition is the default again: that ends the process, when the
 * handler has returned and the signal is no longer held back. */
static void crashed(int number)
{
    struct recorder *recorder = atomic_exchange(&recorder_of_process, NULL);
    if (recorder != NULL) {
        recorder_stop(recorder);
        bool wrote = write_recording(recorder);
        say(wrote ? "replikvd: crashed; its last events, with keys and values, "
                    "are for sim --replay in "
                  : "replikvd: crashed; its last events could not be written "
                    "to ");
        say(path);
        say(wrote ? "" : why_not(errno));
        say("\n");
    }
    (void)raise(number);
}

void crash_watch(struct recorder *recorder, const char *data_dir)
{
    if (recorder->memory == NULL)
        return;
    snprintf(path, sizeof path, "%s/" CRASH_FILE, data_dir);
    snprintf(fresh, sizeof fresh, "%s.new", path);
    recorder_of_process = recorder;
    struct sigaction action = {.sa_handler = crashed,
                               .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < WATCHED; i++) {
        struct sigaction now;
        if (sigaction(watched[i], NULL, &now) == 0 &&
            (now.sa_flags & SA_SIGINFO) == 0 && now.sa_handler == SIG_DFL)
            (void)sigaction(watched[i], &action, NULL);
    }
}

void crash_unwatch(void)
{
    recorder_of_process = NULL;
}
