// SPDX-License-Identifier: Apache-2.0
/* Families: launched, looked at, checked, destroyed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "guest/guests.h"
#include "vmm/devices/doorbell.h"
#include "vmm/base/futex.h"
#include "vmm/base/priority.h"
#include "vmm/kvm/kvm-kind.h"
#include "vmm/base/limits.h"
#include "vmm/devices/pc.h"
#include "vmm/devices/serial.h"
#include "vmm/vm/vm.h"

#define MEMORY_DEFAULT	  (64ull << 20)
#define MEMORY_KERNEL	  (512ull << 20) /* a distribution's kernel with its initrd */
#define SHELLS_DEFAULT	  2u
#define RESEED_MS_DEFAULT 30000u /* a guest that spins with interrupts off, on a busy host */

/* ---- the configuration ---- */

static bool name_ok(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	/* No dot: it parts a family's name from a clone's number. Room for that is left. */
	return n && !name[n] && n <= RAMET_NAME_MAX - 22 && name[0] != '-';
}

static int check_guest(const struct ramet_config *c, struct ramet_err *err)
{
	char why[sizeof(err->msg)];
	int r = guest_args_check(c->guest, c->args, c->memory, why, sizeof(why));

	return r ? err_set(err, r, "%s", why) : 0;
}

static int check_config(const struct ramet_config *c, struct ramet_err *err)
{
	if (!name_ok(c->name))
		return err_set(err, -EINVAL,
			"bad name '%.64s': letters, digits, '_' and '-', at most %u, not starting "
			"with '-'",
			c->name, RAMET_NAME_MAX - 22);
	if (c->memory < RAMET_MEMORY_MIN || c->memory > RAMET_MEMORY_MAX || c->memory % SPAN_SIZE)
		return err_set(err, -EINVAL,
			"bad memory size %llu: a multiple of 2 MiB from 16 MiB to 64 GiB",
			(unsigned long long)c->memory);
	if (!c->cpus || c->cpus > RAMET_CPUS_MAX)
		return err_set(
			err, -EINVAL, "bad number of vCPUs %u: 1 to %u", c->cpus, RAMET_CPUS_MAX);
	if (!c->guest == !c->kernel)
		return err_set(err, -EINVAL, "either a built-in guest or a kernel is needed");
	if (c->guest && (c->initrd || c->n_disks))
		return err_set(err, -EINVAL,
			"an initrd and disks go with a kernel: built-in guests have no driver for "
			"them");
	if (c->n_disks > RAMET_DISKS_MAX)
		return err_set(err, -EINVAL, "too many disks: %u, at most %u", c->n_disks,
			RAMET_DISKS_MAX);
	if (c->reseed > RAMET_RESEED_OFF)
		return err_set(err, -EINVAL, "unknown way to reseed %d", (int)c->reseed);
	if (c->max_pool && c->max_pool < c->memory)
		return err_set(err, -EINVAL,
			"the family's memory limit of %llu MiB is less than one VM's memory, %llu "
			"MiB",
			(unsigned long long)(c->max_pool >> 20),
			(unsigned long long)(c->memory >> 20));
	return c->guest ? check_guest(c, err) : 0;
}

static void free_config(struct ramet_config *c)
{
	free((char *)c->name);
	free((char *)c->guest);
	free((char *)c->args);
	free((char *)c->kernel);
	free((char *)c->initrd);
	for (unsigned i = 0; i < c->n_disks; i++)
		free((char *)c->disks[i].path);
}

static bool copy_string(const char **s)
{
	if (!*s)
		return true;
	*s = strdup(*s);
	return *s != NULL;
}

static int copy_config(
	struct ramet_config *to, const struct ramet_config *from, struct ramet_err *err)
{
	struct ramet_config c = *from;
	bool ok;
	int r;

	if (!c.name)
		c.name = c.guest ? c.guest : "linux";
	if (!c.memory)
		c.memory = c.kernel ? MEMORY_KERNEL : MEMORY_DEFAULT;
	c.cpus = c.cpus ? c.cpus : 1;
	c.shells = c.shells ? c.shells : SHELLS_DEFAULT;
	c.reseed_ms = c.reseed_ms ? c.reseed_ms : RESEED_MS_DEFAULT;
	r = check_config(&c, err);
	if (r)
		return r;
	/* Every pointer becomes ours or NULL, so that free_config() is right even after a failure.
	 */
	ok = copy_string(&c.name);
	ok = copy_string(&c.guest) && ok;
	ok = copy_string(&c.args) && ok;
	ok = copy_string(&c.kernel) && ok;
	ok = copy_string(&c.initrd) && ok;
	for (unsigned i = 0; i < c.n_disks; i++)
		ok &= copy_string(&c.disks[i].path);
	if (!ok) {
		free_config(&c);
		return err_set(err, -ENOMEM, "out of memory");
	}
	*to = c;
	return 0;
}

