// SPDX-License-Identifier: Apache-2.0
/*
 * Requests that wait for no operation: a list and a keystroke succeed while an operation on their
 * VM lasts. The test plays the operation: it holds the VM's lock. The watchdog ends a test that
 * hangs.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "tests/kvm/common.h"
#include "vmm/vm/events.h"
#include "vmm/vm/life.h"

#define MEMORY (16 * MIB)

/* ---- accounts ---- */

struct seen {
	unsigned vms;
	struct ramet_stat last;
};

static int look(void *arg, const struct ramet_stat *st)
{
	struct seen *seen = arg;

	seen->vms++;
	seen->last = *st;
	return 0;
}

static void assert_same_memory(const struct ramet_stat *a, const struct ramet_stat *b)
{
	assert_true(a->counted && b->counted);
	assert_int_equal(a->private_bytes, b->private_bytes);
	assert_int_equal(a->shared_bytes, b->shared_bytes);
	assert_int_equal(a->deferred_bytes, b->deferred_bytes);
	assert_int_equal(a->table_bytes, b->table_bytes);
	assert_int_equal(a->tables_shared, b->tables_shared);
}

static void test_list_waits_for_no_operation(void **state)
{
	struct family f = launch("dirty", "dirty=4M rate=1", MEMORY, 1);
	struct ramet_vm *clone = fork_one(f.root);
	struct seen before = { 0 }, during = { 0 };
	struct ramet_family_stat st;

	assert_ok(ramet_pause(clone, NULL), NULL);
	assert_ok(ramet_family_each(f.family, look, &before), NULL);
	vm_lock(clone);
	assert_ok(ramet_family_each(f.family, look, &during), NULL);
	ramet_family_stat(f.family, &st);
	vm_unlock(clone);
	assert_int_equal(before.vms, 2);
	assert_int_equal(during.vms, 2);
	assert_string_equal(during.last.name, "dirty.1");
	assert_same_memory(&before.last, &during.last);
	ramet_vm_put(clone);
	finish(&f);
}

static void test_memory_at_birth(void **state)
{
	struct family f = launch("dirty", "dirty=4M rate=1", MEMORY, 1);
	struct seen seen = { 0 };
	struct ramet_stat counted, born;
	struct ramet_vm *clone;

	assert_ok(ramet_pause(f.root, NULL), NULL);
	clone = fork_one(f.root);
	ramet_vm_stat_born(clone, &born);
	/* No thread has counted the clone's memory yet. */
	vm_lock(clone);
	assert_ok(ramet_family_each(f.family, look, &seen), NULL);
	vm_unlock(clone);
	assert_same_memory(&born, &seen.last);
	ramet_vm_stat(clone, &counted);
	assert_int_equal(born.private_bytes, 0);
	assert_int_equal(born.deferred_bytes, MEMORY);
	assert_int_equal(born.table_bytes, counted.table_bytes);
	assert_int_equal(born.tables_shared, counted.tables_shared);
	ramet_vm_put(clone);
	finish(&f);
}

/* ---- the end of a VM ---- */

#define VMS 6

static struct {
	pthread_mutex_t lock;
	unsigned calls[VMS], zeros, lost;
	struct ramet_stat last[VMS];
} ends = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void note_end(void *arg, struct ramet_vm *vm, uint64_t alive)
{
	struct ramet_stat st;
	struct ramet_vm *found;

	ramet_vm_stat(vm, &st); /* takes the VM's lock */
	found = ramet_find(ramet_vm_family(vm), st.name);
	pthread_mutex_lock(&ends.lock);
	ends.calls[st.id]++;
	ends.last[st.id] = st;
	ends.zeros += !alive;
	ends.lost += found != vm;
	pthread_mutex_unlock(&ends.lock);
	ramet_vm_put(found);
}

static void *stop_main(void *arg)
{
	ramet_stop(arg, NULL);
	return NULL;
}

/* Each VM's end is told once, however it ended: by its guest, by a failure, by two threads that
 * stop it at once, with its family. */
static void test_each_end_is_told_once(void **state)
{
	struct ramet_config cfg = {
		.guest = "count", .memory = MEMORY, .shells = 4, .ended = note_end
	};
	struct family f = launch_config(&cfg);
	struct ramet_vm *vm[VMS - 1];
	pthread_t thread[2];

	fork_many(f.root, VMS - 1, vm);
	vm_exit(vm[0], 7);
	fail_now(vm[1]);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, stop_main, vm[2]), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_ok(ramet_pause(vm[3], NULL), NULL);
	for (unsigned i = 0; i < 2; i++)
		assert_ok(ramet_wait(vm[i], RAMET_EV_STOPPED, 0, WAIT_MS), NULL);
	for (unsigned i = 0; i < VMS - 1; i++)
		ramet_vm_put(vm[i]);
	finish(&f);
	for (unsigned i = 0; i < VMS; i++)
		assert_int_equal(ends.calls[i], 1);
	assert_int_equal(ends.zeros, 1);
	assert_int_equal(ends.lost, 0);
	assert_int_equal(ends.last[1].exit_status, 7);
	assert_int_equal(ends.last[2].state, RAMET_FAILED);
	assert_string_equal(ends.last[2].failure, "the test ended it");
	assert_int_equal(ends.last[3].state, RAMET_STOPPED);
}

