/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a VM while it runs. */
#ifndef RAMET_VMM_VM_EVENTS_H
#define RAMET_VMM_VM_EVENTS_H

#include "vmm/vm/vm.h"

/* Wakes those that wait for the VM: something has happened. Any lock may be held. */
void vm_event(struct ramet_vm *vm);
/* Input that was refused may be taken now. */
void vm_input_room(struct ramet_vm *vm);
/* What the views of VMs are filled by. */
extern const struct view_source vm_view_source;
/* The VM's guest has ended it. The calling vCPU does not run again. */
void vm_exit(struct ramet_vm *vm, int status);
/* The VM has failed, for that reason: its vCPUs do not run again. Any lock may be held. */
void vm_fail(struct ramet_vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
