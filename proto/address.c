/* SPDX-License-Identifier: MIT */
#include "proto/address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

static const char tcp[] = "tcp://";
static const char ipc[] = "ipc://";

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 5 && text[digits] == '\0' &&
           strtol(text, NULL, 10) <= UINT16_MAX;
}

static enum status parse_path(const char *path, struct address *address,
                              const char *text, struct error *error)
{
    const struct sockaddr_un *name = NULL;
    if (path[0] == '\0' || strlen(path) >= sizeof name->sun_path)
        return error_set(error, STATUS_IO,
                         "address %s: a path has 1 to %zu bytes", text,
                         sizeof name->sun_path - 1);
    snprintf(address->host, sizeof address->host, "%s", path);
    return STATUS_OK;
}

static enum status parse_host(const char *host, struct address *address,
                              const char *text, struct error *error)
{
    const char *colon = strrchr(host, ':');
    if (colon == NULL || !is_port(colon + 1))
        return error_set(error, STATUS_IO,
                         "address %s does not end with a port, 0 to 65535",
                         text);
    size_t size = (size_t)(colon - host);
    bool in_brackets = size >= 2 && host[0] == '[' && colon[-1] == ']';
    if (in_brackets) {
        host++;
        size -= 2;
    }
    snprintf(address->host, sizeof address->host, "%.*s", (int)size, host);
    snprintf(address->port, sizeof address->port, "%s", colon + 1);
    if (!in_brackets && strchr(address->host, ':') != NULL)
        return error_set(error, STATUS_IO,
                         "address %s: an IPv6 address stands in brackets",
                         text);
    return STATUS_OK;
}

enum status address_parse(const char *text, struct address *address,
                          struct error *error)
{
    *address = (struct address){0};
    if (strlen(text) >= ADDRESS_BYTES_MAX)
        return error_set(error, STATUS_IO,
                         "address is longer than %d bytes: %.40s...",
                         ADDRESS_BYTES_MAX - 1, text);
    if (strncmp(text, tcp, strlen(tcp)) == 0) {
        address->framing = SP_TCP;
        return parse_host(text + strlen(tcp), address, text, error);
    }
    if (strncmp(text, ipc, strlen(ipc)) == 0) {
        address->framing = SP_IPC;
        return parse_path(text + strlen(ipc), address, text, error);
    }
    return error_set(error, STATUS_IO,
                     "address %s begins with neither tcp:// nor ipc://", text);
}

struct evutil_addrinfo address_hints(int flags)
{
    return (struct evutil_addrinfo){
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_protocol = IPPROTO_TCP,
        .ai_flags = flags | EVUTIL_AI_NUMERICSERV,
    };
}

const char *address_node(const struct address *address)
{
    bool is_any = address->host[0] == '\0' || strcmp(address->host, "*") == 0;
    return is_any ? NULL : address->host;
}

int address_places(const struct address *address, int flags,
                   struct places *places)
{
    if (address->framing == SP_IPC) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        memcpy(name.sun_path, address->host, strlen(address->host));
        places->count = 1;
        places->at[0].size = sizeof name;
        memcpy(&places->at[0].name, &name, sizeof name);
        return 0;
    }
    const struct evutil_addrinfo hints = address_hints(flags);
    struct evutil_addrinfo *found = NULL;
    int result = evutil_getaddrinfo(address_node(address), address->port,
                                    &hints, &found);
    if (result == 0)
        places_take(places, found);
    return result;
}

void places_take(struct places *places, struct evutil_addrinfo *found)
{
    places->count = 0;
    for (const struct evutil_addrinfo *one = found;
         one != NULL && places->count < PLACES_MAX; one = one->ai_next) {
        struct place *place = &places->at[places->count++];
        place->size = (socklen_t)one->ai_addrlen;
        memcpy(&place->name, one->ai_addr, one->ai_addrlen);
    }
    evutil_freeaddrinfo(found);
}

void address_print(const struct sockaddr *name, const char *fallback,
                   char text[ADDRESS_BYTES_MAX])
{
    char host[INET6_ADDRSTRLEN];
    if (name->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)name;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, ADDRESS_BYTES_MAX, "tcp://%s:%u", host,
                 ntohs(in->sin_port));
    } else if (name->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)name;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(text, ADDRESS_BYTES_MAX, "tcp://[%s]:%u", host,
                 ntohs(in->sin6_port));
    } else {
        snprintf(text, ADDRESS_BYTES_MAX, "%s", fallback);
    }
}
