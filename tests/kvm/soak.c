/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random trees of guests that check their memory (`verify`) and of guests with two vCPUs and timers
 * (`smp`), two threads on each family: no wrong byte, nothing lost, every count right.
 *
 * RAMET_SOAK_SECONDS: how long (default 60).
 */
#include <pthread.h>

#include "tests/kvm/tree.h"

#define FAMILIES    2u
#define THREADS	    4u
#define CHECK_EVERY 40 /* operations of a thread between two checks */

struct soaker {
	struct tree t; /* some of a family's VMs */
	pthread_t thread;
	double end;
};

/* A failed check ends the process: cmocka can continue only after failures in the main thread. */
static void *soak(void *arg)
{
	struct soaker *s = arg;

	for (unsigned n = 1; now_s() < s->end; n++) {
		tree_step(&s->t);
		rnd_sleep(5000);
		if (n % CHECK_EVERY == 0)
			tree_check(&s->t);
	}
	for (unsigned k = 0; k < s->t.n; k++)
		await_beats(s->t.live[k], 20);
	tree_check(&s->t);
	while (s->t.n)
		tree_drop(&s->t, 0);
	return NULL;
}

static void end_family(struct family *f)
{
	struct ramet_family_stat st;

	assert_ok(ramet_family_check(f->family, NULL), NULL);
	await_beats(f->root, 20);
	ramet_family_stat(f->family, &st);
	print_message(
		"%lu forks, %lu resets; left: %lu generations, %lu KiB of frames, %lu tables\n",
		st.forks, st.resets, st.generations, st.pool_bytes >> 10, st.tables);
	assert_int_equal(st.vms, 1);
	assert_true(st.generations <= 3); /* its birth, its home, one that is being freed */
	finish(f);
}

static void test_trees(void **state)
{
	struct ramet_config cfg[FAMILIES] = {
		{ .guest = "verify", .args = "memory=2M", .memory = 16 * MIB, .shells = 4 },
		{ .guest = "smp", .memory = 16 * MIB, .cpus = 2, .shells = 4 },
	};
	struct resources before = resources_now();
	struct family f[FAMILIES];
	struct soaker s[THREADS];

	for (unsigned i = 0; i < FAMILIES; i++)
		f[i] = launch_config(&cfg[i]);
	for (unsigned i = 0; i < THREADS; i++) {
		s[i] = (struct soaker){ .t = { .f = f[i % FAMILIES] }, .end = soak_end(60) };
		s[i].t.live[s[i].t.n++] = fork_one(s[i].t.f.root);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&s[i].thread, NULL, soak, &s[i]), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(s[i].thread, NULL);
	for (unsigned i = 0; i < FAMILIES; i++)
		end_family(&f[i]);
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_trees),
	};

	return kvm_run_tests(tests);
}
