/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a processor can do with second-level tables, without saying which processor: svm.c and vmx.c
 * are the only files that know. hv.c chooses between them.
 */
#ifndef METAL_HV_H
#define METAL_HV_H

#include <stdbool.h>
#include <stdint.h>

#include "ramet/mmu.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, N_GPRS = 16 };

enum exit_kind {
	EXIT_HALT,	    /* the guest has done what it was told, and stands behind its hlt */
	EXIT_FAULT,	    /* the tables do not allow an access */
	EXIT_MISCONFIGURED, /* an entry on the way has a value that no entry may have */
	EXIT_KICK,	    /* an interrupt of the machine */
	EXIT_OTHER,
};

struct exit {
	enum exit_kind kind;
	gpa_t at;	    /* FAULT, MISCONFIGURED */
	bool w, x;	    /* FAULT: what was tried; neither: a read */
	bool walk;	    /* FAULT: by the walk of the guest's own tables */
	uint64_t why, info; /* as the processor says it */
};

struct vm;

struct vcpu {
	uint64_t gpr[N_GPRS]; /* first: enter.S knows */
	uint64_t rip, rflags;
	uint64_t top; /* the root's table, as the last entry used it */
	struct vm *vm;
	unsigned pause; /* vcpu_go() returns after so many faults; 0: it does not */
	uint32_t id;	/* from 1: its VPID, and of what it has an ASID */
	bool paged;	/* 64-bit mode over page tables at GUEST_PML4, not 32-bit mode without */
	bool log;	/* EPT: the processor sets A and D (NPT: always) */
	bool ready, launched;	 /* the backend's: its page is set up; and in use on a processor */
	void *page;		 /* the backend's: VMCB or VMCS */
	_Atomic bool flush;	 /* before the next entry: drop what is cached of the root */
	_Atomic uint32_t inside; /* the local APIC's number plus 1, while the guest runs */
	_Atomic uint64_t exits;
};

struct hv {
	const char *name;
	const struct mmu_format *format;
	bool (*present)(void);
	void (*caps)(struct mmu_caps *caps);
	/* On each processor, with a page of its own. */
	void (*enable)(void *page);
	/* Runs it on the tables at `top` until it exits. An interrupt of the machine ends it. */
	void (*run)(struct vcpu *v, uint64_t top, struct exit *e);
	/* This processor has run it; from now on another one will. */
	void (*leave)(struct vcpu *v);
};

extern const struct hv hv_svm, hv_vmx;
extern const struct hv *hv; /* the one that is present: set by hv_init() */
void hv_init(void);

/* enter.S: the world switch. vmx_enter() returns 0, or 1 when the entry failed. */
void svm_enter(struct vcpu *v, uint64_t vmcb);
int vmx_enter(struct vcpu *v, uint64_t launched);

#endif
