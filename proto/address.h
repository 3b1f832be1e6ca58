/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_ADDRESS_H
#define REPLIKV_PROTO_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include <event2/util.h>

#include "proto/sp.h"
#include "proto/status.h"

/* "tcp://host:port" and "ipc:///path", taken apart, and the places that a
 * socket connects or is bound to. A host is a name, an IPv4 address, an IPv6
 * address in brackets, or, to listen on every interface (IPv4), "*" or
 * nothing. */

enum { ADDRESS_BYTES_MAX = 160, PLACES_MAX = 8 };

struct address {
    enum sp_framing framing;
    char host[ADDRESS_BYTES_MAX]; /* or the path */
    char port[sizeof "65535"];
};

struct place {
    struct sockaddr_storage name;
    socklen_t size;
};

struct places {
    struct place at[PLACES_MAX];
    size_t count;
};

/* IO, with a message that names the address. */
enum status address_parse(const char *text, struct address *address,
                          struct error *error) MUST_CHECK;

/* What getaddrinfo is to look for. flags is EVUTIL_AI_PASSIVE to listen,
 * EVUTIL_AI_NUMERICHOST to ask nobody, or 0. */
struct evutil_addrinfo address_hints(int flags);
/* NULL: every interface. */
const char *address_node(const struct address *address);
/* Waits for whom it asks, unless the address is a path or flags forbids it. 0
 * or the code of gai_strerror. */
int address_places(const struct address *address, int flags,
                   struct places *places);
/* Take over and free what getaddrinfo found; the first PLACES_MAX. */
void places_take(struct places *places, struct evutil_addrinfo *found);

/* "tcp://127.0.0.1:40312"; fallback where that cannot be said. */
void address_print(const struct sockaddr *name, const char *fallback,
                   char text[ADDRESS_BYTES_MAX]);

#endif
