/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Out of memory at any point: every allocation (heap, mapping, descriptor, thread, KVM object) that
 * the calling thread makes in an operation fails once, one after the other. The operation must then
 * fail completely with an error, or work without the allocation. VMs keep running, all counts are
 * right, and nothing is left behind. The linker replaces the functions by our wrappers
 * (meson.build).
 */
#include <errno.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/kvm/common.h"
#include "vmm/vm/events.h"

#define MEMORY (16 * MIB)
#define N_MAX  2000 /* far more allocations than any operation makes */

/* For this thread only: the number of calls until one fails; -1: none fails. */
static __thread long countdown = -1;
static __thread bool has_failed;

static bool failing(int error)
{
	if (countdown < 0 || countdown-- > 0)
		return false;
	has_failed = true;
	errno = error;
	return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
	return failing(ENOMEM) ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
	return failing(ENOMEM) ? NULL : __real_calloc(n, size);
}

/* With 64-bit file offsets, mmap() is this symbol. */
void *__real_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *addr, size_t len, int prot, int flags, int fd, off_t off)
{
	return failing(ENOMEM) ? MAP_FAILED : __real_mmap64(addr, len, prot, flags, fd, off);
}

int __real_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(
	pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	return failing(EAGAIN) ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags)
{
	return failing(EMFILE) ? -1 : __real_memfd_create(name, flags);
}

int __real_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags);
int __wrap_eventfd(unsigned value, int flags)
{
	return failing(EMFILE) ? -1 : __real_eventfd(value, flags);
}

/* Requests for which KVM allocates memory, and those that read state. Not those that load state:
 * they cannot be undone. */
static bool may_fail(unsigned long request)
{
	switch (request) {
	case KVM_CREATE_VM:
	case KVM_CREATE_VCPU:
	case KVM_CREATE_IRQCHIP:
	case KVM_SET_USER_MEMORY_REGION:
	case KVM_SET_CPUID2:
	case KVM_GET_IRQCHIP:
	case KVM_GET_CLOCK:
	case KVM_GET_SUPPORTED_CPUID:
	case UFFDIO_API:
	case UFFDIO_REGISTER:
		return true;
	}
	return false;
}

/* For all threads: the number of calls of that request until one fails. */
static _Atomic unsigned long refused_request;
static atomic_long refused_after = -1;

static bool refused(unsigned long request)
{
	if (request != atomic_load(&refused_request) || atomic_load(&refused_after) < 0 ||
		atomic_fetch_sub(&refused_after, 1) != 0)
		return false;
	errno = EINVAL;
	return true;
}

/* Also for this thread: the next copy into a view stops halfway, and its rest fails. */
static __thread enum { WHOLE, HALF, REST } next_copy;

static int copy_some(int fd, struct uffdio_copy *copy);

/* The third child of a fork cannot get its identity, and the second one has ended. */
static atomic_bool third_fails;

int __real_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg);
int __wrap_ioctl(int fd, unsigned long request, void *arg)
{
	if (may_fail(request) && failing(request == KVM_CREATE_VM ? EMFILE : ENOMEM))
		return -1;
	if (refused(request))
		return -1;
	if (request == UFFDIO_COPY && next_copy != WHOLE)
		return copy_some(fd, arg);
	if (request == KVM_RUN && atomic_load(&third_fails))
		usleep(20000); /* a vCPU takes its time to stop */
	return __real_ioctl(fd, request, arg);
}

static int copy_some(int fd, struct uffdio_copy *copy)
{
	uint64_t len = copy->len;
	int r = -1;

	if (next_copy == HALF) {
		copy->len = len / 2;
		r = __real_ioctl(fd, UFFDIO_COPY, copy);
		copy->len = len;
	}
	next_copy = next_copy == HALF ? REST : WHOLE;
	errno = r ? ENOMEM : EAGAIN;
	return -1;
}

/* ---- operations: each of their allocations fails once ---- */

static void assert_told(int ret, const struct ramet_err *err)
{
	if (ret != -ENOMEM && ret != -EMFILE && ret != -EAGAIN)
		fail_msg("unexpected error %d: %s", ret, err->msg);
	assert_true(strlen(err->msg) > 0);
}

/* Forks n children until no allocation fails any more. Every child that is made must work. */
static void fork_failing(struct family *f, struct ramet_vm *vm, unsigned n, unsigned flags)
{
	struct ramet_vm *child[4];
	unsigned refused = 0;

	for (long nth = 0;; nth++) {
		struct ramet_err err = { "" };
		bool failed;
		int ret;

		assert_true(nth < N_MAX);
		countdown = nth;
		has_failed = false;
		ret = ramet_fork(vm, n, flags, child, NULL, &err);
		failed = has_failed;
		countdown = -1;
		if (getenv("RAMET_VERBOSE"))
			print_message("%ld: %d %d %s\n", nth, ret, failed, err.msg);
		if (ret) {
			assert_true(failed);
			assert_told(ret, &err);
			refused++;
		}
		for (unsigned i = 0; i < n && !ret; i++) {
			await_beats(child[i], 1);
			stop_and_put(child[i]);
		}
		assert_healthy(vm);
		assert_ok(ramet_family_check(f->family, &err), &err);
		if (!failed)
			break;
	}
	print_message("%u forks refused\n", refused);
	assert_true(refused > 0);
}

