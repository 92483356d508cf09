/* SPDX-License-Identifier: Apache-2.0 */
/* What a `state` guest holds in registers that only ring 0 can reach. */
#ifndef GUEST_STATE_SPECIAL_H
#define GUEST_STATE_SPECIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/lib/guest.h"

/* Called in ring 0. Return 0, or -1 if the instruction faults. */
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
/* Reads all of them. Returns the index of the first one that is not as set, or SPECIALS. If the
 * guest is not `bare`, KVM's wall clock reads as 0: it is not carried over a fork. */
unsigned special_check(unsigned cpu, bool bare, uint64_t *set, uint64_t *found);
unsigned special_count(void);
void special_tell_absent(unsigned cpu); /* prints the registers that this host does not have */
/* Tries what a guest must not see or change, see hidden[]. Returns the index of the first that is
 * not hidden, or -1. */
int special_exposed(unsigned cpu);
/* kvmclock: `ns` nanoseconds at the TSC value `tsc`. mul and shift convert later TSC ticks. */
struct pv_time {
	uint64_t ns, tsc;
	uint32_t mul;
	int8_t shift;
};
/* False: there is no kvmclock. */
bool special_time(unsigned cpu, struct pv_time *t);

#endif
