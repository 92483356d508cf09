/* SPDX-License-Identifier: Apache-2.0 */
/* A VM from its making to its end, and the locks that an operation on it takes. */
#ifndef RAMET_VMM_VM_LIFE_H
#define RAMET_VMM_VM_LIFE_H

#include "vmm/vm/vm.h"

int vm_new(struct ramet_family *f, struct ramet_vm *parent, struct ramet_vm **out);
/* Why it has failed, or "". */
const char *vm_failure(const struct ramet_vm *vm);
void vm_new_birth(struct ramet_vm *vm, uint64_t born_ns, bool new_identity);
/* Its guest has told, by now, what g's had when it was frozen. No vCPU runs. */
void vm_recall(struct ramet_vm *vm, const struct generation *g);
/*
 * Operations. lock() holds off the family's checker, and other operations on this VM, until
 * unlock(). lock_alive() does not when the VM has stopped or failed: then -ESRCH and a line about
 * it.
 */
void vm_lock(struct ramet_vm *vm);
/* The locks of several VMs are taken from the parent to its children, as this says: lock.h. */
static inline uint64_t vm_op_order(const struct ramet_vm *vm)
{
	return UINT64_MAX - 1 - vm->id;
}

int vm_lock_alive(struct ramet_vm *vm, const char *verb, struct ramet_err *err);
void vm_unlock(struct ramet_vm *vm);
/* Nothing comes to its devices from outside any more, nor does a device touch guest memory, until
 * unquiesce(). op is held. */
void vm_quiesce(struct ramet_vm *vm);
void vm_unquiesce(struct ramet_vm *vm);
/* Input may come from now on: its devices are new, and its vCPUs run. */
void vm_admit_input(struct ramet_vm *vm);
/* Its vCPUs have been stopped and its devices quiesced, for something that is not to be: it runs on
 * as it was. op is held. */
void vm_run_on(struct ramet_vm *vm);
/* Gives back all it holds; its vCPUs are idle and op is held. */
void vm_release(struct ramet_vm *vm);
/* For one that was never linked: stops and forgets it. */
void vm_discard(struct ramet_vm *vm);

#endif
