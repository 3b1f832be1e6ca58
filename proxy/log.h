/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_LOG_H
#define REPLIKV_PROXY_LOG_H

/* One line an event on standard error: time, node, then key=value. From any
 * thread; a line is written whole. What comes faster than 100 lines a second
 * is counted and said later, so that a peer cannot fill a disk with it. */

/* Who logs; borrowed for good. */
void log_open(const char *node);

/* The line without its end, e.g. "event=closed peer=... why=\"...\"". */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
