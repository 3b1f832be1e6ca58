/* SPDX-License-Identifier: MIT */
#include "proxy/cli/output.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/clock.h"

void grid_init(struct grid *grid, const char *const *headers, size_t columns)
{
    *grid = (struct grid){.headers = headers, .columns = columns};
}

void grid_add(struct grid *grid, const char *format, ...)
{
    if (grid->count == grid->capacity) {
        grid->capacity = grid->capacity == 0 ? 64 : grid->capacity * 2;
        grid->cells = must_have(
            realloc(grid->cells, grid->capacity * sizeof(*grid->cells)));
    }
    va_list arguments;
    va_start(arguments, format);
    char *cell = NULL;
    if (vasprintf(&cell, format, arguments) < 0)
        cell = NULL;
    va_end(arguments);
    grid->cells[grid->count++] = must_have(cell);
}

static void print_cell(const struct grid *grid, size_t column, const char *cell,
                       int width)
{
    bool last = column + 1 == grid->columns;
    if (grid->headers[column][0] == '>')
        printf("%*s", width, cell);
    else
        printf("%-*s", last ? 0 : width, cell);
    fputs(last ? "\n" : "  ", stdout);
}

void grid_add_ago(struct grid *grid, int64_t ago_ms)
{
    int64_t seconds = ago_ms / 1000;
    if (ago_ms < 0)
        grid_add(grid, "%s", ago_ms == -1 ? "never" : "-");
    else if (seconds < 120)
        grid_add(grid, "%" PRId64 " s ago", seconds);
    else if (seconds < 2 * 3600)
        grid_add(grid, "%" PRId64 " min ago", seconds / 60);
    else
        grid_add(grid, "%" PRId64 " h ago", seconds / 3600);
}

void grid_finish(struct grid *grid)
{
    int *widths = must_have(calloc(grid->columns + 1, sizeof(*widths)));
    for (size_t i = 0; i < grid->columns; i++) {
        const char *header = grid->headers[i];
        widths[i] = (int)strlen(header) - (header[0] == '>');
        for (size_t j = i; j < grid->count; j += grid->columns)
            if ((int)strlen(grid->cells[j]) > widths[i])
                widths[i] = (int)strlen(grid->cells[j]);
    }
    for (size_t i = 0; i < grid->columns; i++)
        print_cell(grid, i, grid->headers[i] + (grid->headers[i][0] == '>'),
                   widths[i]);
    for (size_t j = 0; j < grid->count; j++) {
        print_cell(grid, j % grid->columns, grid->cells[j],
                   widths[j % grid->columns]);
        free(grid->cells[j]);
    }
    free(widths);
    free(grid->cells);
}

/* ---- JSON ---- */

void json_set(json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, must_have(value)) != 0)
        must_have(NULL);
}

void json_push(json_t *list, json_t *item)
{
    if (json_array_append_new(list, must_have(item)) != 0)
        must_have(NULL);
}

void json_set_string(json_t *object, const char *name, const char *string)
{
    json_set_bytes(object, name, replikv_bytes_of(string, strlen(string)));
}

void json_set_number(json_t *object, const char *name, uint64_t number)
{
    json_set(object, name, json_integer((json_int_t)number));
}

void json_set_ago(json_t *object, const char *name, int64_t ago_ms)
{
    if (ago_ms == -1)
        json_set(object, name, json_null());
    else if (ago_ms >= 0)
        json_set_number(object, name, (uint64_t)ago_ms);
}

void json_set_hex(json_t *object, const char *name, uint64_t number)
{
    char text[17];
    snprintf(text, sizeof(text), "%016" PRIx64, number);
    json_set(object, name, json_string(text));
}

void json_set_base64(json_t *object, const char *name,
                     struct replikv_bytes bytes)
{
    struct owned text = base64_encode(bytes);
    json_set(object, name, json_stringn(text.data, text.size));
    owned_fini(&text);
}

void json_set_bytes(json_t *object, const char *name,
                    struct replikv_bytes bytes)
{
    json_t *string =
        json_stringn(bytes.size == 0 ? "" : bytes.data, bytes.size);
    if (string != NULL) {
        json_set(object, name, string);
        return;
    }
    char other[64];
    snprintf(other, sizeof(other), "%s_base64", name);
    json_set_base64(object, other, bytes);
}

static void set_value(json_t *object, const struct replikv_bytes *values,
                      const int64_t *ttl_ms, size_t i)
{
    json_set_bytes(object, "value", values[i]);
    if (ttl_ms != NULL)
        json_set(object, "ttl_ms",
                 json_integer(ttl_ms[i] > 0 ? ttl_ms[i] : REPLIKV_TTL_NEVER));
}

void json_set_values(json_t *object, const struct replikv_bytes *values,
                     const int64_t *ttl_ms, size_t count)
{
    if (count == 1)
        set_value(object, values, ttl_ms, 0);
    if (count <= 1)
        return;
    json_t *list = must_have(json_array());
    for (size_t i = 0; i < count; i++) {
        json_t *sibling = must_have(json_object());
        set_value(sibling, values, ttl_ms, i);
        json_array_append_new(list, sibling);
    }
    json_set(object, "values", list);
}