/* ---- the parts, in the order in which they are built ---- */

static void init_slots(struct ramet_family *f)
{
	struct machine *m = &f->machine;
	uint64_t off = 0;

	m->vcpu_ops = &vm_vcpu_ops;
	m->cpus = f->cfg.cpus;
	m->pit = f->cfg.pit; /* Linux does without, as ACPI tells it to (vmm/boot/acpi.c) */
	pthread_mutex_init(&m->lock, NULL);
	for (unsigned i = 0; i < f->ram.n; i++) {
		m->slot[i].gpa = f->ram.r[i].gpa;
		m->slot[i].len = f->ram.r[i].len;
		m->slot[i].off = off;
		off += f->ram.r[i].len;
	}
	m->n_slots = f->ram.n;
}

/* How far start_family() came, so that stop_family() undoes just that. */
enum { NOTHING, KVM, MEMORY, VIEWS, GUARD, FAULTS, SETTLER, REAPER, SHELLS };

static int start_family(struct ramet_family *f, struct ramet_err *err)
{
	int r = kvm_host_open(&f->machine.host, err);

	if (r)
		return r;
	f->stage = KVM;
	r = f->cfg.kernel ? kvm_runs_linux(err) : 0;
	if (r)
		return r;
	r = memory_init(&f->memory, &f->ram, f->cfg.max_pool);
	if (r)
		return r;
	f->stage = MEMORY;
	r = view_arena_init(&f->machine.arena, f->ram.size, f->memory.fd);
	if (r == -EPERM)
		return err_set(err, r,
			"userfaultfd is not allowed for this user: run as root, or set "
			"vm.unprivileged_userfaultfd=1");
	if (r)
		return r;
	f->stage = VIEWS;
	r = guard_start(f);
	if (r)
		return r;
	f->stage = GUARD;
	r = faults_start(&f->faults, &f->machine.arena);
	if (r)
		return r;
	f->stage = FAULTS;
	r = settler_start(&f->settler, &f->generations, reaper_idle, f);
	if (r)
		return r;
	f->stage = SETTLER;
	r = reaper_start(f);
	if (r)
		return r;
	f->stage = REAPER;
	r = shell_pool_start(&f->shells, &f->machine, &f->budget, f->cfg.cold ? 0 : f->cfg.shells);
	if (!r)
		f->stage = SHELLS;
	return r;
}

static void stop_family(struct ramet_family *f)
{
	/* The reaper gives work to the settler, and both give shells back. Until the
	 * settler ends, it asks what the reaper has done. */
	if (f->stage >= REAPER)
		reaper_stop(f);
	if (f->stage >= SETTLER)
		settler_stop(&f->settler);
	if (f->stage >= REAPER)
		reaper_free(f);
	if (f->stage >= SHELLS)
		shell_pool_stop(&f->shells);
	if (f->stage >= FAULTS)
		faults_stop(&f->faults);
	if (f->stage >= GUARD)
		guard_stop(f);
	if (f->stage >= VIEWS)
		view_arena_destroy(&f->machine.arena);
	if (f->stage >= MEMORY)
		memory_destroy(&f->memory);
	if (f->stage >= KVM)
		kvm_host_close(&f->machine.host);
	pthread_mutex_destroy(&f->machine.lock);
	pthread_mutex_destroy(&f->lock);
	pthread_rwlock_destroy(&f->operations);
	generations_destroy(&f->generations);
	free_config(&f->cfg);
	free(f);
}

/* ---- the VM that boots ---- */

static int set_entry(struct ramet_family *f, struct shell *sh, const struct boot_memory *mem)
{
	for (unsigned i = 0; i < f->cfg.cpus; i++) {
		struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
		struct boot_vcpu b = { .wait_for_sipi = false };
		int fd = sh->vcpu[i].fd, r = 0;

		if (ioctl(fd, KVM_GET_SREGS, &b.sregs) < 0)
			return -errno;
		if (f->cfg.kernel)
			r = boot_linux_vcpu(&f->cfg, mem, i, &b);
		else
			boot_guest_vcpu(&f->cfg, i, &b);
		if (r)
			return r;
		if (b.wait_for_sipi)
			continue; /* as KVM has made it */
		if (ioctl(fd, KVM_SET_MP_STATE, &mp) < 0 ||
			ioctl(fd, KVM_SET_SREGS, &b.sregs) < 0 ||
			ioctl(fd, KVM_SET_REGS, &b.regs) < 0)
			return -errno;
	}
	return 0;
}

