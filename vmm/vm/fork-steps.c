// SPDX-License-Identifier: Apache-2.0
#include "vmm/vm/fork-steps.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/fork/fill.h"
#include "vmm/fork/populate.h"
#include "vmm/vm/accounts.h"
#include "vmm/vm/events.h"
#include "vmm/vm/life.h"

/* Prepares the generation: a root and room for the state. A VM that booted and was never forked has
 * its generation already. */
static int prepare_generation(struct fork *fork)
{
	struct ramet_family *f = fork->vm->family;
	int r;

	if (fork->reuse || !fork->vm->birth->state) {
		fork->gen = generation_get(fork->vm->birth);
		if (fork->reuse)
			return 0;
	} else {
		r = generation_branch(fork->vm->birth, &fork->gen);
		if (r)
			return r;
		fork->deferred = true;
	}
	fork->gen->state = machine_state_new(&f->machine.host, f->cfg.cpus, f->machine.pit);
	return fork->gen->state ? 0 : -ENOMEM;
}

static int prepare_child(struct fork *fork, struct ramet_vm **out)
{
	struct ramet_vm *c;
	struct shell *sh;
	int r = vm_new(fork->vm->family, fork->vm, &c);

	if (r)
		return r;
	/* Locked until the fork is done: a child may end at once, and the reaper must not stop it
	 * while it is still being started. */
	lock_take_nested(&c->op, vm_op_order(c), "no other thread knows the child");
	*out = c;
	r = shell_pool_take(&c->family->shells, &sh);
	if (r)
		return r;
	c->shell = sh;
	return generation_enter(sh, fork->gen, !fork->reuse);
}

/* The children are locked until they have stopped. Otherwise the reaper might stop one that has
 * ended, and count it and report it as a VM of the family. */
static void discard_children(struct fork *fork)
{
	for (unsigned i = 0; i < fork->n; i++)
		if (fork->child[i])
			vm_discard(fork->child[i]);
}

static int prepare(struct fork *fork)
{
	int r = prepare_generation(fork);

	if (!r && !fork->reuse)
		r = shell_pool_take(&fork->vm->family->shells, &fork->shell);
	if (!r && fork->shell)
		r = generation_enter(fork->shell, fork->gen, !fork->reuse);
	for (unsigned i = 0; i < fork->n && !r; i++) {
		r = prepare_child(fork, &fork->child[i]);
		if (fork->burst)
			sched_yield(); /* to other threads that serve */
	}
	if (!r && fork->running)
		shell_rehearse(fork->shell, fork->gen->state);
	return r;
}

/* Frees what prepare() has allocated. The VM continues unchanged. */
static void undo(struct fork *fork)
{
	discard_children(fork);
	shell_pool_give(&fork->vm->family->shells, fork->shell);
	if (fork->gen && fork->gen == fork->vm->birth && !fork->reuse) {
		machine_state_put(fork->gen->state);
		fork->gen->state = NULL;
		device_set_free(fork->gen->devices);
	}
	generation_put(fork->gen);
}

/*
 * A vCPU that continues needs its code, its stack and its page tables at once. If all spans are
 * deferred, each of them would cost a fault. So this asks the stopped VM for their addresses.
 */
static void note_first_pages(struct fork *fork)
{
	struct generation *g = fork->gen;

	g->n_first = 0;
	for (unsigned i = 0; i < g->state->cpus; i++) {
		const struct vcpu_state *v = &g->state->vcpu[i];
		uint64_t linear[] = { v->regs.rip, v->regs.rsp };

		g->first[g->n_first++].gpa = gpa(v->sregs.cr3 & ~0xfffull);
		for (unsigned stack = 0; stack < 2; stack++) {
			struct kvm_translation t = { .linear_address = linear[stack] };

			if (ioctl(fork->old_shell->vcpu[i].fd, KVM_TRANSLATE, &t) < 0 || !t.valid)
				continue;
			g->first[g->n_first].gpa = gpa(t.physical_address);
			g->first[g->n_first++].written = stack;
		}
	}
}

