/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_VM_REAPER_H
#define RAMET_VMM_VM_REAPER_H

#include "vmm/vm/vm.h"

/* `stop` stops a VM. 0 or -errno. */
int reaper_start(struct ramet_family *f, void (*stop)(struct ramet_vm *vm));
void reaper_stop(struct ramet_family *f); /* after it has stopped those that wait for it */
void reaper_free(struct ramet_family *f); /* after settler_stop(): the settler asks reaper_idle() */
/* Stops a VM that its guest has ended, or that has failed; takes over a reference. Any lock may be
 * held. */
void reaper_ended(struct ramet_vm *vm);
/* Whether no VM waits for it; and how many it has ever been given. */
bool reaper_idle(void *family, unsigned *queued);

#endif
