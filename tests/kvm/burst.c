/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fork into many: no child runs before all are loaded and in the family, the maker has mapped the
 * right memory ahead, and a fork that meets a limit is refused whole.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/kvm/common.h"
#include "vmm/vm/vm.h"

#define MEMORY (16 * MIB)
#define MANY   24u /* more than fork.c's BURST_MIN */

static struct {
	struct ramet_family *_Atomic family;
	atomic_uint ended, first_saw;
} seen;

static void note_end(void *arg, struct ramet_vm *vm, uint64_t alive)
{
	struct ramet_family_stat st;

	/* The parent ends, too. */
	if (atomic_fetch_add(&seen.ended, 1) || !atomic_load(&seen.family))
		return;
	ramet_family_stat_quick(seen.family, &st);
	atomic_store(&seen.first_saw, (unsigned)st.vms);
}

/* Guests that end at once: when the first of them ends, all children are in the family. */
static void test_all_before_any(void **state)
{
	struct ramet_config cfg = { .guest = "count",
		.args = "beats=200 rate=100",
		.memory = MEMORY,
		.shells = MANY + 1,
		.ended = note_end };
	struct resources before = resources_now();
	struct ramet_vm *child[MANY];
	struct family f = launch_config(&cfg);
	struct ramet_stat st;

	memset(&seen, 0, sizeof(seen));
	await_beats(f.root, 1);
	atomic_store(&seen.family, f.family);
	fork_many(f.root, MANY, child);
	for (unsigned i = 0; i < MANY; i++) {
		assert_int_equal(ramet_wait(child[i], RAMET_EV_STOPPED, 0, WAIT_MS), 0);
		ramet_vm_stat_quick(child[i], &st);
		assert_int_equal(st.exit_status, 0);
		assert_true(st.heartbeats > 0);
		ramet_vm_put(child[i]);
	}
	/* The one that has ended first is not counted any more. */
	assert_int_equal(atomic_load(&seen.first_saw), MANY);
	atomic_store(&seen.family, NULL);
	finish(&f);
	assert_no_leak(before);
}

/* Children of a running VM, of a clone, and of a template, from shells whose views were mapped
 * ahead for another generation or for the right one: each finds its own memory. */
static void test_memory_mapped_ahead(void **state)
{
	struct ramet_config cfg = {
		.guest = "verify", .args = "memory=2M", .memory = MEMORY, .shells = MANY + 1
	};
	struct resources before = resources_now();
	struct ramet_vm *child[MANY], *clone;
	struct family f = launch_config(&cfg);
	struct ramet_err err = { "" };

	await_shells(
		f.family, MANY + 1, RAMET_SHELLS_MAX); /* mapped ahead for the VM that booted */
	clone = fork_one(f.root);
	await_beats(clone, 50);
	fork_many(clone, MANY, child); /* of a generation that is not settled */
	for (unsigned i = 0; i < MANY; i++) {
		await_beats(child[i], 20);
		assert_healthy(child[i]);
		stop_and_put(child[i]);
	}
	assert_ok(ramet_pause(clone, &err), &err);
	for (unsigned round = 0; round < 3; round++) { /* a template from the second round on */
		assert_ok(ramet_fork(clone, MANY, RAMET_FORK_RUN, child, NULL, &err), &err);
		for (unsigned i = 0; i < MANY; i++) {
			await_beats(child[i], 20);
			assert_healthy(child[i]);
			stop_and_put(child[i]);
		}
		await_shells(f.family, MANY + 1, RAMET_SHELLS_MAX);
	}
	assert_ok(ramet_family_check(f.family, &err), &err);
	stop_and_put(clone);
	finish(&f);
	assert_no_leak(before);
}

/* While many newborn guests keep the CPUs busy, and the maker makes new shells, other operations go
 * on: pause, fork, reset, stop. */
static void test_operations_meanwhile(void **state)
{
	struct resources before = resources_now();
	struct ramet_config cfg = { .guest = "count", .memory = MEMORY, .shells = MANY };
	struct ramet_vm *child[MANY], *more;
	struct family f = launch_config(&cfg);
	struct ramet_err err = { "" };

	await_beats(f.root, 1);
	fork_many(f.root, MANY, child);
	for (unsigned i = 0; i < MANY; i++) {
		assert_ok(ramet_pause(child[i], &err), &err);
		assert_ok(ramet_resume(child[i], &err), &err);
		more = fork_one(child[i]);
		assert_ok(ramet_reset(more, &err), &err);
		stop_and_put(more);
	}
	for (unsigned i = 0; i < MANY; i++)
		await_beats(child[i], 3);
	/* All stand still first. */
	ramet_family_stop(f.family);
	for (unsigned i = 0; i < MANY; i++) {
		struct ramet_stat st;

		ramet_vm_stat_quick(child[i], &st);
		assert_int_equal(st.state, RAMET_STOPPED);
		ramet_vm_put(child[i]);
	}
	finish(&f);
	assert_no_leak(before);
}

/* Refused before anything is made, and the parent does not notice. */
static void test_limits(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("count", "rate=100", MEMORY, 8);
	static struct ramet_vm *child[RAMET_FORK_MAX];
	struct ramet_err err = { "" };
	struct rlimit was, few;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = 512;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(ramet_fork(f.root, RAMET_FORK_MAX, 0, child, NULL, &err), -EMFILE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	assert_non_null(strstr(err.msg, "more open files"));
	assert_non_null(strstr(err.msg, "continues unchanged"));
	assert_null(child[0]);
	await_beats(f.root, 3);
	stop_and_put(fork_one(f.root));
	await_shells(f.family, 0, 2);
	finish(&f);
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_before_any),
		cmocka_unit_test(test_memory_mapped_ahead),
		cmocka_unit_test(test_operations_meanwhile),
		cmocka_unit_test(test_limits),
	};

	return kvm_run_tests(tests);
}
