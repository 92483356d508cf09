/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random trees of guests that check their memory (`verify`) and of guests with two vCPUs and timers
 * (`smp`): no wrong byte, nothing lost, every count right.
 *
 * RAMET_SOAK_SECONDS: how long (default 60).
 */
#include "tests/kvm/tree.h"

#define CHECK_EVERY 40 /* operations */

static void test_trees(void **state)
{
	struct ramet_config verify = { .guest = "verify", .args = "memory=2M", .memory = 16 * MIB };
	struct ramet_config smp = { .guest = "smp", .memory = 16 * MIB, .cpus = 2 };
	struct resources before = resources_now();
	double end = soak_end(60);
	struct tree t[2];

	tree_start(&t[0], &verify, false);
	tree_start(&t[1], &smp, false);
	for (unsigned n = 1; now_s() < end; n++) {
		tree_step(&t[rnd(2)]);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trees),
	};

	return kvm_run_tests(tests);
}
