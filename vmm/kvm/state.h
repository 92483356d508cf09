/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a stopped machine outside its RAM: everything KVM holds for it. What is saved, and
 * in which order, follows Documentation/virt/kvm/api.rst and what QEMU and Firecracker found out.
 */
#ifndef RAMET_VMM_KVM_STATE_H
#define RAMET_VMM_KVM_STATE_H

#include <stdatomic.h>

#include "vmm/kvm/kvm.h"

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	bool pae;	    /* 32-bit PAE paging, whose CR3 was loaded with these entries: */
	uint64_t pdptrs[4]; /* memory may hold others by now */
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_mp_state mp_state;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	uint64_t tsc_offset;
	struct kvm_xsave *xsave; /* kvm_host.xsave_size bytes */
	struct kvm_msrs *msrs;	 /* kvm_host.n_msrs of them */
};

/* Counted, and never changed once it is filled in. */
struct machine_state {
	atomic_uint refs;
	unsigned cpus;
	bool has_pit;
	struct kvm_irqchip irqchip[3]; /* master PIC, slave PIC, I/O APIC */
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	uint64_t clock_ns; /* when KVM read that, by CLOCK_BOOTTIME */
	struct vcpu_state vcpu[];
};

/* With one reference; NULL: out of memory. */
struct machine_state *machine_state_new(const struct kvm_host *host, unsigned cpus, bool has_pit);
struct machine_state *machine_state_get(struct machine_state *s);
void machine_state_put(struct machine_state *s); /* NULL is fine */

/* One vCPU; it must be stopped, with pending I/O completed. Other vCPUs must be stopped too, since
 * they can still send it interrupts. Returns 0 or -errno. */
int vcpu_save(const struct kvm_host *host, int vcpu_fd, struct kvm_run *run, struct vcpu_state *s);
/* All of that but the registers, so without KVM_RUN, which wants the vCPU's own thread. */
int vcpu_save_idle(const struct kvm_host *host, int vcpu_fd, struct vcpu_state *s);
/*
 * Loads what differs between s and `has`, the state that the vCPU was preloaded with and has not
 * run since. NULL: nothing is known of the vCPU, and its TLB may be stale, so everything is loaded.
 * The registers may be left in kvm_run, where the next KVM_RUN finds them; vcpu_flush() makes one
 * that runs no instruction.
 */
int vcpu_load(const struct kvm_host *host, int vcpu_fd, struct kvm_run *run,
	const struct vcpu_state *s, const struct vcpu_state *has);
int vcpu_flush(int vcpu_fd, struct kvm_run *run);
/* Loads ahead what states of one family have in common. The vCPU's timer is silent afterwards, and
 * KVM does not touch its guest's memory. 1: not possible for this state. */
int vcpu_preload(const struct kvm_host *host, int vcpu_fd, const struct vcpu_state *s);
/* The rest: interrupt controllers, timer, clock. */
int machine_save(const struct kvm_host *host, int vm_fd, struct machine_state *s);
int machine_load(const struct kvm_host *host, int vm_fd, const struct machine_state *s);

#endif
