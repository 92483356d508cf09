/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stopping any VM at any time never disturbs another: ancestors before descendants and the other
 * way round, at once after the fork, from several threads, and while it is being forked.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvm/common.h"
#include "vmm/vm/events.h"
#include "vmm/vm/vm.h"

#define CHAIN	   16
#define FULL_CHECK 1000 /* see verify-tree.c */
#define MEMORY	   (16 * MIB)
#define ARGS	   "memory=2M"

static void make_chain(struct ramet_vm *root, struct ramet_vm **chain)
{
	chain[0] = ramet_vm_get(root);
	for (unsigned i = 1; i < CHAIN; i++) {
		chain[i] = fork_one(chain[i - 1]);
		rnd_sleep(3000);
	}
}

/* Stops all VMs of a chain of forks except one, in a given order. That one must be right. */
static void stop_in_order(int (*compare)(const void *, const void *), unsigned survivor)
{
	struct resources before = resources_now();
	struct family f = launch("verify", ARGS, MEMORY, 1);
	struct ramet_vm *chain[CHAIN];
	unsigned order[CHAIN];
	struct ramet_err err = { "" };

	make_chain(f.root, chain);
	for (unsigned i = 0; i < CHAIN; i++)
		order[i] = i;
	qsort(order, CHAIN, sizeof(order[0]), compare);
	for (unsigned i = 0; i < CHAIN; i++) {
		if (order[i] == survivor)
			continue;
		stop_and_put(chain[order[i]]);
		assert_healthy(chain[survivor]);
		assert_ok(ramet_family_check(f.family, &err), &err);
	}
	await_beats(chain[survivor], FULL_CHECK);
	stop_and_put(chain[survivor]);
	finish(&f);
	assert_no_leak(before);
}

static int upwards(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static int downwards(const void *a, const void *b)
{
	return *(const int *)b - *(const int *)a;
}

static int odd_first(const void *a, const void *b)
{
	return (*(const int *)b & 1) - (*(const int *)a & 1);
}

static void test_ancestors_first(void **state)
{
	stop_in_order(upwards, CHAIN - 1);
}

static void test_descendants_first(void **state)
{
	stop_in_order(downwards, 0);
}

static void test_middle(void **state)
{
	stop_in_order(odd_first, CHAIN / 2);
}

static void test_at_once(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("verify", ARGS, MEMORY, 1);

	for (unsigned i = 0; i < 30; i++) {
		struct ramet_vm *children[3];

		fork_many(f.root, 3, children);
		for (unsigned c = 0; c < 3; c++)
			stop_and_put(children[c]);
		assert_healthy(f.root);
	}
	await_beats(f.root, FULL_CHECK);
	finish(&f);
	assert_no_leak(before);
}

/* A stopped VM stays stopped, whatever operation is called. */
static void test_stopped(void **state)
{
	struct family f = launch("count", NULL, MEMORY, 1);
	struct ramet_vm *child = fork_one(f.root), *none = (void *)1;
	struct ramet_err err = { "" };
	struct ramet_stat st;
	char byte;

	await_beats(child, 1);
	assert_ok(ramet_stop(child, &err), &err);
	assert_ok(ramet_stop(child, &err), &err);
	assert_ok(ramet_wait(child, RAMET_EV_STOPPED, 0, 0), NULL);
	assert_int_equal(ramet_fork(child, 1, 0, &none, NULL, &err), -ESRCH);
	assert_ptr_equal(none, (void *)1);
	assert_true(strlen(err.msg) > 0);
	assert_int_equal(ramet_pause(child, NULL), -ESRCH);
	assert_int_equal(ramet_resume(child, NULL), -ESRCH);
	assert_int_equal(ramet_reset(child, NULL), -ESRCH);
	assert_int_not_equal(ramet_read(child, 0, &byte, 1), 0);
	assert_int_equal(ramet_console_input(child, "x", 1), 0);
	assert_int_equal(ramet_wait(child, RAMET_EV_HEARTBEATS, UINT64_MAX, 1000), -ESRCH);
	ramet_vm_stat(child, &st);
	assert_int_equal(st.state, RAMET_STOPPED);
	assert_int_equal(st.private_bytes, 0);
	ramet_vm_put(child);
	await_beats(f.root, 10);
	finish(&f);
}

/* The guest stops its VM: its status is reported, and its relatives are not disturbed. */
static void test_exit_status(void **state)
{
	struct ramet_config cfg = {
		.guest = "count", .args = "beats=1 status=2", .memory = MEMORY
	};
	struct ramet_family *family;
	struct ramet_vm *vm;
	struct ramet_stat st;

	assert_ok(ramet_launch(&cfg, &family, &vm, NULL), NULL);
	assert_ok(ramet_wait(vm, RAMET_EV_STOPPED, 0, WAIT_MS), NULL);
	ramet_vm_stat(vm, &st);
	assert_int_equal(st.state, RAMET_STOPPED);
	assert_int_equal(st.exit_status, 2);
	ramet_vm_put(vm);
	ramet_family_destroy(family);
}

/* Threads that fork and stop the same few VMs. */
struct race {
	struct ramet_family *family;
	struct ramet_vm *root, *target; /* target: forked and stopped at the same time */
	pthread_barrier_t together;
	unsigned rounds;
	atomic_uint forked;
};

static void *forker(void *arg)
{
	struct race *r = arg;

	for (unsigned i = 0; i < r->rounds; i++) {
		struct ramet_vm *children[2];
		int ret;

		pthread_barrier_wait(&r->together);
		ret = ramet_fork(r->target, 2, 0, children, NULL, NULL);
		assert_true(ret == 0 || ret == -ESRCH);
		if (!ret) {
			r->forked++;
			for (unsigned c = 0; c < 2; c++)
				await_beats(children[c], FULL_CHECK / 10);
			for (unsigned c = 0; c < 2; c++)
				stop_and_put(children[c]);
		}
		pthread_barrier_wait(&r->together);
	}
	return NULL;
}

static void test_race(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("verify", ARGS, MEMORY, 1);
	struct race r = { .family = f.family, .root = f.root, .rounds = 30 };
	pthread_t threads[2];

	pthread_barrier_init(&r.together, NULL, 3);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, forker, &r), 0);
	for (unsigned i = 0; i < r.rounds; i++) {
		r.target = fork_one(f.root);
		pthread_barrier_wait(&r.together);
		rnd_sleep(2000);
		assert_ok(ramet_stop(r.target, NULL), NULL);
		pthread_barrier_wait(&r.together);
		ramet_vm_put(r.target);
		assert_healthy(f.root);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&r.together);
	print_message("%u of %u forks were in time\n", r.forked, 2 * r.rounds);
	await_beats(f.root, FULL_CHECK);
	finish(&f);
	assert_no_leak(before);
}

