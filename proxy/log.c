/* SPDX-License-Identifier: MIT */
#include "proxy/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Far above what a healthy node says, far below what hurts. */
enum { LINES_A_SECOND = 100 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *name = "-";
static time_t second;
static unsigned lines, suppressed;

void log_open(const char *node)
{
    name = node;
}

static void write_line(const struct timespec *now, const char *text)
{
    struct tm utc;
    char when[32];
    gmtime_r(&now->tv_sec, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(stderr, "time=%s.%03ldZ node=%s %s\n", when, now->tv_nsec / 1000000,
            name, text);
}

void log_line(const char *format, ...)
{
    char text[1024];
    struct timespec now;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    clock_gettime(CLOCK_REALTIME, &now);

    pthread_mutex_lock(&lock);
    if (now.tv_sec != second) {
        second = now.tv_sec;
        lines = 0;
    }
    if (lines < LINES_A_SECOND && suppressed > 0) {
        char said[64];
        snprintf(said, sizeof said, "event=log_suppressed lines=%u",
                 suppressed);
        write_line(&now, said);
        suppressed = 0;
    }
    if (lines < LINES_A_SECOND) {
        lines++;
        write_line(&now, text);
    } else {
        suppressed++;
    }
    pthread_mutex_unlock(&lock);
}
