/* SPDX-License-Identifier: Apache-2.0 */
#include "fake-ramet.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "vmm/base/clock.h"
#include "vmm/boot/boot.h"

static void lock(struct ramet_family *f)
{
	pthread_mutex_lock(&f->lock);
}

static void unlock(struct ramet_family *f)
{
	pthread_mutex_unlock(&f->lock);
}

static struct ramet_vm *new_vm(struct ramet_family *f, const char *name, uint64_t parent)
{
	struct ramet_vm *vm = calloc(1, sizeof(*vm));

	vm->family = f;
	vm->refs = 2; /* the tree's and the caller's */
	vm->st = (struct ramet_stat){ .id = f->n, .parent_id = parent, .exit_status = -1 };
	vm->st.cpus = 1;
	vm->st.memory = RAMET_MEMORY_MIN;
	vm->st.born_ns = now_ns();
	vm->st.ready_ns = f->n && f->silent_clones ? 0 : now_ns();
	if (f->n)
		snprintf(vm->st.name, sizeof(vm->st.name), "%.32s.%u", name, f->n);
	else
		snprintf(vm->st.name, sizeof(vm->st.name), "%.32s", name);
	f->vm[f->n++] = vm;
	return vm;
}

struct ramet_vm *fake_boot(struct ramet_family *f, const char *name, const struct ramet_config *cfg)
{
	memset(f, 0, sizeof(*f));
	f->cfg = *cfg;
	pthread_mutex_init(&f->lock, NULL);
	return new_vm(f, name, 0);
}

/* With the lock held. */
static void wake_watches(struct ramet_vm *vm, enum ramet_watch_for what)
{
	for (struct ramet_watch *w = vm->watches; w; w = w->next)
		if (w->what == what)
			eventfd_write(w->event, 1);
}

static void release(struct ramet_vm *vm)
{
	if (vm->data)
		vm->family->cfg.data_free(vm->data);
	free(vm);
}

/* The caller holds the lock. The library prunes only VMs without children; the tests need no such
 * check. */
static void prune(struct ramet_vm *vm)
{
	if (vm->family->vm[vm->st.id]) {
		vm->family->vm[vm->st.id] = NULL;
		if (!--vm->refs)
			release(vm);
	}
}

/* With the lock held. */
static unsigned alive(const struct ramet_family *f)
{
	unsigned n = 0;

	for (unsigned i = 0; i < f->n; i++)
		n += f->vm[i] && f->vm[i]->st.state <= RAMET_PAUSED;
	return n;
}

static void end(struct ramet_vm *vm, enum ramet_state state)
{
	struct ramet_family *f = vm->family;
	bool ends;
	unsigned n;

	lock(f);
	ends = vm->st.state <= RAMET_PAUSED;
	vm->st.state = state;
	n = alive(f);
	unlock(f);
	if (ends)
		f->cfg.ended(f->cfg.ended_arg, vm, n);
	lock(f);
	wake_watches(vm, RAMET_WATCH_EVENTS);
	if (state == RAMET_STOPPED)
		prune(vm);
	unlock(f);
}

void fake_end(struct ramet_vm *vm, enum ramet_state state, int status, const char *failure)
{
	lock(vm->family);
	vm->st.exit_status = status;
	if (failure)
		snprintf(vm->st.failure, sizeof(vm->st.failure), "%s", failure);
	unlock(vm->family);
	end(vm, state);
}

void fake_phase(struct ramet_vm *vm, uint32_t phase)
{
	lock(vm->family);
	vm->st.phase = phase;
	wake_watches(vm, RAMET_WATCH_EVENTS);
	unlock(vm->family);
}

/* ---- the library ---- */

struct ramet_vm *ramet_vm_get(struct ramet_vm *vm)
{
	lock(vm->family);
	vm->refs++;
	unlock(vm->family);
	return vm;
}

void ramet_vm_put(struct ramet_vm *vm)
{
	bool last;

	if (!vm)
		return;
	lock(vm->family);
	last = !--vm->refs;
	unlock(vm->family);
	if (last)
		release(vm);
}

void ramet_family_stop(struct ramet_family *f)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->vm[i])
			end(f->vm[i], RAMET_STOPPED);
}

void ramet_family_destroy(struct ramet_family *f)
{
	for (unsigned i = 0; i < f->n; i++)
		if (f->vm[i]) {
			f->leaked += f->vm[i]->refs - 1;
			release(f->vm[i]);
		}
	pthread_mutex_destroy(&f->lock);
}

void ramet_vm_stat_quick(struct ramet_vm *vm, struct ramet_stat *st)
{
	lock(vm->family);
	*st = vm->st;
	unlock(vm->family);
}

void ramet_vm_stat(struct ramet_vm *vm, struct ramet_stat *st)
{
	ramet_vm_stat_quick(vm, st);
	st->counted = true;
	st->private_bytes = 4096;
	atomic_fetch_add(&vm->family->counts, 1);
}

void ramet_vm_stat_born(struct ramet_vm *vm, struct ramet_stat *st)
{
	ramet_vm_stat_quick(vm, st);
	st->counted = true;
	st->tables_shared = FAKE_TABLES;
}

void ramet_family_stat_quick(struct ramet_family *f, struct ramet_family_stat *st)
{
	*st = (struct ramet_family_stat){ .headroom_of = "the host" };
	lock(f);
	st->vms = alive(f);
	for (unsigned i = 0; i < f->n; i++)
		st->failed += f->vm[i] && f->vm[i]->st.state == RAMET_FAILED;
	unlock(f);
}

