/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random trees of guests that check their memory (`verify`) and of guests with two vCPUs and timers
 * (`smp`), under random forks, resets, pauses, reads and stops: no wrong byte, nothing lost, every
 * count right. And the same with too little memory: that ends in errors that say so, in VMs that
 * stop and say why, or in the process being killed by the kernel; never in a wrong byte.
 *
 * RAMET_SOAK_SECONDS: how long (default 30).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/common.h"

#define LIVE_MAX     8
#define MAX_CHILDREN 3
#define CHECK_EVERY  40 /* operations */

/* ---- a tree ---- */

struct tree {
	struct family f;
	struct ramet_vm *live[LIVE_MAX + MAX_CHILDREN];
	unsigned n;
	/* VMs may fail, and operations be refused, for want of memory; but not without saying so.
	 */
	bool starved;
	unsigned forks, resets, errors;
};

static bool told(struct tree *t, int ret, const struct ramet_err *err)
{
	if (!ret)
		return true;
	if (!t->starved || ret == -EINVAL)
		fail_msg("%s: %s", strerror(-ret), err->msg);
	assert_true(strlen(err->msg) > 0);
	t->errors++;
	return false;
}

/* Alive and right; or, in a starved tree, failed with a reason. False: it has to go. */
static bool fine(struct tree *t, struct ramet_vm *vm)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(vm, &st);
	if (st.report)
		fail_msg("%s: report %u at %#lx", st.name, st.report, st.report_gpa);
	if (st.state == RAMET_RUNNING || st.state == RAMET_PAUSED)
		return true;
	if (!t->starved || st.state != RAMET_FAILED || !st.failure[0])
		fail_msg("%s: state %d (%s), exit status %d", st.name, st.state, st.failure,
			st.exit_status);
	t->errors++;
	return false;
}

static void drop(struct tree *t, unsigned i)
{
	stop_and_put(t->live[i]);
	t->live[i] = t->live[--t->n];
}

static void do_fork(struct tree *t, unsigned i)
{
	unsigned n = 1 + (unsigned)rnd(MAX_CHILDREN);
	struct ramet_err err = { "" };

	if (t->n >= LIVE_MAX)
		return;
	if (!told(t, ramet_fork(t->live[i], n, 0, t->live + t->n, NULL, &err), &err))
		return;
	t->n += n;
	t->forks++;
}

static void do_reset(struct tree *t, unsigned i)
{
	struct ramet_err err = { "" };
	int r = ramet_reset(t->live[i], &err);

	if (r != -EINVAL && told(t, r, &err)) /* the one that booted has no birth */
		t->resets++;
}

static void do_pause(struct tree *t, unsigned i)
{
	struct ramet_err err = { "" };

	if (!told(t, ramet_pause(t->live[i], &err), &err))
		return;
	if (rnd(3) == 0)
		do_fork(t, i); /* its children are paused, too */
	rnd_sleep(3000);
	for (unsigned k = 0; k < t->n; k++)
		told(t, ramet_resume(t->live[k], &err), &err);
}

static void do_read(struct tree *t, unsigned i)
{
	uint8_t buf[8192];
	int r = ramet_read(t->live[i], rnd(8 * MIB), buf, sizeof(buf));

	if (r && !t->starved)
		fail_msg("reading: %s", strerror(-r));
}

static void step(struct tree *t)
{
	unsigned i = (unsigned)rnd(t->n);

	switch (rnd(10)) {
	case 0:
	case 1:
		do_reset(t, i);
		break;
	case 2:
		do_pause(t, i);
		break;
	case 3:
		do_read(t, i);
		break;
	case 4:
	case 5:
	case 6:
		if (t->n > 1) {
			drop(t, i);
			break;
		}
		/* fall through */
	default:
		do_fork(t, i);
	}
	for (unsigned k = t->n; k-- > 0;)
		if (!fine(t, t->live[k]) && t->n > 1)
			drop(t, k);
}

static void tree_start(struct tree *t, struct ramet_config *cfg, bool starved)
{
	*t = (struct tree){ .f = launch_config(cfg), .starved = starved };
	t->live[t->n++] = ramet_vm_get(t->f.root);
}

