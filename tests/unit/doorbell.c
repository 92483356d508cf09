/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "include/ramet/abi.h"
#include "tests/unit/recorder.h"
#include "vmm/devices/doorbell.h"

#define RESEED_MS 20u

static struct recorder vm = {
	.port = { &recorder_ops },
	.who = { .id = 7, .births = 3, .genid = "0123456789abcdef" },
	.exit_status = -1,
};
static struct vcpu vcpu;
static struct device *db;

static int make(void **state)
{
	return doorbell_new(&vm.port, RESEED_MS, &db);
}

static int unmake(void **state)
{
	db->ops->free(db);
	return 0;
}

static void test_read(void **state)
{
	uint32_t id[4];

	assert_int_equal(dev_read(db, RAMET_DB_CLONE_ID, 4), 7);
	assert_int_equal(dev_read(db, RAMET_DB_GENERATION, 4), 3);
	for (unsigned i = 0; i < 4; i++)
		id[i] = dev_read(db, RAMET_DB_GENID0 + 4 * i, 4);
	assert_memory_equal(id, vm.who.genid, 16);
	/* Write-only and unused registers, and unaligned ones. */
	for (unsigned reg = 0; reg < RAMET_DOORBELL_LEN; reg++)
		if (reg % 4 || reg < RAMET_DB_RESEED || reg > RAMET_DB_WALL_HI ||
			(reg > RAMET_DB_GENERATION && reg < RAMET_DB_GENID0))
			assert_int_equal(dev_read(db, reg, 4), UINT32_MAX);
}

static void test_write(void **state)
{
	dev_write(db, &vcpu, RAMET_DB_HEARTBEAT, 99, 4);
	assert_int_equal(vm.beats, 1);
	assert_int_equal(vm.counter, 99);
	dev_write(db, &vcpu, RAMET_DB_PHASE, RAMET_PHASE_READY, 4);
	assert_int_equal(vm.phase, RAMET_PHASE_READY);
	dev_write(db, &vcpu, RAMET_DB_SLEEP, 250, 4);
	assert_int_equal(vcpu.slept, 250);
	dev_write(db, &vcpu, RAMET_DB_SLEEP, UINT32_MAX, 4); /* no more than a second */
	assert_int_equal(vcpu.slept, 250 + RAMET_SLEEP_MAX);
	dev_write(db, &vcpu, RAMET_DB_EXIT, 0x1234, 4);
	assert_int_equal(vm.exit_status, 0x34);
}

static void test_report(void **state)
{
	dev_write(db, &vcpu, RAMET_DB_REPORT_LO, 0x89abcdef, 4);
	dev_write(db, &vcpu, RAMET_DB_REPORT_HI, 0x01234567, 4);
	assert_int_equal(vm.report, RAMET_REPORT_NONE);
	dev_write(db, &vcpu, RAMET_DB_REPORT, RAMET_REPORT_MISMATCH, 4);
	assert_int_equal(vm.report, RAMET_REPORT_MISMATCH);
	assert_int_equal(vm.report_gpa, 0x0123456789abcdef);
}

/* Other widths, read-only registers and unused ones: nothing happens. */
static void test_ignored(void **state)
{
	struct recorder before = vm;
	struct vcpu cpu_before = vcpu;

	for (unsigned reg = 0; reg < RAMET_DOORBELL_LEN; reg++)
		for (unsigned size = 1; size <= 2; size++) {
			dev_write(db, &vcpu, reg, 5, size);
			assert_int_equal(dev_read(db, reg, size), (1ull << 8 * size) - 1);
		}
	for (unsigned reg = RAMET_DB_CLONE_ID; reg < RAMET_DOORBELL_LEN; reg += 4)
		dev_write(db, &vcpu, reg, 5, 4);
	assert_memory_equal(&vm, &before, sizeof(vm));
	assert_memory_equal(&vcpu, &cpu_before, sizeof(vcpu));
}

/* A fork between the two halves of a report loses no half. A clone's doorbell reports to its own
 * VM. */
