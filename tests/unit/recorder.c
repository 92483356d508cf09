/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "tests/unit/recorder.h"

void *vm_mem(struct ramet_vm *vm, uint64_t gpa, uint64_t len)
{
	return NULL;
}

int vm_irq_line(struct ramet_vm *vm, unsigned gsi, bool level)
{
	vm->irq_changes += vm->irq[gsi] != level;
	vm->irq[gsi] = level;
	return 0;
}

uint64_t vm_id(const struct ramet_vm *vm)
{
	return vm->id;
}

uint64_t vm_births(const struct ramet_vm *vm)
{
	return vm->births;
}

const uint8_t *vm_genid(const struct ramet_vm *vm)
{
	return vm->genid;
}

void vm_reseed_owed(struct ramet_vm *vm, bool promised)
{
	vm->reseed_owed = promised;
	vm->reseed_counts = false;
}

void vm_reseed_start(struct ramet_vm *vm)
{
	vm->reseed_counts = vm->reseed_owed;
}

void vm_reseed_done(struct ramet_vm *vm)
{
	vm->reseed_owed = false;
}

bool vm_reseed_pending(const struct ramet_vm *vm)
{
	return vm->reseed_owed;
}

void vm_heartbeat(struct ramet_vm *vm, uint32_t counter)
{
	vm->beats++;
	vm->counter = counter;
}

void vm_phase(struct ramet_vm *vm, uint32_t phase)
{
	vm->phase = phase;
}

void vm_report(struct ramet_vm *vm, uint32_t code, uint64_t gpa)
{
	vm->report = code;
	vm->report_gpa = gpa;
}

void vm_exit(struct ramet_vm *vm, int status)
{
	vm->exit_status = status;
}

void vm_console(struct ramet_vm *vm, const char *buf, size_t len)
{
	if (len > sizeof(vm->console) - 1 - vm->console_len)
		len = sizeof(vm->console) - 1 - vm->console_len;
	memcpy(vm->console + vm->console_len, buf, len);
	vm->console_len += len;
	vm->console_calls++;
}

void vcpu_sleep(struct vcpu *vcpu, uint32_t us)
{
	vcpu->slept += us;
}

void dev_write(struct device *dev, struct vcpu *vcpu, uint64_t addr, uint32_t value, unsigned size)
{
	dev->ops->io(dev, vcpu, 0, addr, true, &value, size);
}

uint32_t dev_read(struct device *dev, uint64_t addr, unsigned size)
{
	uint32_t value = 0;

	dev->ops->io(dev, NULL, 0, addr, false, &value, size);
	return value;
}
