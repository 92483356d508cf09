/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a VM, without KVM: what its family counts, and what the embedder is told. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/vm/life.h"
#include "vmm/vm/lineage.h"

static struct ramet_family family;
static atomic_uint told;

static void ended(void *arg, struct ramet_vm *vm, uint64_t alive)
{
	atomic_fetch_add(&told, 1);
}

static int setup(void **state)
{
	memset(&family, 0, sizeof(family));
	lock_init(&family.lock, LOCK_FAMILY);
	rwlock_init(&family.operations, LOCK_OPERATIONS);
	family.cfg.name = (char *)"web";
	family.cfg.ended = ended;
	atomic_store(&told, 0);
	return 0;
}

static int teardown(void **state)
{
	lock_destroy(&family.lock);
	rwlock_destroy(&family.operations);
	return 0;
}

/* A paused VM without a shell, without devices and without memory. */
static struct ramet_vm *make(struct ramet_vm *parent)
{
	struct ramet_vm *vm;

	assert_int_equal(vm_new(&family, parent, &vm), 0);
	return vm;
}

/* As the reaper does. */
static void *stop(void *vm)
{
	ramet_stop(vm, NULL);
	ramet_vm_put(vm);
	return NULL;
}

/* A child of a fork that fails has ended meanwhile, so the reaper waits for its lock. */
static void test_child_that_ended_is_discarded(void **state)
{
	struct ramet_vm *root = make(NULL), *child = make(root);
	pthread_t reaper;

	vm_link(root);
	lock_take(&child->op);
	assert_int_equal(pthread_create(&reaper, NULL, stop, ramet_vm_get(child)), 0);
	usleep(20000); /* it waits now, if it is to wait */
	vm_discard(child);
	pthread_join(reaper, NULL);
	assert_int_equal(atomic_load(&told), 0);
	assert_int_equal(atomic_load(&family.living), 1);
	stop(root);
	assert_int_equal(atomic_load(&told), 1);
	assert_int_equal(atomic_load(&family.living), 0);
	assert_null(family.root);
}

/* Two threads stop a VM, whose end is told once; the VM is in the tree until that has happened. */
static void test_end_is_told_once(void **state)
{
	struct ramet_vm *root = make(NULL), *child = make(root);
	pthread_t thread[4];

	vm_link(root);
	vm_link(child);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(
			pthread_create(&thread[i], NULL, stop, ramet_vm_get(i % 2 ? root : child)),
			0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(atomic_load(&told), 2);
	assert_int_equal(atomic_load(&family.living), 0);
	assert_null(family.root);
	ramet_vm_put(child);
	ramet_vm_put(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_child_that_ended_is_discarded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end_is_told_once, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
