/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A random tree of forks of `verify` guests: each checks that it sees the memory it was born with
 * and its own writes, and nothing else, while its relatives fork, write, pause and stop.
 */
#include <stdio.h>

#include "tests/kvm/common.h"

#define LIVE_MAX     16
#define FULL_CHECK   125 /* heartbeats per MiB in which `verify` checks all its memory */
#define MAX_CHILDREN 3

struct node {
	struct ramet_vm *vm;
	unsigned depth;
};

struct tree {
	struct node live[LIVE_MAX + MAX_CHILDREN];
	unsigned n, forked, deepest;
};

static void grow(struct tree *t)
{
	unsigned from = (unsigned)rnd(t->n), n = 1 + (unsigned)rnd(MAX_CHILDREN);
	struct ramet_vm *children[MAX_CHILDREN];

	for (unsigned i = 0; i < t->n && rnd(2); i++) /* prefers VMs deep in the tree */
		if (t->live[i].depth > t->live[from].depth)
			from = i;
	fork_many(t->live[from].vm, n, children);
	for (unsigned i = 0; i < n; i++)
		t->live[t->n++] = (struct node){ children[i], t->live[from].depth + 1 };
	t->forked += n;
	if (t->live[from].depth + 1 > t->deepest)
		t->deepest = t->live[from].depth + 1;
}

static void prune(struct tree *t)
{
	unsigned i = (unsigned)rnd(t->n);

	stop_and_put(t->live[i].vm);
	t->live[i] = t->live[--t->n];
}

static void pause_and_resume(struct tree *t)
{
	struct ramet_vm *vm = t->live[rnd(t->n)].vm;

	assert_ok(ramet_pause(vm, NULL), NULL);
	rnd_sleep(5000);
	if (rnd(2)) { /* children of a paused VM are paused, too */
		struct ramet_vm *child = fork_one(vm);
		struct ramet_stat st;

		ramet_vm_stat_quick(child, &st);
		assert_int_equal(st.state, RAMET_PAUSED);
		assert_ok(ramet_resume(child, NULL), NULL);
		await_beats(child, 10);
		stop_and_put(child);
	}
	assert_ok(ramet_resume(vm, NULL), NULL);
}

static void run_tree(unsigned mib, uint64_t memory, unsigned seconds)
{
	unsigned used = many_or_few(mib, 1), forks = many_or_few(50, 15);
	unsigned depth = many_or_few(6, 4);
	char args[32];
	struct family f;
	struct tree t = { .n = 1 };
	double end = soak_end(seconds);
	struct ramet_err err;

	snprintf(args, sizeof(args), "memory=%uM", used);
	f = launch("verify", args, memory, 1);
	t.live[0].vm = ramet_vm_get(f.root);
	while (now_s() < end || t.forked < forks || t.deepest < depth) {
		if (rnd(20) == 0)
			pause_and_resume(&t);
		else if (t.n == 1 || (t.n < LIVE_MAX && rnd(3)))
			grow(&t);
		else
			prune(&t);
		for (unsigned i = 0; i < t.n; i++)
			assert_healthy(t.live[i].vm);
		rnd_sleep(20000);
		if (rnd(20) == 0)
			assert_ok(ramet_family_check(f.family, &err), &err);
	}
	for (unsigned i = 0; i < t.n; i++)
		await_beats(t.live[i].vm, FULL_CHECK * used + FULL_CHECK);
	print_message("%u VMs, depth %u\n", 1 + t.forked, t.deepest);
	while (t.n)
		prune(&t);
	finish(&f);
}

static void test_small(void **state)
{
	struct resources before = resources_now();

	run_tree(1, 16 * MIB, 3);
	assert_no_leak(before);
}

static void test_tree(void **state)
{
	struct resources before = resources_now();

	run_tree(8, 16 * MIB, 6);
	assert_no_leak(before);
}

/* Memory on both sides of the 32-bit hole. */
static void test_high(void **state)
{
	struct resources before = resources_now();

	run_tree(8, 4096 * MIB, 1);
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_high),
	};

	return kvm_run_tests(tests);
}
