/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_ENGINES_DIRECTORY_H
#define REPLIKV_ENGINES_DIRECTORY_H

#include "proto/status.h"

#include <stdint.h>

/* What engines need of a directory: whose it is, that it lasts, and that only
 * one process has it. Stateless, from any thread. */

/* Make the directory if it is missing and see that its ENGINE file says name,
 * writing that file durably if the directory is empty. REFUSED if it says
 * another, or if there are files but no ENGINE: they are not ours. */
enum status directory_claim(const char *directory, const char *name,
                            struct error *error) MUST_CHECK;

/* Longer than any engine's name; a longer ENGINE file is not ours. */
enum { DIRECTORY_OWNER_MAX = 64 };
/* What its ENGINE file says. NOT_FOUND if there is none, and no error set. */
enum status directory_owner(const char *directory,
                            char owner[DIRECTORY_OWNER_MAX],
                            struct error *error) MUST_CHECK;

/* Write the ENGINE file, durably and all or nothing. */
enum status directory_mark(const char *directory, const char *name,
                           struct error *error) MUST_CHECK;

/* Flush the directory's entries. */
enum status directory_sync(const char *directory,
                           struct error *error) MUST_CHECK;

/* Hold the directory against any other opener, also of this process, until
 * *descriptor is closed. REFUSED if another holds it. */
enum status directory_lock(const char *directory, int *descriptor,
                           struct error *error) MUST_CHECK;

/* What its files take on the disk; 0 if that cannot be seen. */
uint64_t directory_bytes(const char *directory);

/* What an errno means: NO_SPACE, NO_MEMORY or IO. */
enum status directory_status(int number);

#endif
