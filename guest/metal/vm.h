/* SPDX-License-Identifier: Apache-2.0 */
/* Guests on second-level tables, and the processors they run on. */
#ifndef METAL_VM_H
#define METAL_VM_H

#include "guest/metal/guest.h"
#include "guest/metal/hv.h"

#define VM_VCPUS 2u

struct vm {
	struct mmu_root root;
	struct vcpu vcpu[VM_VCPUS];
	unsigned vcpus;
	uint64_t pages; /* of guest memory, from 0 */
	_Atomic uint64_t faults;
};

/* What came of a command. */
struct done {
	uint64_t faults;
	uint32_t eax, edi; /* see guest.S */
};

extern _Atomic unsigned last_flush; /* the kind that mmu/ last asked for */
extern bool leave_out_flushes;	    /* to see what they are for */

/* bytes: whole spans. paged: in 64-bit mode, over page tables of its own. log: EPT's A and D. */
void vm_new(struct vm *vm, uint64_t bytes, bool paged, bool log);
void vm_new_large(struct vm *vm, uint64_t bytes, bool log); /* in leaves of 2 MiB */
struct vcpu *vm_add_vcpu(struct vm *vm);
/* Its first vCPU is a copy of the parent's; the parent may be in the middle of something. */
void vm_fork(struct vm *parent, unsigned share, struct vm *child);
void vm_end(struct vm *vm);
/* The word that the VM has there. */
uint32_t vm_peek(struct vm *vm, uint64_t at);

/* Gives a command to a vCPU that stands still. */
void vcpu_start(
	struct vcpu *v, uint32_t command, uint64_t at, uint64_t n, uint64_t step, uint32_t key);
/* Runs it, once, and does nothing about it. */
void vcpu_try(struct vcpu *v, struct exit *e);
/* Runs it until the command is done, an interrupt came, or the guest tried what it may not do. What
 * only copy-on-write denies it, is made possible. */
/* After vcpu->pause faults it comes back as well. */
enum vcpu_state { VCPU_DONE, VCPU_BUSY, VCPU_STUCK };
enum vcpu_state vcpu_go(struct vcpu *v);
/* All of it, on the VM's first vCPU. */
struct done vm_do(
	struct vm *vm, uint32_t command, uint64_t at, uint64_t n, uint64_t step, uint32_t key);

/* An interrupt every so many ticks of the local APIC; 0: none. */
void timer_set(uint32_t ticks);

/* mmu/ asks for this when a processor may have cached what has changed. */
void cpu_flush(void *ctx, struct mmu_root *root, const struct mmu_flush *what);

/* The other processor: runs a vCPU until its command is done, it is stuck, or cpu_stop(). */
void cpu_init(void);
void cpu_start_other(void);
void cpu_give(struct vcpu *v);
bool cpu_is_done(void);
/* What became of it. */
enum vcpu_state cpu_stop(void);

#endif
