/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being real-time for a moment: who stops, saves, loads or fills for a VM gets a CPU at once,
 * however many guests spin on them (a wake-up would otherwise wait for the end of a time slice:
 * milliseconds). What is done meanwhile is bounded. Without the right to (CAP_SYS_NICE or an rtprio
 * limit) one waits for one's turn like everybody.
 *
 * A guest that has just been born is not real-time, since nothing bounds what it does, but asks for
 * short slices: of threads of equal merit the kernel (Linux 6.12 or later) prefers the one with the
 * nearer end of its slice.
 */
#ifndef RAMET_VMM_HURRY_H
#define RAMET_VMM_HURRY_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define NEWBORN_SLICE_NS 200000u

struct hurry {
	int policy;
	struct sched_param param;
};

/* A thread of ours (0: the caller), which is else of the ordinary policy. */
static inline void hurry_thread(pid_t tid, bool on)
{
	struct sched_param p = { .sched_priority = on ? 1 : 0 };

	sched_setscheduler(tid, on ? SCHED_FIFO : SCHED_OTHER, &p);
}

/* Makes the caller ordinary, as nice as it was, with slices of that length (0: the kernel's
 * default). */
static inline void hurry_slice(uint64_t ns)
{
	/* struct sched_attr, sched_setattr(2), in its first version. */
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
	} attr = { .size = sizeof(attr),
		.policy = SCHED_OTHER,
		.nice = getpriority(PRIO_PROCESS, 0),
		.runtime = ns };

	syscall(SYS_sched_setattr, 0, &attr, 0);
}

/* The caller, whatever it is; end() makes it that again. */
static inline struct hurry hurry_begin(void)
{
	struct hurry h = { .policy = sched_getscheduler(0) };

	sched_getparam(0, &h.param);
	if (h.policy == SCHED_OTHER)
		hurry_thread(0, true);
	return h;
}

static inline void hurry_end(const struct hurry *h)
{
	if (h->policy == SCHED_OTHER)
		sched_setscheduler(0, h->policy, &h->param);
}

#endif
