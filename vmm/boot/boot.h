/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine: its RAM, its description as a flattened device tree, the contents of its memory, and
 * the state in which its vCPUs start. All of this happens once, before the VM that boots runs.
 */
#ifndef RAMET_VMM_BOOT_BOOT_H
#define RAMET_VMM_BOOT_BOOT_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/base/err.h"
#include "vmm/base/ram.h"

/* Guest memory while it is being filled: ram->r[i] is mapped at host[i]. */
struct boot_memory {
	const struct ram_layout *ram;
	uint8_t *host[2];
};
/* Returns a pointer to [at, at + len), or NULL if that is not all in one RAM range. */
void *boot_mem(const struct boot_memory *mem, gpa_t at, uint64_t len);

/* Writes an identity map of all RAM to RAMET_GPA_TABLES. 0, or -EINVAL: too little memory. */
int boot_tables(const struct boot_memory *mem);

/* The state in which one vCPU starts. */
struct boot_vcpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs; /* in: from KVM_GET_SREGS; out: for KVM_SET_SREGS */
	bool wait_for_sipi;	/* an application processor that waits for INIT/SIPI */
};

/* A present, flat segment of 32 bits. */
struct kvm_segment boot_segment(uint16_t selector, uint8_t type);

/* Fill memory for a built-in guest, and return the state in which vCPU `index` starts. */
int boot_guest_load(
	const struct ramet_config *cfg, const struct boot_memory *mem, struct ramet_err *err);
void boot_guest_vcpu(const struct ramet_config *cfg, unsigned index, struct boot_vcpu *vcpu);

/* The same for a Linux kernel (vmm/boot/load-linux.c). */
int boot_linux_load(
	const struct ramet_config *cfg, const struct boot_memory *mem, struct ramet_err *err);
int boot_linux_vcpu(const struct ramet_config *cfg, const struct boot_memory *mem, unsigned index,
	struct boot_vcpu *vcpu);

/* Writes the device tree of the machine that cfg describes to fdt[size]. 0 or -ENOSPC. */
int machine_fdt(
	const struct ramet_config *cfg, const struct ram_layout *ram, void *fdt, size_t size);

#endif
