/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of the process (setrlimit(2)) and of the host: which one may be why a call has failed, and
 * whether much work will meet one. */
#ifndef RAMET_VMM_BASE_LIMITS_H
#define RAMET_VMM_BASE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

/* Which limit of the process may be the cause of `error` (a negative errno value), and what the
 * user can do about it. A message ends with this text, which begins with "; ". "": no limit
 * explains the error. */
const char *limit_hint(int error);

/* Numbers of things that the kernel counts. */
struct needs {
	uint64_t fds;	  /* descriptors of the process */
	uint64_t threads; /* of all processes, with those that KVM starts */
	uint64_t maps;	  /* mappings of the process */
};

/* Whether the process can have these numbers of things in addition to those that it has. 0, or
 * -EMFILE, -EAGAIN or -ENOMEM; then `why` tells which limit is too low, and how to raise it. Reads
 * some files in /proc and /sys; a limit that cannot be read is not checked. */
int limits_check(const struct needs *more, char *why, size_t len);

#endif
