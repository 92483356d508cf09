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
	uint64_t pages; /* number of pages of guest memory, from address 0 */
	_Atomic uint64_t faults;
};

/* The result of a command. */
struct done {
	uint64_t faults;
	uint32_t eax, edi; /* see guest.S */
};

extern _Atomic unsigned last_flush; /* the kind that mmu/ last requested */
extern bool leave_out_flushes;	    /* do not flush, to show that flushes are needed */

/* bytes: a multiple of a span. paged: 64-bit mode with page tables of the guest. log: EPT with A
 * and D. */
void vm_new(struct vm *vm, uint64_t bytes, bool paged, bool log);
void vm_new_large(struct vm *vm, uint64_t bytes, bool log); /* in leaves of 2 MiB */
struct vcpu *vm_add_vcpu(struct vm *vm);
/* The child's first vCPU is a copy of the parent's, which may be in the middle of a command. */
void vm_fork(struct vm *parent, unsigned share, struct vm *child);
void vm_end(struct vm *vm);
/* Returns the word at that address of the VM. */
uint32_t vm_peek(struct vm *vm, uint64_t at);

/* Gives a command to a vCPU that is not running. */
void vcpu_start(
	struct vcpu *v, uint32_t command, uint64_t at, uint64_t n, uint64_t step, uint32_t key);
/* Runs the vCPU until its next exit. Does not handle the exit. */
void vcpu_try(struct vcpu *v, struct exit *e);
/* Runs the vCPU until its command is done, an interrupt comes, or the guest tries an access that it
 * is not allowed. Accesses that only copy-on-write denies are made possible. Also returns after
 * vcpu->pause faults. */
enum vcpu_state { VCPU_DONE, VCPU_BUSY, VCPU_STUCK };
enum vcpu_state vcpu_go(struct vcpu *v);
/* Executes a whole command on the VM's first vCPU. */
struct done vm_do(
	struct vm *vm, uint32_t command, uint64_t at, uint64_t n, uint64_t step, uint32_t key);

/* Requests an interrupt after every `ticks` ticks of the local APIC; 0: none. */
void timer_set(uint32_t ticks);

/* mmu_ops.flush: flushes on all processors that may have cached what has changed. */
void cpu_flush(void *ctx, struct mmu_root *root, const struct mmu_flush *what);

/* The other processor runs a vCPU until its command is done, it is stuck, or cpu_stop(). */
void cpu_init(void);
void cpu_start_other(void);
void cpu_give(struct vcpu *v);
bool cpu_is_done(void);
/* Returns the state in which the vCPU ended. */
enum vcpu_state cpu_stop(void);

#endif
