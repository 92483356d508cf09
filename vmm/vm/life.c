// SPDX-License-Identifier: Apache-2.0
/* The life of one VM: birth, pause, resume, read, stop. For forks see fork.c. */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/vm/life.h"
#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/devices/pc.h"
#include "vmm/devices/serial.h"
#include "vmm/vm/events.h"
#include "vmm/vm/lineage.h"
#include "vmm/vm/port.h"

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
	lock_init(&vm->op, LOCK_VM_OP);
	lock_init(&vm->watch_lock, LOCK_VM_WATCH);
	lock_init(&vm->input_lock, LOCK_VM_INPUT);
	lock_take(&f->lock);
	vm->id = f->next_id++;
	lock_release(&f->lock);
	if (vm->id)
		snprintf(vm->name, sizeof(vm->name), "%.*s.%llu", RAMET_NAME_MAX - 22, f->cfg.name,
			(unsigned long long)vm->id);
	else
		snprintf(vm->name, sizeof(vm->name), "%s", f->cfg.name);
	*out = vm;
	return 0;
}

struct ramet_family *ramet_vm_family(struct ramet_vm *vm)
{
	return vm->family;
}

void *ramet_vm_data(struct ramet_vm *vm)
{
	return atomic_load(&vm->data);
}

void *ramet_vm_set_data(struct ramet_vm *vm, void *data)
{
	void *none = NULL;

	return atomic_compare_exchange_strong(&vm->data, &none, data) ? data : none;
}

