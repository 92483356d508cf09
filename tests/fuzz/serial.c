/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: a guest that does anything to the serial port. Two bytes an access: bit 7 of
 * the first chooses a write, bit 6 input from outside, bits 4 and 5 the width, the rest the
 * register. Every byte written to the transmitter outside loop-back must come out, once.
 */
#include <stdlib.h>

#include "tests/unit/recorder.h"
#include "vmm/devices/serial.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct recorder vm = { .port = { &recorder_ops } };
	struct device *uart;
	size_t sent = 0;

	vm.console_len = 0;
	if (serial_new(&vm.port, &uart))
		return 0;
	for (; size >= 2; size -= 2, data += 2) {
		unsigned reg = data[0] & 7, width = 1u << (data[0] >> 4 & 3) % 3;

		if (data[0] & 0x40) {
			serial_input(uart, (const char *)data, data[1] < size ? data[1] : size);
		} else if (data[0] & 0x80) {
			/* LCR's DLAB and MCR's loop-back decide where a byte goes. */
			if (reg == 0 && !(dev_read(uart, 3, 1) & 0x80) &&
				!(dev_read(uart, 4, 1) & 0x10))
				sent++;
			dev_write(uart, NULL, reg, data[1] * 0x01010101u,
				reg + width > 8 ? 1 : width);
		} else {
			dev_read(uart, reg, width);
		}
	}
	uart->ops->free(uart);
	if (sent != vm.console_len && sent < sizeof(vm.console) - 1)
		abort();
	return 0;
}
