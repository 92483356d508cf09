/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a stopped machine outside its RAM: all that KVM has for it. The contents and the
 * order of saving follow Documentation/virt/kvm/api.rst, QEMU and Firecracker.
 */
#ifndef RAMET_VMM_KVM_STATE_H
#define RAMET_VMM_KVM_STATE_H

#include <stdatomic.h>

#include "vmm/kvm/kvm.h"

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	bool pae;	    /* the guest uses 32-bit PAE paging */
	uint64_t pdptrs[4]; /* if pae: the entries loaded with CR3; memory may have changed since */
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_mp_state mp_state;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	uint64_t tsc_offset;
	struct kvm_xsave *xsave; /* kvm_host.xsave_size bytes */
	struct kvm_msrs *msrs;	 /* kvm_host.n_msrs entries */
};

/* Has a reference count. Never changes after it has been filled in. */
struct machine_state {
	atomic_uint refs;
	unsigned cpus;
	bool has_pit;
	struct kvm_irqchip irqchip[3]; /* master PIC, slave PIC, I/O APIC */
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	uint64_t clock_ns; /* the CLOCK_BOOTTIME at which KVM read `clock` */
	struct vcpu_state vcpu[];
};

/* Returns a new state with one reference; NULL: out of memory. */
struct machine_state *machine_state_new(const struct kvm_host *host, unsigned cpus, bool has_pit);
struct machine_state *machine_state_get(struct machine_state *s);
void machine_state_put(struct machine_state *s); /* s may be NULL */

/* Saves one vCPU, which must be stopped, with pending I/O completed. The other vCPUs must be
 * stopped, too, since they can still send it interrupts. Returns 0 or -errno. */
int vcpu_save(const struct kvm_host *host, int vcpu_fd, struct kvm_run *run, struct vcpu_state *s);
/* Saves all of that except the registers. This needs no KVM_RUN, so any thread may call it. */
int vcpu_save_idle(const struct kvm_host *host, int vcpu_fd, struct vcpu_state *s);
/*
 * Loads what differs between s and `has`. `has` is the state that the vCPU was preloaded with; the
 * vCPU has not run since. NULL: the vCPU's state is unknown and its TLB may be stale, so all is
 * loaded. The registers may stay in kvm_run, where the next KVM_RUN reads them; vcpu_flush() makes
 * a KVM_RUN that executes no instruction.
 */
int vcpu_load(const struct kvm_host *host, int vcpu_fd, struct kvm_run *run,
	const struct vcpu_state *s, const struct vcpu_state *has);
int vcpu_flush(int vcpu_fd, struct kvm_run *run);
/* Loads ahead what the states of one family have in common. Afterwards the vCPU's timer is not
 * armed, and KVM has not touched guest memory. 1: not possible for this state. */
int vcpu_preload(const struct kvm_host *host, int vcpu_fd, const struct vcpu_state *s);
/* Save and load the rest: interrupt controllers, timer, clock. */
int machine_save(const struct kvm_host *host, int vm_fd, struct machine_state *s);
int machine_load(const struct kvm_host *host, int vm_fd, const struct machine_state *s);

#endif
