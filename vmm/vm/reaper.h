/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_VM_REAPER_H
#define RAMET_VMM_VM_REAPER_H

#include "vmm/vm/vm.h"

/* Starts the reaper. It calls stop() to stop a VM. 0 or -errno. */
int reaper_start(struct ramet_family *f, void (*stop)(struct ramet_vm *vm));
void reaper_stop(struct ramet_family *f); /* returns after all queued VMs have been stopped */
void reaper_free(struct ramet_family *f); /* after settler_stop(): the settler uses reaper_idle() */
/* Queues a VM that its guest has ended, or that has failed, to be stopped. Takes over a reference.
 * The caller may hold any lock. */
void reaper_ended(struct ramet_vm *vm);
/* True if no VM is queued. *queued: the number of VMs that were ever queued. */
bool reaper_idle(void *family, unsigned *queued);

#endif
