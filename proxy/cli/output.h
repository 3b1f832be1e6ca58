/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROXY_CLI_OUTPUT_H
#define REPLIKV_PROXY_CLI_OUTPUT_H

#include <jansson.h>
#include <stdio.h>

#include "proxy/cli/cli.h"

/* Tables for people, JSON for programs, bytes for both. */

/* Columns as wide as their widest cell, under headers; a header that begins
 * with '>' aligns its column to the right. Cells come row by row. */
struct grid {
    const char *const *headers;
    size_t columns;
    char **cells;
    size_t count, capacity;
};

void grid_init(struct grid *grid, const char *const *headers, size_t columns);
void grid_add(struct grid *grid, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* How long ago, "12 s"; -1 never, below that nothing. */
void grid_add_ago(struct grid *grid, int64_t ago_ms);
/* Print to standard output and free. */
void grid_finish(struct grid *grid);

/* Put into the object or behind the list, which then own it. */
void json_set(json_t *object, const char *name, json_t *value);
void json_push(json_t *list, json_t *item);
/* Set name to the bytes as a string, or, if they are not UTF-8, NAME_base64. */
void json_set_bytes(json_t *object, const char *name,
                    struct replikv_bytes bytes);
void json_set_base64(json_t *object, const char *name,
                     struct replikv_bytes bytes);
void json_set_string(json_t *object, const char *name, const char *string);
void json_set_number(json_t *object, const char *name, uint64_t number);
/* null for never; nothing is set below that. */
void json_set_ago(json_t *object, const char *name, int64_t ago_ms);
/* 16 hex digits: more than a JSON number holds everywhere. */
void json_set_hex(json_t *object, const char *name, uint64_t number);
/* One value as "value"; siblings as "values", a list of objects with one each;
 * none as nothing. */
void json_set_values(json_t *object, const struct replikv_bytes *values,
                     const int64_t *ttl_ms, size_t count);
/* status, outcome, message, need, got, epoch, attempts: what every reply
 * says. */
json_t *json_of_result(const struct replikv_result *result);
/* Print as a document, or as one line, and free. */
void json_document(json_t *json);
void json_line(json_t *json);

struct owned base64_encode(struct replikv_bytes bytes);
bool base64_decode(const char *text, size_t size, struct owned *out);

/* At most max of the bytes, for people: what is not printable as \xHH. */
enum { SHOWN_BYTES = 60 };
struct owned printable(struct replikv_bytes bytes, size_t max);

/* How far something is, on standard error: at once and in place on a terminal,
 * otherwise a line every two seconds, so that short runs say nothing. */
struct progress {
    const char *what;
    bool terminal, shown;
    int64_t start_ms, next_ms;
};
void progress_start(struct progress *progress, const char *what);
/* done of total, total 0 when unknown; count things so far, for the rate. */
void progress_show(struct progress *progress, uint64_t done, uint64_t total,
                   uint64_t count);
/* In its place and as often: what is waited for. */
void progress_say(struct progress *progress, const char *line);
/* Wipe the bar. Returns the milliseconds since the start. */
int64_t progress_finish(struct progress *progress);

#endif
