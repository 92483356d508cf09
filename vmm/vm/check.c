// SPDX-License-Identifier: Apache-2.0
/*
 * The checker: recomputes every count of a family from all references. Tests call it after every
 * step. Operations on VMs wait until it has finished; the VMs keep running. Nothing changes a count
 * meanwhile: the settler has settled all generations, and only operations make new ones.
 */
#include <errno.h>
#include <stdlib.h>
#include "vmm/vm/lineage.h"

/* Counts the references to g from VMs and generations. The lock of the generations is held. */
static unsigned count_refs(
	struct ramet_family *f, struct ramet_vm **vm, unsigned n, const struct generation *g)
{
	unsigned refs = 0;

	for (unsigned i = 0; i < n; i++)
		refs += (vm[i]->birth == g) + (vm[i]->home == g);
	for (struct generation *o = f->generations.all; o; o = o->all)
		refs += o->base == g;
	return refs;
}

static int check_generations(
	struct ramet_family *f, struct ramet_vm **vm, unsigned n, struct ramet_err *err)
{
	for (struct generation *g = f->generations.all; g; g = g->all) {
		unsigned refs = count_refs(f, vm, n, g);

		if (refs != atomic_load(&g->refs))
			return err_set(err, -EUCLEAN,
				"generation %llu has %u references but counts %u",
				(unsigned long long)g->id, refs, atomic_load(&g->refs));
		if (!refs)
			return err_set(err, -EUCLEAN,
				"generation %llu has no reference but was not freed",
				(unsigned long long)g->id);
	}
	return 0;
}

static int check_vm(const struct ramet_vm *vm, struct ramet_err *err)
{
	bool alive = vm->state == RAMET_RUNNING || vm->state == RAMET_PAUSED;

	if (alive == (vm->shell != NULL) && alive == (vm->birth != NULL) && (alive || !vm->home) &&
		(alive || !vm->devices.n))
		return 0;
	return err_set(err, -EUCLEAN,
		"'%s' is %s but %s a shell, %s a birth generation, %u devices", vm->name,
		alive ? "alive" : "stopped", vm->shell ? "has" : "lacks",
		vm->birth ? "has" : "lacks", vm->devices.n);
}

static int check_locked(
	struct ramet_family *f, struct ramet_vm **vm, unsigned n, struct ramet_err *err)
{
	struct mmu_root **root;
	struct generation *g;
	unsigned n_roots = 0;
	int r = 0;

	for (unsigned i = 0; i < n && !r; i++)
		r = check_vm(vm[i], err);
	if (r)
		return r;
	lock_take(&f->generations.lock);
	r = check_generations(f, vm, n, err);
	root = calloc(f->generations.n + 1, sizeof(struct mmu_root *));
	for (g = f->generations.all; g && root; g = g->all)
		root[n_roots++] = g->root;
	if (!r)
		r = root ? memory_check(&f->memory, root, n_roots, err)
			 : err_set(err, -ENOMEM, "out of memory");
	lock_release(&f->generations.lock);
	free(root);
	return r;
}

/* Called while no operation is under way. */
static int check_quiet(struct ramet_family *f, struct ramet_err *err)
{
	unsigned n;
	struct ramet_vm **vm;
	int r;

	/* Background work holds references of its own, so wait until it has ended. */
	if (settler_drain(&f->settler))
		return err_set(err, -ENOMEM,
			"cannot check '%s': out of memory to settle its generations first; stop "
			"some VMs",
			f->cfg.name);
	vm = family_snapshot(f, &n);
	if (!vm)
		return err_set(err, -ENOMEM, "out of memory");
	r = check_locked(f, vm, n, err);
	for (unsigned i = 0; i < n; i++)
		ramet_vm_put(vm[i]);
	free(vm);
	return r;
}

int ramet_family_check(struct ramet_family *f, struct ramet_err *err)
{
	int r;

	rwlock_write(&f->operations);
	r = check_quiet(f, err);
	rwlock_release(&f->operations);
	return r;
}
