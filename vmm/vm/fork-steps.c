// SPDX-License-Identifier: Apache-2.0
#include "vmm/vm/fork-steps.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/base/futex.h"
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
	for (unsigned i = 0; i < fork->n && !r; i++)
		r = prepare_child(fork, &fork->child[i]);
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
static void note_first_spans(struct fork *fork)
{
	const struct machine_state *s = fork->gen->state;

	for (unsigned i = 0; i < s->cpus; i++) {
		const struct vcpu_state *v = &s->vcpu[i];
		uint64_t linear[] = { v->regs.rip, v->regs.rsp };

		fork->first[fork->n_first++] = gpa(v->sregs.cr3 & ~0xfffull);
		for (unsigned j = 0; j < 2; j++) {
			struct kvm_translation t = { .linear_address = linear[j] };

			if (ioctl(fork->old_shell->vcpu[i].fd, KVM_TRANSLATE, &t) == 0 && t.valid)
				fork->first[fork->n_first++] = gpa(t.physical_address);
		}
	}
}

static void fill_first_spans(const struct fork *fork, struct ramet_vm *vm)
{
	for (unsigned i = 0; i < fork->n_first; i++) {
		ram_off_t off;

		/* Errors are ignored: the vCPU hits such a span again, and it is reported then. */
		if (ram_offset(&vm->family->ram, fork->first[i], 1, &off))
			generation_touch(vm->shell->view, span_of(off), (int)page_of(off));
	}
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
		shell_start_async(vm->shell, vm, fork->gen->state);
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
		device_set_unquiesce(&vm->devices); /* admit_when_loaded() lets input in */
	return r;
}

/* The work that can wait until the parent runs again. */
static void after_freeze(struct fork *fork)
{
	shell_pool_pattern(&fork->vm->family->shells, fork->gen->state);
	if (fork->deferred)
		note_first_spans(fork);
	/* From here on this view is not filled any more; its private pages do not change. */
	view_set_source(fork->old_shell->view, NULL);
	generation_put(fork->old_birth);
}

static int start_child(struct fork *fork, struct ramet_vm *c, bool run)
{
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
	fill_first_spans(fork, c);
	c->counted = vm_count_at_birth(c->family);
	c->ran = run;
	if (!run)
		return shell_load(c->shell, fork->gen->state);
	vm_move(c, RAMET_RUNNING);
	shell_start_async(c->shell, c, fork->gen->state);
	return 0;
}

/* Lets input in again if the parent's vCPUs have been loaded. Earlier, an interrupt for the input
 * would be lost: the state that is still being loaded lacks it. */
static void admit_when_loaded(const struct fork *fork)
{
	if (!fork->reuse && fork->running && shell_has_answered(fork->vm->shell))
		vm_admit_input(fork->vm);
}

static int born(struct fork *fork, bool run)
{
	unsigned started = 0;
	int r = 0;

	while (started < fork->n && !r) {
		r = start_child(fork, fork->child[started], run);
		started += !r;
		admit_when_loaded(fork);
	}
	if (!fork->reuse && fork->running) {
		int e = shell_await(fork->vm->shell);

		if (e)
			vm_fail(fork->vm, "its state could not be loaded after a fork: %s",
				strerror(-e));
		else
			vm_admit_input(fork->vm);
	}
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
	if (!fork->reuse)
		after_freeze(fork);
	r = born(fork, run);
	if (fork->deferred) {
		settler_settle(&vm->family->settler, fork->gen);
		fork->reserved = false;
	} else {
		shell_pool_give(&vm->family->shells, fork->old_shell);
	}
	if (r)
		discard_children(fork);
	generation_put(fork->gen);
	/* A paused VM is a template now, if it stays so. */
	generations_expect(&vm->family->generations, fork->running ? NULL : vm->birth);
	shell_pool_make(&vm->family->shells);
	return r;
}
