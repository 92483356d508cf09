// SPDX-License-Identifier: Apache-2.0
/* The VM's implementation of devices/port.h. */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vm/port.h"
#include "vmm/base/futex.h"
#include "vmm/fork/fill.h"
#include "vmm/vm/events.h"

static struct ramet_vm *vm_of(struct port *port)
{
	return (struct ramet_vm *)((char *)port - offsetof(struct ramet_vm, port));
}

/* Fills absent spans first: a failure is then an error here, and not a fault in this process. */
static void *vm_mem(struct port *port, gpa_t at, uint64_t len)
{
	struct ramet_vm *vm = vm_of(port);
	struct view *view = vm->shell->view;
	ram_off_t off;

	if (!ram_offset(&vm->family->ram, at, len, &off))
		return NULL;
	for (span_t s = span_of(off); len && s.v <= span_of(off_add(off, len - 1)).v; s.v++)
		if (generation_touch(view, s, -1))
			return NULL;
	return view_at(view, off);
}

static int vm_irq(struct port *port, unsigned gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	return ioctl(vm_of(port)->shell->vm_fd, KVM_IRQ_LINE, &l) < 0 ? -errno : 0;
}

static int vm_msi(struct port *port, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data };

	return ioctl(vm_of(port)->shell->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

static void vm_room(struct port *port)
{
	vm_input_room(vm_of(port));
}

static void vm_console(struct port *port, const char *buf, size_t len)
{
	struct ramet_vm *vm = vm_of(port);
	const struct ramet_config *cfg = &vm->family->cfg;

	if (cfg->console)
		cfg->console(cfg->console_arg, vm, buf, len);
}

static void vm_exits(struct port *port, int status)
{
	vm_exit(vm_of(port), status);
}

static void vm_sleep(struct port *port, struct vcpu *vcpu, uint32_t us)
{
	uint64_t until = now_ns() + us * 1000ull, now;

	while (!atomic_load(&vcpu->shell->stop) && (now = now_ns()) < until)
		futex_wait(&vcpu->shell->stop, 0, until - now);
}

static void vm_identity(struct port *port, struct identity *out)
{
	const struct ramet_vm *vm = vm_of(port);

	out->id = vm->id;
	out->births = atomic_load(&vm->births);
	memcpy(out->genid, vm->genid, sizeof(out->genid));
}

static void vm_heartbeat(struct port *port, uint32_t counter)
{
	struct ramet_vm *vm = vm_of(port);

	atomic_store_explicit(&vm->counter, counter, memory_order_relaxed);
	atomic_fetch_add(&vm->heartbeats, 1);
	vm_event(vm);
}

static void vm_phase(struct port *port, uint32_t phase)
{
	struct ramet_vm *vm = vm_of(port);

	atomic_store(&vm->phase, phase);
	vm_event(vm);
}

static void vm_report(struct port *port, uint32_t code, uint64_t gpa)
{
	struct ramet_vm *vm = vm_of(port);

	/* Keep only the first report: later ones may be a consequence of it. */
	if (!atomic_load(&vm->report)) {
		atomic_store(&vm->report_gpa, gpa);
		atomic_store(&vm->report, code);
	}
	vm_event(vm);
}

const struct port_ops vm_port_ops = {
	.mem = vm_mem,
	.irq = vm_irq,
	.msi = vm_msi,
	.input_room = vm_room,
	.console = vm_console,
	.exit = vm_exits,
	.sleep = vm_sleep,
	.identity = vm_identity,
	.heartbeat = vm_heartbeat,
	.phase = vm_phase,
	.report = vm_report,
};

void vm_io(struct ramet_vm *vm, struct vcpu *vcpu, enum device_space space, uint64_t addr,
	bool write, void *data, unsigned size)
{
	if (doorbell_reseed_late(vm->devices.dev[DEVICE_DOORBELL])) {
		vm_fail(vm,
			"its guest has not reseeded its random numbers within %u ms of its birth, "
			"so they may be equal to another VM's",
			vm->family->cfg.reseed_ms);
		device_no_answer(write, data, size);
		return;
	}
	device_set_io(&vm->devices, vcpu, space, addr, write, data, size);
}
