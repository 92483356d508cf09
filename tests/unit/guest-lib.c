/* SPDX-License-Identifier: Apache-2.0 */
/* The guests' own readers of the device tree and of arguments, run on the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "guest/lib/guest.h"
#include "vmm/boot/boot.h"

static const char *const keys[] = { "rate", "memory", NULL };

static char printed[256];
static jmp_buf exited;

void print(const char *s)
{
	strncat(printed, s, sizeof(printed) - strlen(printed) - 1);
}

void guest_exit(int status)
{
	longjmp(exited, status);
}

static uint8_t fdt[RAMET_FDT_MAX];

static size_t make(const char *args, unsigned cpus, uint64_t size)
{
	struct ramet_config cfg = { .args = args, .cpus = cpus };
	struct ram_layout ram;

	ram_layout_init(&ram, size);
	assert_int_equal(machine_fdt(&cfg, &ram, fdt, sizeof(fdt)), 0);
	return (size_t)(fdt[6] << 8 | fdt[7]); /* totalsize */
}

static void test_fdt(void **state)
{
	struct guest_machine m;

	make("rate=3", 5, 5ull << 30);
	assert_true(fdt_read(fdt, &m));
	assert_int_equal(m.n_ram, 2);
	assert_int_equal(m.ram[0].gpa, 0);
	assert_int_equal(m.ram[0].len, RAMET_RAM_HOLE);
	assert_int_equal(m.ram[1].gpa, RAMET_RAM_HIGH);
	assert_int_equal(m.ram[1].len, (5ull << 30) - RAMET_RAM_HOLE);
	assert_int_equal(m.cpus, 5);
	assert_string_equal(m.args, "rate=3");
	make(NULL, 1, 16 << 20);
	assert_true(fdt_read(fdt, &m));
	assert_int_equal(m.n_ram, 1);
	assert_int_equal(m.cpus, 1);
	assert_string_equal(m.args, "");
}

/* If one byte of the tree is damaged, the reader neither loops nor reads outside the tree. */
static void test_damaged_fdt(void **state)
{
	size_t len = make("rate=3", 2, 5ull << 30);
	unsigned refused = 0;

	for (size_t i = 0; i < len; i++)
		for (unsigned v = 0; v < 256; v += 15) {
			uint8_t was = fdt[i];
			struct guest_machine m;

			fdt[i] = (uint8_t)v;
			refused += !fdt_read(fdt, &m);
			fdt[i] = was;
		}
	assert_true(refused > 100);
}

/* A number; or a negative exit status, if the guest has ended. */
static long number(const char *args, const char *key)
{
	struct guest_machine m = { .args = args };
	int status;

	printed[0] = 0;
	status = setjmp(exited);
	if (status)
		return -status;
	args_check(&m, keys);
	return (long)arg_number(&m, key, 77);
}

static void test_args(void **state)
{
	struct guest_machine m = { .args = "  rate=max memory=4K " };

	assert_int_equal(number("", "rate"), 77);
	assert_int_equal(number("  ", "rate"), 77);
	assert_int_equal(number("rate=5", "rate"), 5);
	assert_int_equal(number("  memory=1 rate=5  ", "rate"), 5);
	assert_int_equal(number("memory=3K", "memory"), 3 << 10);
	assert_int_equal(number("memory=3M", "memory"), 3 << 20);
	assert_int_equal(number("memory=3G rate=1", "memory"), 3l << 30);
	assert_int_equal(number("memory=9223372036854775807", "memory"), INT64_MAX);
	assert_true(arg_is(&m, "rate", "max"));
	assert_false(arg_is(&m, "rate", "ma"));
	assert_false(arg_is(&m, "rate", "maxi"));
	assert_false(arg_is(&m, "none", "max"));
	assert_true(arg_is(&m, "memory", "4K"));
}

static void test_bad_args(void **state)
{
	static const char *const bad[] = { "rate", "rate=", "rate=x", "rate=-1", "rate=5x",
		"rate=5KK", "rate=99999999999999999999", "rate=18014398509481984G", "rat=5",
		"ratee=5", "=5", "rate=5 speed=3", "rate=5,memory=3" };

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(number(bad[i], "rate"), -(long)RAMET_EXIT_USAGE);
		assert_true(strlen(printed) > 10);
		assert_int_equal(printed[strlen(printed) - 1], '\n');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fdt),
		cmocka_unit_test(test_damaged_fdt),
		cmocka_unit_test(test_args),
		cmocka_unit_test(test_bad_args),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