static int add_devices(struct ramet_vm *vm, struct ramet_err *err)
{
	const struct ramet_config *cfg = &vm->family->cfg;
	unsigned reseed_ms = cfg->reseed == RAMET_RESEED_OFF ? 0 : cfg->reseed_ms;
	struct device_set *set = &vm->devices;
	int r = serial_new(&vm->port, &set->dev[DEVICE_SERIAL]);

	if (r)
		return err_set(err, r, "cannot make the serial port: %s", strerror(-r));
	set->n++;
	r = doorbell_new(&vm->port, reseed_ms, &set->dev[DEVICE_DOORBELL]);
	if (r)
		return err_set(err, r, "cannot make the doorbell: %s", strerror(-r));
	set->n++;
	if (cfg->kernel) {
		vm->family->virtio_console = linux_console_is_virtio(cfg->args);
		r = linux_devices_new(&vm->port, cfg, &set->dev[DEVICE_LINUX], err);
		set->n += r ? 0 : LINUX_DEVICES;
	}
	return r;
}

static int load(struct ramet_vm *vm, struct ramet_err *err)
{
	struct ramet_family *f = vm->family;
	struct boot_memory mem = { .ram = &f->ram };
	int r;

	for (unsigned i = 0; i < f->ram.n; i++)
		mem.host[i] = vm->shell->view->base + f->machine.slot[i].off;
	r = add_devices(vm, err);
	if (!r)
		r = f->cfg.kernel ? boot_linux_load(&f->cfg, &mem, err)
				  : boot_guest_load(&f->cfg, &mem, err);
	if (r)
		return r;
	device_set_attach(&vm->devices);
	r = set_entry(f, vm->shell, &mem);
	return r ? err_set(err, r, "cannot set the entry state of '%s': %s", vm->name, strerror(-r))
		 : 0;
}

/* A VM that boots runs straight on the frames of a generation that is not frozen yet. */
static int boot(struct ramet_family *f, struct ramet_vm *vm, struct ramet_err *err)
{
	struct mmu_root *root;
	uint64_t frame;
	struct shell *sh;
	int r = shell_new(&f->machine, &sh);

	if (r)
		return err_set(err, r, "cannot make a KVM virtual machine: %s%s", strerror(-r),
			limit_hint(r));
	vm->shell = sh;
	r = memory_new_root(&f->memory, &root, &frame);
	if (r)
		return err_set(err, r, "cannot get memory for '%s': %s", vm->name, strerror(-r));
	r = generation_new(&f->generations, root, &vm->birth);
	if (r) {
		memory_put_root(&f->memory, root);
		return err_set(err, r, "out of memory");
	}
	r = view_map(vm->shell->view, 0, frame, f->ram.size / PAGE_SIZE, true);
	if (r)
		return err_set(err, r, "cannot map the memory of '%s': %s", vm->name, strerror(-r));
	return load(vm, err);
}

/* One that waits to write comes first: otherwise many threads that operate on VMs would keep the
 * checker waiting for ever. */
static void operations_init(pthread_rwlock_t *lock)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(lock, &attr);
	pthread_rwlockattr_destroy(&attr);
}

static int new_family(
	const struct ramet_config *cfg, struct ramet_family **out, struct ramet_err *err)
{
	struct ramet_family *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	r = copy_config(&f->cfg, cfg, err);
	if (r) {
		free(f);
		return r;
	}
	ram_layout_init(&f->ram, f->cfg.memory);
	hurry_mutex_init(&f->lock); /* the guard takes it */
	operations_init(&f->operations);
	generations_init(&f->generations, &f->memory, &f->ram, &f->shells, vm_memory_lost);
	init_slots(f);
	*out = f;
	return 0;
}

int ramet_launch(const struct ramet_config *cfg, struct ramet_family **family,
	struct ramet_vm **out, struct ramet_err *err)
{
	struct ramet_family *f = NULL;
	struct ramet_vm *vm;
	int r = new_family(cfg, &f, err);

	if (r)
		return r;
	if (err)
		err->msg[0] = 0;
	r = shell_signal_init();
	if (!r)
		r = start_family(f, err);
	if (!r)
		r = vm_new(f, NULL, &vm);
	if (r) {
		if (err && !err->msg[0])
			err_set(err, r, "cannot set up '%s': %s%s", f->cfg.name, strerror(-r),
				limit_hint(r));
		stop_family(f);
		return r;
	}
	r = boot(f, vm, err);
	if (r) {
		vm_discard(vm);
		stop_family(f);
		return r;
	}
	/* Once it is linked the guard may fail it, and once it runs its guest may end it: the
	 * reaper must not stop it while it is still being started. */
	vm_lock(vm);
	vm_new_birth(vm, now_ns(), true);
	vm_link(vm);
	if (!cfg->paused) {
		vm->ran = true;
		vm->state = RAMET_RUNNING;
		shell_start(vm->shell, vm, NULL);
	}
	vm_unlock(vm);
	*family = f;
	*out = vm;
	return 0;
}

