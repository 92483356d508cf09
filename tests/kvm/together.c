/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events at the same moment: a guest ends while its VM is launched, forked or reset, or while a
 * thread waits for the family's settler; the checker runs while VMs come and go.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/kvm/common.h"
#include "vmm/vm/events.h"

#define MEMORY (16 * MIB)

/* A guest with many vCPUs that ends before all of them have been started. */
static void test_launch_ends_at_once(void **state)
{
	struct resources before = resources_now();

	for (unsigned i = many_or_few(60, 6); i; i--) {
		struct ramet_config cfg = { .guest = "count",
			.args = "beats=0 status=3",
			.memory = MEMORY,
			.cpus = RAMET_CPUS_MAX };
		struct ramet_err err = { "" };
		struct ramet_stat st;
		struct family f;

		assert_ok(ramet_launch(&cfg, &f.family, &f.root, &err), &err);
		assert_ok(ramet_wait(f.root, RAMET_EV_STOPPED, 0, WAIT_MS), NULL);
		ramet_vm_stat(f.root, &st);
		assert_int_equal(st.state, RAMET_STOPPED);
		assert_int_equal(st.exit_status, 3);
		finish(&f);
	}
	assert_no_leak(before);
}

/* ---- the checker, beside operations ---- */

struct churn {
	struct ramet_vm *vm;
	atomic_bool quit;
	atomic_uint rounds;
};

static void *churn(void *arg)
{
	struct churn *c = arg;

	while (!atomic_load(&c->quit)) {
		struct ramet_vm *child[2];

		if (ramet_fork(c->vm, 2, 0, child, NULL, NULL))
			continue;
		ramet_reset(child[0], NULL);
		for (unsigned i = 0; i < 2; i++) {
			ramet_stop(child[i], NULL);
			ramet_vm_put(child[i]);
		}
		atomic_fetch_add(&c->rounds, 1);
	}
	return NULL;
}

static void test_check_beside_forks(void **state)
{
	struct resources before = resources_now();
	struct ramet_config cfg = {
		.guest = "verify", .args = "memory=2M", .memory = MEMORY, .shells = 8
	};
	struct family f = launch_config(&cfg);
	struct churn c = { .vm = f.root };
	unsigned checks = many_or_few(1000, 100);
	pthread_t thread[2];

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, churn, &c), 0);
	while (checks || !atomic_load(&c.rounds)) {
		struct ramet_err err = { "" };

		assert_ok(ramet_family_check(f.family, &err), &err);
		checks -= checks > 0;
	}
	atomic_store(&c.quit, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	await_beats(f.root, 20);
	finish(&f);
	assert_no_leak(before);
}

/* ---- a guest ends while its VM is operated on ---- */

static void test_reset_of_one_that_ended(void **state)
{
	struct family f = launch("dirty", "dirty=1M rate=max", MEMORY, 1);

	for (unsigned i = many_or_few(100, 10); i; i--) {
		struct ramet_vm *clone = fork_one(f.root);
		struct ramet_err err = { "" };
		struct ramet_stat st;

		await_beats(clone, 1);
		vm_exit(clone, 7);
		assert_int_equal(ramet_reset(clone, &err), -ESRCH);
		assert_ok(ramet_wait(clone, RAMET_EV_STOPPED, 0, WAIT_MS), NULL);
		ramet_vm_stat(clone, &st);
		assert_int_equal(st.exit_status, 7);
		stop_and_put(clone);
	}
	finish(&f);
}

#define FORKERS 4

struct forker {
	struct ramet_vm *vm;
	atomic_uint forks;
};

static void *forker(void *arg)
{
	struct forker *k = arg;
	struct ramet_err err = { "" };
	struct ramet_vm *child;
	int r;

	while ((r = ramet_fork(k->vm, 1, 0, &child, NULL, &err)) != -ESRCH) {
		if (r) /* out of memory: stopped VMs are still being freed */
			continue;
		ramet_pause(child, NULL); /* its memory is not settled yet */
		stop_and_put(child);
		atomic_fetch_add(&k->forks, 1);
	}
	return NULL;
}

/*
 * VMs are forked as fast as possible, so that forks wait until older generations are settled, and
 * their guests end one after the other. A fork that waited with its VM's lock held would wait for
 * ever.
 */
static void test_end_while_forks_wait(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("dirty", "dirty=12M rate=max", MEMORY, 1);
	struct forker k[FORKERS] = { 0 };
	struct ramet_vm *vm[FORKERS];
	pthread_t thread[FORKERS];

	fork_many(f.root, FORKERS, vm);
	for (unsigned i = 0; i < FORKERS; i++) {
		k[i].vm = vm[i];
		assert_int_equal(pthread_create(&thread[i], NULL, forker, &k[i]), 0);
	}
	for (unsigned i = 0; i < FORKERS; i++) {
		unsigned then = atomic_load(&k[i].forks);

		while (atomic_load(&k[i].forks) < then + many_or_few(50, 5))
			usleep(1000);
		fail_now(vm[i]);
		pthread_join(thread[i], NULL);
		stop_and_put(vm[i]);
	}
	await_beats(f.root, 1);
	finish(&f);
	assert_no_leak(before);
}

