// SPDX-License-Identifier: Apache-2.0
/* Families: their parts, launch and destruction. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/futex.h"
#include "vmm/base/limits.h"
#include "vmm/base/lock.h"
#include "vmm/base/priority.h"
#include "vmm/fork/populate.h"
#include "vmm/kvm/kvm-kind.h"
#include "vmm/kvm/shell-make.h"
#include "vmm/vm/accounts.h"
#include "vmm/vm/config.h"
#include "vmm/vm/events.h"
#include "vmm/vm/guard.h"
#include "vmm/vm/launch.h"
#include "vmm/vm/life.h"
#include "vmm/vm/lineage.h"
#include "vmm/vm/reaper.h"
#include "vmm/vm/vcpu.h"

/* ---- the parts, in the order in which they are built ---- */

static void init_slots(struct ramet_family *f)
{
	struct machine *m = &f->machine;
	ram_off_t off = ram_off(0);

	m->vcpu_ops = &vm_vcpu_ops;
	m->cpus = f->cfg.cpus;
	m->pit = f->cfg.pit; /* Linux needs none: the ACPI tables say so (vmm/boot/acpi.c) */
	lock_init(&m->lock, LOCK_MACHINE);
	for (unsigned i = 0; i < f->ram.n; i++) {
		m->slot[i].gpa = f->ram.r[i].gpa;
		m->slot[i].len = f->ram.r[i].len;
		m->slot[i].off = off;
		off = off_add(off, f->ram.r[i].len);
	}
	m->n_slots = f->ram.n;
}

/* How far start_family() came: stop_family() undoes exactly that. */
enum { NOTHING, KVM, MEMORY, VIEWS, GUARD, FAULTS, SETTLER, REAPER, SHELLS };

static int start_family(struct ramet_family *f, struct ramet_err *err)
{
	int r = kvm_host_open(&f->machine.host, err);

	if (r)
		return r;
	f->stage = KVM;
	r = f->cfg.kernel ? kvm_runs_linux(err) : 0;
	if (r)
		return r;
	r = memory_init(&f->memory, &f->ram, f->cfg.max_pool);
	if (r)
		return r;
	f->stage = MEMORY;
	r = view_arena_init(&f->machine.arena, f->ram.size, f->memory.fd);
	f->machine.arena.each = (unsigned)shell_needs(1, f->cfg.cpus).maps;
	if (r == -EPERM)
		return err_set(err, r,
			"userfaultfd is not allowed for this user: run as root, or set "
			"vm.unprivileged_userfaultfd=1");
	if (r)
		return r;
	f->stage = VIEWS;
	r = guard_start(f);
	if (r)
		return r;
	f->stage = GUARD;
	r = faults_start(&f->faults, &f->machine.arena);
	if (r)
		return r;
	f->stage = FAULTS;
	r = settler_start(&f->settler, &f->generations, &f->newborns, reaper_idle, f);
	if (r)
		return r;
	f->stage = SETTLER;
	r = reaper_start(f, vm_reap);
	if (r)
		return r;
	f->stage = REAPER;
	f->shells.prepare = generations_prepare;
	f->shells.prepare_arg = &f->generations;
	r = shell_pool_start(
		&f->shells, &f->machine, &f->budget, &f->newborns, f->cfg.cold ? 0 : f->cfg.shells);
	if (!r)
		f->stage = SHELLS;
	return r;
}

static void stop_family(struct ramet_family *f)
{
	/* The reaper gives work to the settler, and both give shells back. Until the
	 * settler ends, it asks what the reaper has done. */
	if (f->stage >= REAPER)
		reaper_stop(f);
	if (f->stage >= SETTLER)
		settler_stop(&f->settler);
	if (f->stage >= REAPER)
		reaper_free(f);
	/* The maker must not open a view again that has been unmapped. */
	if (f->stage >= SHELLS) {
		shell_pool_end(&f->shells);
		shell_pool_await(&f->shells);
	}
	if (f->stage >= VIEWS)
		view_arena_end(&f->machine.arena);
	if (f->stage >= SHELLS)
		shell_pool_destroy(&f->shells);
	if (f->stage >= FAULTS)
		faults_stop(&f->faults);
	if (f->stage >= GUARD)
		guard_stop(f);
	if (f->stage >= VIEWS)
		view_arena_destroy(&f->machine.arena);
	if (f->stage >= MEMORY)
		memory_destroy(&f->memory);
	if (f->stage >= KVM)
		kvm_host_close(&f->machine.host);
	lock_destroy(&f->machine.lock);
	lock_destroy(&f->lock);
	rwlock_destroy(&f->operations);
	generations_destroy(&f->generations);
	config_free(&f->cfg);
	free(f);
}