void vm_new_birth(struct ramet_vm *vm, uint64_t born_ns, bool new_identity)
{
	if (new_identity &&
		getrandom(vm->genid, sizeof(vm->genid), GRND_NONBLOCK) != sizeof(vm->genid))
		memcpy(vm->genid, &born_ns, sizeof(born_ns)); /* only early in the host's boot */
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

/* Returns the reason of the VM's failure. */
const char *vm_failure(const struct ramet_vm *vm)
{
	return atomic_load(&vm->exit_status) == VM_EXIT_FAILED ? vm->failure : "";
}

static void set_input(struct ramet_vm *vm, bool input)
{
	lock_take(&vm->input_lock);
	vm->input = input;
	lock_release(&vm->input_lock);
}

void vm_admit_input(struct ramet_vm *vm)
{
	set_input(vm, true);
	vm_input_room(vm);
}

void vm_quiesce(struct ramet_vm *vm)
{
	set_input(vm, false);
	device_set_quiesce(&vm->devices);
}

void vm_unquiesce(struct ramet_vm *vm)
{
	device_set_unquiesce(&vm->devices);
	vm_admit_input(vm);
}

/* Frees everything that the VM holds. Its vCPUs are idle, and op is held. */
void vm_release(struct ramet_vm *vm)
{
	struct shell *sh = vm->shell;

	vm_grown(vm);
	lock_take(&vm->family->lock);
	vm->counted = (struct vm_count){ 0 };
	vm->duplicates = 0;
	lock_release(&vm->family->lock);
	vm_quiesce(vm);
	vm->shell = NULL;
	if (sh)
		shell_pool_give(&vm->family->shells, sh);
	device_set_free(&vm->devices);
	generation_put(vm->birth);
	generation_put(vm->home);
	vm->birth = vm->home = NULL;
}

/* The states that lead to `to`: the table in life.h. */
static bool leads(enum ramet_state from, enum ramet_state to)
{
	switch (to) {
	case RAMET_RUNNING:
		return from == RAMET_PAUSED;
	case RAMET_PAUSED:
		return from == RAMET_RUNNING;
	case RAMET_STOPPED:
		return true;
	case RAMET_FAILED:
		return from == RAMET_RUNNING || from == RAMET_PAUSED;
	}
	return false;
}

void vm_move(struct ramet_vm *vm, enum ramet_state to)
{
	bool legal = leads(vm->state, to);

	assert(legal);
	(void)legal;
	lock_assert_held(&vm->op);
	vm->state = to;
}

void vm_discard(struct ramet_vm *vm)
{
	lock_assert_held(&vm->op);
	if (vm->state == RAMET_RUNNING && vm->shell)
		shell_stop(vm->shell, NULL);
	vm_release(vm);
	vm_move(vm, RAMET_STOPPED);
	lock_release(&vm->op);
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
	rwlock_read(&vm->family->operations);
	lock_take(&vm->op);
}

void vm_unlock(struct ramet_vm *vm)
{
	lock_release(&vm->op);
	rwlock_release(&vm->family->operations);
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
	vm_unquiesce(vm);
}

int ramet_pause(struct ramet_vm *vm, struct ramet_err *err)
{
	int r = vm_lock_alive(vm, "pause", err);

	if (r)
		return r;
	if (vm->state == RAMET_RUNNING) {
		vm_quiesce(vm);
		r = shell_stop(vm->shell, NULL);
		if (r)
			vm_run_on(vm);
		else
			vm_move(vm, RAMET_PAUSED);
	}
	vm_unlock(vm);
	return r ? err_set(err, r,
			   "cannot pause '%s': a vCPU is in the middle of an instruction: %s",
			   vm->name, strerror(-r))
		 : 0;
}

void vm_begin(struct ramet_vm *vm)
{
	vm->ran = true;
	vm_move(vm, RAMET_RUNNING);
	shell_start(vm->shell, vm, NULL);
	vm_admit_input(vm);
}

int ramet_resume(struct ramet_vm *vm, struct ramet_err *err)
{
	int r = vm_lock_alive(vm, "resume", err);

	if (r)
		return r;
	if (vm->state == RAMET_PAUSED) {
		device_set_unquiesce(&vm->devices);
		doorbell_reseed_start(vm->devices.dev[DEVICE_DOORBELL]);
		vm_begin(vm);
	}
	vm_unlock(vm);
	return 0;
}

/* Tells the embedder that the VM has ended. The caller holds no lock, so the embedder may take its
 * own locks and call the library. */
static void tell_end(struct ramet_vm *vm, uint64_t alive)
{
	const struct ramet_config *cfg = &vm->family->cfg;

	if (cfg->ended)
		cfg->ended(cfg->ended_arg, vm, alive);
	atomic_store(&vm->told, 1);
	futex_wake_all(&vm->told);
}

/* Stops the VM if it is alive. Otherwise, if `seen`, the user has seen the failure of a failed one.
 */
static void stop(struct ramet_vm *vm, bool seen)
{
	uint64_t alive = 0;
	bool ends;

	vm_lock(vm);
	if (vm->state == RAMET_RUNNING)
		shell_stop(vm->shell, NULL);
	ends = vm->state == RAMET_RUNNING || vm->state == RAMET_PAUSED;
	if (ends) {
		vm_release(vm);
		vm_move(vm, atomic_load(&vm->exit_status) >= VM_EXIT_FAILED ? RAMET_FAILED
									    : RAMET_STOPPED);
		alive = atomic_fetch_sub(&vm->family->living, 1) - 1;
	} else if (seen) {
		vm_move(vm, RAMET_STOPPED);
	}
	vm_unlock(vm);
	if (ends)
		tell_end(vm, alive);
	vm_event(vm);
	vm_unlink(vm);
}

int ramet_stop(struct ramet_vm *vm, struct ramet_err *err)
{
	stop(vm, true);
	return 0;
}

void vm_halt(struct ramet_vm *vm)
{
	vm_lock(vm);
	if (vm->state == RAMET_RUNNING) {
		vm_quiesce(vm);
		shell_stop(vm->shell, NULL); /* an error does not matter: it will never run again */
		vm_move(vm, RAMET_PAUSED);
	}
	vm_unlock(vm);
}

void vm_reap(struct ramet_vm *vm)
{
	stop(vm, false);
}

int ramet_read(struct ramet_vm *vm, uint64_t at, void *buf, size_t len)
{
	int r = vm_lock_alive(vm, "read", NULL);
	ram_off_t off;

	if (r)
		return r;
	if (!ram_offset(&vm->family->ram, gpa(at), len, &off))
		r = -EFAULT;
	/* Span by span: otherwise all of a large range would be filled before the first copy. */
	for (uint8_t *to = buf; len && !r;) {
		size_t n = SPAN_SIZE - at % SPAN_SIZE < len ? SPAN_SIZE - at % SPAN_SIZE : len;
		const void *p = port_mem(&vm->port, gpa(at), n);

		if (!p) {
			r = -ENOMEM;
			break;
		}
		memcpy(to, p, n);
		to += n;
		at += n;
		len -= n;
	}
	vm_unlock(vm);
	return r;
}

/* The caller holds input_lock. */
static size_t take_input(struct ramet_vm *vm, const char *buf, size_t len)
{
	if (!vm->input)
		return 0;
	if (vm->family->virtio_console)
		return linux_console_input(&vm->devices.dev[DEVICE_LINUX], buf, len);
	return serial_input(vm->devices.dev[DEVICE_SERIAL], buf, len);
}

size_t ramet_console_input(struct ramet_vm *vm, const char *buf, size_t len)
{
	size_t n;

	lock_take(&vm->input_lock);
	n = take_input(vm, buf, len);
	if (n < len) {
		/* Try once more: a thread that made room before the flag was set has woken no
		 * watch. */
		atomic_store(&vm->input_refused, true);
		n += take_input(vm, buf + n, len - n);
	}
	lock_release(&vm->input_lock);
	return n;
}
