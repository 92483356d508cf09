/* SPDX-License-Identifier: Apache-2.0 */
/* /dev/kvm: its capabilities, and the settings that all VMs of a family share. */
#ifndef RAMET_VMM_KVM_KVM_H
#define RAMET_VMM_KVM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "include/ramet/ramet.h"

/* KVM takes 255 in one call (MAX_IO_MSRS in arch/x86/kvm/x86.c); one is left for the wall clock. */
#define KVM_MSRS_MAX 254

#define MSR_IA32_TSC	      0x10u
#define MSR_IA32_TSC_DEADLINE 0x6e0u
#define MSR_VM_CR	      0xc0010114u
#define MSR_AMD64_DE_CFG      0xc0011029u

struct kvm_host {
	int fd;
	size_t run_size;   /* size of the mapping of a vCPU's struct kvm_run */
	size_t xsave_size; /* size of KVM_GET_XSAVE2's area; 4096 without that call */
	bool xsave2, tsc_offset, clock_realtime;
	bool exception_payload, triple_fault, sregs2, amd;
	bool wall_clock;	  /* KVM has MSR_KVM_WALL_CLOCK_NEW */
	bool xcrs;		  /* false: no XSAVE, so no XCR0 */
	uint64_t de_cfg;	  /* the value of AMD's DE_CFG; 0: there is none */
	uint32_t sync_regs;	  /* KVM_SYNC_X86_* that kvm_run can carry */
	struct kvm_cpuid2 *cpuid; /* CPUID of all vCPUs, without their APIC ids */
	unsigned n_msrs;	  /* number of entries of msr[], saved and loaded in this order */
	uint32_t msr[KVM_MSRS_MAX];
};

/*
 * Opens /dev/kvm, or the device that RAMET_KVM_DEVICE in the environment names, and reads its
 * capabilities. -ENOENT, -EACCES, -ENOTSUP and an error that says what to do.
 */
int kvm_host_open(struct kvm_host *host, struct ramet_err *err);
void kvm_host_close(struct kvm_host *host);

/* Must be called on a new VM, before it has vCPUs. Makes KVM report all of the VM's state, and deny
 * the guest what cannot be carried. */
int kvm_setup_vm(const struct kvm_host *host, int vm_fd);
/* The same for a vCPU. Also sets its CPUID, with the APIC id `index` of `cpus`. */
int kvm_setup_vcpu(const struct kvm_host *host, int vcpu_fd, unsigned index, unsigned cpus);

/* Removes from host->msr the MSRs that this vCPU cannot read and write. Called once, for the first
 * vCPU. */
int kvm_probe_msrs(struct kvm_host *host, int vcpu_fd);

#endif
