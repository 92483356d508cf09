// SPDX-License-Identifier: Apache-2.0
/* The code that a vCPU's thread runs between two runs of the guest. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vm/vcpu.h"
#include "vmm/base/clock.h"
#include "vmm/base/priority.h"
#include "vmm/devices/acpi-device.h"
#include "vmm/vm/events.h"
#include "vmm/vm/port.h"

static struct ramet_vm *vm_of(const struct vcpu *vcpu)
{
	return vcpu->shell->owner;
}

static bool wanted(const struct vcpu *vcpu)
{
	return atomic_load_explicit(&vm_of(vcpu)->exit_status, memory_order_relaxed) < 0;
}

/* Notes the first exit after a birth: this shows that the guest has executed something. */
static void note_ready(struct vcpu *vcpu)
{
	struct ramet_vm *vm = vm_of(vcpu);
	uint64_t none = 0;

	if (!atomic_load_explicit(&vm->ready_ns, memory_order_relaxed) &&
		atomic_compare_exchange_strong(&vm->ready_ns, &none, now_ns())) {
		vm_grown(vm);
		vcpu_ordinary(vcpu, 0);
		vm_event(vm);
	}
}

/* A guest that has not run yet comes first. Otherwise it would wait until all others have used up
 * their time slices. */
static void give_way(const struct ramet_vm *vm)
{
	if (newborns_first(&vm->family->newborns))
		sched_yield();
}

static void port_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	/* count > 1: a string instruction, which makes several accesses to the same port. */
	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size)
		vm_io(vm_of(vcpu), vcpu, SPACE_PIO, run->io.port,
			run->io.direction == KVM_EXIT_IO_OUT, data, run->io.size);
}

/* Linux resets a machine by a triple fault with reboot=t, or if no other way works. But a kernel
 * that has not accessed any device since it booted has not come that far: then it is a failure. */
static void triple_fault(struct vcpu *vcpu)
{
	struct ramet_vm *vm = vm_of(vcpu);

	if (vm->family->cfg.kernel && (atomic_load(&vm->births) > 1 || atomic_load(&vm->ready_ns)))
		vm_exit(vm, ACPI_EXIT_RESET);
	else
		vm_fail(vm, "vCPU %u: triple fault", vcpu->index);
}

static bool handle_exit(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct ramet_vm *vm = vm_of(vcpu);

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		note_ready(vcpu);
		port_io(vcpu);
		give_way(vm);
		break;
	case KVM_EXIT_MMIO:
		note_ready(vcpu);
		vm_io(vm, vcpu, SPACE_MMIO, run->mmio.phys_addr, run->mmio.is_write, run->mmio.data,
			run->mmio.len);
		give_way(vm);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		triple_fault(vcpu);
		return false;
	case KVM_EXIT_SYSTEM_EVENT:
		vm_exit(vm, 0);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		vm_fail(vm, "vCPU %u: KVM could not emulate an instruction (internal error %u)",
			vcpu->index, run->internal.suberror);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		vm_fail(vm, "vCPU %u: the processor refused to enter the guest (reason 0x%llx)",
			vcpu->index,
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return false;
	default:
		vm_fail(vm, "vCPU %u: unknown KVM exit %u", vcpu->index, run->exit_reason);
		return false;
	}
	return wanted(vcpu);
}

static bool may_begin(struct vcpu *vcpu)
{
	/* Tell Linux that it was paused. Otherwise its watchdogs see that jiffies have gone on, and
	 * report a CPU that hangs. EINVAL: there is no kvmclock (yet). */
	if (vm_of(vcpu)->family->cfg.kernel)
		ioctl(vcpu->fd, KVM_KVMCLOCK_CTRL, 0);
	if (atomic_load(&vcpu->shell->view->poisoned))
		vm_fail(vm_of(vcpu),
			"KVM needed memory of this VM before it could run, and the host had no "
			"memory for it");
	return wanted(vcpu);
}

static void failed(struct vcpu *vcpu, int error)
{
	if (error == -EFAULT)
		vm_fail(vm_of(vcpu),
			"vCPU %u touched memory that could not be provided: the host is out of "
			"memory",
			vcpu->index);
	else
		vm_fail(vm_of(vcpu), "vCPU %u: KVM_RUN: %s", vcpu->index, strerror(-error));
}

const struct vcpu_ops vm_vcpu_ops = {
	.may_begin = may_begin,
	.wanted = wanted,
	.exit = handle_exit,
	.failed = failed,
};
