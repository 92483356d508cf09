/* SPDX-License-Identifier: Apache-2.0 */
/* Events of a running VM. */
#ifndef RAMET_VMM_VM_EVENTS_H
#define RAMET_VMM_VM_EVENTS_H

#include "vmm/vm/vm.h"

/* Wakes the threads that wait for the VM. The caller may hold any lock. */
void vm_event(struct ramet_vm *vm);
/* Wakes the threads that wait for room: the VM may now take input that it refused before. */
void vm_input_room(struct ramet_vm *vm);
/* The VM, if it was newborn, has been seen to run, or has ended. */
void vm_grown(struct ramet_vm *vm);
/* The source that fills the views of VMs. */
extern const struct view_source vm_view_source;
/* The guest has ended its VM. The calling vCPU does not run again. */
void vm_exit(struct ramet_vm *vm, int status);
/* Fails the VM, for the given reason: its vCPUs do not run again. The caller may hold any lock. */
void vm_fail(struct ramet_vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