/* Whether the VM lacks the page, or, in a burst, must have a copy of its own. */
static bool lacks(const struct fork *fork, const struct view *view, unsigned i, ram_off_t *off)
{
	const struct generation *g = fork->gen;

	if (!ram_offset(&fork->vm->family->ram, g->first[i].gpa, 1, off))
		return false;
	return view_state(view, span_of(*off)) != VIEW_PRESENT ||
	       (fork->burst && g->first[i].written);
}

static bool lacks_first_pages(const struct fork *fork, const struct view *view)
{
	ram_off_t off;

	for (unsigned i = 0; i < fork->gen->n_first; i++)
		if (lacks(fork, view, i, &off))
			return true;
	return false;
}

static void fill_first_pages(const struct fork *fork, struct view *view)
{
	struct hurry hurry = hurry_begin_at(FILL_PRIORITY); /* once for all */

	for (unsigned i = 0; i < fork->gen->n_first; i++) {
		ram_off_t off;

		if (!lacks(fork, view, i, &off))
			continue;
		/* Errors are ignored: the vCPU hits such a span again, and it is reported then. */
		generation_touch(view, span_of(off), (int)page_of(off));
		if (fork->burst && fork->gen->first[i].written)
			generation_write_page(view, span_of(off), page_of(off));
	}
	hurry_end(&hurry);
}

/* Moves the parent to a new shell, where it continues from the generation like a child. */
static int move_parent(struct fork *fork)
{
	struct ramet_vm *vm = fork->vm;
	int r;

	fork->old_shell = vm->shell;
	if (fork->deferred)
		fork->gen->overlay = fork->old_shell;
	view_set_source(fork->shell->view, &fork->gen->source);
	if (!fork->running) {
		r = shell_load(fork->shell, fork->gen->state);
		if (r) {
			view_set_source(fork->shell->view, NULL);
			fork->gen->overlay = NULL;
			return r;
		}
	}
	vm->shell = fork->shell;
	fork->old_birth = vm->birth;
	vm->birth = generation_get(fork->gen);
	/* Only if the parent runs: a paused VM may be forked again, so its generation must stay
	 * complete. */
	if (fork->deferred && fork->running)
		atomic_store(&fork->gen->heir, vm->shell->view);
	vm->ran = fork->running;
	vm_new_birth(vm, fork->request_ns, false);
	device_set_attach(&vm->devices);
	if (fork->running)
		shell_start_async(vm->shell, vm, fork->gen->state, SHELL_FREE);
	return 0;
}

/* Called when the VM has stopped and its state is saved. Does the rest before it continues. */
static void hand_over(void *arg)
{
	struct fork *fork = arg;

	/* The VM has ended or failed meanwhile: children must not inherit this state. */
	if (atomic_load(&fork->vm->exit_status) >= 0) {
		fork->error = -ESRCH;
		return;
	}
	fork->gen->phase = atomic_load(&fork->vm->phase);
	fork->gen->counter = atomic_load(&fork->vm->counter);
	fork->gen->births = atomic_load(&fork->vm->births);
	fork->error = device_set_clone(&fork->vm->devices, NULL, fork->gen->devices);
	if (!fork->error)
		fork->error = move_parent(fork);
}

/* Stops the VM, fills in the generation and lets the parent continue. On failure the parent
 * continues unchanged. */
static int freeze(struct fork *fork)
{
	struct ramet_vm *vm = fork->vm;
	int r;

	if (fork->running)
		vm_quiesce(vm);
	fork->stop_ns = now_ns();
	if (fork->running) {
		r = shell_stop_then(vm->shell, fork->gen->state, hand_over, fork);
	} else {
		r = shell_save(vm->shell, fork->gen->state);
		if (!r)
			hand_over(fork);
	}
	r = r ? r : fork->error;
	if (r && fork->running)
		vm_run_on(vm);
	else if (fork->running)
		device_set_unquiesce(&vm->devices); /* await_parent() lets input in */
	return r;
}