/*
 * More vCPUs than CPUs are told to stop while the kernel itself waits for their pages. They spin at
 * real-time priority until the pages come (vmm/base/priority.h). A clone's first accesses are of
 * this kind, so each clone is stopped by a fork at once.
 */
static void test_newborns(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("smp", "tick=1000 sleep=0", MEMORY, RAMET_CPUS_MAX);
	struct ramet_vm *vm = ramet_vm_get(f.root);

	for (unsigned i = 0; i < 60; i++) {
		struct ramet_vm *child = fork_one(vm);

		stop_and_put(i % 2 ? vm : child);
		vm = i % 2 ? child : vm;
	}
	await_beats(vm, 3);
	stop_and_put(vm);
	finish(&f);
	assert_no_leak(before);
}

/*
 * A VM may fail between an exit of its vCPU and the KVM_RUN that completes the exit. The next VM of
 * the shell must not complete it.
 */
static void test_failed_at_an_exit(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("verify", ARGS, MEMORY, 1);

	for (unsigned i = 0; i < many_or_few(100, 20); i++) {
		struct ramet_vm *child = fork_one(f.root);
		struct ramet_stat st;

		await_beats(child, 3);
		vm_fail(child, "round %u", i);
		await_failure(child, &st);
		stop_and_put(child);
		assert_healthy(f.root);
	}
	finish(&f);
	assert_no_leak(before);
}

/* Memory that KVM accesses before a VM runs may be unavailable, as in a running VM. */
static void test_poisoned_before_it_ran(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("verify", ARGS, MEMORY, 1);
	struct ramet_vm *child;
	struct ramet_stat st;
	struct view *view;

	assert_ok(ramet_pause(f.root, NULL), NULL);
	child = fork_one(f.root);
	view = child->shell->view;
	lock_take(&view->lock);
	view_poison(view, span_nr(0));
	lock_release(&view->lock);
	assert_ok(ramet_resume(child, NULL), NULL);
	await_failure(child, &st);
	assert_int_equal(st.heartbeats, 0);
	assert_non_null(strstr(st.failure, "before it could run"));
	stop_and_put(child);
	assert_ok(ramet_resume(f.root, NULL), NULL);
	await_beats(f.root, FULL_CHECK);
	finish(&f);
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ancestors_first),
		cmocka_unit_test(test_descendants_first),
		cmocka_unit_test(test_middle),
		cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_stopped),
		cmocka_unit_test(test_exit_status),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_newborns),
		cmocka_unit_test(test_failed_at_an_exit),
		cmocka_unit_test(test_poisoned_before_it_ran),
	};

	return kvm_run_tests(tests);
}
