/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: configuration space and BAR of a whole bus, accessed in any way. Six bytes an
 * access: port (0..7) or, with bit 3, memory; bit 4 chooses a write, bits 5 to 7 the width; then a
 * byte of the address and the value. What is read-only must stay as it is.
 */
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/virtio.h"

#define SLOTS 4u

static struct device *make_bus(struct port *port)
{
	struct pci_function *fn;
	struct device *bus;

	if (pci_bus_new(port, &bus) || virtio_rng_new(port, &fn) || pci_bus_add(bus, fn) ||
		virtio_console_new(port, &fn) || pci_bus_add(bus, fn) ||
		virtio_rng_new(port, &fn) || pci_bus_add(bus, fn))
		abort();
	return bus;
}

static void assert_read_only_kept(struct device *bus, uint8_t before[SLOTS][PCI_CONFIG_LEN])
{
	for (unsigned s = 0; s < SLOTS; s++) {
		const struct pci_function *fn = pci_bus_function(bus, s);

		for (unsigned i = 0; i < PCI_CONFIG_LEN; i++)
			if ((fn->config[i] ^ before[s][i]) & ~fn->writable[i])
				abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t before[SLOTS][PCI_CONFIG_LEN];
	struct device *bus = make_bus(fuzz_port());

	for (unsigned s = 0; s < SLOTS; s++)
		memcpy(before[s], pci_bus_function(bus, s)->config, PCI_CONFIG_LEN);
	for (; size >= 6; data += 6, size -= 6) {
		unsigned win = data[0] >> 3 & 1, width = (data[0] >> 5) + 1u;
		bool write = data[0] >> 4 & 1;
		uint64_t value = 0, at = data[0] & 7;

		memcpy(&value, data + 2, 4);
		if (win)
			at = (uint64_t)data[1] << 10 | (uint64_t)(data[0] & 7) << 1;
		else if (width > 4)
			width = 4;
		else if (at == 0 && write)
			value |= 1u << 31;
		bus->ops->io(bus, NULL, win, at, write, &value, width);
	}
	assert_read_only_kept(bus, before);
	bus->ops->free(bus);
	return 0;
}
