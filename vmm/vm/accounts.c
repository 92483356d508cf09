// SPDX-License-Identifier: Apache-2.0
/* Statistics of VMs and families. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/vm/accounts.h"
#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/vm/guard.h"
#include "vmm/vm/life.h"
#include "vmm/vm/lineage.h"

/* However little time it may take, a count of a family's memory counts this many VMs. */
#define COUNT_MIN 8u

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
	lock_take(&f->generations.lock);
	for (struct generation *g = f->generations.all; g; g = g->all)
		s.duplicate_bytes += generation_duplicates(g) * PAGE_SIZE;
	lock_release(&f->generations.lock);
	s.generations = generations_count(&f->generations);
	s.shells_ready = shell_pool_ready(&f->shells);
	memory_stat(&f->memory, &s);
	budget_stat(&f->budget, &s);
	*st = s;
}

/* Counts the memory of a VM, and the pages that it has copied or taken back and has not written to
 * since. During an operation on the VM the last counts stay. */
static void recount(struct ramet_vm *vm)
{
	struct vm_count count;
	uint64_t duplicates = 0;

	if (!try_counting(vm))
		return;
	count = vm_count(vm);
	if (vm->shell && vm->shell->view->source)
		duplicates = generation_view_duplicates(vm->shell->view, vm->birth);
	lock_take(&vm->family->lock);
	vm->counted = count;
	vm->duplicates = duplicates;
	lock_release(&vm->family->lock);
	end_counting(vm);
}

int ramet_family_count(struct ramet_family *f, uint64_t limit_ns)
{
	uint64_t until = limit_ns == UINT64_MAX ? UINT64_MAX : now_ns() + limit_ns;
	unsigned n, counted = 0, first;
	struct ramet_vm **all = family_snapshot(f, &n);
	struct hurry hurry;

	if (!all)
		return -ENOMEM;
	/* To count one VM with much memory may take long. */
	hurry = hurry_lower(BACKGROUND_PRIORITY);
	first = n ? atomic_load(&f->count_next) % n : 0;
	while (counted < n && (counted < COUNT_MIN || now_ns() < until)) {
		recount(all[(first + counted++) % n]);
		hurry_rest();
	}
	hurry_end(&hurry);
	atomic_store(&f->count_next, counted < n ? first + counted : 0);
	for (unsigned i = 0; i < n; i++)
		ramet_vm_put(all[i]);
	free(all);
	return 0;
}

void ramet_family_stat(struct ramet_family *f, struct ramet_family_stat *st)
{
	ramet_family_count(f, UINT64_MAX);
	ramet_family_stat_quick(f, st);
}

bool ramet_family_kernel(struct ramet_family *f, uint64_t *bytes, uint64_t *tables)
{
	return guard_kernel(f, bytes, tables);
}

int ramet_family_each_quick(
	struct ramet_family *f, int (*fn)(void *arg, const struct ramet_stat *st), void *arg)
{
	unsigned n;
	struct ramet_vm **all = family_snapshot(f, &n);
	int r = all ? 0 : -ENOMEM;

	for (unsigned i = 0; all && i < n; i++) {
		struct ramet_stat st;
		struct vm_count count;

		if (!r) {
			ramet_vm_stat_quick(all[i], &st);
			lock_take(&f->lock);
			count = all[i]->counted;
			lock_release(&f->lock);
			put_count(&st, &count);
			r = fn(arg, &st);
		}
		ramet_vm_put(all[i]);
	}
	free(all);
	return r;
}

int ramet_family_each(
	struct ramet_family *f, int (*fn)(void *arg, const struct ramet_stat *st), void *arg)
{
	int r = ramet_family_count(f, UINT64_MAX);

	return r ? r : ramet_family_each_quick(f, fn, arg);
}
