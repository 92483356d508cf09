/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_VM_VCPU_H
#define RAMET_VMM_VM_VCPU_H

#include "vmm/vm/vm.h"

/* What a vCPU does between two stays in the guest. */
extern const struct vcpu_ops vm_vcpu_ops;

#endif
