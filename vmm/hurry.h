/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being real-time for a moment: who stops, saves, loads or fills for a VM gets a CPU at once,
 * however many guests spin on them (a wake-up would otherwise wait for the end of a time slice:
 * milliseconds). What is done meanwhile is bounded. Without the right to (CAP_SYS_NICE or an rtprio
 * limit) one waits for one's turn like everybody.
 */
#ifndef RAMET_VMM_HURRY_H
#define RAMET_VMM_HURRY_H

#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

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
