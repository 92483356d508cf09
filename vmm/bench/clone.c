/* SPDX-License-Identifier: Apache-2.0 */
/* Measures forks of the guest `dirty` or of a kernel, each with a fork(2) and a copy to compare. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/bench/clone.h"
#include "include/ramet/abi.h"
#include "include/ramet/ramet.h"
#include "vmm/cli/command.h"

#define PAGE		 4096u
#define LOOK_MS		 1	/* time between two reads of a guest's counter */
#define GUEST_TIMEOUT_MS 600000 /* enough to dirty 64 GiB of memory never used before */
#define COLD_REPS	 5
#define KERNEL_RUN_MS	 200  /* in mode live a kernel's guest runs this long between forks */
#define KERNEL_READY_MS	 2000 /* after this time a sleeping guest's ready time is left out */

/* A family under measurement. */
struct subject {
	struct ramet_family *family;
	struct ramet_vm *vm; /* the VM to fork */
	uint64_t pages;	     /* number of pages that it dirties between forks; 0: a template */
	unsigned run_ms;     /* for a kernel: how long it runs between forks */
	uint32_t counter;    /* number of pages it had written at the last fork */
};

static int failed(const char *what, int err, const struct ramet_err *e)
{
	complain("%s: %s", what, e && e->msg[0] ? e->msg : strerror(-err));
	return EXIT_TROUBLE;
}

static void subject_end(struct subject *s)
{
	if (!s->family)
		return;
	ramet_vm_put(s->vm);
	ramet_family_destroy(s->family);
	s->family = NULL;
}

/* Boots the guest and waits until it has dirtied its memory. */
static int subject_boot(struct subject *s, const struct clone_result *r, bool cold)
{
	char args[64];
	struct ramet_config cfg = { .guest = "dirty", .args = args };
	struct ramet_err err = { "" };
	int ret;

	*s = (struct subject){ 0 };
	snprintf(args, sizeof(args), "dirty=%" PRIu64 " rate=%s", r->dirty,
		r->mode == MODE_LIVE ? "max" : "0");
	if (r->guest)
		cfg = *r->guest;
	cfg.name = "bench";
	cfg.memory = r->memory;
	cfg.cpus = r->cpus;
	cfg.cold = cold;
	cfg.shells = r->clones + 1;
	ret = ramet_launch(&cfg, &s->family, &s->vm, &err);
	if (ret)
		return failed("launching the guest", ret, &err);
	ret = ramet_wait(s->vm, RAMET_EV_PHASE, RAMET_PHASE_READY, GUEST_TIMEOUT_MS);
	if (!ret)
		return EXIT_OK;
	subject_end(s);
	if (r->guest && ret == -ETIMEDOUT)
		return complain(
			"the guest has not said that it is ready; it does so by writing 1 to "
			"its doorbell: devmem 0x%x 32 1",
			RAMET_DOORBELL_MMIO + RAMET_DB_PHASE);
	return failed("waiting for the guest to be ready", ret, NULL);
}

static void stop_and_put(struct ramet_vm **vms, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		ramet_stop(vms[i], NULL);
		ramet_vm_put(vms[i]);
	}
}

static uint32_t counter_of(struct ramet_vm *vm)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	return st.counter;
}

/* Makes a live subject: a clone. The VM that booted is stopped. */
static int subject_become_clone(struct subject *s)
{
	struct ramet_vm *clone;
	struct ramet_err err = { "" };
	int ret = ramet_fork(s->vm, 1, 0, &clone, NULL, &err);

	if (ret)
		return failed("forking the guest", ret, &err);
	stop_and_put(&s->vm, 1);
	s->vm = clone;
	s->counter = counter_of(clone);
	return EXIT_OK;
}

/* Waits until a live subject has written each of its pages since its last fork. */
static int subject_dirty(struct subject *s)
{
	struct timespec nap = { .tv_nsec = LOOK_MS * 1000000 };
	struct ramet_stat st;

	if (s->run_ms)
		usleep(s->run_ms * 1000);
	if (!s->pages)
		return EXIT_OK;
	do {
		nanosleep(&nap, NULL);
		ramet_vm_stat_quick(s->vm, &st);
		if (st.state != RAMET_RUNNING)
			return complain("the guest failed: %s", st.failure);
	} while (st.counter - s->counter < s->pages);
	return EXIT_OK;
}

/* Measures the time from a VM's birth until it is first seen to run. */
static int ready_time(const struct clone_result *r, struct ramet_vm *vm, struct series *out)
{
	struct ramet_stat st;
	int ret = ramet_wait(vm, RAMET_EV_READY, 0, r->guest ? KERNEL_READY_MS : 10000);

	if (ret == -ETIMEDOUT && r->guest)
		return EXIT_OK;
	if (ret)
		return failed("waiting for a VM after a fork", ret, NULL);
	ramet_vm_stat_quick(vm, &st);
	series_add(out, st.ready_ns - st.born_ns);
	return EXIT_OK;
}

static uint64_t family_tables(struct ramet_family *family)
{
	struct ramet_family_stat st;

	ramet_family_stat_quick(family, &st);
	return st.table_bytes;
}

