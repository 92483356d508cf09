// SPDX-License-Identifier: Apache-2.0
/* References to VMs, and the tree of a family's VMs. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "vmm/vm/lineage.h"

struct ramet_vm *ramet_vm_get(struct ramet_vm *vm)
{
	atomic_fetch_add_explicit(&vm->refs, 1, memory_order_relaxed);
	return vm;
}

void ramet_vm_put(struct ramet_vm *vm)
{
	if (vm && atomic_fetch_sub(&vm->refs, 1) == 1) {
		if (vm->data && vm->family->cfg.data_free)
			vm->family->cfg.data_free(vm->data);
		lock_destroy(&vm->op);
		lock_destroy(&vm->watch_lock);
		lock_destroy(&vm->input_lock);
		free(vm);
	}
}

/* The tree holds a reference to every VM in it. */
void vm_link(struct ramet_vm *vm)
{
	struct ramet_family *f = vm->family;

	lock_take(&f->lock);
	ramet_vm_get(vm);
	atomic_fetch_add(&f->living, 1);
	vm->linked = true;
	if (vm->parent) {
		if (vm->parent->last_child)
			vm->parent->last_child->sibling = vm;
		else
			vm->parent->first_child = vm;
		vm->parent->last_child = vm;
	} else {
		f->root = vm;
	}
	lock_release(&f->lock);
}

void vm_unlink(struct ramet_vm *vm)
{
	struct ramet_family *f = vm->family;

	lock_take(&f->lock);
	/* The end of a child may have taken it out of the tree meanwhile. */
	vm = vm->linked ? vm : NULL;
	while (vm && vm->state == RAMET_STOPPED && !vm->first_child && atomic_load(&vm->told)) {
		struct ramet_vm *parent = vm->parent, *before = NULL;

		vm->linked = false;
		if (!parent) {
			f->root = NULL;
		} else {
			struct ramet_vm **p = &parent->first_child;

			for (; *p != vm; p = &(*p)->sibling)
				before = *p;
			*p = vm->sibling;
			if (parent->last_child == vm)
				parent->last_child = before;
		}
		ramet_vm_put(vm);
		vm = parent;
	}
	lock_release(&f->lock);
}

/* Returns the VM after vm, parents first. The family's lock is held. */
static struct ramet_vm *next_vm(struct ramet_vm *vm)
{
	if (vm->first_child)
		return vm->first_child;
	while (vm && !vm->sibling)
		vm = vm->parent;
	return vm ? vm->sibling : NULL;
}

unsigned family_size(struct ramet_family *f)
{
	unsigned n = 0;

	lock_take(&f->lock);
	for (struct ramet_vm *vm = f->root; vm; vm = next_vm(vm))
		n++;
	lock_release(&f->lock);
	return n;
}

unsigned family_fill(struct ramet_family *f, struct ramet_vm **list, unsigned room)
{
	unsigned n = 0;

	lock_take(&f->lock);
	for (struct ramet_vm *vm = f->root; vm && n < room; vm = next_vm(vm))
		list[n++] = ramet_vm_get(vm);
	lock_release(&f->lock);
	return n;
}

struct ramet_vm **family_snapshot(struct ramet_family *f, unsigned *n)
{
	struct ramet_vm **all;
	unsigned room;

	/* Memory is taken without the lock, which the guard needs. The tree may grow meanwhile. */
	for (;;) {
		room = family_size(f) + 1;
		all = calloc(room, sizeof(struct ramet_vm *));
		*n = all ? family_fill(f, all, room) : 0;
		if (*n < room)
			return all;
		for (unsigned i = 0; i < room; i++)
			ramet_vm_put(all[i]);
		free(all);
	}
}

struct ramet_vm *ramet_find(struct ramet_family *f, const char *name)
{
	struct ramet_vm *vm;

	lock_take(&f->lock);
	for (vm = f->root; vm && strcmp(vm->name, name) != 0; vm = next_vm(vm))
		;
	if (vm)
		ramet_vm_get(vm);
	lock_release(&f->lock);
	return vm;
}

/* Returns a reference to a VM without descendants, or NULL: no VM is left. Allocates nothing. */
struct ramet_vm *family_leaf(struct ramet_family *f)
{
	struct ramet_vm *vm;

	lock_take(&f->lock);
	for (vm = f->root; vm && vm->first_child; vm = vm->first_child)
		;
	if (vm)
		ramet_vm_get(vm);
	lock_release(&f->lock);
	return vm;
}

void family_alive(struct ramet_family *f, struct ramet_family_stat *st)
{
	st->vms = st->failed = st->duplicate_bytes = 0;
	lock_take(&f->lock);
	for (struct ramet_vm *vm = f->root; vm; vm = next_vm(vm)) {
		enum ramet_state state = vm->state;

		st->vms += state == RAMET_RUNNING || state == RAMET_PAUSED;
		st->failed += state == RAMET_FAILED;
		st->duplicate_bytes += vm->duplicates * PAGE_SIZE;
	}
	lock_release(&f->lock);
}
