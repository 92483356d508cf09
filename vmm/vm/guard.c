// SPDX-License-Identifier: Apache-2.0
/*
 * The guard: when the memory of the host or of a control group is about to run out, it fails one VM
 * and gives the reason. Otherwise the kernel would kill the whole family without a reason. The
 * kernel, not ramet, gives a guest a page when the guest writes to it, so ramet cannot refuse the
 * page. It can only check often enough, and stop a VM.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/vm/guard.h"
#include "vmm/base/clock.h"
#include "vmm/base/headroom.h"
#include "vmm/base/priority.h"
#include "vmm/vm/events.h"
#include "vmm/vm/lineage.h"

/* The most memory that a CPU can use up in a millisecond: as much as it can zero. */
#define BYTES_PER_MS (4ull << 20)
/* The shortest and the longest time between two checks. */
#define LOOK_MS_MIN 2u
#define LOOK_MS_MAX 1000u
/* The reserve: what all CPUs can use up between two checks and until a VM has stopped, plus our own
 * needs; at most an eighth (RESERVE_PART) of a small control group. */
#define RESERVE		(16ull << 20)
#define RESERVE_PER_CPU (2 * LOOK_MS_MIN * BYTES_PER_MS)
#define RESERVE_PART	8u
/* After a VM has failed, wait this long for its memory before the next VM fails. */
#define MERCY_NS 20000000u
/* If no running VM can fail, check again after this time. */
#define IDLE_MS 10u

struct guard {
	pthread_t thread;
	int quit; /* eventfd */
	uint64_t cpus;
	struct headroom headroom;
	uint64_t mercy_ns; /* no VM fails before this time */
	/* For a list of all VMs. It grows while there is enough memory. When memory is short, it
	 * must not grow: malloc()'s lock inherits no priority, and there might be no memory. And
	 * then no fork begins that would need a longer list. */
	struct ramet_vm **list;
	unsigned room;
};

static void make_room(struct ramet_family *f, struct guard *g)
{
	unsigned n = family_size(f);
	struct ramet_vm **list;

	if (n <= g->room)
		return;
	list = realloc(g->list, 2 * n * sizeof(struct ramet_vm *));
	if (!list)
		return;
	g->list = list;
	g->room = 2 * n;
}

static uint64_t reserve(const struct guard *g, const struct headroom_left *now)
{
	uint64_t want = RESERVE + g->cpus * RESERVE_PER_CPU;

	return want < now->limit / RESERVE_PART ? want : now->limit / RESERVE_PART;
}

/* ---- choosing the VM that fails ---- */

/* The memory that only this VM has; 0: the VM does not run. op is held. */
static uint64_t weight(struct ramet_vm *vm)
{
	struct ramet_family_stat st;
	struct view_count c;

	if (vm->state != RAMET_RUNNING || atomic_load(&vm->exit_status) >= 0)
		return 0;
	/* A VM that was never forked writes to frames, not to private pages. */
	if (!vm->birth->state) {
		memory_stat(&vm->family->memory, &st);
		return 1 + st.pool_resident_bytes;
	}
	return view_count(vm->shell->view, &c) ? 1 : 1 + c.private_pages * PAGE_SIZE;
}

/* Finds the VM with the most memory of its own, and keeps its op locked. VMs whose op is locked by
 * another thread are left out: that thread may be waiting for memory. */
static struct ramet_vm *lock_heaviest(struct ramet_vm **vm, unsigned n, uint64_t *bytes)
{
	struct ramet_vm *heaviest = NULL;

	*bytes = 0;
	for (unsigned i = 0; i < n; i++) {
		uint64_t b;

		if (!lock_try(&vm[i]->op))
			continue;
		b = weight(vm[i]);
		if (b <= *bytes) {
			lock_release(&vm[i]->op);
			continue;
		}
		if (heaviest)
			lock_release(&heaviest->op);
		heaviest = vm[i];
		*bytes = b;
	}
	return heaviest;
}

static bool fail_heaviest(struct ramet_family *f, const struct headroom_left *now)
{
	struct guard *g = f->guard;
	unsigned n = family_fill(f, g->list, g->room);
	uint64_t bytes;
	struct ramet_vm *vm = lock_heaviest(g->list, n, &bytes);

	if (vm) {
		vm_fail(vm,
			"%s had %llu MiB of its %llu MiB left, and this VM had the most private "
			"memory of all running VMs (%llu MiB)",
			now->where, (unsigned long long)now->left >> 20,
			(unsigned long long)now->limit >> 20, (unsigned long long)bytes >> 20);
		shell_interrupt(vm->shell);
		lock_release(&vm->op);
	}
	for (unsigned i = 0; i < n; i++)
		ramet_vm_put(g->list[i]);
	return vm;
}

/* ---- checking ---- */

/* Returns the time until the next check, in ms. */
static unsigned look(struct ramet_family *f, struct guard *g)
{
	struct headroom_left now;
	uint64_t keep, ms;

	make_room(f, g);
	headroom_look(&g->headroom, &now);
	keep = reserve(g, &now);
	budget_set(&f->budget, &now, now.left < keep);
	memory_spare(&f->memory, now.left < keep);
	/* If memory is tight no operation begins, but those under way may use half the reserve. */
	memory_grant(&f->memory, now.left > keep / 2 ? now.left - keep / 2 : 0);
	if (now.left < keep) {
		if (now_ns() < g->mercy_ns)
			return LOOK_MS_MIN;
		if (!fail_heaviest(f, &now))
			return IDLE_MS;
		g->mercy_ns = now_ns() + MERCY_NS;
		return LOOK_MS_MIN;
	}
	ms = (now.left - keep) / (BYTES_PER_MS * g->cpus);
	return ms < LOOK_MS_MIN ? LOOK_MS_MIN : ms > LOOK_MS_MAX ? LOOK_MS_MAX : (unsigned)ms;
}

static void *guard_thread(void *arg)
{
	struct ramet_family *f = arg;
	struct guard *g = f->guard;
	struct pollfd quit = { .fd = g->quit, .events = POLLIN };

	/* Real-time, since guests that use up memory also keep the CPUs busy. */
	hurry_for_good(GUARD_PRIORITY);
	while (poll(&quit, 1, (int)look(f, g)) <= 0)
		;
	return NULL;
}

int guard_start(struct ramet_family *f)
{
	struct guard *g = calloc(1, sizeof(*g));
	struct headroom_left left;
	int r;

	if (!g)
		return -ENOMEM;
	g->quit = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (g->quit < 0) {
		r = -errno;
		free(g);
		return r;
	}
	g->cpus = (uint64_t)get_nprocs(); /* reads a file */
	headroom_open(&g->headroom, "");
	headroom_look(&g->headroom, &left);
	budget_init(&f->budget, &left);
	f->guard = g;
	r = -pthread_create(&g->thread, NULL, guard_thread, f);
	if (r) {
		g->thread = 0;
		guard_stop(f);
	}
	return r;
}

void guard_stop(struct ramet_family *f)
{
	struct guard *g = f->guard;

	eventfd_write(g->quit, 1);
	lock_may_wait_for(WAIT_END);
	if (g->thread)
		pthread_join(g->thread, NULL);
	headroom_close(&g->headroom);
	budget_destroy(&f->budget);
	close(g->quit);
	free(g->list);
	free(g);
	f->guard = NULL;
}

bool guard_kernel(const struct ramet_family *f, uint64_t *bytes, uint64_t *tables)
{
	return headroom_kernel(&f->guard->headroom, bytes, tables);
}