json_t *json_of_result(const struct replikv_result *result)
{
    json_t *object = must_have(json_object());
    json_set_string(object, "status", replikv_status_name(result->status));
    if (result->outcome != REPLIKV_NONE)
        json_set_string(object, "outcome",
                        replikv_outcome_name(result->outcome));
    if (result->message[0] != '\0')
        json_set_string(object, "message", result->message);
    json_set_number(object, "need", result->need);
    json_set_number(object, "got", result->got);
    json_set_number(object, "epoch", result->epoch);
    json_set_number(object, "attempts", result->attempts);
    if (result->retry_after_ms > 0)
        json_set_number(object, "retry_after_ms", result->retry_after_ms);
    return object;
}

void json_document(json_t *json)
{
    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

void json_line(json_t *json)
{
    json_dumpf(json, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(json);
}

/* ---- bytes as text ---- */

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct owned base64_encode(struct replikv_bytes bytes)
{
    const uint8_t *in = bytes.data;
    struct owned out = {.size = (bytes.size + 2) / 3 * 4};
    out.data = must_have(malloc(out.size + 1));
    char *to = out.data;
    for (size_t i = 0; i < bytes.size; i += 3) {
        size_t left = bytes.size - i;
        uint32_t word = (uint32_t)in[i] << 16;
        if (left > 1)
            word |= (uint32_t)in[i + 1] << 8;
        if (left > 2)
            word |= in[i + 2];
        *to++ = base64_digits[word >> 18];
        *to++ = base64_digits[word >> 12 & 63];
        *to++ = left > 1 ? base64_digits[word >> 6 & 63] : '=';
        *to++ = left > 2 ? base64_digits[word & 63] : '=';
    }
    *to = '\0';
    return out;
}

bool base64_decode(const char *text, size_t size, struct owned *out)
{
    while (size > 0 && text[size - 1] == '=')
        size--;
    *out = (struct owned){.data = must_have(malloc(size + 1))};
    uint32_t word = 0;
    int bits = 0;
    for (size_t i = 0; i < size; i++) {
        const char *digit =
            text[i] == '\0' ? NULL : strchr(base64_digits, text[i]);
        if (digit == NULL) {
            owned_fini(out);
            return false;
        }
        word = word << 6 | (uint32_t)(digit - base64_digits);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out->data[out->size++] = (char)(word >> bits & 255);
        }
    }
    out->data[out->size] = '\0';
    /* A lone digit, or set bits that no encoder leaves. */
    if (bits == 6 || (word & ((1u << bits) - 1)) != 0) {
        owned_fini(out);
        return false;
    }
    return true;
}

struct owned printable(struct replikv_bytes bytes, size_t max)
{
    enum { WIDEST = 4 };
    const uint8_t *in = bytes.data;
    size_t shown = bytes.size < max ? bytes.size : max;
    struct owned out = {.data = must_have(malloc(shown * WIDEST + 4))};
    for (size_t i = 0; i < shown; i++) {
        if (in[i] >= 0x20 && in[i] < 0x7f && in[i] != '\\')
            out.data[out.size++] = (char)in[i];
        else
            out.size += (size_t)sprintf(out.data + out.size, "\\x%02x", in[i]);
    }
    strcpy(out.data + out.size, bytes.size > shown ? "..." : "");
    out.size = strlen(out.data);
    return out;
}

/* ---- progress ---- */

enum { BAR_EVERY_MS = 200, LINE_EVERY_MS = 2000, BAR_WIDTH = 30 };

void progress_start(struct progress *progress, const char *what)
{
    *progress = (struct progress){.what = what,
                                  .terminal = isatty(STDERR_FILENO) == 1,
                                  .start_ms = clock_now_ms()};
    progress->next_ms = progress->start_ms +
                        (progress->terminal ? BAR_EVERY_MS : LINE_EVERY_MS);
}

static bool is_due(struct progress *progress, int64_t now)
{
    if (now < progress->next_ms)
        return false;
    progress->next_ms =
        now + (progress->terminal ? BAR_EVERY_MS : LINE_EVERY_MS);
    progress->shown = true;
    return true;
}

void progress_say(struct progress *progress, const char *line)
{
    enum { WIDTH = 79 }; /* of a line that is written over */
    if (!is_due(progress, clock_now_ms()))
        return;
    if (progress->terminal)
        fprintf(stderr, "\r%.*s\033[K", WIDTH, line);
    else
        fprintf(stderr, "%s\n", line);
}

void progress_show(struct progress *progress, uint64_t done, uint64_t total,
                   uint64_t count)
{
    int64_t now = clock_now_ms();
    if (!is_due(progress, now))
        return;
    char bar[BAR_WIDTH + 16] = "";
    if (total > 0) {
        uint64_t full = done >= total ? BAR_WIDTH : done * BAR_WIDTH / total;
        char filled[BAR_WIDTH + 1];
        memset(filled, '.', BAR_WIDTH);
        memset(filled, '#', full);
        filled[BAR_WIDTH] = '\0';
        snprintf(bar, sizeof(bar), "[%s] %3u%% ", filled,
                 done >= total ? 100u : (unsigned)(done * 100 / total));
    }
    int64_t elapsed = now - progress->start_ms;
    fprintf(stderr, "%s%s%" PRIu64 " %s, %" PRIu64 "/s%s",
            progress->terminal ? "\r" : "", bar, count, progress->what,
            count * 1000 / (uint64_t)(elapsed > 0 ? elapsed : 1),
            progress->terminal ? "\033[K" : "\n");
}

int64_t progress_finish(struct progress *progress)
{
    if (progress->terminal && progress->shown)
        fputs("\r\033[K", stderr);
    return clock_now_ms() - progress->start_ms;
}
