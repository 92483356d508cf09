/* SPDX-License-Identifier: Apache-2.0 */
/* Counting the memory of a VM. */
#ifndef RAMET_VMM_VM_ACCOUNTS_H
#define RAMET_VMM_VM_ACCOUNTS_H

#include "vmm/vm/vm.h"

/* Counts the VM's memory. op is held, or no other thread knows the VM yet. */
struct vm_count vm_count(struct ramet_vm *vm);
/* The memory of a clone when it is born, without counting. */
struct vm_count vm_count_at_birth(const struct ramet_family *f);

#endif
