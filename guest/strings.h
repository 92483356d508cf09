/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by guest/strings.c and its assembly: the registers around one string instruction. */
#ifndef GUEST_STRINGS_H
#define GUEST_STRINGS_H

#define STRINGS_GPRS	 15 /* all except RSP: RAX RBX RCX RDX RSI RDI RBP R8 ... R15 */
#define STRINGS_SET	 0  /* offsets into struct strings */
#define STRINGS_FOUND	 120
#define STRINGS_CODE	 240
#define STRINGS_FLAGS	 248
#define STRINGS_FX_SET	 256
#define STRINGS_FX_FOUND 768
#define STRINGS_FX_SIZE	 512

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

enum { RAX, RBX, RCX, RDX, RSI, RDI };

struct strings {
	uint64_t set[STRINGS_GPRS], found[STRINGS_GPRS];
	void (*code)(void);
	uint64_t flags; /* RFLAGS to set, then as found; only the direction flag is checked */
	uint8_t fx_set[STRINGS_FX_SIZE], fx_found[STRINGS_FX_SIZE]; /* FXSAVE areas */
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct strings, found) == STRINGS_FOUND, "");
_Static_assert(offsetof(struct strings, code) == STRINGS_CODE, "");
_Static_assert(offsetof(struct strings, flags) == STRINGS_FLAGS, "");
_Static_assert(offsetof(struct strings, fx_set) == STRINGS_FX_SET, "");
_Static_assert(offsetof(struct strings, fx_found) == STRINGS_FX_FOUND, "");

/* Loads all of s->set, s->fx_set and s->flags, executes s->code, stores the registers it finds. */
void strings_do(struct strings *s);
/* Values for s->code. Do not call them from C. */
void strings_movsb(void);
void strings_movsl(void);
void strings_insb(void);
void strings_outsb(void);
void strings_outsl(void);
#endif

#endif
