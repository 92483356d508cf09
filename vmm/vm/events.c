// SPDX-License-Identifier: Apache-2.0
/* What happens to a VM while it runs: what its devices tell of it and ask for it, and waiting for
 * that. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "vmm/base/futex.h"
#include "vmm/vm/vm.h"

/* ---- waiting ---- */

void vm_event(struct ramet_vm *vm)
{
	if (atomic_load(&vm->waiters)) {
		atomic_fetch_add(&vm->events, 1);
		futex_wake_all(&vm->events);
	}
}

static bool happened(struct ramet_vm *vm, enum ramet_event ev, uint64_t value)
{
	switch (ev) {
	case RAMET_EV_STOPPED:
		return vm->state == RAMET_STOPPED || vm->state == RAMET_FAILED;
	case RAMET_EV_READY:
		return atomic_load(&vm->ready_ns) != 0;
	case RAMET_EV_PHASE:
		return atomic_load(&vm->phase) >= value;
	case RAMET_EV_HEARTBEATS:
		return atomic_load(&vm->heartbeats) >= value;
	}
	return false;
}

int ramet_wait(struct ramet_vm *vm, enum ramet_event ev, uint64_t value, int timeout_ms)
{
	uint64_t until = timeout_ms < 0 ? UINT64_MAX : now_ns() + (uint64_t)timeout_ms * 1000000u;
	int r;

	atomic_fetch_add(&vm->waiters, 1);
	for (;;) {
		unsigned seen = atomic_load(&vm->events);
		uint64_t now = now_ns();

		r = 0;
		if (happened(vm, ev, value))
			break;
		r = -ESRCH;
		if (happened(vm, RAMET_EV_STOPPED, 0))
			break;
		r = -ETIMEDOUT;
		if (now >= until)
			break;
		futex_wait(&vm->events, seen, until == UINT64_MAX ? 0 : until - now);
	}
	atomic_fetch_sub(&vm->waiters, 1);
	return r;
}

/* ---- what devices may ask (device.h) ---- */

uint64_t vm_id(const struct ramet_vm *vm)
{
	return vm->id;
}

uint64_t vm_births(const struct ramet_vm *vm)
{
	return atomic_load(&vm->births);
}

const uint8_t *vm_genid(const struct ramet_vm *vm)
{
	return vm->genid;
}

void vm_heartbeat(struct ramet_vm *vm, uint32_t counter)
{
	atomic_store_explicit(&vm->counter, counter, memory_order_relaxed);
	atomic_fetch_add(&vm->heartbeats, 1);
	vm_event(vm);
}

void vm_phase(struct ramet_vm *vm, uint32_t phase)
{
	atomic_store(&vm->phase, phase);
	vm_event(vm);
}

void vm_report(struct ramet_vm *vm, uint32_t code, uint64_t gpa)
{
	/* The first report is the one that tells. */
	if (!atomic_load(&vm->report)) {
		atomic_store(&vm->report_gpa, gpa);
		atomic_store(&vm->report, code);
	}
	vm_event(vm);
}

void vm_exit(struct ramet_vm *vm, int status)
{
	int none = -1;

	if (atomic_compare_exchange_strong(&vm->exit_status, &none, status))
		reaper_ended(ramet_vm_get(vm));
}

void vm_fail(struct ramet_vm *vm, const char *fmt, ...)
{
	int none = -1;
	va_list ap;

	if (!atomic_compare_exchange_strong(&vm->exit_status, &none, VM_EXIT_FAILING))
		return;
	va_start(ap, fmt);
	vsnprintf(vm->failure, sizeof(vm->failure), fmt, ap);
	va_end(ap);
	atomic_store(&vm->exit_status, VM_EXIT_FAILED);
	reaper_ended(ramet_vm_get(vm));
}

void vm_reseed_owed(struct ramet_vm *vm, bool promised)
{
	bool owed = promised && vm->family->cfg.reseed != RAMET_RESEED_OFF;

	atomic_store(&vm->reseeds, promised);
	atomic_store(&vm->reseed_by_ns, owed ? RESEED_ANY_TIME : 0);
}

void vm_reseed_start(struct ramet_vm *vm)
{
	uint64_t by = atomic_load(&vm->reseed_by_ns);

	/* Its vCPUs may do it at this moment. */
	if (by)
		atomic_compare_exchange_strong(
			&vm->reseed_by_ns, &by, now_ns() + vm->family->cfg.reseed_ms * 1000000ull);
}

void vm_reseed_done(struct ramet_vm *vm)
{
	atomic_store(&vm->reseeds, true);
	atomic_store(&vm->reseed_by_ns, 0);
}

bool vm_reseed_pending(const struct ramet_vm *vm)
{
	return atomic_load(&vm->reseed_by_ns) != 0;
}

bool vm_reseed_late(struct ramet_vm *vm)
{
	uint64_t by = atomic_load_explicit(&vm->reseed_by_ns, memory_order_relaxed);

	if (!by || by == RESEED_ANY_TIME || now_ns() <= by)
		return false;
	vm_fail(vm,
		"its guest has not reseeded its random numbers within %u ms of its birth, so they "
		"may be another VM's",
		vm->family->cfg.reseed_ms);
	return true;
}

void vm_console(struct ramet_vm *vm, const char *buf, size_t len)
{
	const struct ramet_config *cfg = &vm->family->cfg;

	if (cfg->console)
		cfg->console(cfg->console_arg, vm, buf, len);
}

int vm_irq_line(struct ramet_vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	return ioctl(vm->shell->vm_fd, KVM_IRQ_LINE, &l) < 0 ? -errno : 0;
}

int vm_msi(struct ramet_vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = (uint32_t)address,
		.address_hi = (uint32_t)(address >> 32),
		.data = data };

	return ioctl(vm->shell->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
}

/* Fills what is absent first, so that its failure is an error here rather than a fault of ours. */
void *vm_mem(struct ramet_vm *vm, uint64_t gpa, uint64_t len)
{
	struct view *view = vm->shell->view;
	int64_t off = ram_offset(&vm->family->ram, gpa, len);

	if (off < 0)
		return NULL;
	for (uint64_t s = (uint64_t)off >> SPAN_SHIFT;
		len && s <= ((uint64_t)off + len - 1) >> SPAN_SHIFT; s++)
		if (generation_touch(view, s, -1))
			return NULL;
	return view->base + off;
}
