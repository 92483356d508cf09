/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_VM_GUARD_H
#define RAMET_VMM_VM_GUARD_H

#include "vmm/vm/vm.h"

/* The guard fails VMs before memory runs out, so that the kernel does not kill the family. */
int guard_start(struct ramet_family *f);
void guard_stop(struct ramet_family *f);
/* See headroom_kernel(). */
bool guard_kernel(const struct ramet_family *f, uint64_t *bytes, uint64_t *tables);

#endif
