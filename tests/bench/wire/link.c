/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

#include "tests/bench/wire/wire.h"

static void must(int result, const char *what)
{
    if (result != 0)
        wire_fail("%s: %s", what, nng_strerror(result));
}

static nng_aio *new_aio(void)
{
    nng_aio *aio;
    must(nng_aio_alloc(&aio, NULL, NULL), "no aio");
    return aio;
}

nng_stream_listener *link_listen(int *port)
{
    nng_stream_listener *listener;
    must(nng_stream_listener_alloc(&listener, "tcp://127.0.0.1:0"),
         "no listener");
    must(nng_stream_listener_listen(listener), "cannot listen");
    must(nng_stream_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, port),
         "no port");
    return listener;
}

static struct link *new_link(nng_aio *aio, const char *what)
{
    struct link *link = calloc(1, sizeof *link);
    nng_aio_wait(aio);
    must(nng_aio_result(aio), what);
    if (link == NULL || (link->in = malloc(READ_BYTES)) == NULL)
        wire_fail("no memory");
    link->stream = nng_aio_get_output(aio, 0);
    link->reads = aio;
    link->writes = new_aio();
    pthread_mutex_init(&link->lock, NULL);
    return link;
}

struct link *link_accept(nng_stream_listener *listener)
{
    nng_aio *aio = new_aio();
    nng_stream_listener_accept(listener, aio);
    struct link *link = new_link(aio, "cannot accept");
    /* As connections of the product: what is written leaves at once. */
    must(nng_stream_set_bool(link->stream, NNG_OPT_TCP_NODELAY, true),
         "cannot set an option");
    return link;
}

struct link *link_dial(int port)
{
    char address[64];
    nng_stream_dialer *dialer;
    nng_aio *aio = new_aio();
    snprintf(address, sizeof address, "tcp://127.0.0.1:%d", port);
    must(nng_stream_dialer_alloc(&dialer, address), address);
    must(nng_stream_dialer_set_bool(dialer, NNG_OPT_TCP_NODELAY, true),
         address);
    nng_stream_dialer_dial(dialer, aio);
    return new_link(aio, address);
}

bool link_read(struct link *link)
{
    nng_iov iov = {.iov_buf = link->in + link->in_bytes,
                   .iov_len = READ_BYTES - link->in_bytes};
    must(nng_aio_set_iov(link->reads, 1, &iov), "no iov");
    nng_stream_recv(link->stream, link->reads);
    nng_aio_wait(link->reads);
    link->in_bytes += nng_aio_count(link->reads);
    return nng_aio_result(link->reads) == 0;
}

void link_drop(struct link *link, size_t bytes)
{
    link->in_bytes -= bytes;
    memmove(link->in, link->in + bytes, link->in_bytes);
}

bool link_write(struct link *link, const uint8_t *data, size_t size)
{
    while (size > 0) {
        /* nng does not write to what it is to send. */
        nng_iov iov = {.iov_buf = (void *)(uintptr_t)data, .iov_len = size};
        must(nng_aio_set_iov(link->writes, 1, &iov), "no iov");
        nng_stream_send(link->stream, link->writes);
        nng_aio_wait(link->writes);
        if (nng_aio_result(link->writes) != 0)
            return false;
        data += nng_aio_count(link->writes);
        size -= nng_aio_count(link->writes);
    }
    return true;
}

void frame_append(struct buffer *buffer, const struct head *head)
{
    static const uint8_t filler[FRAME_BYTES_MAX];
    size_t rest = head->bytes - sizeof *head;
    if (buffer_append(buffer, bytes_of(head, sizeof *head)) != STATUS_OK ||
        buffer_append(buffer, bytes_of(filler, rest)) != STATUS_OK)
        wire_fail("no memory");
}

void link_push(struct link *link, const struct head *head)
{
    pthread_mutex_lock(&link->lock);
    frame_append(&link->out, head);
    pthread_mutex_unlock(&link->lock);
}

bool link_flush(struct link *link)
{
    pthread_mutex_lock(&link->lock);
    bool good = link_write(link, link->out.data, link->out.size);
    buffer_clear(&link->out);
    pthread_mutex_unlock(&link->lock);
    return good;
}