static void test_clone(void **state)
{
	static struct recorder child = { .port = { &recorder_ops },
		.who = { .id = 8, .births = 4 } };
	struct device *frozen, *copy;

	dev_write(db, &vcpu, RAMET_DB_REPORT_LO, 0x1000, 4);
	dev_write(db, &vcpu, RAMET_DB_REPORT_HI, 0x2, 4);
	assert_int_equal(db->ops->clone(db, NULL, &frozen), 0);
	assert_int_equal(frozen->ops->clone(frozen, &child.port, &copy), 0);
	frozen->ops->free(frozen);
	vm.report_gpa = 0;
	dev_write(copy, &vcpu, RAMET_DB_REPORT, RAMET_REPORT_TRAP, 4);
	assert_int_equal(child.report_gpa, 0x200001000);
	assert_int_equal(vm.report_gpa, 0);
	assert_int_equal(dev_read(copy, RAMET_DB_CLONE_ID, 4), 8);
	assert_int_equal(dev_read(copy, RAMET_DB_GENERATION, 4), 4);
	copy->ops->free(copy);
}

/* Both halves belong to the moment when the low half was read. */
static void test_wall_clock(void **state)
{
	uint64_t before = (uint64_t)time(NULL), at;

	at = dev_read(db, RAMET_DB_WALL_LO, 4);
	at |= (uint64_t)dev_read(db, RAMET_DB_WALL_HI, 4) << 32;
	assert_in_range(at / 1000000000u, before, (uint64_t)time(NULL));
}

static void await_late(struct device *dev)
{
	struct timespec ms = { .tv_nsec = 1000000 };

	for (unsigned i = 0; i < 10000 && !doorbell_reseed_late(dev); i++)
		nanosleep(&ms, NULL);
	assert_true(doorbell_reseed_late(dev));
}

/* A guest that has promised to reseed must do so after each later birth, and so must its clones. */
static void test_reseed(void **state)
{
	struct device *copy, *grandchild;

	db->ops->born(db);
	assert_false(doorbell_promised(db));
	assert_int_equal(dev_read(db, RAMET_DB_RESEED, 4), 1);
	dev_write(db, &vcpu, RAMET_DB_RESEED, 0, 4);
	assert_true(doorbell_promised(db));

	assert_int_equal(db->ops->clone(db, &vm.port, &copy), 0);
	copy->ops->born(copy);
	assert_int_equal(dev_read(copy, RAMET_DB_RESEED, 4), 0);
	assert_int_equal(dev_read(db, RAMET_DB_RESEED, 4), 1);
	dev_write(copy, &vcpu, RAMET_DB_RESEED, 0, 2); /* no such access */
	assert_int_equal(dev_read(copy, RAMET_DB_RESEED, 4), 0);

	assert_int_equal(copy->ops->clone(copy, &vm.port, &grandchild), 0);
	dev_write(copy, &vcpu, RAMET_DB_RESEED, 7, 4);
	assert_int_equal(dev_read(copy, RAMET_DB_RESEED, 4), 1);
	grandchild->ops->born(grandchild);
	assert_int_equal(dev_read(grandchild, RAMET_DB_RESEED, 4), 0);
	copy->ops->free(copy);
	grandchild->ops->free(grandchild);
}

/* The time counts from the start of the VM. A clone that has reseeded is never late, nor is a clone
 * without a limit.
 */
static void test_reseed_late(void **state)
{
	struct device *copy, *patient;

	dev_write(db, &vcpu, RAMET_DB_RESEED, 0, 4);
	assert_int_equal(db->ops->clone(db, &vm.port, &copy), 0);
	copy->ops->born(copy);
	nanosleep(&(struct timespec){ .tv_nsec = 2 * RESEED_MS * 1000000 }, NULL);
	assert_false(doorbell_reseed_late(copy));
	copy->ops->loaded(copy);
	await_late(copy);
	dev_write(copy, &vcpu, RAMET_DB_RESEED, 0, 4);
	assert_false(doorbell_reseed_late(copy));
	copy->ops->free(copy);

	assert_int_equal(doorbell_new(&vm.port, 0, &patient), 0);
	dev_write(patient, &vcpu, RAMET_DB_RESEED, 0, 4);
	patient->ops->born(patient);
	assert_int_equal(dev_read(patient, RAMET_DB_RESEED, 4), 1);
	patient->ops->free(patient);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_ignored),
		cmocka_unit_test(test_clone),
		cmocka_unit_test(test_wall_clock),
		cmocka_unit_test(test_reseed),
		cmocka_unit_test(test_reseed_late),
	};

	return cmocka_run_group_tests(tests, make, unmake);
}
