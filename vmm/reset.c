// SPDX-License-Identifier: Apache-2.0
/*
 * reset(VM): back to the generation it was born from. A clone that was never forked itself keeps
 * its shell and its view, and only the pages it dirtied are put back; else it gets a fresh shell,
 * as at its birth.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/futex.h"
#include "vmm/hurry.h"
#include "vmm/vm.h"

/* Putting back a page takes about a microsecond; dropping a whole view and touching it anew, a
 * fault a page. */
#define RESTORE_PAGES_MAX 16384

/* Puts back a span's private pages, from the frames that the home generation's table names. */
static int restore_span(struct ramet_vm *vm, uint64_t span, const uint64_t bitmap[SPAN_PAGES / 64])
{
	struct memory *m = &vm->family->memory;
	struct frame_run run[SPAN_PAGES];
	uint64_t off = span << SPAN_SHIFT, next;
	unsigned n = memory_runs(m, vm->home->root, off, off + SPAN_SIZE, run, SPAN_PAGES, &next);

	for (unsigned i = 0; i < n; i++)
		for (uint64_t p = 0; p < run[i].n_pages; p++) {
			uint64_t at = run[i].off + p * PAGE_SIZE;
			unsigned page = (unsigned)(at - off) / PAGE_SIZE;
			int r;

			if (!(bitmap[page / 64] >> (page % 64) & 1))
				continue;
			/* In place: the page stays mapped, in KVM's tables too. */
			r = memory_read_frames(m, run[i].frame + p, 1, vm->shell->view->base + at);
			if (r)
				return r;
		}
	return 0;
}

/* -E2BIG: a fresh shell costs less. */
static int restore_view(struct ramet_vm *vm, struct view *view, uint8_t *dirty)
{
	uint64_t spans = vm->family->ram.size >> SPAN_SHIFT;
	uint64_t bitmap[SPAN_PAGES / 64];
	int r = view_private_spans(view, dirty);

	if (r > RESTORE_PAGES_MAX)
		return -E2BIG;
	for (uint64_t s = 0; s < spans && r >= 0; s++) {
		if (!dirty[s])
			continue;
		r = view_private_pages(view, s, bitmap);
		if (r > 0)
			r = restore_span(vm, s, bitmap);
	}
	return r < 0 ? r : 0;
}

/* The vCPUs are stopped. */
static int reset_in_place(struct ramet_vm *vm)
{
	struct view *view = vm->shell->view;
	uint8_t *dirty = malloc(vm->family->ram.size >> SPAN_SHIFT);
	int r;

	if (!dirty)
		return -ENOMEM;
	pthread_mutex_lock(&view->lock);
	r = restore_view(vm, view, dirty);
	pthread_mutex_unlock(&view->lock);
	free(dirty);
	return r;
}

static int reset_in_new_shell(struct ramet_vm *vm)
{
	struct shell *sh;
	int r = shells_take(vm->family, &sh);

	if (r)
		return r;
	r = generation_populate(sh->view, vm->home);
	if (r) {
		shells_give(vm->family, sh);
		return r;
	}
	shells_give(vm->family, vm->shell);
	vm->shell = sh;
	generation_put(vm->birth);
	vm->birth = generation_get(vm->home);
	view_set_source(sh->view, vm->home);
	return 0;
}

static int reset_stopped(struct ramet_vm *vm, bool running, uint64_t request_ns)
{
	struct device_set devices;
	int r = device_set_clone(vm->home->devices, vm, &devices);

	if (r)
		return r;
	r = vm->birth == vm->home ? reset_in_place(vm) : -E2BIG;
	if (r == -E2BIG)
		r = reset_in_new_shell(vm);
	if (r) {
		device_set_free(&devices);
		return r;
	}
	device_set_free(&vm->devices);
	vm->devices = devices;
	vm_new_birth(vm, request_ns, true);
	device_set_attach(&vm->devices);
	device_set_born(&vm->devices);
	vm->ran = running;
	r = running ? shell_start(vm->shell, vm, vm->home->state)
		    : shell_load(vm->shell, vm->home->state);
	if (!r)
		device_set_loaded(&vm->devices);
	return r;
}

int ramet_reset(struct ramet_vm *vm, struct ramet_err *err)
{
	uint64_t request_ns = now_ns();
	int r = vm_lock_alive(vm, "reset", err);
	struct hurry hurry;
	bool running;

	if (r)
		return r;
	if (!vm->home) {
		pthread_mutex_unlock(&vm->op);
		return err_set(err, -EINVAL,
			"cannot reset '%s': it booted, so it has no birth to go back to; reset a "
			"clone of it",
			vm->name);
	}
	running = vm->state == RAMET_RUNNING;
	hurry = hurry_begin();
	if (running) {
		device_set_quiesce(&vm->devices);
		shell_stop(vm->shell, NULL);
	}
	r = reset_stopped(vm, running, request_ns);
	if (r)
		vm_fail(vm, "it could not be reset: %s", strerror(-r));
	else
		atomic_fetch_add(&vm->family->resets, 1);
	pthread_mutex_unlock(&vm->op);
	hurry_end(&hurry);
	return r ? err_set(err, r, "cannot reset '%s': %s", vm->name, strerror(-r)) : 0;
}
