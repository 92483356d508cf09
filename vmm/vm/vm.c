// SPDX-License-Identifier: Apache-2.0
/* The life of one VM: born, paused, resumed, looked at, stopped. Forking is in fork.c. */
#include "vmm/vm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/devices/pc.h"
#include "vmm/devices/serial.h"

/* ---- names, references, lineage, births ---- */

int vm_new(struct ramet_family *f, struct ramet_vm *parent, struct ramet_vm **out)
{
	struct ramet_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	vm->port.ops = &vm_port_ops;
	vm->family = f;
	vm->parent = parent;
	vm->parent_id = parent ? parent->id : 0;
	atomic_init(&vm->refs, 1);
	atomic_init(&vm->exit_status, -1);
	atomic_init(&vm->state, RAMET_PAUSED);
	pthread_mutex_init(&vm->op, NULL);
	pthread_mutex_lock(&f->lock);
	vm->id = f->next_id++;
	pthread_mutex_unlock(&f->lock);
	if (vm->id)
		snprintf(vm->name, sizeof(vm->name), "%.*s.%llu", RAMET_NAME_MAX - 22, f->cfg.name,
			(unsigned long long)vm->id);
	else
		snprintf(vm->name, sizeof(vm->name), "%s", f->cfg.name);
	*out = vm;
	return 0;
}

struct ramet_vm *ramet_vm_get(struct ramet_vm *vm)
{
	atomic_fetch_add_explicit(&vm->refs, 1, memory_order_relaxed);
	return vm;
}

void ramet_vm_put(struct ramet_vm *vm)
{
	if (vm && atomic_fetch_sub(&vm->refs, 1) == 1) {
		pthread_mutex_destroy(&vm->op);
		free(vm);
	}
}

struct ramet_family *ramet_vm_family(struct ramet_vm *vm)
{
	return vm->family;
}

/* The tree holds a reference to every VM in it. */
void vm_link(struct ramet_vm *vm)
{
	struct ramet_family *f = vm->family;

	pthread_mutex_lock(&f->lock);
	ramet_vm_get(vm);
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
	pthread_mutex_unlock(&f->lock);
}

/* Takes out a stopped VM without descendants, and then perhaps its parent. The family's lock is
 * held. */
