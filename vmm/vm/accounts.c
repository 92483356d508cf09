// SPDX-License-Identifier: Apache-2.0
/* Statistics of VMs and families. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vm/accounts.h"
#include "vmm/base/futex.h"
#include "vmm/vm/life.h"
#include "vmm/vm/lineage.h"

void ramet_vm_stat_quick(struct ramet_vm *vm, struct ramet_stat *st)
{
	*st = (struct ramet_stat){
		.id = vm->id,
		.parent_id = vm->parent_id,
		.state = vm->state,
		.cpus = vm->family->cfg.cpus,
		.memory = vm->family->ram.size,
		.births = atomic_load(&vm->births),
		.born_ns = vm->born_ns,
		.ready_ns = atomic_load(&vm->ready_ns),
		.heartbeats = atomic_load(&vm->heartbeats),
		.counter = atomic_load(&vm->counter),
		.phase = atomic_load(&vm->phase),
		.report = atomic_load(&vm->report),
		.report_gpa = atomic_load(&vm->report_gpa),
		.exit_status = atomic_load(&vm->exit_status),
	};
	memcpy(st->name, vm->name, sizeof(st->name));
	if (st->exit_status >= VM_EXIT_FAILED) {
		st->exit_status = -1;
		if (st->state == RAMET_FAILED)
			snprintf(st->failure, sizeof(st->failure), "%s", vm_failure(vm));
	}
}

static void put_count(struct ramet_stat *st, const struct vm_count *count)
{
	st->counted = true;
	st->private_bytes = count->private_bytes;
	st->shared_bytes = count->shared_bytes;
	st->deferred_bytes = count->deferred_bytes;
	st->table_bytes = count->table_bytes;
	st->tables_shared = count->tables_shared;
}

struct vm_count vm_count_at_birth(const struct ramet_family *f)
{
	return (struct vm_count){ .deferred_bytes = f->ram.size, .tables_shared = f->tables };
}

void ramet_vm_stat_born(struct ramet_vm *vm, struct ramet_stat *st)
{
	struct vm_count count = vm_count_at_birth(vm->family);

	ramet_vm_stat_quick(vm, st);
	put_count(st, &count);
}

static void count_memory(struct ramet_vm *vm, struct vm_count *count)
{
	uint64_t memory = vm->family->ram.size, mapped;
	struct view_count c = { 0 };

	view_count(vm->shell->view, &c);
	mapped = (c.private_pages + c.shared_pages) * PAGE_SIZE;
	/* Until its first fork, the VM that booted runs directly on its frames. */
	if (!vm->birth->state) {
		count->private_bytes = mapped;
		return;
	}
	count->private_bytes = c.private_pages * PAGE_SIZE;
	count->shared_bytes = c.shared_pages * PAGE_SIZE;
	/* The memory may change while it is being counted. */
	count->deferred_bytes = mapped < memory ? memory - mapped : 0;
}

/* A table is the VM's own if no other VM can reach it, through another root or because it was born
 * from the same generation. */
static void count_tables(struct ramet_vm *vm, struct vm_count *count)
{
	const struct generation *g = vm->birth;

	memory_root_stat(&vm->family->memory, g->root, &count->table_bytes, &count->tables_shared);
	if (atomic_load(&g->refs) > 1u + (vm->home == g)) {
		count->tables_shared += count->table_bytes / PAGE_SIZE;
		count->table_bytes = 0;
	}
}

/* op is held, or no other thread knows the VM. */
struct vm_count vm_count(struct ramet_vm *vm)
{
	struct vm_count count = { 0 };

	if (vm->shell) {
		count_memory(vm, &count);
		count_tables(vm, &count);
	}
	return count;
}

static void begin_counting(struct ramet_vm *vm)
{
	lock_take(&vm->op);
	atomic_fetch_add(&vm->counting, 1);
}

