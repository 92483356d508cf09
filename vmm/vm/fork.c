// SPDX-License-Identifier: Apache-2.0
/*
 * fork(VM): the VM's state becomes an immutable generation. The parent continues from it, and its
 * children are born from it. Here are the conditions, the locks and the words of errors;
 * fork-steps.c has the steps.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/clock.h"
#include "vmm/base/heap.h"
#include "vmm/base/limits.h"
#include "vmm/base/priority.h"
#include "vmm/kvm/shell-make.h"
#include "vmm/vm/fork-steps.h"
#include "vmm/vm/life.h"
#include "vmm/vm/lineage.h"

/* From this number on, the children of a fork wait for each other. A few children run at once: the
 * first instruction of each comes some microseconds earlier. */
#define BURST_MIN 8u
/* Heap for each child, for what other threads will allocate while the children run: about 7 KiB for
 * its part of a reply, 4 KiB for the shell that replaces its own. */
#define HEAP_EACH 16384u

static int explain(struct ramet_err *err, const struct ramet_vm *vm, unsigned n, int r)
{
	char why[BUDGET_HINT];
	const char *hint = limit_hint(r);

	if (r == -ESRCH)
		return err_set(err, r, "cannot fork '%s': it has just ended", vm->name);
	if (r == -ENOMEM && !*hint)
		hint = "; stop some clones, or give it more memory";
	return err_set(err, r, "cannot fork '%s' into %u: %s%s%s; the VM continues unchanged",
		vm->name, n, strerror(-r), budget_hint(&vm->family->budget, why), hint);
}

/*
 * Locks the VM if it is alive, and reserves a place among the unsettled generations if the fork
 * will make one. The thread waits for a place without the lock. Otherwise the settler might wait
 * for memory that the VM gives back only after the reaper has taken that lock.
 */
static int lock_to_fork(struct fork *fork, struct ramet_err *err)
{
	struct ramet_vm *vm = fork->vm;
	int r;

	for (;;) {
		r = vm_lock_alive(vm, "fork", err);
		if (r)
			return r;
		fork->running = vm->state == RAMET_RUNNING;
		fork->reuse = vm->state == RAMET_PAUSED && !vm->ran && vm->birth->state;
		fork->reserved = !fork->reuse && settler_reserve(&vm->family->settler);
		if (fork->reuse || fork->reserved)
			return 0;
		vm_unlock(vm);
		r = settler_await_room(&vm->family->settler);
		if (r)
			return explain(err, vm, fork->n, r);
	}
}

/* Refuses a fork into many that would meet a limit, before it takes seconds to make shells. Without
 * this check the fork would be refused when it meets the limit. */
static int check_room(const struct fork *fork, struct ramet_err *err)
{
	struct ramet_family *f = fork->vm->family;
	unsigned has = shell_pool_has(&f->shells), missing = fork->n + 1 - has;
	uint64_t bytes = missing * (SHELL_BYTES + (uint64_t)f->cfg.cpus * SHELL_VCPU_BYTES);
	struct needs needs = shell_needs(missing, f->cfg.cpus);
	char why[224];
	int r;

	if (!fork->burst || has > fork->n || atomic_load(&fork->vm->state) > RAMET_PAUSED)
		return 0;
	r = limits_check(&needs, why, sizeof(why));
	if (!r && bytes > budget_left(&f->budget)) {
		r = -ENOMEM;
		snprintf(why, sizeof(why),
			"%u more KVM VMs need %llu MiB at least, and %llu MiB are left", missing,
			(unsigned long long)bytes >> 20,
			(unsigned long long)budget_left(&f->budget) >> 20);
	}
	return r ? err_set(err, r, "cannot fork '%s' into %u: %s; the VM continues unchanged",
			   fork->vm->name, fork->n, why)
		 : 0;
}

static bool may_fork(const struct ramet_vm *vm)
{
	return vm->family->cfg.reseed != RAMET_RESEED_REQUIRE ||
	       doorbell_promised(vm->devices.dev[DEVICE_DOORBELL]);
}

/* Hands out references to the children, which are linked. From here on they are ordinary VMs. */
static void release_children(struct fork *fork, struct ramet_vm **children)
{
	for (unsigned i = 0; i < fork->n; i++) {
		vm_link(fork->child[i]);
		children[i] = fork->child[i];
	}
	/* Otherwise malloc() might change the memory map, for which it may wait, with its own lock
	 * held, as long as the children keep the CPUs busy. */
	if (fork->burst)
		heap_reserve((size_t)fork->n * HEAP_EACH);
	for (unsigned i = 0; i < fork->n; i++) {
		if (fork->burst)
			shell_release(fork->child[i]->shell);
		lock_release(&fork->child[i]->op);
	}
	atomic_fetch_add(&fork->vm->family->forks, 1);
}

/* Called with the VM locked. */
static int fork_all(struct fork *fork, unsigned flags, struct ramet_vm **children,
	struct ramet_fork_times *times, struct ramet_err *err)
{
	struct ramet_vm *vm = fork->vm;
	int r;

	if (!may_fork(vm))
		return err_set(err, -EOPNOTSUPP,
			"cannot fork '%s': its guest has not promised to reseed its random "
			"numbers, "
			"which this family requires; the guest may still be booting, or have no "
			"driver for the VM generation id",
			vm->name);
	r = fork_steps(fork, fork->running || flags & RAMET_FORK_RUN);
	if (r)
		return explain(err, vm, fork->n, r);
	release_children(fork, children);
	if (times)
		*times = (struct ramet_fork_times){
			.request_ns = fork->request_ns,
			.pause_ns = fork->running ? atomic_load(&vm->shell->done_ns) - fork->stop_ns
						  : 0,
			.return_ns = now_ns(),
		};
	return 0;
}

int ramet_fork(struct ramet_vm *vm, unsigned n, unsigned flags, struct ramet_vm **children,
	struct ramet_fork_times *times, struct ramet_err *err)
{
	struct fork fork = { .vm = vm, .n = n, .burst = n >= BURST_MIN, .request_ns = now_ns() };
	struct hurry hurry;
	int r;

	if (!n || n > RAMET_FORK_MAX || flags & ~RAMET_FORK_RUN)
		return err_set(err, -EINVAL, "cannot fork '%s' into %u: 1 to %u at once", vm->name,
			n, RAMET_FORK_MAX);
	r = check_room(&fork, err);
	if (r)
		return r;
	fork.child = calloc(n, sizeof(*fork.child));
	if (!fork.child)
		return explain(err, vm, n, -ENOMEM);
	r = lock_to_fork(&fork, err);
	if (!r) {
		hurry = hurry_begin();
		r = fork_all(&fork, flags, children, times, err);
		if (fork.reserved)
			settler_unreserve(&vm->family->settler);
		vm_unlock(vm);
		hurry_end(&hurry);
	}
	free(fork.child);
	return r;
}
