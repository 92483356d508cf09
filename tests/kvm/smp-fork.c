/* SPDX-License-Identifier: Apache-2.0 */
/* Forks of guests with several vCPUs: all vCPUs stop at one moment, and timers continue on both
 * sides. */
#include "tests/kvm/common.h"

#define FORKS 12

static void run_smp(unsigned cpus)
{
	struct resources before = resources_now();
	struct family f = launch("smp", NULL, 16 * MIB, cpus);
	unsigned rounds = many_or_few(30, 5); /* of `smp`, after a fork */
	struct ramet_vm *line[FORKS + 1] = { ramet_vm_get(f.root) };

	/* Each VM is forked from a random earlier one. */
	for (unsigned i = 1; i <= FORKS; i++) {
		line[i] = fork_one(line[rnd(3) ? i - 1 : rnd(i)]);
		rnd_sleep(30000);
	}
	for (unsigned i = 0; i <= FORKS; i++)
		await_beats(line[i], rounds);
	for (unsigned i = 0; i <= FORKS; i++)
		stop_and_put(line[i]);
	finish(&f);
	assert_no_leak(before);
}

static void test_1(void **state)
{
	run_smp(1);
}

static void test_2(void **state)
{
	run_smp(2);
}

static void test_4(void **state)
{
	run_smp(4);
}

static void test_8(void **state)
{
	run_smp(8);
}

/* A fork while each vCPU waits for its first tick, half a second away: the pending timer must fire
 * on both sides. */
static void test_pending_timer(void **state)
{
	struct ramet_config cfg = {
		.guest = "smp", .args = "tick=2", .memory = 16 * MIB, .cpus = 2
	};
	struct ramet_family *family;
	struct ramet_vm *vm, *child;
	struct ramet_err err = { "" };
	struct ramet_stat st;

	assert_ok(ramet_launch(&cfg, &family, &vm, &err), &err);
	assert_ok(ramet_wait(vm, RAMET_EV_READY, 0, WAIT_MS), NULL);
	rnd_sleep(100000);
	child = fork_one(vm);
	ramet_vm_stat_quick(child, &st);
	if (st.phase == RAMET_PHASE_READY)
		print_message("too late: the timer had fired before the fork\n");
	assert_ok(ramet_wait(vm, RAMET_EV_PHASE, RAMET_PHASE_READY, WAIT_MS), NULL);
	assert_ok(ramet_wait(child, RAMET_EV_PHASE, RAMET_PHASE_READY, WAIT_MS), NULL);
	await_beats(vm, many_or_few(30, 5));
	await_beats(child, many_or_few(30, 5));
	stop_and_put(child);
	assert_ok(ramet_family_check(family, &err), &err);
	ramet_vm_put(vm);
	ramet_family_destroy(family);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_1),
		cmocka_unit_test(test_2),
		cmocka_unit_test(test_4),
		cmocka_unit_test(test_8),
		cmocka_unit_test(test_pending_timer),
	};

	return kvm_run_tests(tests);
}
