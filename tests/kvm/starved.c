/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random trees with too little memory, because of the family's own limit or of a control group.
 * Operations may fail with an error that says so, and VMs may fail with a reason. No byte may be
 * wrong, and the kernel must not kill the family.
 *
 * RAMET_SOAK_SECONDS: how long each (default 10).
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/tree.h"

static bool last_has_failed(const struct tree *t)
{
	struct ramet_stat st;

	ramet_vm_stat_quick(t->live[0], &st);
	return t->n == 1 && st.state == RAMET_FAILED;
}

/* Runs one starved family after the other, each until its last VM has failed, until time is up and
 * memory was too small at least once. */
static void starve(struct ramet_config *cfg, unsigned pause_us)
{
	unsigned families = 0, forks = 0, resets = 0, errors = 0;
	double end = soak_end(10);

	while (now_s() < end || !errors) {
		struct tree t;

		tree_start(&t, cfg, true);
		while ((now_s() < end || !t.errors) && !last_has_failed(&t)) {
			tree_step(&t);
			rnd_sleep(pause_us);
		}
		while (t.n)
			tree_drop(&t, 0);
		finish(&t.f);
		families++;
		forks += t.forks;
		resets += t.resets;
		errors += t.errors;
	}
	print_message(
		"%u families, %u forks, %u resets, %u errors\n", families, forks, resets, errors);
}

/* Families that may hold little more than one VM's memory. */
static void test_small_pool(void **state)
{
	struct ramet_config cfg = { .guest = "verify",
		.args = "memory=6M",
		.memory = 16 * MIB,
		.max_pool = many_or_few(32, 20) * MIB };
	struct resources before = resources_now();

	starve(&cfg, 10000);
	assert_no_leak(before);
}

/* ---- a control group with too little memory ---- */

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[512];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "r+e"); /* does not make the file */
	if (!f)
		return false;
	ok = fputs(text, f) >= 0;
	return fclose(f) == 0 && ok;
}

/* MiB that the address sanitizer uses itself. In Debian 13 it left too little of 48 MiB for the
 * first VM. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZER_OWN 48u
#else
#define SANITIZER_OWN 0u
#endif

/* Makes a group of version 1 or 2, without swap. */
static bool make_group(char *dir, size_t size)
{
	static const char *const parents[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
	char limit[32];

	/* For clones of a guest that writes to 24 MiB (slowly in an emulated machine). */
	snprintf(limit, sizeof(limit), "%llu", (many_or_few(96, 48) + SANITIZER_OWN) * MIB);
	for (unsigned i = 0; i < 2; i++) {
		write_file(parents[i], "cgroup.subtree_control", "+memory");
		snprintf(dir, size, "%s/ramet-starved-%d", parents[i], (int)getpid());
		if (mkdir(dir, 0755))
			continue;
		if (write_file(dir, "memory.limit_in_bytes", limit) ||
			write_file(dir, "memory.max", limit)) {
			write_file(dir, "memory.memsw.limit_in_bytes", limit);
			write_file(dir, "memory.swap.max", "0");
			return true;
		}
		rmdir(dir);
	}
	return false;
}

/* Runs in a separate process. */
static void starve_group(const char *group)
{
	struct ramet_config cfg = { .guest = "verify", .args = "memory=24M", .memory = 32 * MIB };
	char pid[32];

	alarm((unsigned)(soak_end(10) - now_s()) + 240);
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	if (!write_file(group, "cgroup.procs", pid))
		_exit(SKIP_EXIT);
	starve(&cfg, 20000);
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
		starve_group(group);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	for (unsigned i = 0; rmdir(group) && i < 100; i++)
		usleep(20000);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIP_EXIT)
		skip();
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		fail_msg("the starved family ended with status %#x", (unsigned)status);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_pool),
		cmocka_unit_test(test_group),
	};

	return kvm_run_tests(tests);
}
