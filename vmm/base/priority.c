// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/priority.h"

#include <time.h>

_Thread_local int hurry_known;
_Thread_local struct hurry_vcpu *hurry_vcpu;

/* Whether the process may use all priorities. */
static bool allowed(void)
{
	static atomic_int known; /* 0: not yet */
	int policy;
	struct sched_param old, most = { .sched_priority = GUARD_PRIORITY };
	bool may;

	if (atomic_load(&known))
		return atomic_load(&known) > 0;
	policy = sched_getscheduler(0);
	may = !HURRY_SANITIZED && !sched_getparam(0, &old) &&
	      !sched_setscheduler(0, SCHED_FIFO, &most);
	if (may)
		sched_setscheduler(0, policy, &old);
	atomic_store(&known, may ? 1 : -1);
	return may;
}

void hurry_set(pid_t tid, int policy, int priority)
{
	struct sched_param p = { .sched_priority = priority };

	if (allowed())
		sched_setscheduler(tid, policy, &p);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* CPU time that this thread had used when it was raised, or at its last rest. */
static _Thread_local uint64_t since_ns;
static _Atomic uint64_t longest_ns;

void hurry_mark(void)
{
	since_ns = cpu_ns();
}

void hurry_note(void)
{
	uint64_t used = cpu_ns() - since_ns, longest = atomic_load(&longest_ns);

	while (used > longest && !atomic_compare_exchange_weak(&longest_ns, &longest, used))
		;
}

uint64_t hurry_longest(void)
{
	return atomic_load(&longest_ns);
}

void hurry_rest(void)
{
	const struct timespec rest = { .tv_nsec = HURRY_REST_NS };

	/* A thread that resolves a span does that for others, which wait. */
	if (hurry_known >= FILL_PRIORITY || cpu_ns() - since_ns < HURRY_STINT_NS)
		return;
	if (sched_getscheduler(0) == SCHED_FIFO) {
		hurry_note();
		nanosleep(&rest, NULL);
	}
	hurry_mark();
}
