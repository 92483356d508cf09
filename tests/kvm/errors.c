/* SPDX-License-Identifier: Apache-2.0 */
/* Wrong requests and exhausted resources: a clear error, and nothing left behind or changed. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/kvm/common.h"

#define MEMORY (16 * MIB)

static void test_bad_config(void **state)
{
	static const char *const long_name =
		"a-name-that-is-much-too-long-for-anybody-to-type-and-that-has-no-end-at-all";
	static char long_args[70000];
	const struct {
		struct ramet_config cfg;
		int ret;
	} bad[] = {
		{ { .guest = NULL }, -EINVAL },
		{ { .guest = "nobody" }, -ENOENT },
		{ { .guest = "", .name = "x" }, -ENOENT },
		{ { .guest = "count", .memory = 1 }, -EINVAL },
		{ { .guest = "count", .memory = RAMET_MEMORY_MIN - 2 * MIB }, -EINVAL },
		{ { .guest = "count", .memory = RAMET_MEMORY_MAX + 2 * MIB }, -EINVAL },
		{ { .guest = "count", .memory = UINT64_MAX }, -EINVAL },
		{ { .guest = "count", .memory = 17 * MIB }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .cpus = RAMET_CPUS_MAX + 1 }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .cpus = UINT32_MAX }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .name = "" }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .name = "a/b" }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .name = ".." }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .name = long_name }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .args = long_args }, -ENOSPC },
		{ { .guest = "count", .memory = MEMORY, .args = "bogus=1" }, -EINVAL },
		{ { .guest = "count", .memory = MEMORY, .args = "rate=-1" }, -EINVAL },
		{ { .guest = "dirty", .memory = MEMORY, .args = "dirty=2G" }, -EINVAL },
		{ { .guest = "count", .kernel = "/dev/null", .memory = MEMORY }, -EINVAL },
		{ { .guest = "count", .initrd = "/dev/null", .memory = MEMORY }, -EINVAL },
		{ { .guest = "count", .disks = { { "/dev/null", true } }, .n_disks = 1 }, -EINVAL },
	};

	memset(long_args, ' ', sizeof(long_args) - 1);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct resources before = resources_now();
		struct ramet_family *family = (void *)1;
		struct ramet_vm *vm = (void *)2;
		struct ramet_err err = { "" };
		int ret = ramet_launch(&bad[i].cfg, &family, &vm, &err);

		if (ret != bad[i].ret)
			fail_msg("bad configuration %u: %d, not %d (%s)", i, ret, bad[i].ret,
				err.msg);
		assert_ptr_equal(family, (void *)1);
		assert_ptr_equal(vm, (void *)2);
		assert_true(strlen(err.msg) > 0);
		assert_no_leak(before);
	}
}

static void test_bad_fork(void **state)
{
	struct family f = launch("count", NULL, MEMORY, 1);
	struct ramet_vm *child = (void *)1;
	struct ramet_err err = { "" };

	assert_int_equal(ramet_fork(f.root, 0, 0, &child, NULL, &err), -EINVAL);
	assert_true(strlen(err.msg) > 0);
	assert_int_equal(ramet_fork(f.root, RAMET_FORK_MAX + 1, 0, &child, NULL, &err), -EINVAL);
	assert_int_equal(ramet_fork(f.root, 1, 0x80000000, &child, NULL, &err), -EINVAL);
	assert_ptr_equal(child, (void *)1);
	assert_int_equal(ramet_reset(f.root, &err), -EINVAL); /* it was never forked */
	await_beats(f.root, 3);
	finish(&f);
}