/* ---- a keystroke ---- */

static void *check_main(void *arg)
{
	struct ramet_err err = { "" };

	assert_ok(ramet_family_check(arg, &err), &err);
	return NULL;
}

/* While an operation on the VM is under way, and a checker waits for the end of all operations. */
static void test_a_key_waits_for_no_operation(void **state)
{
	struct family f = launch("count", NULL, MEMORY, 1);
	struct ramet_vm *clone = fork_one(f.root);
	pthread_t checker;

	vm_lock(clone);
	assert_int_equal(pthread_create(&checker, NULL, check_main, f.family), 0);
	usleep(100000);
	assert_int_equal(ramet_console_input(clone, "x", 1), 1);
	vm_unlock(clone);
	pthread_join(checker, NULL);
	/* What does not run takes nothing; what runs again does, after a reset with a new device.
	 */
	assert_ok(ramet_pause(clone, NULL), NULL);
	assert_int_equal(ramet_console_input(clone, "x", 1), 0);
	assert_ok(ramet_reset(clone, NULL), NULL);
	assert_int_equal(ramet_console_input(clone, "x", 1), 0);
	assert_ok(ramet_resume(clone, NULL), NULL);
	assert_int_equal(ramet_console_input(clone, "x", 1), 1);
	assert_ok(ramet_reset(clone, NULL), NULL);
	assert_int_equal(ramet_console_input(clone, "x", 1), 1);
	stop_and_put(clone);
	finish(&f);
}

/* A guest that reads nothing takes one byte. A reset and a resume make room, and say so. */
static void test_room_is_told(void **state)
{
	struct family f = launch("count", NULL, MEMORY, 1);
	struct ramet_watch watch = { .what = RAMET_WATCH_INPUT };
	struct ramet_vm *clone = fork_one(f.root);
	eventfd_t told;

	watch.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(watch.event >= 0);
	ramet_watch(clone, &watch);
	assert_int_equal(ramet_console_input(clone, "x", 1), 1);
	assert_int_equal(eventfd_read(watch.event, &told), -1);
	assert_int_equal(ramet_console_input(clone, "x", 1), 0);
	assert_ok(ramet_reset(clone, NULL), NULL);
	assert_int_equal(eventfd_read(watch.event, &told), 0);
	assert_int_equal(ramet_console_input(clone, "x", 1), 1);
	assert_ok(ramet_pause(clone, NULL), NULL);
	assert_int_equal(ramet_console_input(clone, "x", 1), 0);
	assert_int_equal(eventfd_read(watch.event, &told), -1);
	assert_ok(ramet_resume(clone, NULL), NULL);
	assert_int_equal(eventfd_read(watch.event, &told), 0);
	ramet_unwatch(clone, &watch);
	close(watch.event);
	stop_and_put(clone);
	finish(&f);
}

struct typist {
	struct ramet_vm *vm;
	atomic_bool quit;
	atomic_uint keys;
};

static void *typist_main(void *arg)
{
	struct typist *t = arg;

	while (!atomic_load(&t->quit))
		atomic_fetch_add(&t->keys, (unsigned)ramet_console_input(t->vm, "k", 1));
	return NULL;
}

/* Input comes all the time, while the devices that take it are copied, replaced and freed. */
static void test_keys_beside_operations(void **state)
{
	struct family f = launch("count", NULL, MEMORY, 1);
	struct typist t = { .vm = fork_one(f.root) };
	pthread_t typist;

	assert_int_equal(pthread_create(&typist, NULL, typist_main, &t), 0);
	for (unsigned i = many_or_few(300, 30); i; i--) {
		stop_and_put(fork_one(t.vm));
		assert_ok(ramet_reset(t.vm, NULL), NULL);
	}
	assert_ok(ramet_stop(t.vm, NULL), NULL);
	atomic_store(&t.quit, true);
	pthread_join(typist, NULL);
	assert_true(atomic_load(&t.keys) > 0);
	ramet_vm_put(t.vm);
	finish(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_end_is_told_once),
		cmocka_unit_test(test_list_waits_for_no_operation),
		cmocka_unit_test(test_a_key_waits_for_no_operation),
		cmocka_unit_test(test_room_is_told),
		cmocka_unit_test(test_keys_beside_operations),
		cmocka_unit_test(test_memory_at_birth),
	};

	return kvm_run_tests(tests);
}
