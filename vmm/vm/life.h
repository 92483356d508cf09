/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM from its making to its end, and the locks that an operation on it takes.
 *
 * `state` is moved by vm_move() only, with the VM's `op` held, and read by anybody. A VM in RUNNING
 * or PAUSED is alive: it has a shell, a birth generation and devices.
 *
 *   from               to        by
 *   (made)             PAUSED    vm_new(): nobody knows it yet
 *   PAUSED             RUNNING   ramet_launch(), start_child() of a fork, ramet_resume()
 *   RUNNING            PAUSED    ramet_pause(); a reset that failed when the vCPUs had stopped
 *   RUNNING, PAUSED    STOPPED   ramet_stop() (of the user, or of the reaper after the VM's end);
 *                                vm_discard() of a VM that was never linked
 *   RUNNING, PAUSED    FAILED    ramet_stop(), when the VM has failed
 *   FAILED, STOPPED    STOPPED   ramet_stop(): a failed one has been seen now
 *
 * `exit_status` says that the VM ends, or why, before the reaper stops it. It moves once, without a
 * lock, from any thread (events.c):
 *
 *   -1                 status    vm_exit(): its guest has ended it
 *   -1                 FAILING   vm_fail(): `failure` is being written, by this thread alone
 *   FAILING            FAILED    vm_fail(): `failure` may be read
 *
 * In either case the VM is queued for the reaper once, with a reference of its own, and no vCPU
 * enters its guest any more.
 */
#ifndef RAMET_VMM_VM_LIFE_H
#define RAMET_VMM_VM_LIFE_H

#include "vmm/vm/vm.h"

int vm_new(struct ramet_family *f, struct ramet_vm *parent, struct ramet_vm **out);
/* Why it has failed, or "". */
const char *vm_failure(const struct ramet_vm *vm);
/* Every move of its state but its making, see above. op is held. */
void vm_move(struct ramet_vm *vm, enum ramet_state to);
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
