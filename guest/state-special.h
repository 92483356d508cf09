/* SPDX-License-Identifier: Apache-2.0 */
/* What a `state` guest holds in registers that only ring 0 can reach. */
#ifndef GUEST_STATE_SPECIAL_H
#define GUEST_STATE_SPECIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/lib/guest.h"

/* In ring 0: 0, or -1 where the processor faults. */
int state_rdmsr(uint32_t msr, uint64_t *value);
int state_wrmsr(uint32_t msr, uint64_t value);
int state_wrcr4(uint64_t value);

GUEST_RING0 static inline void state_cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}

void special_set(unsigned cpu, uint64_t *seed, bool armed);
/* Reads them all: SPECIALS, or the index of the first that is not what was set. In a guest that is
 * not `bare` the wall clock of KVM reads as 0: it is not carried over a birth. */
unsigned special_check(unsigned cpu, bool bare, uint64_t *set, uint64_t *found);
unsigned special_count(void);
void special_tell_absent(unsigned cpu); /* which of them this host does not have */
/* What a guest must not see or change, see hidden[]: the index of the first that it can, or -1. */
int special_exposed(unsigned cpu);
/* kvmclock in nanoseconds, and the TSC it was made from, by which it goes on (multiplied, then
 * shifted); false: there is none. */
struct pv_time {
	uint64_t ns, tsc;
	uint32_t mul;
	int8_t shift;
};
bool special_time(unsigned cpu, struct pv_time *t);

#endif
