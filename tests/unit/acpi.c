/* SPDX-License-Identifier: Apache-2.0 */
/* How a guest ends its VM by a write to an I/O port: which writes end it, and that no others do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/recorder.h"
#include "vmm/boot/linux.h"
#include "vmm/devices/acpi-device.h"

static struct recorder vm = { .port = { &recorder_ops } };
static struct device *dev;

/* The window a port lies in. */
static const struct device_window *window(uint64_t port, unsigned *i)
{
	for (*i = 0; *i < DEVICE_WINDOWS_MAX; ++*i)
		if (dev->win[*i].space == SPACE_PIO && port - dev->win[*i].base < dev->win[*i].len)
			return &dev->win[*i];
	fail_msg("no device has port %#lx", port);
	return NULL;
}

/* The exit status that a write leads to; -1: the VM does not end. */
static int written(uint64_t port, uint32_t value, unsigned size)
{
	unsigned win;
	uint64_t base = window(port, &win)->base;

	vm.exit_status = -1;
	dev->ops->io(dev, NULL, win, port - base, true, &value, size);
	return vm.exit_status;
}

static uint8_t read_port(uint64_t port)
{
	uint8_t value = 0xaa;
	unsigned win;
	uint64_t base = window(port, &win)->base;

	dev->ops->io(dev, NULL, win, port - base, false, &value, 1);
	return value;
}

static void test_writes(void **state)
{
	assert_int_equal(acpi_device_new(&vm.port, &dev), 0);
	for (uint32_t v = 0; v < 256; v++) {
		assert_int_equal(written(KBD_PORT, v, 1), v == 0xfe ? ACPI_EXIT_RESET : -1);
		assert_int_equal(written(ACPI_PORT_RESET, v, 1),
			v == ACPI_RESET_VALUE ? ACPI_EXIT_RESET : -1);
		/* S5 is type 5 with the enable bit; the other bits do not matter. */
		assert_int_equal(written(ACPI_PORT_SLEEP, v, 1), (v & 0x3c) == 0x34 ? 0 : -1);
		assert_int_equal(written(ACPI_PORT_STATUS, v, 1), -1);
	}
	assert_int_equal(written(ACPI_PORT_RESET, ACPI_RESET_VALUE, 2), -1);
	/* Status of the keyboard controller: nothing in its buffers, so a command is taken. */
	assert_int_equal(read_port(KBD_PORT), 0);
	assert_int_equal(read_port(ACPI_PORT_STATUS), 0);
	dev->ops->free(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_writes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