/* No shells are kept ready, so the fork makes them, and each step of that fails, too. */
static struct family launch_cold(const char *guest, const char *args)
{
	struct ramet_config cfg = { .guest = guest, .args = args, .memory = MEMORY, .cold = true };

	return launch_config(&cfg);
}

static void test_fork_booted(void **state)
{
	struct resources before = resources_now();
	struct family f = launch_cold("verify", "memory=1M");

	fork_failing(&f, f.root, 1, 0);
	await_beats(f.root, 100);
	finish(&f);
	assert_no_leak(before);
}

static void test_fork_dirty_clone(void **state)
{
	struct resources before = resources_now();
	struct family f = launch_cold("verify", "memory=1M");
	struct ramet_vm *clone = fork_one(f.root);

	await_beats(clone, 20);
	fork_failing(&f, clone, 3, 0);
	await_beats(clone, 100);
	await_beats(f.root, 20);
	stop_and_put(clone);
	finish(&f);
	assert_no_leak(before);
}

static void test_fork_template(void **state)
{
	struct resources before = resources_now();
	struct family f = launch_cold("verify", "memory=1M");
	struct ramet_vm *template;
	struct ramet_err err = { "" };

	assert_ok(ramet_pause(f.root, &err), &err);
	template = fork_one(f.root);
	fork_failing(&f, template, 2, RAMET_FORK_RUN);
	stop_and_put(template);
	assert_ok(ramet_resume(f.root, &err), &err);
	await_beats(f.root, 20);
	finish(&f);
	assert_no_leak(before);
}

/* A newborn's first block is filled only by half, and the guest may have written to it. */
static void test_half_a_block(void **state)
{
	struct resources before = resources_now();
	struct family f = launch_cold("verify", "memory=1M");
	struct ramet_vm *clone = fork_one(f.root), *child;
	struct ramet_stat st;

	await_beats(clone, 20);
	next_copy = HALF;
	child = fork_one(clone);
	assert_int_equal(next_copy, WHOLE);
	await_failure(child, &st);
	stop_and_put(child);
	await_beats(clone, 100);
	stop_and_put(clone);
	finish(&f);
	assert_no_leak(before);
}

static void test_reset(void **state)
{
	struct resources before = resources_now();
	struct family f = launch_cold("verify", "memory=1M");
	struct ramet_vm *clone = fork_one(f.root);
	unsigned done = 0, refused = 0;

	for (long nth = 0; !done; nth++) {
		struct ramet_err err = { "" };
		int ret;

		assert_true(nth < N_MAX);
		await_beats(clone, 2);
		countdown = nth;
		has_failed = false;
		ret = ramet_reset(clone, &err);
		done = !has_failed;
		countdown = -1;
		if (ret) {
			assert_told(ret, &err);
			refused++;
		}
		assert_healthy(clone);
		assert_ok(ramet_family_check(f.family, &err), &err);
	}
	assert_true(refused > 0);
	await_beats(clone, 20);
	stop_and_put(clone);
	finish(&f);
	assert_no_leak(before);
}

/* The nth call of a request that loads state fails, in a fork with one child. */
static bool fork_refused(unsigned long request, long nth)
{
	struct ramet_config cfg = { .guest = "count", .memory = MEMORY, .cpus = 2, .cold = true };
	struct family f = launch_config(&cfg);
	struct ramet_vm *child = NULL;
	struct ramet_err err = { "" };
	struct ramet_stat p, c;
	bool hit;
	int ret;

	atomic_store(&refused_request, request);
	atomic_store(&refused_after, nth);
	ret = ramet_fork(f.root, 1, 0, &child, NULL, &err);
	hit = atomic_exchange(&refused_after, -1) < 0;
	ramet_vm_stat_quick(f.root, &p);
	if (ret) { /* the child's call failed: there is no child */
		assert_true(hit);
		assert_int_equal(ret, -EINVAL);
		await_beats(f.root, 5);
	} else if (p.exit_status >= 0 || p.state == RAMET_FAILED || hit) {
		/* The parent's call failed (or the rehearsal's). The parent has not executed one
		 * more instruction. */
		ramet_wait(f.root, RAMET_EV_STOPPED, 0, 1000);
		ramet_vm_stat_quick(f.root, &p);
		ramet_vm_stat_quick(child, &c);
		if (p.state == RAMET_FAILED) {
			assert_non_null(strstr(p.failure, "could not be loaded"));
			assert_true(p.counter <= c.counter);
		}
		await_beats(child, 5);
	}
	if (!ret)
		stop_and_put(child);
	finish(&f);
	return hit;
}

