/* SPDX-License-Identifier: Apache-2.0 */
#ifndef RAMET_VMM_VM_PORT_H
#define RAMET_VMM_VM_PORT_H

#include "vmm/vm/vm.h"

/* The functions that devices may call. */
extern const struct port_ops vm_port_ops;
/* Passes one access by a vCPU to the VM's devices. */
void vm_io(struct ramet_vm *vm, struct vcpu *vcpu, enum device_space space, uint64_t addr,
	bool write, void *data, unsigned size);

#endif
