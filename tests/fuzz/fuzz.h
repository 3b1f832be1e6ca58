/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_TESTS_FUZZ_FUZZ_H
#define REPLIKV_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* What libFuzzer calls with each input, and replay.c with each file of the
 * corpus. A broken promise fails an ASSERT; memory errors are the sanitizers'
 * to find. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