/* Like begin_counting(), but does not wait for an operation. False: an operation is under way. */
static bool try_counting(struct ramet_vm *vm)
{
	while (!lock_try(&vm->op)) {
		unsigned counting = atomic_load(&vm->counting);

		if (!counting)
			return false;
		lock_may_wait_for(WAIT_COUNT);
		futex_wait(&vm->counting, counting, 0);
	}
	atomic_fetch_add(&vm->counting, 1);
	return true;
}

static void end_counting(struct ramet_vm *vm)
{
	lock_release(&vm->op);
	atomic_fetch_sub(&vm->counting, 1);
	futex_wake_all(&vm->counting);
}

void ramet_vm_stat(struct ramet_vm *vm, struct ramet_stat *st)
{
	struct vm_count count;

	begin_counting(vm);
	ramet_vm_stat_quick(vm, st);
	count = vm_count(vm);
	end_counting(vm);
	put_count(st, &count);
}

/* Like ramet_vm_stat(), but during an operation on the VM the memory is that of the last count. */
static void stat_at_once(struct ramet_vm *vm, struct ramet_stat *st)
{
	bool counts = try_counting(vm);
	struct vm_count count;

	ramet_vm_stat_quick(vm, st);
	if (counts) {
		count = vm_count(vm);
		end_counting(vm);
	}
	lock_take(&vm->family->lock);
	if (counts)
		vm->counted = count;
	count = vm->counted;
	lock_release(&vm->family->lock);
	put_count(st, &count);
}

void ramet_family_stat_quick(struct ramet_family *f, struct ramet_family_stat *st)
{
	struct ramet_family_stat s = {
		.forks = atomic_load(&f->forks),
		.resets = atomic_load(&f->resets),
		.resolved_spans = atomic_load(&f->generations.resolved),
		.taken_back_spans = atomic_load(&f->generations.taken_back),
		.realtime_max_ns = hurry_longest(),
	};

	family_alive(f, &s);
	s.generations = generations_count(&f->generations);
	s.shells_ready = shell_pool_ready(&f->shells);
	memory_stat(&f->memory, &s);
	budget_stat(&f->budget, &s);
	*st = s;
}

/* Counts the pages that a VM has copied or taken back, and has not written to since. During an
 * operation on the VM, returns the last count. */
static uint64_t vm_duplicates(struct ramet_vm *vm)
{
	bool counts = try_counting(vm);
	uint64_t pages = 0;

	if (counts && vm->shell && vm->shell->view->source)
		pages = generation_view_duplicates(vm->shell->view, vm->birth);
	if (counts)
		end_counting(vm);
	lock_take(&vm->family->lock);
	if (counts)
		vm->duplicates = pages;
	pages = vm->duplicates;
	lock_release(&vm->family->lock);
	return pages;
}

static uint64_t view_duplicates(struct ramet_family *f)
{
	unsigned n;
	struct ramet_vm **all = family_snapshot(f, &n);
	uint64_t pages = 0;

	for (unsigned i = 0; all && i < n; i++) {
		pages += vm_duplicates(all[i]);
		ramet_vm_put(all[i]);
	}
	free(all);
	return pages;
}

void ramet_family_stat(struct ramet_family *f, struct ramet_family_stat *st)
{
	struct ramet_family_stat s;
	uint64_t pages = view_duplicates(f);

	ramet_family_stat_quick(f, &s);
	lock_take(&f->generations.lock);
	for (struct generation *g = f->generations.all; g; g = g->all)
		pages += generation_duplicates(g);
	lock_release(&f->generations.lock);
	s.duplicate_bytes = pages * PAGE_SIZE;
	*st = s;
}

int ramet_family_each(
	struct ramet_family *f, int (*fn)(void *arg, const struct ramet_stat *st), void *arg)
{
	unsigned n;
	struct ramet_vm **all = family_snapshot(f, &n);
	int r = all ? 0 : -ENOMEM;

	for (unsigned i = 0; all && i < n; i++) {
		struct ramet_stat st;

		if (!r) {
			stat_at_once(all[i], &st);
			r = fn(arg, &st);
		}
		ramet_vm_put(all[i]);
	}
	free(all);
	return r;
}
