/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_VM_VCPU_H
#define RAMET_VMM_VM_VCPU_H

#include "vmm/vm/vm.h"

/* The code that a vCPU's thread runs between two runs of the guest. */
extern const struct vcpu_ops vm_vcpu_ops;

#endif
