/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_PROTO_RECORD_VERSION_H
#define REPLIKV_TESTS_PROTO_RECORD_VERSION_H

/* What cmocka.h wants before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "proto/record.h"

static inline uint64_t version_of(const struct record *record)
{
    struct buffer encoded = {0};
    assert_int_equal(record_encode(record, &encoded), STATUS_OK);
    uint64_t version = record_version(buffer_bytes(&encoded));
    buffer_fini(&encoded);
    return version;
}

#endif
