/* SPDX-License-Identifier: MIT */
/* A client with nothing of replikv's but its message definitions: a plain nng
 * REQ socket and the code that protoc-c makes of replikv.proto.
 *
 *     nng_client [URL]
 *
 * Write, read, meet siblings and resolve them, delete. */
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "replikv.pb-c.h"

static nng_socket sock;

static void check(const char *what, int result)
{
    if (result == 0)
        return;
    fprintf(stderr, "%s: %s\n", what, nng_strerror(result));
    exit(1);
}

static void insist(const char *what, const Rkv__Result *result)
{
    if (result != NULL && result->status == RKV__STATUS__OK)
        return;
    fprintf(stderr, "%s: %s\n", what,
            result == NULL ? "no result" : result->message);
    exit(1);
}

/* One request, one answer; the caller frees it. nng adds the header, and sends
 * again by itself when the connection drops. */
static Rkv__Envelope *call(Rkv__Envelope *request)
{
    nng_msg *message;
    request->version = 1;
    check("nng_msg_alloc",
          nng_msg_alloc(&message, rkv__envelope__get_packed_size(request)));
    rkv__envelope__pack(request, nng_msg_body(message));
    check("nng_sendmsg", nng_sendmsg(sock, message, 0));
    check("nng_recvmsg", nng_recvmsg(sock, &message, 0));
    Rkv__Envelope *reply = rkv__envelope__unpack(NULL, nng_msg_len(message),
                                                 nng_msg_body(message));
    nng_msg_free(message);
    if (reply == NULL) {
        fprintf(stderr, "the answer is no envelope\n");
        exit(1);
    }
    /* What cannot be carried out at all is answered by a bare result. */
    if (reply->body_case == RKV__ENVELOPE__BODY_RESULT)
        insist("refused", reply->result);
    return reply;
}

static ProtobufCBinaryData text(char *string)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)string,
                                 .len = strlen(string)};
}

/* A write that supersedes what the context has seen. value NULL deletes. */
static void put(char *key, char *value, ProtobufCBinaryData context)
{
    Rkv__Envelope request = RKV__ENVELOPE__INIT;
    Rkv__Write write = RKV__WRITE__INIT;
    /* Names the write: sent again with the same one, it counts once. */
    uint8_t id[16];
    if (getrandom(id, sizeof(id), 0) != sizeof(id)) {
        perror("getrandom");
        exit(1);
    }
    write.key = text(key);
    write.remove = value == NULL;
    if (value != NULL)
        write.value = text(value);
    write.context = context;
    write.request_id = (ProtobufCBinaryData){.data = id, .len = sizeof(id)};
    request.body_case = RKV__ENVELOPE__BODY_WRITE;
    request.write = &write;
    Rkv__Envelope *reply = call(&request);
    const Rkv__Result *result =
        reply->body_case == RKV__ENVELOPE__BODY_WRITE_REPLY
            ? reply->write_reply->result
            : NULL;
    insist("write", result);
    printf("%s: %s, %u of %u replicas needed\n",
           value == NULL ? "delete" : value,
           result->outcome == RKV__OUTCOME__APPLIED ? "applied" : "not known",
           result->got, result->need);
    rkv__envelope__free_unpacked(reply, NULL);
}

/* The caller frees it: its context is for the next write. */
static Rkv__Envelope *get(char *key)
{
    Rkv__Envelope request = RKV__ENVELOPE__INIT;
    Rkv__Read read = RKV__READ__INIT;
    read.key = text(key);
    request.body_case = RKV__ENVELOPE__BODY_READ;
    request.read = &read;
    Rkv__Envelope *reply = call(&request);
    const Rkv__ReadReply *answer =
        reply->body_case == RKV__ENVELOPE__BODY_READ_REPLY ? reply->read_reply
                                                           : NULL;
    if (answer == NULL || answer->result == NULL ||
        answer->result->status != RKV__STATUS__NOT_FOUND)
        insist("read", answer == NULL ? NULL : answer->result);
    printf("get: %zu values", answer->n_values);
    for (size_t i = 0; i < answer->n_values; i++)
        printf(" \"%.*s\"", (int)answer->values[i].len,
               (const char *)answer->values[i].data);
    putchar('\n');
    return reply;
}

int main(int argc, char **argv)
{
    const ProtobufCBinaryData nothing_seen = {0, NULL};
    char key[40], tea[] = "tea", coffee[] = "coffee", both[] = "tea and coffee";
    snprintf(key, sizeof(key), "example-nng-%ld", (long)getpid());
    check("nng_req0_open", nng_req0_open(&sock));
    check("NNG_OPT_RECVTIMEO",
          nng_socket_set_ms(sock, NNG_OPT_RECVTIMEO, 10000));
    check("nng_dial",
          nng_dial(sock, argc > 1 ? argv[1] : "tcp://127.0.0.1:3001", NULL, 0));

    put(key, tea, nothing_seen);
    rkv__envelope__free_unpacked(get(key), NULL);
    put(key, coffee, nothing_seen);
    Rkv__Envelope *siblings = get(key);
    put(key, both, siblings->read_reply->context);
    rkv__envelope__free_unpacked(siblings, NULL);
    Rkv__Envelope *resolved = get(key);
    put(key, NULL, resolved->read_reply->context);
    rkv__envelope__free_unpacked(resolved, NULL);
    rkv__envelope__free_unpacked(get(key), NULL);

    nng_close(sock);
    return 0;
}
