/* SPDX-License-Identifier: Apache-2.0 */
/* What guest/state.c and its assembly share: one vCPU's registers, as set and as found again. */
#ifndef GUEST_STATE_H
#define GUEST_STATE_H

#define STATE_GPRS    12 /* all but RAX, RCX, RDX, RSP */
#define STATE_SET     0	 /* offsets into struct state */
#define STATE_FOUND   96
#define STATE_FLAGS   192
#define STATE_LIFE    200
#define STATE_TSC     208
#define STATE_XCR0    216
#define STATE_X_SET   256
#define STATE_X_FOUND 4352
#define STATE_X_SIZE  4096

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/lib/guest.h"

struct state {
	uint64_t set[STATE_GPRS], found[STATE_GPRS];
	uint64_t flags; /* found */
	uint64_t life;	/* the generation to wait for the end of */
	uint64_t tsc;	/* when last seen in that life */
	uint64_t xcr0;	/* 0: no XSAVE, FXSAVE instead */
	uint64_t pad[4];
	uint8_t x_set[STATE_X_SIZE], x_found[STATE_X_SIZE]; /* XSAVE areas */
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct state, found) == STATE_FOUND, "");
_Static_assert(offsetof(struct state, flags) == STATE_FLAGS, "");
_Static_assert(offsetof(struct state, life) == STATE_LIFE, "");
_Static_assert(offsetof(struct state, tsc) == STATE_TSC, "");
_Static_assert(offsetof(struct state, xcr0) == STATE_XCR0, "");
_Static_assert(offsetof(struct state, x_set) == STATE_X_SET, "");
_Static_assert(offsetof(struct state, x_found) == STATE_X_FOUND, "");

/* Loads all of s->set and s->x_set, waits for a new life, stores what it finds. */
void state_hold(struct state *s);

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

/* state-special.c: the registers that only ring 0 can reach. */
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

#endif