static void test_read(void **state)
{
	struct family f = launch("count", NULL, 4096 * MIB, 1);
	const uint64_t high = RAMET_RAM_HIGH, hole = RAMET_RAM_HOLE;
	const struct {
		uint64_t gpa, len;
		int ret;
	} reads[] = {
		{ 0, 1, 0 },
		{ hole - 16, 16, 0 },
		{ hole - 16, 17, -EFAULT },
		{ hole, 1, -EFAULT },
		{ high - 1, 2, -EFAULT },
		{ high, 64, 0 },
		{ high + 1024 * MIB - 64, 64, 0 },
		{ high + 1024 * MIB - 64, 65, -EFAULT },
		{ UINT64_MAX - 7, 16, -EFAULT },
		{ UINT64_MAX, 1, -EFAULT },
	};
	uint8_t buf[128], untouched[128], magic[4];

	memset(untouched, 0x5a, sizeof(untouched));
	for (unsigned i = 0; i < sizeof(reads) / sizeof(reads[0]); i++) {
		memset(buf, 0x5a, sizeof(buf));
		assert_int_equal(ramet_read(f.root, reads[i].gpa, buf, reads[i].len), reads[i].ret);
		if (reads[i].ret)
			assert_memory_equal(buf, untouched, sizeof(buf));
	}
	assert_int_equal(ramet_read(f.root, RAMET_GPA_FDT, magic, 4), 0);
	assert_memory_equal(magic, "\xd0\x0d\xfe\xed", 4);
	finish(&f);
}

static void test_find(void **state)
{
	struct family f = launch("count", NULL, MEMORY, 1);
	struct ramet_vm *child = fork_one(f.root), *found;
	struct ramet_stat st;

	assert_null(ramet_find(f.family, "nobody"));
	assert_null(ramet_find(f.family, ""));
	ramet_vm_stat_quick(child, &st);
	found = ramet_find(f.family, st.name);
	assert_ptr_equal(found, child);
	assert_ptr_equal(ramet_vm_family(found), f.family);
	ramet_vm_put(found);
	ramet_vm_put(NULL);
	stop_and_put(child);
	finish(&f);
}

/* A wait for an event that never comes ends after its timeout. */
static void test_wait(void **state)
{
	struct family f = launch("count", "rate=100", MEMORY, 1);

	assert_int_equal(ramet_wait(f.root, RAMET_EV_HEARTBEATS, UINT64_MAX, 20), -ETIMEDOUT);
	assert_int_equal(ramet_wait(f.root, RAMET_EV_STOPPED, 0, 0), -ETIMEDOUT);
	assert_int_equal(ramet_wait(f.root, RAMET_EV_READY, 0, WAIT_MS), 0);
	finish(&f);
}

