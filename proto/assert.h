/* SPDX-License-Identifier: MIT */
#ifndef REPLIKV_PROTO_ASSERT_H
#define REPLIKV_PROTO_ASSERT_H

/* The one assertion of the project, an expression, on in every build. It is
 * for bugs of ours only: bytes from a peer, a client or a disk are checked and
 * answered with a status, never asserted.
 *
 * A failure calls assert_failed, which prints and aborts; the tests link a
 * function of the same name that reports to cmocka, so that preconditions are
 * tested against the production objects. */
#define ASSERT(condition)                                                      \
    ((condition) ? (void)0 : assert_failed(#condition, __FILE__, __LINE__))

_Noreturn void assert_failed(const char *condition, const char *file, int line);

#endif