static uint64_t family_touched(struct ramet_family *family)
{
	struct ramet_family_stat st;

	ramet_family_stat(family, &st);
	return st.pool_resident_bytes;
}

/* Counts table memory, once per combination, because counting takes time. */
static void count_tables(struct clone_result *r, struct subject *s, uint64_t before)
{
	struct ramet_stat st;

	if (r->tables_before)
		return;
	ramet_vm_stat(s->vm, &st);
	r->tables_before = before;
	r->tables_after = family_tables(s->family);
	r->tables_classic = before + r->clones * (st.table_bytes + st.tables_shared * PAGE);
}

/* Waits until all VMs are ready. Only then counts memory, which takes locks and time. */
static int look_at_all(struct clone_result *r, struct subject *s, struct ramet_vm **children)
{
	struct ramet_stat st;
	int ret = ready_time(r, s->vm, &r->parent_ready);

	for (unsigned i = 0; i < r->clones && !ret; i++)
		ret = ready_time(r, children[i], &r->ready);
	for (unsigned i = 0; i < r->clones && !ret; i++) {
		ramet_vm_stat(children[i], &st);
		series_add(&r->private, st.private_bytes);
	}
	return ret;
}

/* Makes one fork, then measures parent and children. */
static int measure_fork(struct clone_result *r, struct subject *s, struct ramet_vm **children)
{
	struct ramet_fork_times t;
	struct ramet_err err = { "" };
	uint64_t before;
	int ret = subject_dirty(s);

	if (ret)
		return ret;
	before = family_tables(s->family);
	ret = ramet_fork(s->vm, r->clones, 0, children, &t, &err);
	if (ret)
		return failed("forking the guest", ret, &err);
	s->counter = counter_of(s->vm);
	series_add(&r->pause, t.pause_ns);
	ret = look_at_all(r, s, children);
	if (!ret)
		count_tables(r, s, before);
	stop_and_put(children, r->clones);
	return ret;
}

static void measure_baselines(struct clone_result *r, struct baseline *b)
{
	for (unsigned k = 0; k < BASELINE_KINDS; k++) {
		uint64_t ns;

		if (!baseline_measure(b, (enum baseline_kind)k, &ns))
			series_add(&r->base[k], ns);
	}
}

static int measure_warm(
	struct clone_result *r, unsigned reps, struct baseline *b, struct ramet_vm **children)
{
	struct subject s;
	int ret = subject_boot(&s, r, false);

	if (ret)
		return ret;
	if (r->mode == MODE_LIVE) {
		s.pages = r->guest ? 0 : r->dirty / PAGE;
		s.run_ms = r->guest ? KERNEL_RUN_MS : 0;
		ret = subject_become_clone(&s);
	}
	for (unsigned i = 0; i < reps && !ret; i++) {
		ret = measure_fork(r, &s, children);
		measure_baselines(r, b);
	}
	subject_end(&s);
	return ret;
}

/* The same forks without a prepared shell. Only their ready times are used. */
static int measure_cold(struct clone_result *r, struct ramet_vm **children)
{
	struct clone_result cold = { .memory = r->memory,
		.dirty = r->dirty,
		.guest = r->guest,
		.mode = MODE_TEMPLATE,
		.cpus = r->cpus,
		.clones = r->clones };
	struct subject s;
	int ret = subject_boot(&s, &cold, true);

	if (ret)
		return ret;
	if (r->guest)
		r->dirty = family_touched(s.family);
	for (unsigned i = 0; i < COLD_REPS && !ret; i++)
		ret = measure_fork(&cold, &s, children);
	subject_end(&s);
	r->cold = cold.ready;
	series_free(&cold.pause);
	series_free(&cold.parent_ready);
	series_free(&cold.private);
	return ret;
}

int clone_measure(struct clone_result *r, unsigned reps)
{
	struct ramet_vm **children = calloc(r->clones, sizeof(struct ramet_vm *));
	struct baseline b;
	int ret;

	if (!children)
		return complain("out of memory");
	/* For a kernel, only this run shows how much memory to compare with. */
	if (r->guest && measure_cold(r, children)) {
		free(children);
		return EXIT_TROUBLE;
	}
	/* Started before the family, so that the separate process has no memory of the family. */
	if (baseline_start(&b, r->dirty))
		complain("no memory for a process of %" PRIu64 " MiB: no comparison with fork(2)",
			r->dirty >> 20);
	ret = measure_warm(r, reps, &b, children);
	baseline_stop(&b);
	if (!ret && r->mode == MODE_TEMPLATE && !r->guest)
		ret = measure_cold(r, children);
	free(children);
	return ret;
}

void clone_results_free(struct clone_result *list)
{
	while (list) {
		struct clone_result *next = list->next;

		series_free(&list->pause);
		series_free(&list->ready);
		series_free(&list->parent_ready);
		series_free(&list->cold);
		series_free(&list->private);
		for (unsigned k = 0; k < BASELINE_KINDS; k++)
			series_free(&list->base[k]);
		free(list);
		list = next;
	}
}