/* Forks until no descriptors are left: then a fork is an error, and all VMs keep running. */
static void test_no_descriptors(void **state)
{
	struct resources before = resources_now();
	struct family f = launch("verify", "memory=1M", MEMORY, 1);
	struct rlimit was, few;
	struct ramet_vm *children[400];
	struct ramet_err err = { "" };
	unsigned n = 0;
	int ret = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	few = was;
	few.rlim_cur = resources_now().fds + 40;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	while (n < 400 && !ret) {
		ret = ramet_fork(f.root, 1, 0, &children[n], NULL, &err);
		n += !ret;
	}
	print_message("%u forks, then: %s\n", n, err.msg);
	assert_int_equal(ret, -EMFILE);
	assert_true(strlen(err.msg) > 0);
	/* All or nothing: if many children do not fit, none is made. */
	if (n) {
		struct ramet_vm *more[64] = { (void *)1 };

		stop_and_put(children[--n]);
		/* Seen before the first shell is made, and found when one is made. */
		assert_int_equal(ramet_fork(f.root, 64, 0, more, NULL, &err), -EMFILE);
		assert_int_equal(ramet_fork(f.root, 7, 0, more, NULL, &err), -EMFILE);
		assert_ptr_equal(more[0], (void *)1);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
	await_beats(f.root, 1000);
	for (unsigned i = 0; i < n; i++)
		await_beats(children[i], 20);
	stop_and_put(fork_one(f.root)); /* forks work again */
	while (n)
		stop_and_put(children[--n]);
	/* Shells made for refused forks, or for children that have stopped, are freed. */
	await_shells(f.family, 0, 2);
	finish(&f);
	assert_no_leak(before);
}

/* Launches with too few descriptors, for every number that is too small. */
static void test_launch_no_descriptors(void **state)
{
	struct resources before = resources_now();
	struct rlimit was, few;
	unsigned refused = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	for (unsigned spare = 0; spare < 200; spare++) {
		struct ramet_config cfg = { .guest = "count", .memory = MEMORY };
		struct ramet_family *family;
		struct ramet_vm *vm;
		int ret;

		few = was;
		few.rlim_cur = before.fds + spare;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
		ret = ramet_launch(&cfg, &family, &vm, NULL);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
		if (!ret) {
			ramet_vm_put(vm);
			ramet_family_destroy(family);
			break;
		}
		assert_int_equal(ret, -EMFILE);
		refused++;
		assert_no_leak(before);
	}
	assert_in_range(refused, 1, 199);
	assert_no_leak(before);
}

/* A family without free frames: when its clones are forked, the pages that they have written cannot
 * be resolved. A fork that would have to wait for that is refused. */
static void test_full_pool(void **state)
{
	struct resources before = resources_now();
	/* Each clone writes something new to one page: a page with its old contents would need no
	 * frame, and a VM that writes to many would fail. */
	struct ramet_config cfg = {
		.guest = "dirty", .args = "dirty=4K rate=10", .memory = MEMORY, .max_pool = MEMORY
	};
	struct family f = launch_config(&cfg);
	struct ramet_vm *clone[12], *child[12];
	struct ramet_err err = { "" };
	unsigned n = 0;
	int r = 0;

	fork_many(f.root, 12, clone);
	for (unsigned i = 0; i < 12; i++)
		await_beats(clone[i], 1);
	while (n < 12) {
		r = ramet_fork(clone[n], 1, 0, &child[n], NULL, &err);
		if (r)
			break;
		n++;
	}
	assert_int_equal(r, -ENOMEM);
	assert_true(strlen(err.msg) > 0);
	await_beats(clone[n], 3);
	assert_int_equal(ramet_family_check(f.family, &err), -ENOMEM);
	while (n)
		stop_and_put(child[--n]);
	for (unsigned i = 0; i < 12; i++)
		stop_and_put(clone[i]);
	finish(&f);
	assert_no_leak(before);
}

struct checking {
	struct ramet_family *family;
	atomic_bool quit;
};

/* Every check makes the settler try once more. */
static void *check_often(void *arg)
{
	struct checking *c = arg;
	struct ramet_err err;

	while (!atomic_load(&c->quit))
		ramet_family_check(c->family, &err);
	return NULL;
}

/* Generations could not be settled while the pool was full. When VMs are gone, later forks must not
 * be refused because of that. */
static void test_full_pool_emptied(void **state)
{
	struct resources before = resources_now();
	struct ramet_config cfg = { .guest = "count", .memory = MEMORY, .max_pool = MEMORY };

	for (unsigned rounds = many_or_few(40, 4); rounds; rounds--) {
		struct family f = launch_config(&cfg);
		struct checking c = { .family = f.family };
		struct ramet_vm *clone = fork_one(f.root), *child;
		struct ramet_err err = { "" };
		pthread_t checker;

		await_beats(clone, 1);
		child = fork_one(clone);
		assert_int_equal(pthread_create(&checker, NULL, check_often, &c), 0);
		stop_and_put(ramet_vm_get(f.root));
		stop_and_put(clone);
		assert_int_equal(ramet_family_check(f.family, &err), -ENOMEM);
		stop_and_put(child);
		assert_ok(ramet_family_check(f.family, &err), &err);
		atomic_store(&c.quit, true);
		pthread_join(checker, NULL);
		finish(&f);
	}
	assert_no_leak(before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_config),
		cmocka_unit_test(test_bad_fork),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_wait),
		cmocka_unit_test(test_no_descriptors),
		cmocka_unit_test(test_launch_no_descriptors),
		cmocka_unit_test(test_full_pool),
		cmocka_unit_test(test_full_pool_emptied),
	};

	return kvm_run_tests(tests);
}
