/* SPDX-License-Identifier: Apache-2.0 */
/* No register is lost in a fork: `state` guests look for themselves, in parent and child. */
#include <stdlib.h>
#include <unistd.h>

#include "tests/kvm/common.h"

/* Waits until the guest has checked the birth it went through last. */
static void await_verified(struct ramet_vm *vm)
{
	double end = now_s() + WAIT_MS / 1000;
	struct ramet_stat st;

	do {
		assert_healthy(vm);
		ramet_vm_stat_quick(vm, &st);
		if (st.counter == st.births)
			return;
		usleep(500);
	} while (now_s() < end);
	fail_msg("%s has not looked at birth %lu", st.name, st.births);
}

static void run_state(unsigned cpus, bool pit)
{
	struct resources before = resources_now();
	struct ramet_config cfg = {
		.guest = "state",
		/* scripts/nested sets this; see guest/state.c. */
		.args = getenv("RAMET_EMULATED") ? "watch=0" : NULL,
		.memory = 16 * MIB,
		.cpus = cpus,
		.pit = pit,
	};
	struct family f = launch_config(&cfg);
	struct ramet_vm *vm = ramet_vm_get(f.root);

	for (unsigned i = 0; i < 10; i++) {
		struct ramet_vm *child;

		rnd_sleep(10000);
		child = fork_one(vm);
		await_verified(child);
		await_verified(vm);
		if (i % 2) { /* go on with the child */
			stop_and_put(vm);
			vm = child;
		} else {
			stop_and_put(child);
		}
	}
	stop_and_put(vm);
	finish(&f);
	assert_no_leak(before);
}

static void test_1(void **state)
{
	run_state(1, false);
}

static void test_3(void **state)
{
	run_state(3, false);
}

static void test_pit(void **state)
{
	run_state(1, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_1),
		cmocka_unit_test(test_3),
		cmocka_unit_test(test_pit),
	};

	return kvm_run_tests(tests);
}