static void prune(struct ramet_vm *vm)
{
	while (vm && vm->state == RAMET_STOPPED && !vm->first_child) {
		struct ramet_vm *parent = vm->parent, *before = NULL;

		vm->linked = false;
		if (!parent) {
			vm->family->root = NULL;
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
}

void vm_new_birth(struct ramet_vm *vm, uint64_t born_ns, bool new_identity)
{
	if (new_identity &&
		getrandom(vm->genid, sizeof(vm->genid), GRND_NONBLOCK) != sizeof(vm->genid))
		memcpy(vm->genid, &born_ns,
			sizeof(born_ns)); /* unreachable once the host has booted */
	atomic_fetch_add(&vm->births, 1);
	vm->born_ns = born_ns;
	atomic_store(&vm->ready_ns, 0);
}

void vm_recall(struct ramet_vm *vm, const struct generation *g)
{
	atomic_store(&vm->phase, g->phase);
	atomic_store(&vm->counter, g->counter);
	atomic_store(&vm->report, RAMET_REPORT_NONE);
	atomic_store(&vm->report_gpa, 0);
}

/* ---- operations ---- */

/* Why it has failed. */
static const char *vm_failure(const struct ramet_vm *vm)
{
	return atomic_load(&vm->exit_status) == VM_EXIT_FAILED ? vm->failure : "";
}

/* Lets go of everything a VM holds; its vCPUs are idle and op is held. */
void vm_release(struct ramet_vm *vm)
{
	struct shell *sh = vm->shell;

	device_set_quiesce(&vm->devices);
	vm->shell = NULL;
	if (sh)
		shell_pool_give(&vm->family->shells, sh);
	device_set_free(&vm->devices);
	generation_put(vm->birth);
	generation_put(vm->home);
	vm->birth = vm->home = NULL;
}

void vm_discard(struct ramet_vm *vm)
{
	pthread_mutex_lock(&vm->op);
	if (vm->state == RAMET_RUNNING && vm->shell)
		shell_stop(vm->shell, NULL);
	vm_release(vm);
	vm->state = RAMET_STOPPED;
	pthread_mutex_unlock(&vm->op);
	ramet_vm_put(vm);
}

static int not_alive(struct ramet_vm *vm, struct ramet_err *err, const char *verb)
{
	if (vm->state == RAMET_FAILED)
		return err_set(err, -ESRCH, "cannot %s '%s': it has failed (%s)", verb, vm->name,
			vm_failure(vm));
	if (vm->state == RAMET_STOPPED)
		return err_set(err, -ESRCH, "cannot %s '%s': it has stopped", verb, vm->name);
	return 0;
}

void vm_lock(struct ramet_vm *vm)
{
	pthread_rwlock_rdlock(&vm->family->operations);
	pthread_mutex_lock(&vm->op);
}

void vm_unlock(struct ramet_vm *vm)
{
	pthread_mutex_unlock(&vm->op);
	pthread_rwlock_unlock(&vm->family->operations);
}

int vm_lock_alive(struct ramet_vm *vm, const char *verb, struct ramet_err *err)
{
	int r;

	vm_lock(vm);
	r = not_alive(vm, err, verb);
	if (r)
		vm_unlock(vm);
	return r;
}

void vm_run_on(struct ramet_vm *vm)
{
	shell_start(vm->shell, vm, NULL);
	device_set_unquiesce(&vm->devices);
}

int ramet_pause(struct ramet_vm *vm, struct ramet_err *err)
{
	int r = vm_lock_alive(vm, "pause", err);

	if (r)
		return r;
	if (vm->state == RAMET_RUNNING) {
		device_set_quiesce(&vm->devices);
		r = shell_stop(vm->shell, NULL);
		if (r)
			vm_run_on(vm);
		else
			vm->state = RAMET_PAUSED;
	}
	vm_unlock(vm);
	return r ? err_set(err, r,
			   "cannot pause '%s': a vCPU is in the middle of an instruction: %s",
			   vm->name, strerror(-r))
		 : 0;
}

int ramet_resume(struct ramet_vm *vm, struct ramet_err *err)
{
	int r = vm_lock_alive(vm, "resume", err);

	if (r)
		return r;
	if (vm->state == RAMET_PAUSED) {
		device_set_unquiesce(&vm->devices);
		doorbell_reseed_start(vm->devices.dev[DEVICE_DOORBELL]);
		vm->ran = true;
		vm->state = RAMET_RUNNING;
		shell_start(vm->shell, vm, NULL);
	}
	vm_unlock(vm);
	return 0;
}

int ramet_stop(struct ramet_vm *vm, struct ramet_err *err)
{
	vm_lock(vm);
	if (vm->state == RAMET_RUNNING)
		shell_stop(vm->shell, NULL);
	if (vm->state == RAMET_RUNNING || vm->state == RAMET_PAUSED) {
		vm_release(vm);
		vm->state = atomic_load(&vm->exit_status) >= VM_EXIT_FAILED ? RAMET_FAILED
									    : RAMET_STOPPED;
	} else {
		vm->state = RAMET_STOPPED; /* a failed one has been seen now */
	}
	vm_unlock(vm);
	vm_event(vm);
	pthread_mutex_lock(&vm->family->lock);
	if (vm->linked) /* not pruned yet */
		prune(vm);
	pthread_mutex_unlock(&vm->family->lock);
	return 0;
}

int ramet_read(struct ramet_vm *vm, uint64_t gpa, void *buf, size_t len)
{
	int r = vm_lock_alive(vm, "read", NULL);

	if (r)
		return r;
	if (ram_offset(&vm->family->ram, gpa, len) < 0)
		r = -EFAULT;
	/* By spans: a read of all memory must not hold everything filled at once before it starts.
	 */
	for (uint8_t *to = buf; len && !r;) {
		size_t n = SPAN_SIZE - gpa % SPAN_SIZE < len ? SPAN_SIZE - gpa % SPAN_SIZE : len;
		const void *p = port_mem(&vm->port, gpa, n);

		if (!p) {
			r = -ENOMEM;
			break;
		}
		memcpy(to, p, n);
		to += n;
		gpa += n;
		len -= n;
	}
	vm_unlock(vm);
	return r;
}

size_t ramet_console_input(struct ramet_vm *vm, const char *buf, size_t len)
{
	size_t n = 0;

	if (vm_lock_alive(vm, "write to", NULL))
		return 0;
	if (vm->state == RAMET_RUNNING && vm->family->virtio_console)
		n = linux_console_input(&vm->devices.dev[DEVICE_LINUX], buf, len);
	else if (vm->state == RAMET_RUNNING)
		n = serial_input(vm->devices.dev[DEVICE_SERIAL], buf, len);
	vm_unlock(vm);
	return n;
}

/* ---- looking ---- */

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

static void count_memory(struct ramet_vm *vm, struct ramet_stat *st)
{
	struct view_count c = { 0 };
	uint64_t mapped;

	view_count(vm->shell->view, &c);
	mapped = (c.private_pages + c.shared_pages) * PAGE_SIZE;
	/* One that booted runs on its frames, until it is forked. */
	if (!vm->birth->state) {
		st->private_bytes = mapped;
		return;
	}
	st->private_bytes = c.private_pages * PAGE_SIZE;
	st->shared_bytes = c.shared_pages * PAGE_SIZE;
	/* It may change while it is being counted. */
	st->deferred_bytes = mapped < st->memory ? st->memory - mapped : 0;
}

/* A table is the VM's own if nobody else can reach it: through another root, or by having been born
 * from the same generation. */
static void count_tables(struct ramet_vm *vm, struct ramet_stat *st)
{
	const struct generation *g = vm->birth;

	memory_root_stat(&vm->family->memory, g->root, &st->table_bytes, &st->tables_shared);
	if (atomic_load(&g->refs) > 1u + (vm->home == g)) {
		st->tables_shared += st->table_bytes / PAGE_SIZE;
		st->table_bytes = 0;
	}
}

void ramet_vm_stat(struct ramet_vm *vm, struct ramet_stat *st)
{
	pthread_mutex_lock(&vm->op);
	ramet_vm_stat_quick(vm, st);
	if (vm->shell) {
		count_memory(vm, st);
		count_tables(vm, st);
	}
	pthread_mutex_unlock(&vm->op);
}
