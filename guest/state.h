/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by guest/state.c and its assembly: one vCPU's registers, as set and as found later. */
#ifndef GUEST_STATE_H
#define GUEST_STATE_H

#define STATE_GPRS    12 /* all except RAX, RCX, RDX, RSP */
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

struct state {
	uint64_t set[STATE_GPRS], found[STATE_GPRS];
	uint64_t flags; /* RFLAGS, as found */
	uint64_t life;	/* wait until the generation is no longer this one */
	uint64_t tsc;	/* the last TSC value read in that generation */
	uint64_t xcr0;	/* 0: use FXSAVE, not XSAVE */
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

/* Loads all of s->set and s->x_set, waits for a new generation, stores the registers it finds. */
void state_hold(struct state *s);
#endif

#endif
