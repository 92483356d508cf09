/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random trees of guests in the middle of string instructions to and from devices (`strings`): no
 * byte and no register is wrong, and no element is done twice or not at all.
 *
 * RAMET_SOAK_SECONDS: how long (default 20).
 */
#include "tests/kvm/tree.h"

/* The guest's heartbeats count from 1: the host must have counted each exactly once. */
static void check_beats(struct ramet_vm *root)
{
	struct ramet_stat st;

	assert_ok(ramet_pause(root, NULL), NULL);
	ramet_vm_stat_quick(root, &st);
	assert_int_equal(st.heartbeats, st.counter);
	assert_ok(ramet_resume(root, NULL), NULL);
}

static void test_trees(void **state)
{
	struct ramet_config cfg = { .guest = "strings", .memory = 16 * MIB, .shells = 4 };
	struct resources before = resources_now();
	double end = soak_end(20);
	struct tree t;

	tree_start(&t, &cfg, false);
	do {
		rnd_sleep(many_or_few(3000, 30000));
		tree_step(&t);
	} while (now_s() < end);
	for (unsigned k = 0; k < t.n; k++)
		await_beats(t.live[k], 100);
	tree_end(&t);
	assert_no_leak(before);
}

/* One VM is forked and paused again and again, and never stopped. */
static void test_count(void **state)
{
	struct family f = launch("strings", NULL, 16 * MIB, 1);

	for (unsigned i = 0; i < many_or_few(200, 20); i++) {
		struct ramet_vm *child;

		rnd_sleep(3000);
		child = fork_one(f.root);
		check_beats(f.root);
		assert_healthy(f.root);
		assert_healthy(child);
		stop_and_put(child);
	}
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_trees),
	};

	return kvm_run_tests(tests);
}
