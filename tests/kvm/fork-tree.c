/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees of forks of dirty VMs, in every shape: long chains, a parent that is forked again and
 * again, relatives that are stopped in any order. Frames, tables and generations must be freed as
 * soon as no VM can reach them, and nothing may be held twice.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/kvm/common.h"

#define DEPTH	   64
#define FULL_CHECK many_or_few(300, 50) /* heartbeats; of `verify`, it looks at 1 MiB in ten */
#define MEMORY	   (16 * MIB)
#define SPAN	   (2 * MIB)

static struct ramet_family_stat family_stat(struct family *f)
{
	struct ramet_family_stat st;
	struct ramet_err err;

	/* Counts all, after it has waited for background work. */
	assert_ok(ramet_family_check(f->family, &err), &err);
	ramet_family_stat(f->family, &st);
	return st;
}

/* A clone whose ancestors are gone: all that the family holds belongs to this clone. */
static struct family lonely_clone(const char *guest, const char *args, uint64_t memory)
{
	struct family f = launch(guest, args, memory, 1);
	struct ramet_vm *clone = fork_one(f.root);

	stop_and_put(f.root);
	f.root = clone;
	await_beats(clone, 1);
	return f;
}

/* The most that a family with a single VM can hold in the pool: its memory, and for each span the
 * frames of a generation's table for which the VM has private pages instead. */
static void assert_alone(struct family *f)
{
	struct ramet_family_stat st = family_stat(f);

	assert_int_equal(st.vms, 1);
	assert_true(st.generations <= 2); /* its home, and the generation it runs from */
	assert_true(st.pool_bytes <= 2 * MEMORY);
	assert_true(st.tables <= 2 * (MEMORY / SPAN + 3));
}

/* Each VM writes to its memory and forks the next one. Then they are stopped in any order. */
static void run_chain(unsigned step, unsigned first)
{
	struct resources before = resources_now();
	struct family f = lonely_clone("verify", "memory=1M pause=500", MEMORY);
	struct ramet_vm *vm[DEPTH + 1] = { ramet_vm_get(f.root) };
	struct ramet_err err;
	unsigned survivor = DEPTH / 2;

	for (unsigned i = 1; i <= DEPTH; i++) {
		vm[i] = fork_one(vm[i - 1]);
		rnd_sleep(5000);
	}
	for (unsigned i = 0; i <= DEPTH; i++)
		await_beats(vm[i], 5);
	/* `step` and the number of VMs have no common divisor, so every VM is stopped. */
	for (unsigned i = 0, v = first; i <= DEPTH; i++, v = (v + step) % (DEPTH + 1)) {
		if (v != survivor)
			stop_and_put(vm[v]);
		if (i % 16 == 0)
			assert_ok(ramet_family_check(f.family, &err), &err);
		assert_healthy(vm[survivor]);
	}
	await_beats(vm[survivor], FULL_CHECK);
	assert_alone(&f);
	stop_and_put(vm[survivor]);
	finish(&f);
	assert_no_leak(before);
}

static void test_deep_ancestors_first(void **state)
{
	run_chain(1, 0);
}

static void test_deep_descendants_first(void **state)
{
	run_chain(DEPTH, DEPTH);
}

static void test_deep_any_order(void **state)
{
	run_chain(17, 5); /* 65 = 5 * 13 */
}

/* The parent is forked again and again while it writes. The children live for a while, some longer
 * than later children. */
static void test_many_forks(void **state)
{
	struct resources before = resources_now();
	struct family f = lonely_clone("verify", "memory=1M", MEMORY);
	struct ramet_vm *alive[8] = { NULL };
	struct ramet_err err;

	for (unsigned i = 0; i < many_or_few(1000, 100); i++) {
		unsigned slot = (unsigned)rnd(8);

		if (alive[slot])
			stop_and_put(alive[slot]);
		alive[slot] = fork_one(f.root);
		assert_healthy(alive[slot]);
		if (i % 100 == 0)
			assert_ok(ramet_family_check(f.family, &err), &err);
	}
	await_beats(f.root, FULL_CHECK);
	for (unsigned s = 0; s < 8; s++)
		if (alive[s]) {
			await_beats(alive[s], FULL_CHECK);
			stop_and_put(alive[s]);
		}
	assert_alone(&f);
	finish(&f);
	assert_no_leak(before);
}

/* Pages that neither side changes after a fork are held once, even if both sides read them. */
static void test_duplicates(void **state)
{
	uint64_t dirty = 24 * MIB;
	struct family f = lonely_clone("dirty", "dirty=24M rate=0 fill=page", 32 * MIB);
	struct ramet_vm *child;
	struct ramet_family_stat st;
	static uint8_t buf[32 * MIB];

	child = fork_one(f.root);
	await_beats(child, 1);
	await_beats(f.root, 1);
	assert_ok(ramet_read(f.root, 0, buf, sizeof(buf)), NULL);
	assert_ok(ramet_read(child, 0, buf, sizeof(buf)), NULL);
	st = family_stat(&f);
	assert_true(st.pool_bytes >= dirty);
	if (st.duplicate_bytes > 2 * MIB)
		fail_msg("%lu bytes of %lu are held twice", st.duplicate_bytes, dirty);
	stop_and_put(child);
	finish(&f);
}