/* ---- the tree ---- */

/* The next VM after vm, parents first. The family's lock is held. */
static struct ramet_vm *next_vm(struct ramet_vm *vm)
{
	if (vm->first_child)
		return vm->first_child;
	while (vm && !vm->sibling)
		vm = vm->parent;
	return vm ? vm->sibling : NULL;
}

struct ramet_vm **family_snapshot(struct ramet_family *f, unsigned *n)
{
	struct ramet_vm **all;
	unsigned i = 0;

	pthread_mutex_lock(&f->lock);
	for (struct ramet_vm *vm = f->root; vm; vm = next_vm(vm))
		i++;
	all = calloc(i + 1, sizeof(*all));
	*n = 0;
	for (struct ramet_vm *vm = f->root; all && vm; vm = next_vm(vm))
		all[(*n)++] = ramet_vm_get(vm);
	pthread_mutex_unlock(&f->lock);
	return all;
}

int ramet_family_each(
	struct ramet_family *f, int (*fn)(void *arg, const struct ramet_stat *st), void *arg)
{
	unsigned n;
	struct ramet_vm **all = family_snapshot(f, &n);
	int r = all ? 0 : -ENOMEM;

	for (unsigned i = 0; all && i < n; i++) {
		struct ramet_stat st;

		if (!r) {
			ramet_vm_stat(all[i], &st);
			r = fn(arg, &st);
		}
		ramet_vm_put(all[i]);
	}
	free(all);
	return r;
}

struct ramet_vm *ramet_find(struct ramet_family *f, const char *name)
{
	struct ramet_vm *vm;

	pthread_mutex_lock(&f->lock);
	for (vm = f->root; vm && strcmp(vm->name, name) != 0; vm = next_vm(vm))
		;
	if (vm)
		ramet_vm_get(vm);
	pthread_mutex_unlock(&f->lock);
	return vm;
}

/* A reference to a VM without descendants, or NULL: there is none left. Needs no memory. */
static struct ramet_vm *family_leaf(struct ramet_family *f)
{
	struct ramet_vm *vm;

	pthread_mutex_lock(&f->lock);
	for (vm = f->root; vm && vm->first_child; vm = vm->first_child)
		;
	if (vm)
		ramet_vm_get(vm);
	pthread_mutex_unlock(&f->lock);
	return vm;
}

void ramet_family_destroy(struct ramet_family *f)
{
	struct ramet_vm *vm;

	while ((vm = family_leaf(f))) {
		/* Twice: a VM that has failed stays until it is stopped again. */
		ramet_stop(vm, NULL);
		ramet_stop(vm, NULL);
		ramet_vm_put(vm);
	}
	stop_family(f);
}

/* ---- accounts ---- */

void ramet_family_stat_quick(struct ramet_family *f, struct ramet_family_stat *st)
{
	struct ramet_family_stat s = {
		.forks = atomic_load(&f->forks),
		.resets = atomic_load(&f->resets),
		.resolved_spans = atomic_load(&f->generations.resolved),
		.taken_back_spans = atomic_load(&f->generations.taken_back),
	};

	pthread_mutex_lock(&f->lock);
	for (struct ramet_vm *vm = f->root; vm; vm = next_vm(vm))
		s.vms += vm->state == RAMET_RUNNING || vm->state == RAMET_PAUSED;
	pthread_mutex_unlock(&f->lock);
	s.generations = generations_count(&f->generations);
	s.shells_ready = shell_pool_ready(&f->shells);
	memory_stat(&f->memory, &s);
	budget_stat(&f->budget, &s);
	*st = s;
}

/* Pages that VMs have copied, or taken back, and not written to since. */
static uint64_t view_duplicates(struct ramet_family *f)
{
	unsigned n;
	struct ramet_vm **all = family_snapshot(f, &n);
	uint64_t pages = 0;

	for (unsigned i = 0; all && i < n; i++) {
		pthread_mutex_lock(&all[i]->op);
		if (all[i]->shell && all[i]->shell->view->source)
			pages += generation_view_duplicates(all[i]->shell->view, all[i]->birth);
		pthread_mutex_unlock(&all[i]->op);
		ramet_vm_put(all[i]);
	}
	free(all);
	return pages;
}

void ramet_family_stat(struct ramet_family *f, struct ramet_family_stat *st)
{
	struct ramet_family_stat s;
	uint64_t pages = view_duplicates(f);

	ramet_family_stat_quick(f, &s);
	pthread_mutex_lock(&f->generations.lock);
	for (struct generation *g = f->generations.all; g; g = g->all)
		pages += generation_duplicates(g);
	pthread_mutex_unlock(&f->generations.lock);
	s.duplicate_bytes = pages * PAGE_SIZE;
	*st = s;
}
