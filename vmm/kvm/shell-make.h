/* SPDX-License-Identifier: Apache-2.0 */
/* Making a shell, which takes a millisecond or more, and freeing it. */
#ifndef RAMET_VMM_KVM_SHELL_MAKE_H
#define RAMET_VMM_KVM_SHELL_MAKE_H

#include "vmm/base/limits.h"
#include "vmm/kvm/shell.h"

/* What n shells take of the kernel: of each VM and of each vCPU a descriptor; threads, one for each
 * vCPU and one that KVM starts for each VM (kvm-nx-lpage-recovery); mappings: a view and
 * the reserved gap behind it, and for each vCPU its kvm_run, its stack and the stack's guard page.
 */
static inline struct needs shell_needs(unsigned n, unsigned cpus)
{
	return (struct needs){
		.fds = (uint64_t)n * (1 + cpus),
		.threads = (uint64_t)n * (1 + cpus),
		.maps = (uint64_t)n * (2 + 3 * cpus),
	};
}

/* A lower bound of the memory that a shell takes of the host, with what KVM and the kernel have for
 * it. docs/scale.md has what was measured. */
#define SHELL_BYTES	 (128u << 10)
#define SHELL_VCPU_BYTES (160u << 10)

/* 0 or -errno. Any thread may call this function, which waits for no guest. */
int shell_new(struct machine *machine, struct shell **out);
/* The vCPUs must be idle. Waits for their threads. sh may be NULL. */
void shell_free(struct shell *sh);

#endif
