/* SPDX-License-Identifier: Apache-2.0 */
/* Wrappers of futex(2), for waits whose time is part of a vCPU's pause. */
#ifndef RAMET_VMM_BASE_FUTEX_H
#define RAMET_VMM_BASE_FUTEX_H

#include <linux/futex.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "vmm/base/clock.h"

/* Waits while *word == value, at most timeout_ns (0: for ever). May return early. */
static inline void futex_wait(atomic_uint *word, unsigned value, uint64_t timeout_ns)
{
	struct timespec t = timespec_of(timeout_ns);

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ns ? &t : NULL, NULL, 0);
}

static inline void futex_wake_all(atomic_uint *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

#endif