/* The work that can wait until the parent runs again. */
static void after_freeze(struct fork *fork)
{
	shell_pool_pattern(&fork->vm->family->shells, fork->gen->state);
	note_first_pages(fork);
	/* From here on this view is not filled any more; its private pages do not change. */
	view_set_source(fork->old_shell->view, NULL);
}

static int start_child(struct fork *fork, struct ramet_vm *c, bool run)
{
	enum shell_hold hold = SHELL_FREE;
	int r = device_set_clone(fork->gen->devices, &c->port, &c->devices);

	if (r)
		return r;
	c->birth = generation_get(fork->gen);
	c->home = generation_get(fork->gen);
	vm_recall(c, fork->gen);
	atomic_store(&c->births, fork->gen->births);
	vm_new_birth(c, fork->request_ns, true);
	view_set_source(c->shell->view, &fork->gen->source);
	device_set_attach(&c->devices);
	r = device_set_born(&c->devices);
	if (r)
		return r;
	c->counted = vm_count_at_birth(c->family);
	c->ran = run;
	if (lacks_first_pages(fork, c->shell->view))
		hold = SHELL_SOON;
	if (run) {
		atomic_store(&c->newborn, true);
		newborns_more(&c->family->newborns);
		vm_move(c, RAMET_RUNNING);
		/* The vCPUs load while this thread fills. */
		shell_start_async(c->shell, c, fork->gen->state, fork->burst ? SHELL_HELD : hold);
	}
	if (hold == SHELL_SOON)
		fill_first_pages(fork, c->shell->view);
	if (!run)
		return shell_load(c->shell, fork->gen->state);
	if (!fork->burst)
		shell_release(c->shell);
	return 0;
}

/* Waits until the parent runs again. Before that an interrupt for input would be lost: the state
 * that is still being loaded lacks it. */
static void await_parent(struct fork *fork)
{
	int r;

	if (fork->reuse || !fork->running || fork->parent_runs)
		return;
	r = shell_await(fork->vm->shell);
	fork->parent_runs = true;
	if (r)
		vm_fail(fork->vm, "its state could not be loaded after a fork: %s", strerror(-r));
	else
		vm_admit_input(fork->vm);
}

static int born(struct fork *fork, bool run)
{
	unsigned started = 0;
	int r = 0;

	newborns_expect(&fork->vm->family->newborns, fork->n);
	/* To start many children takes long: the parent must not wait for a CPU meanwhile. */
	if (fork->burst)
		await_parent(fork);
	while (started < fork->n && !r) {
		r = start_child(fork, fork->child[started], run);
		started += !r;
		if (fork->burst)
			sched_yield(); /* to other threads that serve */
	}
	await_parent(fork);
	/* Wait for all of them, even if they must be stopped at once: a shell takes one command at
	 * a time. */
	for (unsigned i = 0; i < started && run; i++) {
		int e = shell_await(fork->child[i]->shell);

		r = r ? r : e;
	}
	for (unsigned i = 0; i < fork->n && !r; i++) {
		device_set_loaded(&fork->child[i]->devices);
		if (run)
			vm_admit_input(fork->child[i]);
	}
	return r;
}

int fork_steps(struct fork *fork, bool run)
{
	struct ramet_vm *vm = fork->vm;
	int r = prepare(fork);

	if (!r && !fork->reuse)
		r = freeze(fork);
	if (r) {
		undo(fork);
		return r;
	}
	if (!fork->reuse) {
		/* If there is only one CPU, the parent's vCPUs wait for it, and the pause has not
		 * ended. */
		sched_yield();
		after_freeze(fork);
	}
	r = born(fork, run);
	if (fork->deferred) {
		settler_settle(&vm->family->settler, fork->gen);
		fork->reserved = false;
	} else {
		shell_pool_give(&vm->family->shells, fork->old_shell);
	}
	if (r)
		discard_children(fork);
	if (!fork->reuse)
		generation_put(fork->old_birth);
	generation_put(fork->gen);
	/* A paused VM is a template now, if it stays so. */
	generations_expect(&vm->family->generations, fork->running ? NULL : vm->birth);
	shell_pool_make(&vm->family->shells);
	return r;
}
