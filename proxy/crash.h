/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CRASH_H
#define REPLIKV_PROXY_CRASH_H

#include "proxy/recorder.h"

/* What a process that crashes leaves behind: the recording of its node, in
 * DATA_DIR/flight.rec, for its owner alone. One file, of the last crash: what
 * came after a start is the shortest way to see it again.
 *
 * Of SIGABRT, with which a failed assertion ends, SIGSEGV, SIGBUS, SIGFPE and
 * SIGILL, as far as nobody else, such as a sanitizer, handles them. Then the
 * process ends by the signal as it would have. The handler takes no lock and no
 * memory; a second crash while it writes ends the process at once, and a stack
 * that has overflown has no room for it. */

#define CRASH_FILE "flight.rec"

/* The recorder is borrowed until crash_unwatch; one in a process. */
void crash_watch(struct recorder *recorder, const char *data_dir);
void crash_unwatch(void);

#endif
