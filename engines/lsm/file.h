/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_LSM_FILE_H
#define REPLIKV_ENGINES_LSM_FILE_H

#include "proto/bytes.h"
#include "proto/status.h"

/* What all files of the store share: whole reads and writes, names,
 * little-endian numbers, the checksum. */

enum { LSM_PATH_MAX = 4096 };

enum lsm_file_kind {
    LSM_FILE_LOG,
    LSM_FILE_TABLE,
};

/* The path of file `number`; false if it does not fit into LSM_PATH_MAX. */
bool file_path(char *path, const char *directory, enum lsm_file_kind kind,
               uint64_t number) MUST_CHECK;
/* Whether a directory entry is named like a file of ours. */
bool file_parse_name(const char *name, enum lsm_file_kind *kind,
                     uint64_t *number) MUST_CHECK;

enum status file_write(int fd, struct bytes bytes) MUST_CHECK;
/* CORRUPT if the file ends before size bytes are read. */
enum status file_read_at(int fd, uint64_t offset, void *data,
                         size_t size) MUST_CHECK;
/* Replace content by the whole file. NOT_FOUND if there is none. */
enum status file_read_all(const char *path, struct buffer *content) MUST_CHECK;

/* The seed is the place: a block copied elsewhere does not pass for one. */
uint64_t file_checksum(struct bytes bytes, uint64_t seed);

enum status lsm_put_u8(struct buffer *buffer, uint8_t value) MUST_CHECK;
enum status lsm_put_u32(struct buffer *buffer, uint32_t value) MUST_CHECK;
enum status lsm_put_u64(struct buffer *buffer, uint64_t value) MUST_CHECK;
/* A u32 size, then the bytes. */
enum status lsm_put_bytes(struct buffer *buffer, struct bytes bytes) MUST_CHECK;

/* Take from the front of *from; false if it is too short. */
bool lsm_take_u8(struct bytes *from, uint8_t *value) MUST_CHECK;
bool lsm_take_u32(struct bytes *from, uint32_t *value) MUST_CHECK;
bool lsm_take_u64(struct bytes *from, uint64_t *value) MUST_CHECK;
bool lsm_take_bytes(struct bytes *from, struct bytes *value) MUST_CHECK;

/* One version of one key, in logs, tables and memory alike. Borrowed. */
struct entry {
    struct bytes key;
    struct bytes value;
    uint64_t sequence;
    bool removed;
};

enum status lsm_put_entry(struct buffer *buffer,
                          const struct entry *entry) MUST_CHECK;
bool lsm_take_entry(struct bytes *from, struct entry *entry) MUST_CHECK;

#endif
