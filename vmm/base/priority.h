/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Being real-time for a moment. A thread that stops, saves, loads or fills a VM gets a CPU at once,
 * even if guests keep all CPUs busy; otherwise a wake-up would wait for the end of a time slice,
 * some milliseconds. The work of such a thread is bounded. If the process may not use real-time
 * priorities (CAP_SYS_NICE or an rtprio limit), its threads wait for their turn.
 *
 * A guest that has just been born is not real-time, since nothing bounds its work, but asks for
 * short slices: of two equal threads, the kernel (Linux 6.12 or later) prefers the one whose slice
 * ends earlier.
 */
#ifndef RAMET_VMM_BASE_PRIORITY_H
#define RAMET_VMM_BASE_PRIORITY_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#define NEWBORN_SLICE_NS 200000u

/*
 * Fault threads outrank vCPUs, because a vCPU with a pending signal busy-waits for its page: when
 * it touches an absent span from inside the kernel, it faults again and again until the span is
 * filled (handle_userfault() does not sleep with a signal pending, and only a fatal signal ends
 * such faults). The locks on the way inherit priorities. The memory guard outranks both, because
 * they may use up all memory.
 */
enum { HURRY_PRIORITY = 1, FILL_PRIORITY = 2, GUARD_PRIORITY = 3 };

/*
 * Under a sanitizer no thread is real-time. The locks of its run-time library spin: a real-time
 * thread that waits for one of them would yield its CPU for ever, if the holder is of a lower
 * priority and there is no other CPU.
 */
#if defined(__has_feature) /* clang */
#define HURRY_SANITIZED (__has_feature(thread_sanitizer) || __has_feature(address_sanitizer))
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define HURRY_SANITIZED 1
#else
#define HURRY_SANITIZED 0
#endif

struct hurry {
	int policy;
	struct sched_param param;
	bool raised; /* or lowered: hurry_end() must restore it */
};

/* The priority that the calling thread is known to have: 0 unless it has called hurry_for_good().
 * No other thread may change the priority of such a thread. */
extern _Thread_local int hurry_known;

/* Every change of a policy goes through here. */
static inline void hurry_set(pid_t tid, int policy, int priority)
{
	struct sched_param p = { .sched_priority = priority };

	if (!HURRY_SANITIZED)
		sched_setscheduler(tid, policy, &p);
}

/* For a thread of this process (0: the caller), which otherwise has the ordinary policy. */
static inline void hurry_thread(pid_t tid, bool on)
{
	hurry_set(tid, on ? SCHED_FIFO : SCHED_OTHER, on ? HURRY_PRIORITY : 0);
}

/* Gives the calling thread the ordinary policy, with its nice value unchanged and with slices of
 * that length (0: the kernel's default). */
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

/* Gives the calling thread that priority until it ends. Its hurry_begin_at() costs no system call
 * then, up to this priority. */
static inline void hurry_for_good(int priority)
{
	hurry_set(0, SCHED_FIFO, priority);
	hurry_known = priority;
}

/* Raises the calling thread to at least that priority; hurry_end() restores what it was. */
static inline struct hurry hurry_begin_at(int priority)
{
	struct hurry h = { .raised = false };

	if (hurry_known >= priority)
		return h;
	h.policy = sched_getscheduler(0);
	sched_getparam(0, &h.param);
	h.raised = h.policy == SCHED_OTHER ||
		   (h.policy == SCHED_FIFO && h.param.sched_priority < priority);
	if (h.raised)
		hurry_set(0, SCHED_FIFO, priority);
	return h;
}

static inline struct hurry hurry_begin(void)
{
	return hurry_begin_at(HURRY_PRIORITY);
}

/* The opposite: the calling thread has the ordinary policy until hurry_end(), for long work. */
static inline struct hurry hurry_pause(void)
{
	struct hurry h = { .policy = sched_getscheduler(0) };

	sched_getparam(0, &h.param);
	h.raised = h.policy == SCHED_FIFO;
	if (h.raised)
		hurry_set(0, SCHED_OTHER, 0);
	return h;
}

static inline void hurry_end(const struct hurry *h)
{
	if (h->raised)
		hurry_set(0, h->policy, h->param.sched_priority);
}

#endif
