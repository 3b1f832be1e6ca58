/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/wire/wire.h"

/* Both ends do the same: what one read brought leaves in one write. The
 * client looks at the clock in between. So all that is in flight soon travels
 * together: a request cannot cost less. The loops end with true when the
 * client's time is over, and with false when the other end is gone. */

/* The frames that are in flight to begin with; to be freed. */
static uint8_t *first_frames(const struct run *run, size_t *size)
{
    *size = (size_t)run->in_flight * run->frame_bytes;
    uint8_t *data = calloc(run->in_flight, run->frame_bytes);
    struct head head = {.bytes = run->frame_bytes, .started_ns = wire_now_ns()};
    if (data == NULL)
        wire_fail("no memory");
    for (size_t at = 0; at < *size; at += run->frame_bytes)
        memcpy(data + at, &head, sizeof head);
    return data;
}

/* --- epoll --- */

static bool write_all(int fd, const uint8_t *data, size_t size)
{
    while (size > 0) {
        ssize_t written = send(fd, data, size, MSG_NOSIGNAL);
        if (written <= 0)
            return false;
        data += written;
        size -= (size_t)written;
    }
    return true;
}

static bool epoll_bounce(int fd, struct tally *tally)
{
    static uint8_t in[READ_BYTES];
    size_t have = 0;
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        wire_fail("no epoll: %s", strerror(errno));
    while (tally == NULL || wire_now_ns() < tally->end_ns) {
        if (epoll_wait(epoll, &event, 1, -1) < 0)
            wire_fail("cannot wait: %s", strerror(errno));
        ssize_t size = recv(fd, in + have, sizeof in - have, MSG_DONTWAIT);
        if (size < 0 && errno == EAGAIN)
            continue;
        if (size <= 0)
            return false;
        have += (size_t)size;
        size_t whole = frames_whole(in, have);
        if (tally != NULL)
            frames_record(in, whole, tally);
        if (!write_all(fd, in, whole))
            return false;
        have -= whole;
        memmove(in, in + whole, have);
    }
    return true;
}

static int new_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        wire_fail("no socket: %s", strerror(errno));
    return fd;
}

static void no_delay(int fd)
{
    int yes = 1;
    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes))
        wire_fail("no connection: %s", strerror(errno));
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)port),
    };
}

void epoll_serve(struct run *run, unsigned server)
{
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    int listener = new_socket();
    if (bind(listener, (struct sockaddr *)&address, size) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        wire_fail("cannot listen: %s", strerror(errno));
    run_publish(run, server, ntohs(address.sin_port));
    int fd = accept(listener, NULL, NULL);
    no_delay(fd);
    (void)epoll_bounce(fd, NULL);
}

void epoll_ask(struct run *run)
{
    struct sockaddr_in address = loopback(run_port(run, 0));
    int fd = new_socket();
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        wire_fail("cannot connect: %s", strerror(errno));
    no_delay(fd);
    run_begin(run);
    size_t size;
    uint8_t *data = first_frames(run, &size);
    if (!write_all(fd, data, size) || !epoll_bounce(fd, &run->tallies[0]))
        wire_fail("the server hung up");
    free(data);
}

/* --- nng's streams --- */

static bool stream_bounce(struct link *link, struct tally *tally)
{
    while (tally == NULL || wire_now_ns() < tally->end_ns) {
        if (!link_read(link))
            return false;
        size_t whole = frames_whole(link->in, link->in_bytes);
        if (tally != NULL)
            frames_record(link->in, whole, tally);
        if (!link_write(link, link->in, whole))
            return false;
        link_drop(link, whole);
    }
    return true;
}

void stream_serve(struct run *run, unsigned server)
{
    int port;
    nng_stream_listener *listener = link_listen(&port);
    run_publish(run, server, port);
    (void)stream_bounce(link_accept(listener), NULL);
}

void stream_ask(struct run *run)
{
    struct link *link = link_dial(run_port(run, 0));
    run_begin(run);
    size_t size;
    uint8_t *data = first_frames(run, &size);
    if (!link_write(link, data, size) || !stream_bounce(link, &run->tallies[0]))
        wire_fail("the server hung up");
    free(data);
}
