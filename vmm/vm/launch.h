/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_VM_LAUNCH_H
#define RAMET_VMM_VM_LAUNCH_H

#include "vmm/vm/vm.h"

/* Makes the new VM ready to run. 0, or -errno and an error. */
int family_boot(struct ramet_family *f, struct ramet_vm *vm, struct ramet_err *err);

#endif
