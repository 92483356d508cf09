/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smp: all vCPUs increment shared counters. Each checks that no increment is lost, that no counter
 * and no time stamp goes back, even when another vCPU wrote it, and that its timer keeps ticking.
 * The value of a heartbeat is the number of rounds that the slowest vCPU has finished.
 */
#include "guest/lib/guest.h"

#define ROUND	   100	    /* steps in a round */
#define TICK_LIMIT 10000000 /* us of sleep without a tick: the timer has stopped */

GUEST_KEYS(smp);

static struct {
	uint32_t lock;
	uint64_t total, own[GUEST_CPUS]; /* under lock: total is the sum of own[] */
	uint64_t tsc;			 /* under lock: the last TSC value of any vCPU */
	uint64_t tickets;		 /* incremented atomically, without the lock */
	uint64_t rounds[GUEST_CPUS];	 /* each is written only by its vCPU */
	uint64_t rung;			 /* value of the last heartbeat */
	unsigned ticking;		 /* number of vCPUs whose timer ticks */
} s;

/* The last values that one vCPU has seen. It must never see a smaller value. */
struct seen {
	uint64_t total, ticket, ticks, slept;
};

static void lock(void)
{
	for (unsigned tries = 1; __atomic_exchange_n(&s.lock, 1, __ATOMIC_ACQUIRE); tries++) {
		__builtin_ia32_pause();
		if (tries % 1000 == 0) /* the holder may be waiting for our physical CPU */
			guest_sleep(100);
	}
}

static void unlock(void)
{
	__atomic_store_n(&s.lock, 0, __ATOMIC_RELEASE);
}

/* The fences keep the TSC from being read before earlier reads: Intel SDM volume 2, RDTSC. */
static uint64_t time_stamp(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
	return lo | (uint64_t)hi << 32;
}

static void step(const struct guest_machine *m, unsigned cpu, struct seen *seen)
{
	uint64_t sum = 0, ticket, now;

	lock();
	now = time_stamp();
	if (now < s.tsc)
		guest_fail(RAMET_REPORT_TIME, (uint64_t)&s.tsc);
	s.tsc = now;
	for (unsigned i = 0; i < m->cpus; i++)
		sum += s.own[i];
	if (sum != s.total || s.total < seen->total)
		guest_fail(RAMET_REPORT_ORDER, (uint64_t)&s.total);
	s.own[cpu]++;
	seen->total = ++s.total;
	unlock();
	ticket = __atomic_add_fetch(&s.tickets, 1, __ATOMIC_RELAXED);
	if (ticket <= seen->ticket)
		guest_fail(RAMET_REPORT_ORDER, (uint64_t)&s.tickets);
	seen->ticket = ticket;
}

static void check_tick(unsigned cpu, struct seen *seen, uint64_t slept)
{
	uint64_t ticks = guest_ticks[cpu].n;

	if (ticks < seen->ticks)
		guest_fail(RAMET_REPORT_ORDER, (uint64_t)&guest_ticks[cpu]);
	seen->slept = ticks == seen->ticks ? seen->slept + slept : 0;
	seen->ticks = ticks;
	if (seen->slept > TICK_LIMIT)
		guest_fail(RAMET_REPORT_TICK, (uint64_t)&guest_ticks[cpu]);
}

/* Sends a heartbeat if this vCPU was the last one to finish a round. */
static void ring(const struct guest_machine *m)
{
	uint64_t least = UINT64_MAX, rung = __atomic_load_n(&s.rung, __ATOMIC_RELAXED);

	for (unsigned i = 0; i < m->cpus; i++) {
		uint64_t r = __atomic_load_n(&s.rounds[i], __ATOMIC_ACQUIRE);

		least = r < least ? r : least;
	}
	if (least > rung && __atomic_compare_exchange_n(&s.rung, &rung, least, false,
				    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		db_write(RAMET_DB_HEARTBEAT, (uint32_t)least);
}

void guest_main(const struct guest_machine *m, unsigned cpu)
{
	uint64_t hz = arg_number(m, "tick", 100), sleep = arg_number(m, "sleep", 1000);
	struct seen seen = { 0 };

	if (hz)
		tick_start((unsigned)hz);
	while (hz && !guest_ticks[cpu].n)
		guest_sleep(100);
	if (__atomic_add_fetch(&s.ticking, 1, __ATOMIC_RELAXED) == m->cpus)
		db_write(RAMET_DB_PHASE, RAMET_PHASE_READY);
	for (;;) {
		for (unsigned i = 0; i < ROUND; i++)
			step(m, cpu, &seen);
		__atomic_add_fetch(&s.rounds[cpu], 1, __ATOMIC_RELEASE);
		ring(m);
		guest_sleep(sleep);
		if (hz)
			check_tick(cpu, &seen, sleep);
	}
}
