// SPDX-License-Identifier: Apache-2.0
/* Events of a running VM, and functions that wait for them. */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "vmm/vm/events.h"
#include "vmm/base/futex.h"
#include "vmm/fork/fill.h"
#include "vmm/vm/reaper.h"

/* ---- waiting ---- */

static void wake_watches(struct ramet_vm *vm, enum ramet_watch_for what)
{
	lock_take(&vm->watch_lock);
	for (struct ramet_watch *w = vm->watches; w; w = w->next)
		if (w->what == what)
			eventfd_write(w->event, 1);
	lock_release(&vm->watch_lock);
}

void vm_event(struct ramet_vm *vm)
{
	if (atomic_load(&vm->waiters)) {
		atomic_fetch_add(&vm->events, 1);
		futex_wake_all(&vm->events);
		wake_watches(vm, RAMET_WATCH_EVENTS);
	}
}

void vm_input_room(struct ramet_vm *vm)
{
	if (atomic_load(&vm->input_refused) && atomic_exchange(&vm->input_refused, false))
		wake_watches(vm, RAMET_WATCH_INPUT);
}

void vm_grown(struct ramet_vm *vm)
{
	if (atomic_load(&vm->newborn) && atomic_exchange(&vm->newborn, false))
		newborns_less(&vm->family->newborns);
}

void ramet_watch(struct ramet_vm *vm, struct ramet_watch *watch)
{
	lock_take(&vm->watch_lock);
	watch->next = vm->watches;
	vm->watches = watch;
	lock_release(&vm->watch_lock);
	if (watch->what == RAMET_WATCH_EVENTS)
		atomic_fetch_add(&vm->waiters, 1);
}

void ramet_unwatch(struct ramet_vm *vm, struct ramet_watch *watch)
{
	struct ramet_watch **w;

	if (watch->what == RAMET_WATCH_EVENTS)
		atomic_fetch_sub(&vm->waiters, 1);
	lock_take(&vm->watch_lock);
	for (w = &vm->watches; *w != watch; w = &(*w)->next)
		;
	*w = watch->next;
	lock_release(&vm->watch_lock);
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

	lock_may_wait_for(WAIT_EVENT);
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

/* ---- the end ---- */

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
	assert(atomic_load(&vm->exit_status) == VM_EXIT_FAILING);
	atomic_store(&vm->exit_status, VM_EXIT_FAILED);
	reaper_ended(ramet_vm_get(vm));
}

/*
 * Stops the VM before it executes one more instruction: if KVM itself hit the page, it would inject
 * a spurious page fault into the guest.
 */
static void memory_lost(struct view *view)
{
	struct shell *sh = view->owner;
	struct ramet_vm *vm = sh->owner;
	char why[BUDGET_HINT];

	/* Either the VM is not loaded yet: then may_begin() of vcpu.c finds the failure. Or the VM
	 * has moved to another shell, and this is an old view. */
	if (!vm || vm->shell != sh)
		return;
	budget_hint(&vm->family->budget, why);
	vm_fail(vm, "it touched memory that could not be provided%s",
		why[0] ? why : ": the host is out of memory, or the family has reached its limit");
	shell_interrupt(sh);
}

const struct view_source vm_view_source = { .fill = generation_fill, .lost = memory_lost };
