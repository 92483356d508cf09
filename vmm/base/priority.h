/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Real-time priorities, for a moment, or for a thread's whole life (hurry_for_good()). A thread
 * that stops, saves, loads or fills a VM gets a CPU at once, even if guests keep all CPUs busy;
 * otherwise a wake-up would wait for the end of a time slice, some milliseconds. The work of such a
 * thread is bounded. If the process may not use real-time priorities (CAP_SYS_NICE or an rtprio
 * limit), its threads wait for their turn.
 *
 * A guest that has just been born is not real-time, since nothing bounds its work, but asks for
 * short slices: of two equal threads, the kernel (Linux 6.12 or later) prefers the one whose slice
 * ends earlier.
 */
#ifndef RAMET_VMM_BASE_PRIORITY_H
#define RAMET_VMM_BASE_PRIORITY_H

#include <sched.h>
#include <stdatomic.h>
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
 * such faults). The locks on the way inherit priorities. The memory guard outranks all, because
 * vCPUs and fault threads may use up all memory. Background work (making shells, settling
 * generations) is real-time only so that guests cannot starve it: it ranks last, and rests
 * (hurry_rest()).
 */
enum { BACKGROUND_PRIORITY = 1, HURRY_PRIORITY = 2, FILL_PRIORITY = 3, GUARD_PRIORITY = 4 };

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
	int known;
	bool raised; /* or lowered: hurry_end() must restore it */
};

/* The real-time priority that the calling thread has given itself; 0: none, but another thread may
 * have given it one (hurry_thread()). It saves system calls. */
extern _Thread_local int hurry_known;
/* Of a vCPU's thread. Another thread that stops the vCPU raises this thread meanwhile. Neither of
 * them must undo what the other one has done. */
struct hurry_vcpu {
	const atomic_uint *stop; /* not 0: the vCPU is being stopped */
	atomic_int level;	 /* the thread's hurry_known */
};
extern _Thread_local struct hurry_vcpu *hurry_vcpu; /* NULL for other threads */

/* For hurry_longest(): mark() when the calling thread becomes real-time, note() when that ends. */
void hurry_mark(void);
void hurry_note(void);
/* The most CPU time, in ns, that a thread of this process has used at a real-time priority without
 * a rest. vCPUs' threads and fault threads are not counted: their work is one vCPU, or one span. */
uint64_t hurry_longest(void);

/* Every change of a policy goes through here. It does nothing under a sanitizer, or if the process
 * may not use all of the priorities above: their order matters. */
void hurry_set(pid_t tid, int policy, int priority);

/* Gives the calling thread HURRY_PRIORITY, or the ordinary policy. */
static inline void hurry_self(bool on)
{
	hurry_set(0, on ? SCHED_FIFO : SCHED_OTHER, on ? HURRY_PRIORITY : 0);
}

/* Raises a vCPU's thread to HURRY_PRIORITY, unless it has raised itself above that: if a thread
 * that resolves a span were lowered, others that busy-wait for that span might keep it from a CPU.
 */
static inline void hurry_thread(pid_t tid, const struct hurry_vcpu *v)
{
	int level = atomic_load(&v->level), now;

	hurry_set(tid, SCHED_FIFO, level > HURRY_PRIORITY ? level : HURRY_PRIORITY);
	now = atomic_load(&v->level);
	if (now != level && now > HURRY_PRIORITY)
		hurry_set(tid, SCHED_FIFO, now);
}

/* Records the real-time priority that the calling thread gives itself. */
static inline void hurry_know(int priority)
{
	hurry_known = priority;
	if (hurry_vcpu)
		atomic_store(&hurry_vcpu->level, priority);
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
	hurry_mark();
}

/* Fills in the policy and the priority of the calling thread. */
static inline void hurry_now(struct hurry *h)
{
	h->policy = hurry_known ? SCHED_FIFO : sched_getscheduler(0);
	h->param.sched_priority = hurry_known;
	if (!hurry_known)
		sched_getparam(0, &h->param);
}

/* Raises the calling thread to at least that priority; hurry_end() restores what it was. */
static inline struct hurry hurry_begin_at(int priority)
{
	struct hurry h = { .known = hurry_known };

	if (hurry_known >= priority)
		return h;
	hurry_now(&h);
	h.raised = h.policy == SCHED_OTHER ||
		   (h.policy == SCHED_FIFO && h.param.sched_priority < priority);
	if (h.raised) {
		hurry_know(priority);
		hurry_set(0, SCHED_FIFO, priority);
	}
	if (h.raised && h.policy == SCHED_OTHER)
		hurry_mark();
	return h;
}

static inline struct hurry hurry_begin(void)
{
	return hurry_begin_at(HURRY_PRIORITY);
}

/* The opposite: lowers the calling thread to that priority (0: the ordinary policy) until
 * hurry_end(), for work that takes long. */
static inline struct hurry hurry_lower(int priority)
{
	struct hurry h = { .known = hurry_known };

	hurry_now(&h);
	h.raised = h.policy == SCHED_FIFO && h.param.sched_priority > priority;
	if (h.raised && !priority)
		hurry_note();
	if (h.raised) {
		hurry_set(0, priority ? SCHED_FIFO : SCHED_OTHER, priority);
		hurry_know(priority);
	}
	return h;
}

static inline void hurry_end(const struct hurry *h)
{
	if (h->raised && h->policy == SCHED_OTHER)
		hurry_note();
	else if (h->raised && !hurry_known)
		hurry_mark();
	if (h->raised)
		hurry_set(0, h->policy, h->param.sched_priority);
	hurry_know(h->known);
	/* The thread that stops this vCPU may have raised it meanwhile: do not undo that. */
	if (h->raised && h->policy == SCHED_OTHER && hurry_vcpu && atomic_load(hurry_vcpu->stop))
		hurry_set(0, SCHED_FIFO, HURRY_PRIORITY);
}

/*
 * Background work has no bound of its own. Its thread calls hurry_rest() after each unit of work (a
 * shell, a span, a request). A real-time thread that has used HURRY_STINT_NS of CPU time since its
 * last rest sleeps for HURRY_REST_NS then. So the other threads get about a fifth of that CPU (less
 * if a unit takes longer than HURRY_STINT_NS), and wait for this thread no longer than
 * HURRY_STINT_NS and one unit.
 */
#define HURRY_STINT_NS 2000000u
#define HURRY_REST_NS  500000u
void hurry_rest(void);

#endif
