/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM from its start to its end, and the locks of operations on it.
 *
 * Only vm_move() changes `state`, with the VM's `op` held; any thread may read it. A VM in RUNNING
 * or PAUSED is alive: it has a shell, a birth generation and devices.
 *
 *   from               to        by
 *   (new)              PAUSED    vm_new(): no other thread knows the VM yet
 *   PAUSED             RUNNING   ramet_launch(), start_child() of a fork, ramet_resume()
 *   RUNNING            PAUSED    ramet_pause(); a reset that failed after the vCPUs had stopped
 *   RUNNING, PAUSED    STOPPED   ramet_stop(); vm_reap(), when the guest has ended the VM;
 *                                vm_discard() of a VM that was never linked
 *   RUNNING, PAUSED    FAILED    ramet_stop() or vm_reap(), when the VM has failed
 *   FAILED, STOPPED    STOPPED   ramet_stop(): the user has seen the failure of a failed VM
 *
 * `exit_status` tells that the VM has ended, and how, before the reaper stops it. It changes once,
 * on any thread, without a lock (events.c):
 *
 *   -1                 status    vm_exit(): the guest has ended the VM
 *   -1                 FAILING   vm_fail(): this thread alone writes `failure`
 *   FAILING            FAILED    vm_fail(): any thread may read `failure`
 *
 * In both cases the VM is queued for the reaper once, with a reference of its own, and no vCPU
 * enters the guest any more.
 */
#ifndef RAMET_VMM_VM_LIFE_H
#define RAMET_VMM_VM_LIFE_H

#include "vmm/vm/vm.h"

/* Makes a VM that is not in the tree yet; parent may be NULL. 0 or -ENOMEM. */
int vm_new(struct ramet_family *f, struct ramet_vm *parent, struct ramet_vm **out);
/* Returns the reason of the VM's failure, or "". */
const char *vm_failure(const struct ramet_vm *vm);
/* Moves the VM to another state: see the table above. op is held. */
void vm_move(struct ramet_vm *vm, enum ramet_state to);
void vm_new_birth(struct ramet_vm *vm, uint64_t born_ns, bool new_identity);
/* Sets the phase and counter that the guest reported back to those of generation g, and clears its
 * report. No vCPU runs. */
void vm_recall(struct ramet_vm *vm, const struct generation *g);
/*
 * Operations. lock() keeps the family's checker, and other operations on this VM, waiting until
 * unlock(). lock_alive() does the same, or, if the VM has stopped or failed, returns -ESRCH with a
 * message and without the locks.
 */
void vm_lock(struct ramet_vm *vm);
/* The order for lock_take_nested(): the locks of several VMs are taken from the parent to its
 * children. */
static inline uint64_t vm_op_order(const struct ramet_vm *vm)
{
	return UINT64_MAX - 1 - vm->id;
}

int vm_lock_alive(struct ramet_vm *vm, const char *verb, struct ramet_err *err);
void vm_unlock(struct ramet_vm *vm);
/* Until unquiesce(), no input reaches the VM's devices, and no device touches guest memory. op is
 * held. */
void vm_quiesce(struct ramet_vm *vm);
void vm_unquiesce(struct ramet_vm *vm);
/* Lets input in again: the VM's devices are new, and its vCPUs run. */
void vm_admit_input(struct ramet_vm *vm);
/* Makes a PAUSED VM run. op is held. */
void vm_begin(struct ramet_vm *vm);
/* Lets a VM continue after an operation that failed: its vCPUs have been stopped and its devices
 * quiesced. op is held. */
void vm_run_on(struct ramet_vm *vm);
/* Frees everything that the VM holds. Its vCPUs are idle, and op is held. */
void vm_release(struct ramet_vm *vm);
/* Stops a VM that its guest has ended, or that has failed, unless another thread has stopped it.
 * For the reaper. */
void vm_reap(struct ramet_vm *vm);
/* Makes a running VM stand still for ever: the caller will stop it soon. */
void vm_halt(struct ramet_vm *vm);
/* Stops and frees a VM that was never linked, and releases its op, which the caller holds. The
 * reaper may wait for op, since the VM may have ended. It finds that the VM has stopped. */
void vm_discard(struct ramet_vm *vm);

#endif