static int new_family(
	const struct ramet_config *cfg, struct ramet_family **out, struct ramet_err *err)
{
	struct ramet_family *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	r = config_copy(&f->cfg, cfg, err);
	if (r) {
		free(f);
		return r;
	}
	ram_layout_init(&f->ram, f->cfg.memory);
	lock_init(&f->lock, LOCK_FAMILY);
	rwlock_init(&f->operations, LOCK_OPERATIONS);
	generations_init(&f->generations, &f->memory, &f->ram, &f->shells, &vm_view_source);
	init_slots(f);
	*out = f;
	return 0;
}

int ramet_launch(const struct ramet_config *cfg, struct ramet_family **family,
	struct ramet_vm **out, struct ramet_err *err)
{
	struct ramet_family *f = NULL;
	struct ramet_vm *vm;
	int r = new_family(cfg, &f, err);

	if (r)
		return r;
	if (err)
		err->msg[0] = 0;
	r = shell_signal_init();
	if (!r)
		r = start_family(f, err);
	if (!r)
		r = vm_new(f, NULL, &vm);
	if (r) {
		if (err && !err->msg[0])
			err_set(err, r, "cannot set up '%s': %s%s", f->cfg.name, strerror(-r),
				limit_hint(r));
		stop_family(f);
		return r;
	}
	r = family_boot(f, vm, err);
	if (r) {
		lock_take(&vm->op);
		vm_discard(vm);
		stop_family(f);
		return r;
	}
	/* Locked, so that the reaper does not stop the VM while it is being started: the guard may
	 * fail a linked VM, and its guest may end a running one. */
	vm_lock(vm);
	generations_expect(&f->generations, vm->birth);
	vm->counted = vm_count(vm);
	f->tables = vm->counted.table_bytes / PAGE_SIZE + vm->counted.tables_shared;
	vm_new_birth(vm, now_ns(), true);
	vm_link(vm);
	if (!cfg->paused)
		vm_begin(vm);
	vm_unlock(vm);
	*family = f;
	*out = vm;
	return 0;
}

/* Makes all VMs stand still. Otherwise the guests of those that have not been stopped yet would
 * take the CPUs from the thread that stops them. Without memory for the list, nothing is done. */
static void halt_all(struct ramet_family *f)
{
	unsigned n;
	struct ramet_vm **all = family_snapshot(f, &n);

	for (unsigned i = 0; all && i < n; i++) {
		vm_halt(all[i]);
		ramet_vm_put(all[i]);
		hurry_rest();
	}
	free(all);
}

void ramet_family_stop(struct ramet_family *f)
{
	struct hurry hurry = hurry_begin();
	struct ramet_vm *vm;

	shell_pool_end(&f->shells);
	generations_expect(&f->generations, NULL);
	memory_end(&f->memory);
	halt_all(f);
	while ((vm = family_leaf(f))) {
		/* Twice: a VM that has failed stays until it is stopped again. */
		ramet_stop(vm, NULL);
		ramet_stop(vm, NULL);
		/* Another thread may have stopped it, and be telling the embedder so. */
		lock_may_wait_for(WAIT_EVENT);
		while (!atomic_load(&vm->told))
			futex_wait(&vm->told, 0, 0);
		ramet_vm_put(vm);
	}
	hurry_end(&hurry);
}

void ramet_family_destroy(struct ramet_family *f)
{
	struct hurry hurry;

	ramet_family_stop(f);
	/* To close KVM VMs takes long, and there is no guest that could starve this thread. */
	hurry = hurry_lower(0);
	stop_family(f);
	hurry_end(&hurry);
}
