// SPDX-License-Identifier: Apache-2.0
/*
 * reset(VM): puts a VM back to the generation that it was born from. A clone that was never forked
 * itself keeps its shell and its view, and only its dirty pages are put back. Otherwise it gets a
 * fresh shell, as at its birth.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/fork/fill.h"
#include "vmm/fork/populate.h"
#include "vmm/vm/events.h"
#include "vmm/vm/life.h"

/* With more dirty pages than this, a fresh shell costs less. To put back a page takes about a
 * microsecond; with a fresh shell each page that the guest touches costs a fault. */
#define RESTORE_PAGES_MAX 16384

/* Puts back a span's private pages from the frames of the home generation. */
static int restore_span(struct ramet_vm *vm, span_t span, const uint64_t bitmap[SPAN_PAGES / 64])
{
	struct memory *m = &vm->family->memory;
	struct span_runs runs;
	int r;

	/* A PARTIAL span may not be resolved yet. */
	r = generation_resolve(vm->home, span, &runs);
	if (r)
		return r;
	for (unsigned i = 0; i < runs.n; i++)
		for (uint64_t p = 0; p < runs.run[i].n_pages; p++) {
			ram_off_t at = off_add(runs.run[i].off, p * PAGE_SIZE);
			unsigned page = page_of(at);

			if (!(bitmap[page / 64] >> (page % 64) & 1))
				continue;
			/* In place: the page stays mapped, in KVM's tables, too. */
			r = memory_read_frames(m, frame_add(runs.run[i].frame, p), 1,
				view_at(vm->shell->view, at));
			if (r)
				return r;
		}
	return 0;
}

struct reset {
	struct ramet_vm *vm;
	bool running;
	bool stopped; /* its vCPUs have been stopped and not started again */
	bool spoilt;  /* its memory is only partly put back */
	uint64_t request_ns;
	struct device_set devices;
	uint8_t *dirty; /* one byte for each span */
};

/* Puts all dirty spans of the view back. -E2BIG: a fresh shell costs less. */
static int restore_view(struct reset *k, struct view *view)
{
	uint64_t spans = spans_in(k->vm->family->ram.size);
	uint64_t bitmap[SPAN_PAGES / 64];
	int r = view_private_spans(view, span_nr(0), spans, k->dirty);

	if (r > RESTORE_PAGES_MAX)
		return -E2BIG;
	for (span_t s = span_nr(0); s.v < spans && r >= 0; s.v++) {
		if (view_state(view, s) == VIEW_POISONED)
			return -E2BIG;
		if (!k->dirty[s.v])
			continue;
		r = view_private_pages(view, s, bitmap);
		if (r <= 0)
			continue;
		k->spoilt = true;
		r = restore_span(k->vm, s, bitmap);
	}
	k->spoilt = r < 0;
	return r < 0 ? r : 0;
}

/* The vCPUs are stopped. */
static int reset_in_place(struct reset *k)
{
	struct view *view = k->vm->shell->view;
	int r;

	lock_take(&view->lock);
	r = restore_view(k, view);
	lock_release(&view->lock);
	return r;
}

static int reset_in_new_shell(struct ramet_vm *vm)
{
	struct shell *sh;
	int r = shell_pool_take(&vm->family->shells, &sh);

	if (r)
		return r;
	r = generation_enter(sh, vm->home, false);
	if (r) {
		shell_pool_give(&vm->family->shells, sh);
		return r;
	}
	shell_pool_give(&vm->family->shells, vm->shell);
	vm->shell = sh;
	generation_put(vm->birth);
	vm->birth = generation_get(vm->home);
	view_set_source(sh->view, &vm->home->source);
	return 0;
}

/* The vCPUs are stopped. */
static int restore_memory(struct reset *k)
{
	struct ramet_vm *vm = k->vm;
	bool in_place = vm->birth == vm->home && !atomic_load(&vm->shell->broken);
	int r;

	/* The VM has ended or failed meanwhile: the reaper will stop it. */
	if (atomic_load(&vm->exit_status) >= 0)
		return -ESRCH;
	r = in_place ? reset_in_place(k) : -E2BIG;
	return r ? reset_in_new_shell(vm) : 0;
}

/* Does all that can fail before the VM is changed. */
static int prepare(struct reset *k)
{
	struct ramet_vm *vm = k->vm;
	int r;

	k->dirty = malloc(spans_in(vm->family->ram.size));
	r = k->dirty ? device_set_clone(vm->home->devices, &vm->port, &k->devices) : -ENOMEM;
	if (r)
		return r;
	if (k->running) {
		vm_quiesce(vm);
		shell_stop(vm->shell, NULL);
		k->stopped = true;
	}
	r = restore_memory(k);
	if (r && k->running && !k->spoilt) {
		vm_run_on(vm);
		k->stopped = false;
	}
	return r;
}

/* The memory has been put back; this does the rest of the machine. */
static int be_born(struct reset *k)
{
	struct ramet_vm *vm = k->vm;
	int r;

	device_set_free(&vm->devices);
	vm->devices = k->devices;
	k->devices.n = 0;
	vm_recall(vm, vm->home);
	vm_new_birth(vm, k->request_ns, true);
	device_set_attach(&vm->devices);
	r = device_set_born(&vm->devices);
	if (r)
		return r;
	vm->ran = k->running;
	k->stopped = false;
	r = k->running ? shell_start(vm->shell, vm, vm->home->state)
		       : shell_load(vm->shell, vm->home->state);
	if (r)
		return r;
	device_set_loaded(&vm->devices);
	if (k->running)
		vm_admit_input(vm);
	return 0;
}

static int reset_locked(struct reset *k)
{
	struct ramet_vm *vm = k->vm;
	int r = prepare(k);
	bool lost = r && k->spoilt;

	if (!r) {
		r = be_born(k);
		lost = r;
	}
	if (lost && k->stopped)
		vm_move(vm, RAMET_PAUSED); /* no vCPU runs: the reaper has none to stop */
	if (lost)
		vm_fail(vm, "it could not be reset: %s", strerror(-r));
	device_set_free(&k->devices);
	free(k->dirty);
	return r;
}

int ramet_reset(struct ramet_vm *vm, struct ramet_err *err)
{
	struct reset k = { .vm = vm, .request_ns = now_ns() };
	int r = vm_lock_alive(vm, "reset", err);
	char why[BUDGET_HINT];
	struct hurry hurry;

	if (r)
		return r;
	if (!vm->home) {
		vm_unlock(vm);
		return err_set(err, -EINVAL,
			"cannot reset '%s': only clones can be reset, and this VM was not made by "
			"a fork; reset a clone of it",
			vm->name);
	}
	k.running = vm->state == RAMET_RUNNING;
	hurry = hurry_begin();
	r = reset_locked(&k);
	if (!r)
		atomic_fetch_add(&vm->family->resets, 1);
	vm_unlock(vm);
	hurry_end(&hurry);
	if (r == -ESRCH)
		return err_set(err, r, "cannot reset '%s': it has just ended", vm->name);
	return r ? err_set(err, r, "cannot reset '%s': %s%s", vm->name, strerror(-r),
			   budget_hint(&vm->family->budget, why))
		 : 0;
}