static void test_load_refused(void **state)
{
	static const unsigned long loads[] = { KVM_SET_CLOCK, KVM_SET_IRQCHIP, KVM_SET_LAPIC,
		KVM_SET_XSAVE };
	struct resources before = resources_now();

	for (unsigned i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
		long nth = 0;

		while (fork_refused(loads[i], nth))
			assert_true(++nth < N_MAX);
		assert_true(nth >= 2); /* at least the parent's call and the child's */
	}
	assert_no_leak(before);
}

/* A clone that cannot get its identity must not run. The same holds after a reset. */
static bool born_fails;
static bool fails_as_third(struct device_set *set)
{
	static struct ramet_vm *second;
	static unsigned calls;

	if (!atomic_load(&third_fails))
		return false;
	calls++;
	if (calls == 2)
		second = (struct ramet_vm *)((char *)set - offsetof(struct ramet_vm, devices));
	if (calls < 3)
		return false;
	vm_exit(second, 0);
	usleep(20000); /* the reaper waits for the fork */
	return true;
}

int __real_device_set_born(struct device_set *set);
int __wrap_device_set_born(struct device_set *set);
int __wrap_device_set_born(struct device_set *set)
{
	return born_fails || fails_as_third(set) ? -ENOMEM : __real_device_set_born(set);
}

static void test_no_identity(void **state)
{
	struct resources before = resources_now();
	struct family f = launch_cold("verify", "memory=1M");
	struct ramet_vm *clone = fork_one(f.root), *none = (void *)1;
	struct ramet_err err = { "" };
	struct ramet_stat st;

	born_fails = true;
	assert_int_equal(ramet_fork(clone, 1, 0, &none, NULL, &err), -ENOMEM);
	assert_ptr_equal(none, (void *)1);
	await_beats(clone, 20);
	assert_int_equal(ramet_reset(clone, &err), -ENOMEM);
	born_fails = false;
	await_failure(clone, &st);
	stop_and_put(clone);
	await_beats(f.root, 20);
	finish(&f);
	assert_no_leak(before);
}

static atomic_uint ends;

static void note_end(void *arg, struct ramet_vm *vm, uint64_t alive)
{
	atomic_fetch_add(&ends, 1);
}

/* The child that has ended was never a VM of the family. The reaper could stop it while the fork
 * waits for the vCPU of the first child. */
static void test_child_ended(void **state)
{
	struct ramet_config cfg = {
		.guest = "count", .memory = MEMORY, .cold = true, .ended = note_end
	};
	struct resources before = resources_now();
	struct family f = launch_config(&cfg);
	struct ramet_vm *child[3];
	struct ramet_err err = { "" };

	atomic_store(&third_fails, true);
	assert_int_equal(ramet_fork(f.root, 3, RAMET_FORK_RUN, child, NULL, &err), -ENOMEM);
	atomic_store(&third_fails, false);
	await_beats(f.root, 5);
	assert_int_equal(atomic_load(&f.family->living), 1);
	assert_int_equal(atomic_load(&ends), 0);
	assert_ok(ramet_family_check(f.family, &err), &err);
	finish(&f);
	assert_int_equal(atomic_load(&ends), 1);
	assert_no_leak(before);
}

static void test_launch(void **state)
{
	struct ramet_config cfg = { .guest = "count", .memory = MEMORY, .cpus = 2 };
	struct resources before = resources_now();
	unsigned refused = 0;

	for (long nth = 0;; nth++) {
		struct ramet_err err = { "" };
		struct ramet_family *family = (void *)1;
		struct ramet_vm *vm = (void *)2;
		int ret;

		assert_true(nth < N_MAX);
		countdown = nth;
		has_failed = false;
		ret = ramet_launch(&cfg, &family, &vm, &err);
		countdown = -1;
		if (ret) {
			assert_told(ret, &err);
			assert_ptr_equal(family, (void *)1);
			assert_ptr_equal(vm, (void *)2);
			refused++;
		} else {
			struct family f = { family, vm };

			await_beats(vm, 1);
			finish(&f);
		}
		assert_no_leak(before);
		if (!has_failed)
			break;
	}
	print_message("%u launches refused\n", refused);
	assert_true(refused > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fork_booted),
		cmocka_unit_test(test_fork_dirty_clone),
		cmocka_unit_test(test_fork_template),
		cmocka_unit_test(test_half_a_block),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_load_refused),
		cmocka_unit_test(test_no_identity),
		cmocka_unit_test(test_child_ended),
		cmocka_unit_test(test_launch),
	};

	return kvm_run_tests(tests);
}