/* Parent and child rewrite all their memory again and again. So the pages that were taken back or
 * copied ahead for them have changed since, except in the spans of the guest's image. */
static void test_duplicates_of_writers(void **state)
{
	struct family f = lonely_clone("dirty", "dirty=16M rate=max", 32 * MIB);
	struct ramet_vm *child;
	struct ramet_family_stat st;

	await_beats(f.root, 2000); /* 8 pages each: all memory, four times */
	child = fork_one(f.root);
	await_beats(f.root, 2000);
	await_beats(child, 2000);
	assert_ok(ramet_pause(f.root, NULL), NULL);
	assert_ok(ramet_pause(child, NULL), NULL);
	st = family_stat(&f);
	if (st.duplicate_bytes > 4 * MIB)
		fail_msg("%lu bytes are held twice", st.duplicate_bytes);
	stop_and_put(child);
	finish(&f);
}

static unsigned count_maps(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned n = 0;
	int c;

	assert_non_null(f);
	while ((c = getc(f)) != EOF)
		n += c == '\n';
	fclose(f);
	return n;
}

/* Random pages are written between two forks, so that neighbours come from different generations.
 * There must be far fewer mappings than pages, and than the default vm.max_map_count. */
static void test_mappings(void **state)
{
	struct family f = lonely_clone("dirty", "dirty=all rate=max span=random", 256 * MIB);
	struct ramet_vm *child[12];
	struct ramet_err err;
	unsigned most = 0;

	for (unsigned i = 0; i < 12; i++) {
		child[i] = fork_one(f.root);
		await_beats(f.root, 300);
		await_beats(child[i], 300);
		if (count_maps() > most)
			most = count_maps();
	}
	print_message("%u mappings\n", most);
	assert_true(most < 65530 - 10000);
	for (unsigned i = 0; i < 12; i++) {
		assert_healthy(child[i]);
		stop_and_put(child[i]);
	}
	assert_ok(ramet_family_check(f.family, &err), &err);
	finish(&f);
}

static void await_pages(struct ramet_vm *vm, uint32_t n)
{
	struct ramet_stat st;
	uint32_t from;

	ramet_vm_stat_quick(vm, &st);
	for (from = st.counter; st.counter - from < n; ramet_vm_stat_quick(vm, &st)) {
		assert_healthy(vm);
		usleep(10000);
	}
}

/* If a child is stopped at once, the parent's dirty pages are not copied: the parent takes them
 * back. If the child is stopped too late, some are copied already, so the test tries again. */
static void test_taken_ahead(void **state)
{
	struct family f = lonely_clone("dirty", "dirty=8M rate=4000", MEMORY);
	struct ramet_family_stat before, after;
	unsigned tries = 0;

	do {
		assert_true(tries++ < 30);
		await_pages(f.root, 8 * MIB / 4096);
		before = family_stat(&f);
		stop_and_put(fork_one(f.root));
		after = family_stat(&f);
	} while (after.resolved_spans - before.resolved_spans > MEMORY / SPAN - 4 ||
		 after.taken_back_spans - before.taken_back_spans < 4);
	assert_true(after.pool_bytes <= before.pool_bytes + SPAN);
	print_message("%u tries\n", tries);
	await_pages(f.root, 8 * MIB / 4096);
	finish(&f);
}

#define CHURN_MEMORY (4096 * MIB) /* to empty such a view takes longer than a fork */
#define CHURN_CLONES 1500	  /* for each of two threads */
#define CHURN_SHELLS 200	  /* 64 to be emptied, 64 to spare, and a few in use */

static void *churn(void *arg)
{
	for (unsigned i = 0; i < CHURN_CLONES; i++) {
		struct ramet_vm *clone;

		if (ramet_fork(arg, 1, RAMET_FORK_RUN, &clone, NULL, NULL))
			return arg;
		ramet_stop(clone, NULL);
		ramet_vm_put(clone);
	}
	return NULL;
}

/* If clones come and go faster than shells can be emptied, the number of shells is bounded. */
static void test_churn(void **state)
{
	struct resources before = resources_now(), after;
	struct family f = launch("count", NULL, CHURN_MEMORY, 1);
	struct ramet_err err = { "" };
	pthread_t thread[2];
	void *failed;

	assert_ok(ramet_pause(f.root, &err), &err);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, churn, f.root), 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(thread[i], &failed);
		assert_null(failed);
	}
	after = resources_now();
	print_message("%u threads more\n", after.threads - before.threads);
	assert_in_range(after.threads - before.threads, 1, CHURN_SHELLS);
	finish(&f);
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deep_ancestors_first),
		cmocka_unit_test(test_deep_descendants_first),
		cmocka_unit_test(test_deep_any_order),
		cmocka_unit_test(test_many_forks),
		cmocka_unit_test(test_duplicates),
		cmocka_unit_test(test_duplicates_of_writers),
		cmocka_unit_test(test_mappings),
		cmocka_unit_test(test_taken_ahead),
		cmocka_unit_test(test_churn),
	};

	return kvm_run_tests(tests);
}