static void tree_check(struct tree *t)
{
	struct ramet_err err = { "" };

	assert_ok(ramet_family_check(t->f.family, &err), &err);
}

static void tree_end(struct tree *t)
{
	struct ramet_family_stat st;

	tree_check(t);
	while (t->n > 1)
		drop(t, 0);
	tree_check(t);
	ramet_family_stat(t->f.family, &st);
	print_message("%u forks, %u resets, %u errors; left: %lu generations, %lu KiB of frames, "
		      "%lu tables\n",
		t->forks, t->resets, t->errors, st.generations, st.pool_bytes >> 10, st.tables);
	assert_true(st.generations <= 3); /* its birth, its home, one on its way out */
	drop(t, 0);
	finish(&t->f);
}

static void test_trees(void **state)
{
	struct ramet_config verify = { .guest = "verify", .args = "memory=2M", .memory = 16 * MIB };
	struct ramet_config smp = { .guest = "smp", .memory = 16 * MIB, .cpus = 2 };
	struct resources before = resources_now();
	double end = soak_end(30);
	struct tree t[2];

	tree_start(&t[0], &verify, false);
	tree_start(&t[1], &smp, false);
	for (unsigned n = 1; now_s() < end; n++) {
		step(&t[rnd(2)]);
		rnd_sleep(5000);
		if (n % CHECK_EVERY == 0)
			tree_check(&t[rnd(2)]);
	}
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < t[i].n; k++)
			await_beats(t[i].live[k], 20);
		tree_end(&t[i]);
	}
	assert_no_leak(before);
}

/* A family that may hold little more than one VM's memory. */
static void test_small_pool(void **state)
{
	struct ramet_config cfg = {
		.guest = "verify", .args = "memory=6M", .memory = 16 * MIB, .max_pool = 32 * MIB
	};
	struct resources before = resources_now();
	double end = now_s() + (soak_end(30) - now_s()) / 3;
	struct tree t;

	tree_start(&t, &cfg, true);
	while (now_s() < end) {
		step(&t);
		rnd_sleep(10000);
	}
	while (t.n)
		drop(&t, 0);
	print_message("%u forks, %u resets, %u errors\n", t.forks, t.resets, t.errors);
	finish(&t.f);
	assert_no_leak(before);
}

/* ---- a control group with too little memory ---- */

#define LIMIT "134217728"

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	if (!f)
		return false;
	ok = fputs(text, f) >= 0;
	return fclose(f) == 0 && ok;
}

static bool make_group(char *dir, size_t size)
{
	static const char *const parents[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };

	for (unsigned i = 0; i < 2; i++) {
		snprintf(dir, size, "%s/ramet-soak-%d", parents[i], (int)getpid());
		if (mkdir(dir, 0755))
			continue;
		if (write_file(dir, "memory.limit_in_bytes", LIMIT) ||
			write_file(dir, "memory.max", LIMIT))
			return true;
		rmdir(dir);
	}
	return false;
}

/* In a process of its own, which the kernel may kill. */
static void starve(const char *group)
{
	struct ramet_config cfg = { .guest = "verify", .args = "memory=24M", .memory = 32 * MIB };
	double end = now_s() + (soak_end(30) - now_s()) / 3;
	char pid[32];
	struct tree t;

	alarm(240);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (!write_file(group, "cgroup.procs", pid))
		_exit(SKIP_EXIT);
	tree_start(&t, &cfg, true);
	while (now_s() < end) {
		step(&t);
		rnd_sleep(20000);
	}
	print_message("%u forks, %u resets, %u errors\n", t.forks, t.resets, t.errors);
	fflush(NULL);
	_exit(0);
}

static void test_group(void **state)
{
	char group[256];
	int status;
	pid_t pid;

	if (!make_group(group, sizeof(group))) {
		print_message("cannot make a control group with a memory limit here\n");
		skip();
	}
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		starve(group);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (unsigned i = 0; rmdir(group) && i < 100; i++)
		usleep(20000);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP_EXIT)
		skip();
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		print_message("killed by the kernel for want of memory\n");
		return;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("the starved family ended with status %#x", (unsigned)status);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trees),
		cmocka_unit_test(test_small_pool),
		cmocka_unit_test(test_group),
	};

	return kvm_run_tests(tests);
}