/* ---- what a VM has told belongs to the moment it was frozen ---- */

/* `count` increments its counter by one: the first value after a birth is one more than at the
 * fork. So before a child's first heartbeat, its stat must not show more than the value at the
 * fork. */
static void test_counter_is_of_the_moment(void **state)
{
	struct family f = launch("count", NULL, MEMORY, 1);
	unsigned looked = 0;

	for (unsigned i = many_or_few(300, 30); i; i--) {
		struct ramet_vm *child[3];

		fork_many(f.root, 3, child);
		for (unsigned j = 0; j < 3; j++) {
			struct ramet_stat a, b;

			ramet_vm_stat_quick(child[j], &a);
			if (!a.heartbeats) {
				await_beats(child[j], 1);
				assert_ok(ramet_pause(child[j], NULL), NULL);
				ramet_vm_stat_quick(child[j], &b);
				assert_int_equal(b.counter, a.counter + b.heartbeats);
				looked++;
			}
			stop_and_put(child[j]);
		}
	}
	print_message("%u children were seen before their first beat\n", looked);
	finish(&f);
}

/* Makes a VM that is paused before its guest has gone beyond READY. The guest sleeps between two
 * chunks of its memory, so that it stays READY for a while. On a very slow machine the pause may
 * come too late nevertheless; then the test tries again. */
static struct family launch_paused_ready(struct ramet_stat *moment)
{
	for (unsigned i = 0; i < 50; i++) {
		struct family f = launch("verify", "memory=8M pause=10000", MEMORY, 1);

		assert_ok(ramet_pause(f.root, NULL), NULL);
		ramet_vm_stat_quick(f.root, moment);
		if (moment->phase == RAMET_PHASE_READY)
			return f;
		finish(&f);
	}
	fail_msg("no VM was paused in time");
	abort();
}

static void test_reset_forgets(void **state)
{
	struct ramet_stat moment, later, again, born;
	struct family f = launch_paused_ready(&moment);
	struct ramet_err err = { "" };
	struct ramet_vm *clone;

	clone = fork_one(f.root);
	assert_ok(ramet_resume(clone, &err), &err);
	assert_ok(ramet_wait(clone, RAMET_EV_PHASE, RAMET_PHASE_VERIFIED, WAIT_MS), NULL);
	await_beats(clone, moment.counter + 2);
	assert_ok(ramet_pause(clone, &err), &err);
	ramet_vm_stat_quick(clone, &later);
	assert_ok(ramet_reset(clone, &err), &err);
	ramet_vm_stat_quick(clone, &again);
	assert_int_equal(later.phase, RAMET_PHASE_VERIFIED);
	assert_int_equal(again.phase, RAMET_PHASE_READY);
	assert_true(again.counter < later.counter);
	assert_int_equal(again.counter, moment.counter);
	assert_int_equal(again.births, later.births + 1);
	ramet_vm_put(clone);
	/* The same as a child that is born from that generation now. */
	clone = fork_one(f.root);
	ramet_vm_stat_quick(clone, &born);
	assert_int_equal(born.phase, RAMET_PHASE_READY);
	ramet_vm_put(clone);
	finish(&f);
}

/* The family is destroyed while its settler is at work after a fork. At least one of 60 rounds hits
 * the critical moment. */
static void test_destroy_while_settling(void **state)
{
	struct resources before = resources_now();

	for (unsigned i = 60; i; i--) {
		struct ramet_config cfg = { .guest = "dirty",
			.args = i % 2 ? "dirty=8M rate=0" : "dirty=8M rate=max",
			.memory = MEMORY,
			.shells = 2 };
		struct family f = launch_config(&cfg);

		for (unsigned k = 0; k < 3; k++) {
			struct ramet_vm *child = fork_one(f.root);

			assert_ok(ramet_wait(child, RAMET_EV_READY, 0, WAIT_MS), NULL);
			stop_and_put(child);
		}
		/* Not finish(): its check would wait for the settler. */
		ramet_vm_put(f.root);
		ramet_family_destroy(f.family);
	}
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_launch_ends_at_once),
		cmocka_unit_test(test_check_beside_forks),
		cmocka_unit_test(test_reset_of_one_that_ended),
		cmocka_unit_test(test_end_while_forks_wait),
		cmocka_unit_test(test_counter_is_of_the_moment),
		cmocka_unit_test(test_reset_forgets),
		cmocka_unit_test(test_destroy_while_settling),
	};

	return kvm_run_tests(tests);
}
