/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a stopped machine outside its RAM: everything KVM holds for it. What is saved, and
 * in which order, follows Documentation/virt/kvm/api.rst and what QEMU and Firecracker found out.
 */
#ifndef RAMET_VMM_STATE_H
#define RAMET_VMM_STATE_H

#include "vmm/kvm.h"

struct vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	struct kvm_mp_state mp_state;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	uint64_t tsc_offset;
	struct kvm_xsave *xsave; /* kvm_host.xsave_size bytes */
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[KVM_MSRS_MAX];
	} msrs;
};

struct machine_state {
	unsigned cpus;
	bool has_pit;
	struct kvm_irqchip irqchip[3]; /* master PIC, slave PIC, I/O APIC */
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
	struct vcpu_state vcpu[];
};

/* NULL: out of memory. */
struct machine_state *machine_state_new(const struct kvm_host *host, unsigned cpus, bool has_pit);
void machine_state_free(struct machine_state *s);

/* One vCPU; it must be stopped, with pending I/O completed. Other vCPUs must be stopped too, since
 * they can still send it interrupts. Returns 0 or -errno. */
int vcpu_save(const struct kvm_host *host, int vcpu_fd, struct vcpu_state *s);
int vcpu_load(const struct kvm_host *host, int vcpu_fd, const struct vcpu_state *s);
/* The rest: interrupt controllers, timer, clock. */
int machine_save(const struct kvm_host *host, int vm_fd, struct machine_state *s);
int machine_load(const struct kvm_host *host, int vm_fd, const struct machine_state *s);

#endif
