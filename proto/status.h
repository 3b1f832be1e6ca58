/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_STATUS_H
#define REPLIKV_PROTO_STATUS_H

/* What can go wrong without being a bug of ours. The same numbers travel on
 * the wire (enum Status of replikv.proto), so they are never reused. */
enum status {
    STATUS_OK = 0,
    /* The key, node or object is not there. An answer, not a failure. */
    STATUS_NOT_FOUND = 1,
    /* Malformed or out of range: a bug or a lie of whoever sent it. */
    STATUS_INVALID = 2,
    /* A limit of the configuration; the message names it and the value. */
    STATUS_TOO_LARGE = 3,
    /* Stored or received bytes that fail their checksum. */
    STATUS_CORRUPT = 4,
    /* The disk is full. */
    STATUS_NO_SPACE = 5,
    /* Any other failure of a disk or a socket. */
    STATUS_IO = 6,
    /* The engine failed a write; it answers nothing until it is reopened. */
    STATUS_BROKEN = 7,
    /* The deadline passed. */
    STATUS_TIMEOUT = 8,
    /* A queue or a budget is full: nothing was attempted, try again later. */
    STATUS_OVERLOADED = 9,
    /* Too few replicas answered, or can be asked. */
    STATUS_UNAVAILABLE = 10,
    /* This replica may lack the key and says neither yes nor no. */
    STATUS_UNCERTAIN = 11,
    /* The other side does not accept us: another cluster, an older disk. */
    STATUS_REFUSED = 12,
    /* This engine, or this version of the protocol, cannot do it. */
    STATUS_UNSUPPORTED = 13,
    /* Memory could not be had. */
    STATUS_NO_MEMORY = 14,
    /* The connection or object was closed before an answer came. */
    STATUS_CLOSED = 15,
    /* No replica that answered has all that the context has seen. */
    STATUS_STALE = 16,
    STATUS_COUNT
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* A short lower-case word for logs and --json, a static string. */
const char *status_name(enum status status);

/* A status with a sentence for people: what is wrong, with the field, the
 * limit and the value, and what to do next. Plain memory, copied freely. */
struct error {
    enum status status;
    char text[320];
};

/* Fill in error (which may be NULL) and return status. */
enum status error_set(struct error *error, enum status status,
                      const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
