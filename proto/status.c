/* SPDX-License-Identifier: MIT */
#include "proto/status.h"

#include <stdarg.h>
#include <stdio.h>

const char *status_name(enum status status)
{
    static const char *const names[] = {
        [STATUS_OK] = "ok",
        [STATUS_NOT_FOUND] = "not_found",
        [STATUS_INVALID] = "invalid",
        [STATUS_TOO_LARGE] = "too_large",
        [STATUS_CORRUPT] = "corrupt",
        [STATUS_NO_SPACE] = "no_space",
        [STATUS_IO] = "io",
        [STATUS_BROKEN] = "broken",
        [STATUS_TIMEOUT] = "timeout",
        [STATUS_OVERLOADED] = "overloaded",
        [STATUS_UNAVAILABLE] = "unavailable",
        [STATUS_UNCERTAIN] = "uncertain",
        [STATUS_REFUSED] = "refused",
        [STATUS_UNSUPPORTED] = "unsupported",
        [STATUS_NO_MEMORY] = "no_memory",
        [STATUS_CLOSED] = "closed",
        [STATUS_STALE] = "stale",
    };
    if ((unsigned)status >= STATUS_COUNT)
        return "unknown_status";
    return names[status];
}

enum status error_set(struct error *error, enum status status,
                      const char *format, ...)
{
    if (error == NULL)
        return status;
    va_list arguments;
    va_start(arguments, format);
    error->status = status;
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}