int ramet_family_count(struct ramet_family *f, uint64_t limit_ns)
{
	return 0;
}

bool ramet_family_kernel(struct ramet_family *f, uint64_t *bytes, uint64_t *tables)
{
	return false;
}

int ramet_family_each_quick(
	struct ramet_family *f, int (*fn)(void *arg, const struct ramet_stat *st), void *arg)
{
	int r = 0;

	for (unsigned i = 0; i < f->n && !r; i++)
		if (f->vm[i]) {
			struct ramet_stat st = f->vm[i]->st;

			st.counted = true;
			r = fn(arg, &st);
		}
	return r;
}

struct ramet_vm *ramet_find(struct ramet_family *f, const char *name)
{
	struct ramet_vm *vm = NULL;

	lock(f);
	for (unsigned i = 0; i < f->n && !vm; i++)
		if (f->vm[i] && !strcmp(f->vm[i]->st.name, name))
			vm = f->vm[i];
	if (vm)
		vm->refs++;
	unlock(f);
	return vm;
}

int ramet_fork(struct ramet_vm *vm, unsigned n, unsigned flags, struct ramet_vm **children,
	struct ramet_fork_times *times, struct ramet_err *err)
{
	struct ramet_family *f = vm->family;

	lock(f);
	if (f->n + n > FAKE_VMS_MAX) {
		unlock(f);
		return err_set(err, -ENOMEM, "cannot fork '%s'", vm->st.name);
	}
	for (unsigned i = 0; i < n; i++)
		children[i] = new_vm(f, f->vm[0] ? f->vm[0]->st.name : "x", vm->st.id);
	unlock(f);
	*times = (struct ramet_fork_times){ .pause_ns = 1 };
	return 0;
}

static int set_state(struct ramet_vm *vm, enum ramet_state state, struct ramet_err *err)
{
	lock(vm->family);
	vm->st.state = state;
	unlock(vm->family);
	return 0;
}

int ramet_pause(struct ramet_vm *vm, struct ramet_err *err)
{
	return set_state(vm, RAMET_PAUSED, err);
}

int ramet_resume(struct ramet_vm *vm, struct ramet_err *err)
{
	return set_state(vm, RAMET_RUNNING, err);
}

int ramet_reset(struct ramet_vm *vm, struct ramet_err *err)
{
	return err_set(err, -EINVAL, "cannot reset '%s'", vm->st.name);
}

int ramet_stop(struct ramet_vm *vm, struct ramet_err *err)
{
	end(vm, RAMET_STOPPED);
	return 0;
}

int ramet_read(struct ramet_vm *vm, uint64_t gpa, void *buf, size_t len)
{
	if (gpa > vm->st.memory - len)
		return -EFAULT;
	memset(buf, 'm', len);
	return 0;
}

size_t ramet_console_input(struct ramet_vm *vm, const char *buf, size_t len)
{
	size_t n;

	lock(vm->family);
	vm->family->inputs++;
	n = vm->family->full ? 0 : len;
	vm->family->typed += n;
	unlock(vm->family);
	return n;
}

void fake_full(struct ramet_vm *vm, bool full)
{
	lock(vm->family);
	vm->family->full = full;
	if (!full)
		wake_watches(vm, RAMET_WATCH_INPUT);
	unlock(vm->family);
}

static bool happened(struct ramet_vm *vm, enum ramet_event ev, uint64_t value)
{
	return ev == RAMET_EV_STOPPED ? vm->st.state >= RAMET_STOPPED
	       : ev == RAMET_EV_READY ? vm->st.ready_ns != 0
	       : ev == RAMET_EV_PHASE ? vm->st.phase >= value
				      : vm->st.heartbeats >= value;
}

int ramet_wait(struct ramet_vm *vm, enum ramet_event ev, uint64_t value, int timeout_ms)
{
	struct ramet_family *f = vm->family;
	uint64_t until = now_ns() + (uint64_t)timeout_ms * 1000000;

	lock(f);
	f->waits++;
	unlock(f);
	if (f->in_wait)
		f->in_wait(f);
	for (;;) {
		int r;

		lock(f);
		r = happened(vm, ev, value)		? 0
		    : happened(vm, RAMET_EV_STOPPED, 0) ? -ESRCH
							: -ETIMEDOUT;
		unlock(f);
		if (r != -ETIMEDOUT || now_ns() >= until)
			return r;
		poll(NULL, 0, 1);
	}
}

void ramet_watch(struct ramet_vm *vm, struct ramet_watch *watch)
{
	lock(vm->family);
	watch->next = vm->watches;
	vm->watches = watch;
	unlock(vm->family);
}

void ramet_unwatch(struct ramet_vm *vm, struct ramet_watch *watch)
{
	struct ramet_watch **w;

	lock(vm->family);
	for (w = &vm->watches; *w != watch; w = &(*w)->next)
		;
	*w = watch->next;
	unlock(vm->family);
}

void *ramet_vm_data(struct ramet_vm *vm)
{
	return ramet_vm_set_data(vm, NULL);
}

void *ramet_vm_set_data(struct ramet_vm *vm, void *data)
{
	lock(vm->family);
	vm->data = vm->data ? vm->data : data;
	data = vm->data;
	unlock(vm->family);
	return data;
}
