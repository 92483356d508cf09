/* SPDX-License-Identifier: Apache-2.0 */
/* Counting the memory of a VM. */
#ifndef RAMET_VMM_VM_ACCOUNTS_H
#define RAMET_VMM_VM_ACCOUNTS_H

#include "vmm/vm/vm.h"

/* op is held, or nobody else knows the VM yet. */
struct vm_count vm_count(struct ramet_vm *vm);
/* What a clone has when it is born. */
struct vm_count vm_count_at_birth(const struct ramet_family *f);

#endif
