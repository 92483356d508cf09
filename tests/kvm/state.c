/* SPDX-License-Identifier: Apache-2.0 */
/*
 * No register is lost in a fork or a reset, and none has a value that another VM left in the shell.
 * The `state` guests check this themselves, in parent and child.
 */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/common.h"

/* Waits until the guest has checked its registers after its last birth. */
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

static struct ramet_config config(unsigned cpus, bool pit)
{
	return (struct ramet_config){
		.guest = "state",
		/* scripts/nested sets this; see guest/state.c. */
		.args = getenv("RAMET_EMULATED") ? "watch=0" : NULL,
		.memory = 16 * MIB,
		.cpus = cpus,
		.pit = pit,
	};
}

static void run_state(unsigned cpus, bool pit)
{
	struct resources before = resources_now();
	struct ramet_config cfg = config(cpus, pit);
	struct family f = launch_config(&cfg);
	struct ramet_vm *vm = ramet_vm_get(f.root);
	struct ramet_err err;

	for (unsigned i = 0; i < 10; i++) {
		struct ramet_vm *child;

		rnd_sleep(10000);
		child = fork_one(vm);
		await_verified(child);
		await_verified(vm);
		rnd_sleep(10000);
		assert_ok(ramet_reset(child, &err), &err);
		await_verified(child);
		if (i % 2) { /* continue with the child */
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

/*
 * Clones of one template in two shells, one after the other: each has what the template had, not
 * what the clone before it in that shell wrote, and leaves values of its own there.
 */
static void run_template(unsigned cpus)
{
	struct ramet_config cfg = config(cpus, false);
	struct family f;
	struct ramet_err err;

	cfg.shells = 2;
	f = launch_config(&cfg);
	assert_ok(ramet_pause(f.root, &err), &err);
	for (unsigned i = 0; i < 12; i++) {
		struct ramet_vm *clone;

		assert_ok(ramet_fork(f.root, 1, RAMET_FORK_RUN, &clone, NULL, &err), &err);
		await_verified(clone);
		if (i % 3 == 0) {
			assert_ok(ramet_reset(clone, &err), &err);
			await_verified(clone);
		}
		stop_and_put(clone);
	}
	finish(&f);
}

static void test_template_1(void **state)
{
	run_template(1);
}

static void test_template_2(void **state)
{
	run_template(2);
}

static void step_clock(time_t seconds)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += seconds;
	assert_int_equal(clock_settime(CLOCK_REALTIME, &t), 0);
}

/* The host's clock is set while a template waits: the clone's clock must not jump. The test sets
 * the clock only in the emulated machine. */
static void test_clock(void **state)
{
	static const time_t step[] = { 1000, -5000, 100000 };
	struct ramet_config cfg = config(1, false);
	struct ramet_err err;
	struct family f;

	if (!getenv("RAMET_EMULATED"))
		skip();
	f = launch_config(&cfg);
	assert_ok(ramet_pause(f.root, &err), &err);
	for (unsigned i = 0; i < sizeof(step) / sizeof(step[0]); i++) {
		struct ramet_vm *clone;

		step_clock(step[i]);
		assert_ok(ramet_fork(f.root, 1, RAMET_FORK_RUN, &clone, NULL, &err), &err);
		await_verified(clone);
		step_clock(step[i]);
		assert_ok(ramet_reset(clone, &err), &err);
		await_verified(clone);
		stop_and_put(clone);
	}
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_1),
		cmocka_unit_test(test_3),
		cmocka_unit_test(test_pit),
		cmocka_unit_test(test_template_1),
		cmocka_unit_test(test_template_2),
		cmocka_unit_test(test_clock),
	};

	return kvm_run_tests(tests);
}
