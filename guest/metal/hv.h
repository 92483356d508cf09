/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A common interface to processors with second-level tables. Only svm.c and vmx.c depend on the
 * vendor; hv.c chooses between them.
 */
#ifndef METAL_HV_H
#define METAL_HV_H

#include <stdbool.h>
#include <stdint.h>

#include "ramet/mmu.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, N_GPRS = 16 };

enum exit_kind {
	EXIT_HALT,	    /* the guest has finished its command; its RIP is after the hlt */
	EXIT_FAULT,	    /* the tables do not allow an access */
	EXIT_MISCONFIGURED, /* an entry on the way has a value that is not allowed */
	EXIT_KICK,	    /* an interrupt of the machine */
	EXIT_OTHER,
};

struct exit {
	enum exit_kind kind;
	gpa_t at;	    /* FAULT, MISCONFIGURED */
	bool w, x;	    /* FAULT: a write, an execution; neither: a read */
	bool walk;	    /* FAULT: during the walk of the guest's page tables */
	uint64_t why, info; /* the processor's exit code and information */
};

struct vm;

struct vcpu {
	uint64_t gpr[N_GPRS]; /* must be first: enter.S uses it at offset 0 */
	uint64_t rip, rflags;
	uint64_t top; /* the root's top table at the last entry */
	struct vm *vm;
	unsigned pause; /* vcpu_go() returns after this many faults; 0: it does not */
	uint32_t id;	/* from 1: the VPID; the ASID is computed from it */
	bool paged;	/* 64-bit mode with page tables at GUEST_PML4; false: 32-bit, no paging */
	bool log;	/* EPT: the processor sets A and D (NPT: always) */
	bool ready;	/* for the backend: `page` is set up */
	bool launched;	/* for the backend: the VMCS is in use on a processor */
	void *page;	/* for the backend: VMCB or VMCS */
	_Atomic bool flush;	 /* before the next entry, flush the root's translations */
	_Atomic uint32_t inside; /* while the guest runs: number of the local APIC plus 1 */
	_Atomic uint64_t exits;
};

struct hv {
	const char *name;
	const struct mmu_format *format;
	bool (*present)(void);
	void (*caps)(struct mmu_caps *caps);
	/* Called on each processor, with a separate page for each. */
	void (*enable)(void *page);
	/* Runs v on the tables at `top` until it exits. An interrupt of the machine is an exit. */
	void (*run)(struct vcpu *v, uint64_t top, struct exit *e);
	/* Called on the processor that has run v, before another processor runs v. */
	void (*leave)(struct vcpu *v);
};

extern const struct hv hv_svm, hv_vmx;
extern const struct hv *hv; /* the one that is present: set by hv_init() */
void hv_init(void);

/* enter.S: the world switch. vmx_enter() returns 0, or 1 if the entry failed. */
void svm_enter(struct vcpu *v, uint64_t vmcb);
int vmx_enter(struct vcpu *v, uint64_t launched);

#endif
