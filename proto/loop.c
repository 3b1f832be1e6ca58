/* SPDX-License-Identifier: MIT */
#include "proto/transport_internal.h"

#include "proto/assert.h"
#include "proto/clock.h"

/* What a system call that is saved is worth waiting for: a few of them. */
enum { PUT_OFF_US = 100 };

static _Thread_local struct loop *loop_here;

static void flush_dirty(struct loop *loop)
{
    for (size_t i = 0; i < loop->dirty_count; i++) {
        connection_flush(loop->dirty[i]);
        connection_release(loop->dirty[i]);
    }
    loop->dirty_count = 0;
}

static void on_flush(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    flush_dirty(argument);
}

static void on_stop(evutil_socket_t fd, short what, void *argument)
{
    (void)fd;
    (void)what;
    struct loop *loop = argument;
    event_base_loopbreak(loop->base);
}

static void *loop_main(void *argument)
{
    struct loop *loop = argument;
    loop_here = loop;
    ASSERT(event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY) == 0);
    flush_dirty(loop);
    return NULL;
}

bool loop_start(struct loop *loop)
{
    loop->base = event_base_new();
    if (loop->base == NULL)
        return false;
    loop->flush = event_new(loop->base, -1, 0, on_flush, loop);
    loop->stop = event_new(loop->base, -1, 0, on_stop, loop);
    if (loop->flush == NULL || loop->stop == NULL ||
        pthread_create(&loop->thread, NULL, loop_main, loop) != 0) {
        loop_free(loop);
        return false;
    }
    return true;
}

/* Not by event_base_loopbreak from here, which a thread that has yet to enter
 * its loop would miss. */
void loop_stop(struct loop *loop)
{
    event_active(loop->stop, EV_READ, 0);
    pthread_join(loop->thread, NULL);
}

void loop_free(struct loop *loop)
{
    if (loop->flush != NULL)
        event_free(loop->flush);
    if (loop->stop != NULL)
        event_free(loop->stop);
    event_base_free(loop->base);
}

void loop_flush_due(void)
{
    struct loop *loop = loop_here;
    if (loop != NULL && loop->dirty_count > 0 &&
        clock_now_us() - loop->dirty_since_us > PUT_OFF_US)
        flush_dirty(loop);
}

/* Activated, an event comes behind all that are active already: what is ready
 * together is answered together. */
bool loop_defer_flush(struct connection *connection)
{
    struct loop *loop = loop_here;
    if (loop == NULL)
        return false;
    loop_flush_due();
    for (size_t i = 0; i < loop->dirty_count; i++)
        if (loop->dirty[i] == connection)
            return true;
    if (loop->dirty_count == LOOP_DIRTY_MAX)
        return false;
    if (loop->dirty_count == 0) {
        event_active(loop->flush, EV_WRITE, 0);
        loop->dirty_since_us = clock_now_us();
    }
    loop->dirty[loop->dirty_count++] = connection_retain(connection);
    return true;
}
